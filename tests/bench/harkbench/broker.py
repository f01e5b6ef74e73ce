# SPDX-License-Identifier: MIT
"""Private brokers: the RabbitMQ of the system tests' rig, with the scheduler's settings that a benchmark wants, and
harkd's own."""
import os
import re
import signal
import sys
import tempfile
import time

from . import programs
from .processes import Process, cpu_seconds, memory_kib, tree

sys.path.insert(0, os.path.join(programs.ROOT, "tests/system"))
from rig.ports import free_port  # noqa: E402
from rig.rabbitmq import RabbitMQ  # noqa: E402


class Measured:
    """What a broker uses; `root` is the process that all of it descends from."""

    def processes(self):
        return tree(self.root)

    def cpu(self):
        return sum(cpu_seconds(pid) for pid in self.processes())

    def memory(self):
        return memory_kib(self.processes())

    def calm_down(self, patience=20):
        """Waits until it has nothing left to do from what was before."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            before = self.cpu()
            time.sleep(0.3)
            if self.cpu() - before < 0.3 * 0.05:
                return

    def start_timed(self, messages=0):
        """Starts it; milliseconds from exec until it speaks AMQP and its queue holds so many messages."""
        ready = programs.start("load", "-P", self.port, "-n", messages, "ready")
        begin = time.monotonic_ns()
        try:
            self.start()
            return (programs.finish(ready, 300)["ready_ns"] - begin) / 1e6
        finally:
            ready.kill()


class BenchBroker(Measured, RabbitMQ):
    """With busy_wait (Erlang's default, so RabbitMQ's as it is installed) idle schedulers spin for a while: lower
    latency, more CPU. The rig switches that off."""

    title = "RabbitMQ"

    def __init__(self, folder, busy_wait):
        self._busy_wait = busy_wait
        super().__init__(folder)

    def _environment(self):
        environment = super()._environment()
        if self._busy_wait:
            name = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"
            environment[name] = re.sub(r"\+sbwt\w* \w+ ", "", environment[name])
        return environment

    @property
    def root(self):
        return self.pids[0]     # not epmd, which is Erlang's


class Embedded(Measured):
    """harkd with `url = embedded:`, and whatever else its ini file says."""

    title = "harkd"
    program = os.environ.get("HARKD", os.path.join(programs.BUILD, "harkd"))

    def __init__(self, folder):
        self.folder, self.port, self._process = folder, free_port(), None
        self._data = os.path.join(folder, "data")
        self.configure("")

    @classmethod
    def available(cls):
        return os.access(cls.program, os.X_OK)

    def configure(self, text):
        """What the ini file says besides the broker; [hark] is open at its beginning."""
        with open(self._ini, "w") as file:
            file.write("[broker]\nlisten = 127.0.0.1:%d\ndata = %s\n\n[hark]\nurl = embedded:\nlog = text\n%s" % (
                self.port, self._data, text))

    @property
    def _ini(self):
        return os.path.join(self.folder, "hark.ini")

    @property
    def root(self):
        return self._process.pid

    def start(self):
        ready = programs.start("load", "-P", self.port, "ready")
        self._process = Process(self.title, [self.program, "-c", self._ini], os.path.join(self.folder, "harkd.log"))
        deadline = time.monotonic() + 60
        try:
            while ready.poll() is None:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("harkd does not start:\n" + self._process.log())
                time.sleep(0.002)
            programs.finish(ready)
        finally:
            ready.kill()

    def reload(self):
        os.kill(self.root, signal.SIGHUP)

    def stop(self):
        self._process.stop()

    def close(self):
        if self._process:
            self._process.kill()

    def broker_pid(self):
        """The process that is the broker, for a profiler."""
        return max(self.processes(), key=cpu_seconds)


class running_broker:
    """Context: a broker in a folder of its own, empty, gone afterwards."""

    def __init__(self, busy_wait=True):
        self._busy_wait = busy_wait

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="hark-bench-")
        self._broker = self._make(self._folder.name)
        try:
            self._broker.start()
        except BaseException:
            self.__exit__()
            raise
        return self._broker

    def _make(self, folder):
        return BenchBroker(folder, self._busy_wait)

    def __exit__(self, *_):
        self._broker.close()
        self._folder.cleanup()


class running_embedded(running_broker):
    """Context: the same of harkd's own."""

    def _make(self, folder):
        return Embedded(folder)
