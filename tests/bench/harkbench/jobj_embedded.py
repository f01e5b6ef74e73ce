# SPDX-License-Identifier: MIT
"""Job J standalone, harkd's workers on harkd's own broker, beside harkd on RabbitMQ.

Standalone starts without listeners, the queue is filled over TCP, and a reload brings the listeners: from then on both
are watched in the same way, by how the queue of results grows.
"""
from . import contenders, jobj, programs, report
from .broker import Embedded, running_broker, running_embedded

MESSAGES = {"a": 1000000, "b": 300000}
TIMES = {"a": 12, "b": 6}
FILL = ["-q", "bench.jobs", "-x", "bench.in", "-E", "-K", "-b", 200]


def run_once(job):
    with running_embedded() as broker:
        programs.run("queues", "-P", broker.port, "setup")
        programs.run("load", "-P", broker.port, "-n", job.messages, *FILL,
                     *(["-i"] if job.ids else []), *(["-p", "-c", 2000] if job.confirmed else []), "publish")
        broker.calm_down()
        watch = programs.start("queues", "-P", broker.port, "watch", job.messages)
        before = broker.cpu()
        try:
            broker.configure(contenders.job_ini(job))
            broker.reload()
            seen = programs.finish(watch, 300)
            cpu = broker.cpu() - before
        finally:
            watch.kill()
        left = programs.run("queues", "-P", broker.port, "left")
        broker.stop()
        if left:
            raise RuntimeError("standalone published all messages but left %d in the queue" % left)
        return {"rate": seen["messages"] / seen["seconds"], "cpu_us": cpu * 1e6 / job.messages}


def on_rabbitmq(broker, job):
    row = jobj.run_once(broker, contenders.Harkd(), job)
    return {"rate": row["rate"], "cpu_us": row["cpu_us"] + row["broker_us"]}


def run(options, targets):
    if not Embedded.available():
        return
    with running_broker(not options.no_busy_wait) as broker:
        for mode in options.mode:
            for prefetch in options.prefetch or jobj.PREFETCHES:
                rows = {"RabbitMQ": [], "standalone": []}
                for turn in range(options.rounds):
                    there = contenders.Job(mode, prefetch, options.messages or jobj.MESSAGES[mode], options.ids)
                    job = contenders.Job(mode, prefetch, options.messages or MESSAGES[mode], options.ids)
                    rows["RabbitMQ"].append(on_rabbitmq(broker, there))
                    rows["standalone"].append(run_once(job))
                    report.note("job J %s, round %d: RabbitMQ %.0f msg/s, standalone %.0f msg/s" % (
                        job, turn + 1, rows["RabbitMQ"][-1]["rate"], rows["standalone"][-1]["rate"]))
                ratio = report.median(rows["standalone"], "rate") / report.median(rows["RabbitMQ"], "rate")
                report.table("Job J by harkd, %s: medians of %d rounds" % (job, options.rounds),
                             ["", "msg/s", "all processes us/msg", "times"],
                             [[name, "%.0f" % report.median(each, "rate"), "%.2f" % report.median(each, "cpu_us"),
                               "%.1f" % ratio if name == "standalone" else ""] for name, each in rows.items()])
                targets.at_least("%s: job J standalone, times job J on RabbitMQ" % job, ratio, TIMES[mode], digits=1)
