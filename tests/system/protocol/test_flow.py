# SPDX-License-Identifier: MIT
"""Who is held when the broker has too much, and who is not."""
import pytest

from rig import wire
from rig.peer import CAPABILITIES
from rig.waiting import wait_until

HEARTBEATS = wire.frame(wire.HEARTBEAT, 0, b"") * 8192


@pytest.fixture
def alarm(broker):
    """alarm(True) sets the memory alarm, alarm(False) clears it; cleared at the end."""
    yield broker.memory_alarm
    broker.memory_alarm(False)


def test_channel_flow(peer, ch):
    assert ch.call("channel.flow", active=True).active is True
    ch.send("channel.flow", active=False)
    peer.expect_close(540, "^NOT_IMPLEMENTED - active=false", "channel.flow")


def test_publishers_are_told_that_they_are_blocked(connect, alarm):
    idle, publisher = connect(), connect()
    channel = publisher.channel(confirms=True)
    channel.declare("q")
    channel.publish_safely("", "q", "x")
    alarm(True)
    channel.publish("", "q", "held")
    assert publisher.zero.expect("connection.blocked").reason == "low on memory"
    channel.silent()
    idle.alive()        # who does not publish is not held
    alarm(False)
    publisher.zero.expect("connection.unblocked")
    channel.expect("basic.ack")
    assert channel.ready("q") == 2


def test_clients_that_do_not_understand_blocked_are_just_held(connect, alarm):
    peer = connect(capabilities=dict(CAPABILITIES, **{"connection.blocked": False}))
    channel = peer.channel(confirms=True)
    channel.declare("q")
    alarm(True)
    channel.publish("", "q", "held")
    peer.zero.silent()
    channel.silent()
    alarm(False)
    channel.expect("basic.ack")
    peer.zero.silent()


def test_acks_get_through_while_publishers_are_blocked(connect, alarm):
    consumer, publisher = connect(), connect()
    out, channel = publisher.channel(confirms=True), consumer.channel()
    channel.declare("q")
    out.publish_safely("", "q", *"abcdefghij")
    channel.call("basic.qos", prefetch_count=2)
    alarm(True)
    out.publish("", "q", "held")
    publisher.zero.expect("connection.blocked")
    channel.call("basic.consume", queue="q")
    for number in range(10):
        got = channel.expect("basic.deliver")
        assert got.message.body == b"abcdefghij"[number:number + 1]
        channel.send("basic.ack", delivery=got.delivery)
    channel.silent()
    alarm(False)
    assert channel.expect("basic.deliver").message.body == b"held"


def test_a_blocked_connection_can_be_closed_by_the_server(broker, connect, alarm):
    publisher = connect()
    channel = publisher.channel()
    channel.declare("q")
    alarm(True)
    channel.publish("", "q", "held")
    publisher.zero.expect("connection.blocked")
    publisher.hang_up()
    alarm(False)
    wait_until(lambda: broker.connections() == 0, "the connection's end")


def test_blocked_publishers_are_held_by_tcp(connect, alarm):
    publisher = connect()
    channel = publisher.channel()
    channel.declare("q")
    alarm(True)
    channel.publish("", "q", "held")
    publisher.zero.expect("connection.blocked")
    total = 0
    while True:
        sent = publisher.write_some(HEARTBEATS)
        total += sent
        if not sent:
            break
        assert total < 100 << 20, "the broker goes on reading"


def test_publishers_that_come_during_the_alarm(connect, alarm):
    connect().channel().declare("q")
    alarm(True)
    channel = connect().channel(confirms=True)      # opening is no publishing
    channel.publish("", "q", "held")
    channel.peer.zero.expect("connection.blocked")
    alarm(False)
    channel.peer.zero.expect("connection.unblocked")
    channel.expect("basic.ack")


def test_a_client_that_never_reads_holds_nobody(connect):
    deaf, other = connect(), connect().channel(confirms=True)
    other.declare("q")
    deaf.channel().call("basic.consume", queue="q", no_ack=True)
    body = b"x" * 100000
    for _ in range(200):
        other.publish_safely("", "q", body)
    other.declare("r")
    other.publish_safely("", "r", "y")
    assert other.get("r").message.body == b"y"
