# SPDX-License-Identifier: MIT
"""Waiting for conditions. No test sleeps for a fixed time and hopes."""
import os
import time

# Seconds after which a condition that should come true at once counts as never.
PATIENCE = float(os.environ.get("HARK_TEST_PATIENCE", "20"))


def wait_until(condition, what, timeout=None, interval=0.01):
    """Returns the first true value of condition(); fails with `what` (text, or a function that gives it)."""
    deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain for: %s" % (what() if callable(what) else what))
        time.sleep(interval)


def stays(condition, seconds, what, interval=0.02):
    """For what must not happen: condition() has to hold for all of `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), "did not stay so: %s" % (what() if callable(what) else what)
        time.sleep(interval)
