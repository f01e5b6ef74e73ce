# SPDX-License-Identifier: MIT
"""A running harkd: its ini file, its log, its processes."""
import os
import re
import signal
import subprocess

from . import processes
from .waiting import PATIENCE, wait_until

BINARY = os.path.abspath(os.environ.get("HARKD", os.path.join(os.path.dirname(__file__), "../../../build/harkd")))

# What a sanitizer says when it has found something.
REPORT = re.compile(r"(ERROR: \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer)[^\n]*")


class Harkd:
    """`ini` is the whole text of the file (None: none is given to harkd, then `arguments` say what to do). The
    constructor returns when harkd consumes from all queues that listeners name, with wait="ready" when it says that it is
    ready, with wait=None at once."""

    def __init__(self, folder, ini, binary=BINARY, environment=None, arguments=(), wait="consuming"):
        self.folder = str(folder)
        self.path = os.path.join(self.folder, "hark.ini")
        self.log_path = os.path.join(self.folder, "harkd.log")
        self.sanitizer_silent = True    # a test that makes harkd crash on purpose sets this to False
        self._binary, self._arguments = binary, list(arguments)
        self._environment = dict(os.environ)
        self._environment.pop("NOTIFY_SOCKET", None)
        self._environment.pop("JOURNAL_STREAM", None)
        self._environment.setdefault("ASAN_OPTIONS", "detect_leaks=1:handle_segv=0:handle_abort=0:handle_sigbus=0")
        self._environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        self._environment.update(environment or {})
        self.process = None
        if ini is not None:
            self.write_ini(ini)
            self._arguments = ["-c", self.path] + self._arguments
        self.start(wait)

    def write_ini(self, text):
        """Replaces the file in one step, as an editor would."""
        with open(self.path + ".new", "w") as file:
            file.write(text)
        os.replace(self.path + ".new", self.path)

    def start(self, wait="consuming"):
        """Starts it (again, after stop or kill9)."""
        position = self.log_size()
        with open(self.log_path, "ab") as log:
            self.process = processes.start([self._binary] + self._arguments, cwd=self.folder,
                                           env=self._environment, stdout=log, stderr=log)
        if wait:
            self.wait_for_log(r"\bready$", since=position)
        if wait == "consuming":
            self.wait_consuming(position)
        return self

    def wait_consuming(self, since=0):
        """Waits until every worker consumes from every queue that a listener names."""
        workers, listening, queues = 1, False, set()
        with open(self.path) as file:
            for line in file:
                key, _, value = (part.strip() for part in line.partition("="))
                listening = line.startswith("[listener") or (listening and not line.startswith("["))
                if key == "workers":
                    workers = int(value)
                elif key == "queue" and listening:
                    queues |= set(value.split())
        for queue in sorted(queues):
            self.wait_for_log(r'consuming from queue "%s"' % re.escape(queue), count=workers, since=since)

    # The log.

    @property
    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def log_size(self):
        """A position for `since`."""
        return len(self.log) if os.path.exists(self.log_path) else 0

    def find(self, pattern, since=0):
        return re.findall(pattern, self.log[since:], re.IGNORECASE | re.MULTILINE)

    def wait_for_log(self, pattern, timeout=None, count=1, since=0):
        """Waits for `count` matches; returns the first match object."""
        def found():
            text = self.log[since:]
            matches = list(re.finditer(pattern, text, re.IGNORECASE | re.MULTILINE))
            if len(matches) >= count:
                return matches[0]
            assert self.running or count == 0, "harkd ended with %s before its log had %r:\n%s" % (
                self.process.returncode, pattern, self.log[-8000:])
            return None
        return wait_until(found, lambda: "%r in the log:\n%s" % (pattern, self.log[since:][-8000:]), timeout)

    # The processes.

    @property
    def pid(self):
        return self.process.pid

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def workers(self):
        """Process ids of the workers."""
        return [pid for pid in processes.children(self.pid) if pid not in self._brokers()]

    def _brokers(self):
        return [pid for pid in processes.children(self.pid) if processes.title(pid) == "harkd: broker"]

    def wait_broker(self, without=()):
        """The process id of the embedded broker, once there is one that is not in `without`."""
        return wait_until(lambda: [pid for pid in self._brokers() if pid not in without], lambda: "a broker, not %s:\n%s" % (
            without, self.log[-4000:]))[0]

    def wait_workers(self, count, without=()):
        """Waits until there are exactly `count` workers, none of them in `without`."""
        def right():
            pids = self.workers()
            return pids if len(pids) == count and not set(pids) & set(without) else None
        return wait_until(right, lambda: "%d workers, have %s without %s\n%s" % (
            count, self.workers(), without, self.log[-4000:]))

    def rss(self, pid=None):
        """Resident memory in bytes, of the supervisor or of `pid`."""
        return processes.rss(pid or self.pid)

    # Signals.

    def signal(self, number):
        os.kill(self.pid, number)

    def reload(self, ini=None, good=True):
        """SIGHUP, and waits for harkd's answer in the log."""
        if ini is not None:
            self.write_ini(ini)
        position = self.log_size()
        self.signal(signal.SIGHUP)
        self.wait_for_log(r"\breloaded\b" if good else r"hark\.ini:\d+:", since=position)
        return position

    def wait(self, timeout=None):
        """Waits for its end; the exit code."""
        try:
            return self.process.wait(PATIENCE if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("harkd does not end:\n" + self.log[-8000:]) from None

    def stop(self, code=0, timeout=None):
        """SIGTERM; harkd has to leave with `code`, nothing left running, and no complaint of a sanitizer."""
        if self.running:
            below = processes.descendants(self.pid)
            self.signal(signal.SIGTERM)
            got = self.wait(timeout)
            assert got == code, "harkd ended with %s instead of %d:\n%s" % (got, code, self.log[-8000:])
            wait_until(lambda: not [pid for pid in below if processes.alive(pid)], lambda: "the end of %s" % [
                processes.describe(pid) for pid in below if processes.alive(pid)], 2)
        self.check_sanitizer()

    def check_sanitizer(self):
        if self.sanitizer_silent:
            report = REPORT.search(self.log)
            assert not report, "a sanitizer complained:\n" + self.log[max(0, report.start() - 200):][:6000]

    def kill9(self):
        """Ends the supervisor; it is up to the workers to notice."""
        self.process.kill()
        self.process.wait()

    def close(self):
        """The end of a test, however it went."""
        if self.process:
            processes.kill_tree(self.pid)
            self.process.wait()
