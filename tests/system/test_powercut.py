# SPDX-License-Identifier: MIT
"""The power fails at any moment, and the disk has what it was told to sync, and of the rest whatever it likes.

harkd runs once under load while all that it writes, syncs, says and hears is recorded. Then, for many points of the
recording, its folder is made as a disk may be found after a power cut there, another harkd is started with it, and what
its queues hold is compared with what the clients knew. HARK_TEST_CUTS says how many points, HARK_TEST_SEED which.
"""
import os
import random
import re
import shutil

import pytest

from rig.harkd import Harkd
from rig.ledger import Ledger
from rig.peer import Peer
from rig.ports import free_port
from rig.powercut import Disk, Recording
from rig.waiting import wait_until

CUTS = int(os.environ.get("HARK_TEST_CUTS", "25"))
SEED = int(os.environ.get("HARK_TEST_SEED", "0")) or random.randrange(1, 1 << 30)
ROUNDS = 120
CONNECTIONS = 3

INI = """
[hark]
url = embedded:
log = text
[broker]
listen = 127.0.0.1:{port}
data = {data}
memory_limit = 2M
disk_free_limit = 1M
"""

FAN = ["f0", "f1", "f2"]
OWN = [name % number for name in ("p%d", "d%d") for number in range(CONNECTIONS)]   # of one connection each
DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
QUEUES = {"q": DEAD, "t": dict(DEAD, **{"x-message-ttl": 40}), "dead": {}, "prio": {"x-max-priority": 3}, "x0": {}, "x1": {}}
QUEUES.update({name: {} for name in FAN + OWN})


def place(queue):
    return "q, t, dead" if queue in ("q", "t", "dead") else queue


def route(exchange, key):
    return FAN if exchange == "fan" else [key]


def body_of(number):
    filler = random.Random(number)
    size = filler.choice([0, 10, 100, 1000, 3000, filler.randrange(20000)])
    return b"%d:" % number + filler.randbytes(size)


class Address:
    host, vhost = "127.0.0.1", "/"

    def __init__(self, port):
        self.port = port


class Daemon(Harkd):
    def __init__(self, folder, data, **options):
        os.makedirs(folder, exist_ok=True)
        self.address = Address(free_port())
        super().__init__(folder, INI.format(port=self.address.port, data=data), wait="ready", **options)


class Client:
    """Does this and that, over one connection, and does not wait for confirms."""

    def __init__(self, address, number, numbers, rng):
        self.peer, self.number, self.numbers, self.random = Peer(address), number, numbers, rng
        self.confirms = self.peer.channel(confirms=True)
        self.other = self.peer.channel()
        self.transactions = self.peer.channel()
        self.transactions.call("tx.select")

    def publish(self, channel, exchange, key, **properties):
        number = next(self.numbers)
        channel.publish(exchange, key, body_of(number), delivery_mode=2, message_id=str(number), **properties)

    def send(self):
        where = self.random.choice([("", "q"), ("", "q"), ("", "t"), ("", "prio"), ("fan", ""), ("", "p%d" % self.number),
                                    ("", "d%d" % self.number)])
        for _ in range(self.random.randint(1, 8)):
            self.publish(self.confirms, *where, priority=self.random.randint(0, 3) if where[1] == "prio" else None)

    def settle(self):
        queue = self.random.choice(["q", "q", "dead", "prio"] + FAN)
        got = [method for method in (self.other.get(queue, no_ack=False) for _ in range(self.random.randint(1, 6))) if method]
        if not got:
            return
        way = self.random.choice(["ack", "ack", "reject", "requeue"] if queue == "q" else ["ack", "ack", "requeue"])
        if way == "ack":
            self.other.send("basic.ack", delivery=got[-1].delivery, multiple=True)
        for method in got if way != "ack" else ():
            self.other.send("basic.reject", delivery=method.delivery, requeue=way == "requeue")

    def transact(self):
        got = self.transactions.get("x0", no_ack=False)
        if got:
            self.transactions.send("basic.ack", delivery=got.delivery)
        for _ in range(self.random.randint(1, 3)):
            self.publish(self.transactions, "", self.random.choice(["x0", "x1"]))
        self.transactions.call("tx.commit")

    def purge(self):
        self.other.call("queue.purge", queue="p%d" % self.number)

    def delete(self):
        self.other.call("queue.delete", queue="d%d" % self.number)
        self.other.declare("d%d" % self.number, durable=True)

    def act(self):
        self.random.choice([self.send] * 8 + [self.settle] * 4 + [self.transact] * 2 + [self.purge, self.delete])()


def load(address, rng):
    numbers = iter(range(1, 1 << 30))
    peer = Peer(address)
    channel = peer.channel()
    for name, arguments in QUEUES.items():
        channel.declare(name, durable=True, arguments=arguments)
    channel.call("exchange.declare", exchange="fan", type="fanout", durable=True)
    for name in FAN:
        channel.call("queue.bind", queue=name, exchange="fan", key="")
    clients = [Client(address, number, numbers, rng) for number in range(CONNECTIONS)]
    for _ in range(ROUNDS):
        rng.choice(clients).act()


def drain(peer, queue):
    """Priorities and numbers of the messages, in order; None: there is no such queue."""
    channel = peer.channel()
    channel.send("queue.declare", queue=queue, passive=True)
    method = channel.next()
    if method.name == "channel.close":
        assert method.code == 404
        peer.forget(channel)
        channel.send("channel.close-ok")
        return None
    if queue == "t":    # all of it has had its time
        wait_until(lambda: channel.ready("t") == 0, "the end of the messages in t")
    found = []
    while True:
        got = channel.get(queue)
        if not got:
            return found
        number = int(got.message.body.partition(b":")[0])
        assert got.message.body == body_of(number), "message %d has changed" % number
        found.append((got.message.properties.get("priority", 0), number))


def expect_order(ledger, queue, found):
    """Of each connection, as they were sent; those with more priority first."""
    latest = {}
    if queue == "prio":
        assert [priority for priority, _ in found] == sorted((priority for priority, _ in found), reverse=True)
    for priority, number in found if queue != "dead" else ():
        key = priority, ledger.copies[place(queue), number].port
        assert number > latest.get(key, 0), "%s: %d behind %d" % (queue, number, latest[key])
        latest[key] = number


def check(folder, ledger, cut):
    daemon = Daemon(folder, os.path.join(folder, "data"))
    try:
        peer, found = Peer(daemon.address), {}
        for queue in sorted(QUEUES, key=lambda name: name == "dead"):
            got = drain(peer, queue)
            ledger.judge_queue(queue, cut, got is not None)
            found[queue] = got or []
            expect_order(ledger, queue, found[queue])
        ledger.judge(cut, {queue: [number for _, number in got] for queue, got in found.items()})
        peer.zero.call("connection.close", code=200)
        daemon.stop()
        assert not re.search(r"\berror\b|should be on disk", daemon.log), daemon.log
    finally:
        daemon.close()
    return sum(len(got) for got in found.values())


@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler for what is preloaded")
def test_power_cuts(tmp_path):
    rng = random.Random(SEED)
    recording = Recording(str(tmp_path))
    daemon = Daemon(str(tmp_path / "first"), os.path.join(recording.root, "data"), environment=recording.environment)
    try:
        load(daemon.address, rng)
    finally:
        daemon.close()
    ledger, records = Ledger(place, route), list(recording.records())
    for record in records:
        ledger.take(record[0], record[1], record[2], record[4])
    cuts = sorted(rng.sample(range(len(records)), CUTS))
    disk, at, messages = Disk(recording.root), 0, 0
    for cut in cuts:
        for record in records[at:cut + 1]:
            disk.take(*record)
        at = cut + 1
        folder = str(tmp_path / str(cut))
        disk.make(folder, rng)
        try:
            messages += check(folder, ledger, records[cut][0])
        except BaseException:
            print("HARK_TEST_SEED=%d, cut %d of %d" % (SEED, cut, len(records)))
            raise
        shutil.rmtree(folder)
    assert messages > 0
