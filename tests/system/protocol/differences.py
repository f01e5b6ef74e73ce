# SPDX-License-Identifier: MIT
"""Where a broker differs from RabbitMQ on purpose: broker -> test -> why. The test must fail there."""

DIFFERENCES = {}
