# SPDX-License-Identifier: MIT
"""Who does job J: harkd, and the tightest loop on rabbitmq-c's own API."""
import os

from . import programs
from .processes import Process

KEYS = ["order.created", "order.paid", "order.shipped", "user.signed-up", "user.left"]     # bench_keys in raw.h


class Job:
    """One way to run job J: mode "a" (transient, no confirms) or "b" (persistent, acknowledged when confirmed). With
    `ids` what fills the queue has a message_id, which pika, rabbitmq-c and most others do not give by themselves."""

    def __init__(self, mode, prefetch, messages, ids=False):
        self.mode, self.prefetch, self.messages, self.ids = mode, prefetch, messages, ids

    @property
    def confirmed(self):
        return self.mode == "b"

    def __str__(self):
        return "(%s) prefetch %d%s" % (self.mode, self.prefetch, ", with ids" if self.ids else "")


def job_ini(job):
    """What stands in [hark] and behind it: one `forward` listener per routing key; the topology is the one that
    `queues setup` declares."""
    lines = [] if job.confirmed else ["confirm = no", "persistent = no"]
    lines += ["", "[exchange bench.in]", "[exchange bench.out]", "", "[queue bench.jobs]"]
    lines += ["bind = bench.in %s" % key for key in KEYS]
    lines += ["prefetch = %d" % job.prefetch, "", "[queue bench.results]", "bind = bench.out #"]
    for key in KEYS:
        lines += ["", "[listener forward-%s]" % key.replace(".", "-"), "module = forward", "queue = bench.jobs",
                  "on = %s" % key, "emit = bench.out"]
    return "\n".join(lines) + "\n"


def harkd_ini(port, job):
    return "[hark]\nurl = amqp://guest:guest@127.0.0.1:%d/%%2f\nlog = text\n" % port + job_ini(job)


class Contender:
    def finish(self, process):
        """It has done the job: ends by itself, or wants to be told."""
        if self.ends:
            process.wait(30)
        process.stop()


class Harkd(Contender):
    name = "harkd"
    program = os.environ.get("HARKD", os.path.join(programs.BUILD, "harkd"))
    ends = False        # by itself, when it has done the job

    def available(self):
        return os.access(self.program, os.X_OK)

    def start(self, folder, port, job, endless=False):
        ini = os.path.join(folder, "hark.ini")
        with open(ini, "w") as file:
            file.write(harkd_ini(port, job))
        return Process(self.name, [self.program, "-c", ini], os.path.join(folder, "harkd.log"))


class Loop(Contender):
    """As the library's users write it: each message is acknowledged when it is done, three system calls a message."""
    name, acknowledge = "rabbitmq-c loop", 1
    ends = True

    def more(self, job):
        return []

    def available(self):
        return programs.built("rabbitmq_loop")

    def start(self, folder, port, job, endless=False):
        argv = [programs.path("rabbitmq_loop"), "-P", str(port), "-f", str(job.prefetch),
                "-a", str(self.acknowledge or max(1, job.prefetch // 10)),
                "-n", "0" if endless else str(job.messages)] + (["-c"] if job.confirmed else []) + self.more(job)
        return Process(self.name, argv, os.path.join(folder, "loop.log"))


class GatheringLoop(Loop):
    """With one `multiple` acknowledgement for a tenth of the prefetch."""
    name, acknowledge = "the same, acks gathered", 0


class IdentifyingLoop(GatheringLoop):
    """And with the ids and headers that harkd gives its messages: how much of a difference the broker makes of them."""
    name = "the same, with ids"

    def more(self, job):
        return ["-i", "2" if job.ids else "1"]


def available():
    return [contender for contender in (Loop(), GatheringLoop(), IdentifyingLoop(), Harkd()) if contender.available()]
