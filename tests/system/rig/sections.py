# SPDX-License-Identifier: MIT
"""Ini sections that many tests begin with: exchange `events` -> queue `in` -> listener -> exchange `out` -> `results`."""

TOPOLOGY = """
[exchange events]
[exchange out]
[queue in]
bind = events #
[queue results]
bind = out #
"""


def forward(name="f", more="", queue="in", emit="out"):
    return "\n[listener %s]\nmodule = forward\nqueue = %s\nemit = %s\n%s\n" % (name, queue, emit, more)


def run(name, command, more="", queue="in"):
    """An exec listener."""
    return "\n[listener %s]\nmodule = exec\nqueue = %s\ncommand = %s\n%s\n" % (name, queue, command, more)


def trouble(name="t", more="", queue="in"):
    """The listener of modules/trouble.c: its body says what to do."""
    return "\n[listener %s]\nmodule = trouble\nqueue = %s\n%s\n" % (name, queue, more)
