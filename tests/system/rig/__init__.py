# SPDX-License-Identifier: MIT
"""The rig of the system tests: a real broker, a real harkd, and what can go wrong between them."""
