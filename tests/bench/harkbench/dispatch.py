# SPDX-License-Identifier: MIT
"""Dispatch alone: wire bytes in, wire bytes out, no socket; and what many patterns cost."""
from . import programs, report

PATTERNS = (5, 10, 10000)


def run(options, targets):
    if not programs.built("dispatch"):
        report.note("dispatch: not built")
        return
    rows = {patterns: [programs.run("dispatch", "-k", patterns) for _ in range(options.rounds)]
            for patterns in PATTERNS}
    rate = {patterns: report.median(each, "rate") for patterns, each in rows.items()}
    report.table("Dispatch alone, medians of %d rounds" % options.rounds, ["patterns", "msg/s", "ns/msg"],
                 [[patterns, "%.0f" % rate[patterns], "%.0f" % (1e9 / rate[patterns])] for patterns in PATTERNS])
    targets.at_least("dispatch alone: messages a second and core", rate[5], 1500000, digits=0)
    targets.at_most("dispatch alone: cost with 10,000 patterns, times that with 10", rate[10] / rate[10000], 2)
