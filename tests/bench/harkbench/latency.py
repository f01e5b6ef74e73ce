# SPDX-License-Identifier: MIT
"""Latency at a steady rate, beside what the broker's own two hops take.

The probe publishes to bench.in and waits for the message in bench.results. The baseline has the same two hops without a
contender: the probe itself consumes bench.jobs and publishes to bench.out, and the time that it holds the message is
not counted. What a contender adds is the rest. Contender and baseline take turns.
"""
import tempfile

from . import contenders, programs, report
from .broker import running_broker

RATE = 1000


def measure(broker, contender, seconds):
    port = broker.port
    programs.run("queues", "-P", port, "setup")
    broker.calm_down()
    arguments = ["-P", port, "-r", RATE, "-n", RATE * seconds]
    if contender is None:
        return programs.run("latency", *arguments, "-b", seconds=seconds + 60)
    with tempfile.TemporaryDirectory(prefix="hark-bench-") as folder:
        process = contender.start(folder, port, contenders.Job("a", 200, 0), endless=True)
        try:
            return programs.run("latency", *arguments, seconds=seconds + 60)
        finally:
            process.kill()


def run(options, targets):
    runners = [None] + contenders.available()
    names = [runner.name if runner else "the broker's own two hops" for runner in runners]
    rows = {name: [] for name in names}
    with running_broker(not options.no_busy_wait) as broker:
        for turn in range(options.rounds):
            for name, runner in zip(names, runners):
                row = measure(broker, runner, options.seconds // 2)
                report.note("latency, round %d, %s: p50 %.0f us" % (turn + 1, name, row["p50_us"]))
                rows[name].append(row)
    base = rows[names[0]]
    keys = ("p50_us", "p90_us", "p99_us")
    report.table("Latency at %d msg/s, us, (a) prefetch 200: medians of %d rounds" % (RATE, options.rounds),
                 ["", "p50", "p90", "p99", "adds p50", "adds p99"],
                 [[name] + ["%.0f" % report.median(rows[name], key) for key in keys] +
                  ["%.0f" % (report.median(rows[name], key) - report.median(base, key))
                   for key in ("p50_us", "p99_us")] for name in names])
    if rows.get("harkd"):
        targets.at_most("latency added at p50, %d msg/s" % RATE,
                        report.median(rows["harkd"], "p50_us") - report.median(base, "p50_us"), 80, " us", 0)
