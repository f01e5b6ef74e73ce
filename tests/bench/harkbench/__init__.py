# SPDX-License-Identifier: MIT
"""What tests/bench/run is made of: contenders, the places where they run, and the tables."""
