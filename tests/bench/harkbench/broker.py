# SPDX-License-Identifier: MIT
"""A private RabbitMQ: the one of the system tests' rig, with the scheduler's settings that a benchmark wants."""
import os
import re
import sys
import tempfile
import time

from . import programs
from .processes import cpu_seconds

sys.path.insert(0, os.path.join(programs.ROOT, "tests/system"))
from rig.rabbitmq import RabbitMQ  # noqa: E402


class BenchBroker(RabbitMQ):
    """With busy_wait (Erlang's default, so RabbitMQ's as it is installed) idle schedulers spin for a while: lower
    latency, more CPU. The rig switches that off."""

    def __init__(self, folder, busy_wait):
        self._busy_wait = busy_wait
        super().__init__(folder)

    def _environment(self):
        environment = super()._environment()
        if self._busy_wait:
            name = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"
            environment[name] = re.sub(r"\+sbwt\w* \w+ ", "", environment[name])
        return environment

    def cpu(self):
        return sum(cpu_seconds(pid) for pid in self.pids)

    def calm_down(self, patience=20):
        """Waits until it has nothing left to do from what was before."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            before = self.cpu()
            time.sleep(0.3)
            if self.cpu() - before < 0.3 * 0.05:
                return


class running_broker:
    """Context: a broker in a folder of its own, empty, gone afterwards."""

    def __init__(self, busy_wait=True):
        self._busy_wait = busy_wait

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="hark-bench-")
        self._broker = BenchBroker(self._folder.name, self._busy_wait)
        try:
            self._broker.start()
        except BaseException:
            self.__exit__()
            raise
        return self._broker

    def __exit__(self, *_):
        self._broker.close()
        self._folder.cleanup()
