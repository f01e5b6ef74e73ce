# SPDX-License-Identifier: MIT
"""The brokers themselves, RabbitMQ and harkd's own, under the same load program.

Transient is (a): no confirms, no acknowledgements, a queue that is not durable. Persistent is (b): a durable queue,
confirms with at most WINDOW messages unconfirmed, acknowledged EVERY messages. The brokers take turns; each gets as
many messages as keep it busy for a second or two, since rates are compared, not counts.
"""
import contextlib

from . import perf, programs, report
from .broker import Embedded, running_broker, running_embedded

CASES = ("publish", "consume", "both")
SIZES = (16, 200, 1024, 4096)
WINDOW, PREFETCH, EVERY = 2000, 1000, 100
SECONDS = 1.5
BYTES_MAX = 1 << 30     # of bodies in a queue
WHAT = {"a": "transient", "b": "persistent"}
TIMES = {"a": 12, "b": 6}


def arguments(mode):
    return ["-p", "-c", WINDOW, "-f", PREFETCH, "-a", EVERY] if mode == "b" else []


@contextlib.contextmanager
def running_brokers(options):
    """Those that are there and wanted, running."""
    with contextlib.ExitStack() as stack:
        brokers = []
        if options.broker in (None, "rabbitmq"):
            brokers.append(stack.enter_context(running_broker(not options.no_busy_wait)))
        if options.broker in (None, "harkd") and Embedded.available():
            brokers.append(stack.enter_context(running_embedded()))
        yield brokers


def in_turns(brokers, rounds):
    """(round, broker), each round in the opposite order."""
    for turn in range(rounds):
        for broker in brokers if turn % 2 == 0 else reversed(brokers):
            yield turn + 1, broker


class Case:
    def __init__(self, mode, name, size):
        self.mode, self.name, self.size = mode, name, size
        self.counts = {}    # broker's title -> messages

    def __str__(self):
        return "(%s) %s, %d bytes" % (self.mode, self.name, self.size)

    def _load(self, broker, messages):
        return programs.run("load", "-P", broker.port, "-b", self.size, "-n", messages, *arguments(self.mode),
                            self.name, seconds=300)

    def count(self, broker, wanted):
        """How many messages take it SECONDS, by shorter runs; unless somebody knows better."""
        if broker.title not in self.counts:
            messages = wanted or 10000
            while not wanted:
                row = self._load(broker, messages)
                if row["seconds"] > SECONDS / 10 or messages * 8 * self.size > BYTES_MAX:
                    messages = min(int(row["rate"] * SECONDS), BYTES_MAX // self.size)
                    break
                messages *= 8
            self.counts[broker.title] = messages
        return self.counts[broker.title]

    def run(self, broker, options):
        messages = self.count(broker, options.messages)
        broker.calm_down()
        before = broker.cpu()
        with perf.recording(broker, options):
            row = self._load(broker, messages)
        row["broker_us"] = (broker.cpu() - before) * 1e6 / messages
        return row


def run_case(case, brokers, options):
    rows = {broker.title: [] for broker in brokers}
    for turn, broker in in_turns(brokers, options.rounds):
        row = case.run(broker, options)
        rows[broker.title].append(row)
        report.note("%s, round %d, %s: %.0f msg/s, broker %.2f us, load %.2f us" % (
            case, turn, broker.title, row["rate"], row["broker_us"], row["client_cpu_us"]))
    return rows


def limit(size, rounds):
    """What the sockets alone would do: `both` with a process that passes bytes on instead of a broker."""
    messages = BYTES_MAX // 2 // (size + 64)
    return report.median([programs.run("load", "-b", size, "-n", messages, "limit") for _ in range(rounds)], "rate")


def times(rows, key):
    """How many times harkd's figure is RabbitMQ's; None without both."""
    if "harkd" not in rows or "RabbitMQ" not in rows:
        return None
    return report.median(rows["harkd"], key) / report.median(rows["RabbitMQ"], key)


def run(options, targets):
    cases = [Case(mode, name, size) for mode in options.mode for name in options.case or CASES
             for size in options.size or SIZES]
    lines = []
    with running_brokers(options) as brokers:
        for case in cases:
            rows = run_case(case, brokers, options)
            ratio = times(rows, "rate")
            for title, each in rows.items():
                lines.append([case, title, "%.0f" % report.median(each, "rate"),
                              "%.0f..%.0f" % (min(row["rate"] for row in each), max(row["rate"] for row in each)),
                              "%.2f" % report.median(each, "broker_us"), "%.2f" % report.median(each, "client_cpu_us"),
                              "%.1f" % ratio if ratio and title == "harkd" else ""])
            if case.name == "both" and case.mode == "a":
                lines.append([case, "no broker", "%.0f" % limit(case.size, options.rounds), "", "", "", ""])
            if ratio:
                targets.at_least("%s: throughput, times RabbitMQ's" % case, ratio, TIMES[case.mode], digits=1)
    report.table("Brokers under load, medians of %d rounds (CPU of `consume`: with filling)" % options.rounds,
                 ["", "", "msg/s", "range", "broker us/msg", "load us/msg", "times"], lines)


LATENCY_RATES = (1000, 5000)


def run_latency(options, targets):
    """From when a message is due to its delivery, and to its confirm, at steady rates."""
    keys = ["p50_us", "p99_us", "p999_us", "max_us", "confirm_p50_us", "confirm_p99_us"]
    lines = []
    seconds = max(3, options.seconds // 4)
    with running_brokers(options) as brokers:
        for mode in options.mode:
            for rate in LATENCY_RATES:
                rows = {broker.title: [] for broker in brokers}
                for turn, broker in in_turns(brokers, options.rounds):
                    broker.calm_down()
                    row = programs.run("load", "-P", broker.port, "-r", rate, "-n", rate * seconds, *arguments(mode),
                                       "latency", seconds=seconds + 60)
                    rows[broker.title].append(row)
                    report.note("latency, (%s) %d msg/s, round %d, %s: p50 %.0f us, p99 %.0f us" % (
                        mode, rate, turn, broker.title, row["p50_us"], row["p99_us"]))
                for title, each in rows.items():
                    lines.append(["(%s) %d msg/s" % (mode, rate), title] + [
                        "%.0f" % report.median(each, key) if key in each[0] else "" for key in keys])
                ratio = times(rows, "p99_us")
                if ratio and rate == 5000:
                    targets.at_most("(%s) p99 at %d msg/s, times RabbitMQ's" % (mode, rate), ratio, 0.2)
    report.table("Latency of the brokers, us, medians of %d rounds" % options.rounds,
                 ["", "", "p50", "p99", "p99.9", "max", "confirm p50", "confirm p99"], lines)


BACKLOG = 1000000
FILL = ["-K", "-b", 200]


def fill(broker, mode, messages):
    """So many messages in its queue, which stay."""
    programs.run("load", "-P", broker.port, "-n", messages, *FILL, *(["-p", "-c", 10 * WINDOW] if mode == "b" else []),
                 "publish", seconds=600)


def run_memory(options, targets):
    """Of all processes of a broker: idle, and with a million messages in a queue."""
    messages = options.messages or BACKLOG
    lines, idle = [], {}
    for mode in options.mode:
        with running_brokers(options) as brokers:
            for broker in brokers:
                broker.calm_down()
                before = broker.memory()
                report.note("memory, %s, idle: %d KiB" % (broker.title, before[0]))
                if broker.title not in idle:
                    idle[broker.title] = before[0]
                    lines.append(memory_line("idle", broker, before))
                fill(broker, mode, messages)
                broker.calm_down()
                lines.append(memory_line("%d messages, %s" % (messages, WHAT[mode]), broker, broker.memory()))
    report.table("Resident memory, MiB", ["", "", "all", "of which files"], sorted(lines, key=lambda line: line[0]))
    if len(idle) == 2:
        targets.at_most("idle memory, times RabbitMQ's", idle["harkd"] / idle["RabbitMQ"], 0.1, digits=3)


def memory_line(what, broker, memory):
    return [what, broker.title] + ["%.1f" % (kib / 1024) for kib in memory]


def run_start(options, targets):
    """From exec to accepting AMQP: with nothing, and with a million persistent messages queued."""
    messages = options.messages or BACKLOG
    lines = []
    with running_brokers(options) as brokers:
        for broker in brokers:
            for backlog in (0, messages):
                if backlog:
                    fill(broker, "b", backlog)
                spans = []
                for turn in range(options.rounds):
                    broker.calm_down()
                    broker.stop()
                    spans.append({"ms": broker.start_timed(backlog)})
                    report.note("start, %s, %d messages, round %d: %.0f ms" % (broker.title, backlog, turn + 1,
                                                                            spans[-1]["ms"]))
                lines.append([broker.title, backlog, "%.0f" % report.median(spans, "ms"),
                              "%.0f" % max(row["ms"] for row in spans)])
    report.table("From exec to accepting AMQP, ms, medians of %d starts" % options.rounds,
                 ["", "messages", "median", "worst"], lines)
