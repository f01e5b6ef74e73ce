# SPDX-License-Identifier: MIT
"""Job J on RabbitMQ: a filled queue, each message forwarded to another exchange and acknowledged.

All contenders are timed from outside and in the same way: by how the queue of results grows. They take turns, each
round in the opposite order, each time on a freshly filled queue.
"""
import tempfile

from . import contenders, programs, report
from .broker import running_broker

MESSAGES = {"a": 120000, "b": 40000}
PREFETCHES = (200, 1000)


def run_once(broker, contender, job):
    """One contender, once: a row of figures."""
    port = broker.port
    programs.run("queues", "-P", port, "setup")
    programs.run("queues", "-P", port, "fill", job.messages, 2 if job.confirmed else 1, 1 if job.ids else 0)
    broker.calm_down()
    with tempfile.TemporaryDirectory(prefix="hark-bench-") as folder:
        watch = programs.start("queues", "-P", port, "watch", job.messages)
        broker_before = broker.cpu()
        process = contender.start(folder, port, job)
        process.sample()
        try:
            seen = programs.finish(watch, 300)
            broker_cpu, cpu = broker.cpu() - broker_before, process.cpu_now()
            contender.finish(process)
        finally:
            watch.kill()
            process.kill()
        left = programs.run("queues", "-P", port, "left")
        if left:
            raise RuntimeError("%s published all messages but left %d unacknowledged" % (contender.name, left))
        return {
            "rate": seen["messages"] / seen["seconds"],
            "cpu_us": (cpu - process.cpu_at(seen["first_ns"])) * 1e6 / seen["messages"],
            "broker_us": broker_cpu * 1e6 / job.messages,
            "worker_kib": process.worker_kib,
            "all_kib": sum(process.rss.values()),
        }


def run_job(broker, runners, job, rounds):
    """{contender's name: its rows}."""
    rows = {contender.name: [] for contender in runners}
    for turn in range(rounds):
        for contender in runners if turn % 2 == 0 else reversed(runners):
            row = run_once(broker, contender, job)
            rows[contender.name].append(row)
            report.note("%s, round %d, %s: %.0f msg/s, %.2f us, broker %.1f us" % (
                job, turn + 1, contender.name, row["rate"], row["cpu_us"], row["broker_us"]))
    return rows


def show(job, rows, rounds):
    base = report.median(rows["rabbitmq-c loop"], "rate") if rows.get("rabbitmq-c loop") else None
    lines = []
    for name, each in rows.items():
        rate = report.median(each, "rate")
        lines.append([name, "%.0f" % rate, "%.2f" % (rate / base) if base else "-",
                      "%.0f..%.0f" % (min(row["rate"] for row in each), max(row["rate"] for row in each)),
                      "%.2f" % report.median(each, "cpu_us"), "%.1f" % report.median(each, "broker_us"),
                      "%.1f" % (max(row["worker_kib"] for row in each) / 1024),
                      "%.1f" % (max(row["all_kib"] for row in each) / 1024)])
    report.table("Job J on RabbitMQ, %s, %d messages: medians of %d rounds" % (job, job.messages, rounds),
                 ["", "msg/s", "ratio", "range", "client us/msg", "broker us/msg", "worker MiB", "all MiB"], lines)


def check(targets, job, rows):
    loop, harkd = rows.get("rabbitmq-c loop"), rows.get("harkd")
    if not harkd:
        return
    if loop:
        targets.at_least("%s: throughput, times the rabbitmq-c loop's" % job,
                         report.median(harkd, "rate") / report.median(loop, "rate"), 1.4 if job.mode == "a" else 1.05)
        targets.at_most("%s: broker's CPU per message" % job, report.median(harkd, "broker_us"),
                        round(report.median(loop, "broker_us"), 1), " us", 1)
    targets.at_most("%s: CPU per message" % job, report.median(harkd, "cpu_us"),
                    4 if job.mode == "a" or job.prefetch >= 1000 else 8, " us")
    targets.at_most("%s: worker's resident memory" % job, max(row["worker_kib"] for row in harkd) / 1024,
                    6 if job.prefetch <= 200 else 8, " MiB", 1)


def run(options, targets):
    runners = contenders.available()
    with running_broker(not options.no_busy_wait) as broker:
        for mode in options.mode:
            for prefetch in options.prefetch or PREFETCHES:
                job = contenders.Job(mode, prefetch, options.messages or MESSAGES[mode], options.ids)
                rows = run_job(broker, runners, job, options.rounds)
                show(job, rows, options.rounds)
                check(targets, job, rows)
