# SPDX-License-Identifier: MIT
"""Against the stub broker, which answers as fast as the socket goes: throughput, start-up, idleness."""
import subprocess
import tempfile
import time

from . import contenders, programs, report
from .processes import wakeups

MESSAGES = {"harkd": 2000000}
LOOP_MESSAGES = 300000
RATE_TARGETS = {"a": 800000, "b": 500000}


class running_stub:
    """Context: a stub with so many messages (0: none, for ever) on `port`."""

    def __init__(self, messages, confirmed):
        self._arguments = ["-n", messages] + (["-p"] if confirmed else [])

    def __enter__(self):
        self._process = programs.start("stub", *self._arguments)
        self.port = int(self._process.stdout.readline())
        return self

    def result(self):
        """Waits until all messages came back; the clients are still connected."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the stub ended early")
        return programs.json.loads(line)

    def leave(self):
        """Waits for its end, when the clients have gone; it judges what it got."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            raise RuntimeError("a client has not left the stub") from None
        if code != 0:
            raise RuntimeError("the stub is not content with what it got")

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


def run_once(contender, job):
    with running_stub(job.messages, job.confirmed) as stub, \
            tempfile.TemporaryDirectory(prefix="hark-bench-") as folder:
        process = contender.start(folder, stub.port, job)
        process.sample()
        try:
            row = stub.result()
            contender.finish(process)
            stub.leave()
        finally:
            process.kill()
        row["cpu_us"] = process.usage * 1e6 / job.messages
        row["worker_kib"] = process.worker_kib
        row["start_ms"] = (row["first_ack_ns"] - process.started_ns) / 1e6
        return row


def run(options, targets):
    for mode in options.mode:
        for prefetch in options.prefetch or (200, 1000):
            lines = []
            for contender in contenders.available():
                job = contenders.Job(mode, prefetch, options.messages or MESSAGES.get(contender.name, LOOP_MESSAGES))
                rows = [run_once(contender, job) for _ in range(options.rounds)]
                rate, memory = report.median(rows, "rate"), max(row["worker_kib"] for row in rows) / 1024
                lines.append([contender.name, job.messages, "%.0f" % rate, "%.3f" % report.median(rows, "cpu_us"),
                              "%.3f" % report.median(rows, "stub_cpu_us"),
                              "%.3f" % report.median(rows, "reads_per_message"), "%.1f" % memory])
                if contender.name == "harkd":
                    targets.at_least("stub (%s) prefetch %d: messages a second" % (mode, prefetch), rate,
                                     RATE_TARGETS[mode], digits=0)
            report.table("Stub broker, (%s) prefetch %d: medians of %d rounds" % (mode, prefetch, options.rounds),
                         ["", "messages", "msg/s", "client us/msg", "stub us/msg", "stub reads/msg", "MiB"], lines)


def run_startup(options, targets):
    """From exec to the first message handled: published and acknowledged."""
    lines = []
    for contender in contenders.available():
        for mode in options.mode:
            rows = [run_once(contender, contenders.Job(mode, 200, 1)) for _ in range(max(10, options.rounds))]
            times = sorted(row["start_ms"] for row in rows)
            middle = report.median(rows, "start_ms")
            lines.append(["%s (%s)" % (contender.name, mode), "%.1f" % middle, "%.1f" % times[0],
                          "%.1f" % times[-1]])
            if contender.name == "harkd":
                targets.at_most("exec to first message handled (%s)" % mode, middle, 15, " ms", 1)
    report.table("From exec to the first message handled, ms, on the stub", ["", "median", "best", "worst"], lines)


HEARTBEAT = 20      # seconds, harkd's default proposal; the stub takes it
# Per connection and heartbeat interval a client sends two and hears two (each side sends at half the interval).
WAKEUPS_PER_HEARTBEAT = 4
CONNECTIONS = 2
SETTLING = 22       # seconds: the supervisor looks twice more, each a third of hang_timeout later, before it sleeps


def run_idle(options, targets):
    """Wake-ups while nothing happens, after some messages have been handled."""
    harkd = contenders.Harkd()
    if not harkd.available():
        return
    with running_stub(1000, True) as stub, tempfile.TemporaryDirectory(prefix="hark-bench-") as folder:
        process = harkd.start(folder, stub.port, contenders.Job("b", 200, 1000))
        process.sample()
        try:
            stub.result()
            time.sleep(SETTLING)
            pids = [process.pid] + process.workers()
            process.stop_sampling()
            before = {pid: wakeups(pid) for pid in pids}
            time.sleep(options.seconds)
            per_minute = {pid: (wakeups(pid) - before[pid]) * 60 / options.seconds for pid in pids}
            process.stop()
        finally:
            process.kill()
    allowed = CONNECTIONS * WAKEUPS_PER_HEARTBEAT * 60 / HEARTBEAT
    report.table("Idle for %d s after 1,000 messages (heartbeat %d s, %d connections: %.0f wake-ups a minute)" % (
        options.seconds, HEARTBEAT, CONNECTIONS, allowed), ["", "wake-ups/min", "MiB"], [
            ["supervisor" if pid == process.pid else "worker", "%.0f" % per_minute[pid],
             "%.1f" % (process.rss.get(pid, 0) / 1024)] for pid in pids])
    targets.at_most("idle wake-ups a minute, all processes", sum(per_minute.values()), allowed, "", 0)
