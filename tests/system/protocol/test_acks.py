# SPDX-License-Identifier: MIT
"""Acknowledgements, requeue, recover, and how much is delivered ahead of them."""
import pytest

UNKNOWN = "^PRECONDITION_FAILED - unknown delivery tag %d"
SETTLE = ["basic.ack", "basic.nack", "basic.reject"]


@pytest.fixture
def got(ch):
    """Delivery tags 1 to 5 of messages got from `q`."""
    ch.declare("q")
    for number in range(1, 6):
        ch.publish("", "q", b"%d" % number)
    ch.wait_ready("q", 5)
    return [ch.get("q", no_ack=False) for _ in range(5)]


def left(peer, ch):
    """What the queue has when the channel is gone."""
    ch.close()
    return peer.channel().bodies("q")


@pytest.mark.parametrize("name", SETTLE)
def test_one_is_one(peer, ch, got, name):
    ch.send(name, delivery=3)
    assert left(peer, ch) == [b"1", b"2", b"4", b"5"]


@pytest.mark.parametrize("name", ["basic.ack", "basic.nack"])
def test_multiple_is_up_to_it(peer, ch, got, name):
    ch.send(name, delivery=2)
    ch.send(name, delivery=3, multiple=True)
    assert left(peer, ch) == [b"4", b"5"]


@pytest.mark.parametrize("name", ["basic.ack", "basic.nack"])
def test_multiple_0_is_all(peer, ch, got, name):
    ch.send(name, delivery=0, multiple=True)
    ch.send(name, delivery=0, multiple=True)    # of none is no error
    assert left(peer, ch) == []


@pytest.mark.parametrize("name", SETTLE)
@pytest.mark.parametrize("tag", [0, 6, 1 << 40, (1 << 64) - 1])
def test_unknown_tag(peer, ch, got, name, tag):
    ch.send(name, delivery=tag)
    ch.expect_close(406, UNKNOWN % tag, name)
    ch.open()
    ch.wait_ready("q", 5)


@pytest.mark.parametrize("name", ["basic.ack", "basic.nack"])
def test_unknown_tag_multiple(ch, got, name):
    ch.send(name, delivery=6, multiple=True)
    ch.expect_close(406, UNKNOWN % 6, name)


@pytest.mark.parametrize("name", SETTLE)
def test_twice(ch, got, name):
    ch.send(name, delivery=2)
    ch.send(name, delivery=2)
    ch.expect_close(406, UNKNOWN % 2, name)


def test_twice_multiple(ch, got):
    ch.send("basic.ack", delivery=3, multiple=True)
    ch.send("basic.ack", delivery=3, multiple=True)
    ch.expect_close(406, UNKNOWN % 3, "basic.ack")


def test_ack_of_no_ack(ch):
    ch.declare("q")
    ch.publish("", "q", "x")
    ch.send("basic.ack", delivery=ch.get_soon("q").delivery)
    ch.expect_close(406, UNKNOWN % 1, "basic.ack")


def test_tags_are_the_channels(peer, ch, got):
    other = peer.channel()
    other.send("basic.ack", delivery=1)
    other.expect_close(406, UNKNOWN % 1, "basic.ack")


def test_ack_is_final(peer, ch, got):
    ch.send("basic.ack", delivery=0, multiple=True)
    assert left(peer, ch) == []


# Requeue.

@pytest.mark.parametrize("name", ["basic.nack", "basic.reject"])
def test_requeue_to_the_original_position(ch, got, name):
    ch.publish("", "q", "6")
    ch.wait_ready("q", 1)
    for tag in 4, 2, 5:
        ch.send(name, delivery=tag, requeue=True)
    ch.wait_ready("q", 4)
    again = [ch.get("q") for _ in range(4)]
    assert [(m.message.body, m.redelivered) for m in again] == [(b"2", True), (b"4", True), (b"5", True), (b"6", False)]


def test_nack_multiple_requeues_in_order(ch, got):
    ch.send("basic.nack", delivery=4, multiple=True, requeue=True)
    ch.wait_ready("q", 4)
    assert ch.bodies("q") == [b"1", b"2", b"3", b"4"]


def test_requeue_to_a_waiting_consumer(ch, got):
    ch.call("basic.consume", queue="q", tag="c")
    ch.send("basic.reject", delivery=2, requeue=True)
    again = ch.expect("basic.deliver", delivery=6, redelivered=True)
    assert again.message.body == b"2"


def test_redelivered_stays(ch, got):
    ch.send("basic.reject", delivery=1, requeue=True)
    again = ch.get_soon("q", no_ack=False)
    ch.send("basic.reject", delivery=again.delivery, requeue=True)
    assert ch.get_soon("q").redelivered


def test_messages_return_in_order_when_their_channel_ends(peer, ch):
    ch.declare("q")
    for number in range(100):
        ch.publish("", "q", b"%d" % number)
    one, two = peer.channel(), peer.channel()
    for channel in one, two:
        channel.call("basic.qos", prefetch_count=50)
        channel.call("basic.consume", queue="q", tag="c")
    for channel in one, two:
        for _ in range(50):
            channel.expect("basic.deliver")
        channel.call("basic.cancel", tag="c")
    one.close()
    two.close()
    ch.wait_ready("q", 100)
    assert ch.bodies("q") == [b"%d" % number for number in range(100)]


# Recover.

@pytest.mark.parametrize("name", ["basic.recover", "basic.recover-async"])
def test_recover(ch, got, name):
    ch.send("basic.ack", delivery=3)
    ch.send(name, requeue=True)
    if name == "basic.recover":
        ch.expect("basic.recover-ok")
    ch.wait_ready("q", 4)
    again = [ch.get("q") for _ in range(4)]
    assert [(m.message.body, m.redelivered) for m in again] == [(b"%d" % n, True) for n in (1, 2, 4, 5)]
    ch.send("basic.ack", delivery=1)    # its tag is no more
    ch.expect_close(406, UNKNOWN % 1)


def test_recover_to_a_consumer(ch):
    ch.declare("q")
    ch.call("basic.consume", queue="q")
    ch.publish("", "q", "x")
    ch.expect("basic.deliver", delivery=1, redelivered=False)
    ch.send("basic.recover", requeue=True)
    ch.expect_any("basic.recover-ok", "basic.deliver")
    ch.send("basic.ack", delivery=2)
    ch.call("basic.qos")


@pytest.mark.parametrize("name", ["basic.recover", "basic.recover-async"])
def test_recover_without_requeue(peer, ch, name):
    ch.send(name, requeue=False)
    peer.expect_close(540, "^NOT_IMPLEMENTED - requeue=false", name)


# Prefetch.

def deliveries(ch, count):
    tags = [ch.expect("basic.deliver").delivery for _ in range(count)]
    ch.silent()
    return tags


def fill(ch, count):
    ch.declare("q")
    for _ in range(count):
        ch.publish("", "q", "x")
    ch.wait_ready("q", count)


def test_prefetch_per_consumer(ch):
    fill(ch, 10)
    ch.call("basic.qos", prefetch_count=3)
    ch.call("basic.consume", queue="q", tag="a")
    assert deliveries(ch, 3) == [1, 2, 3]
    ch.call("basic.qos", prefetch_count=1)      # for consumers that begin later
    ch.call("basic.consume", queue="q", tag="b")
    assert deliveries(ch, 1) == [4]
    ch.send("basic.ack", delivery=2)
    assert ch.expect("basic.deliver").tag == "a"
    ch.send("basic.nack", delivery=4, requeue=False)
    assert ch.expect("basic.deliver").tag == "b"
    ch.send("basic.ack", delivery=0, multiple=True)
    assert len(deliveries(ch, 4)) == 4


def test_prefetch_does_not_count_gets(ch):
    fill(ch, 5)
    ch.call("basic.qos", prefetch_count=2)
    ch.get("q", no_ack=False)
    ch.call("basic.consume", queue="q")
    assert deliveries(ch, 2) == [2, 3]


def test_prefetch_0_is_no_limit(ch):
    fill(ch, 300)
    ch.call("basic.qos", prefetch_count=0)
    ch.call("basic.consume", queue="q")
    assert deliveries(ch, 300) == list(range(1, 301))


def test_prefetch_does_not_hold_no_ack(ch):
    fill(ch, 10)
    ch.call("basic.qos", prefetch_count=1)
    ch.call("basic.consume", queue="q", no_ack=True)
    assert len(deliveries(ch, 10)) == 10


def test_prefetch_per_channel(ch):
    fill(ch, 10)
    ch.call("basic.qos", prefetch_count=3, **{"global": True})
    for tag in "ab":
        ch.send("basic.consume", queue="q", tag=tag)
    got = [ch.next() for _ in range(5)]
    assert sorted(m.name for m in got) == ["basic.consume-ok"] * 2 + ["basic.deliver"] * 3
    ch.silent()
    ch.send("basic.ack", delivery=1)
    assert deliveries(ch, 1) == [4]


def test_prefetch_per_channel_may_grow(ch):
    fill(ch, 10)
    ch.call("basic.qos", prefetch_count=2, **{"global": True})
    ch.call("basic.consume", queue="q")
    assert deliveries(ch, 2) == [1, 2]
    ch.send("basic.qos", prefetch_count=5, **{"global": True})
    got = [ch.next() for _ in range(4)]
    assert sorted(m.name for m in got) == ["basic.deliver"] * 3 + ["basic.qos-ok"]
    ch.send("basic.qos", prefetch_count=0, **{"global": True})
    got = [ch.next() for _ in range(6)]
    assert sorted(m.name for m in got) == ["basic.deliver"] * 5 + ["basic.qos-ok"]


def test_a_prefetch_per_consumer_lifts_the_channels(ch):
    ch.declare("q")
    ch.call("basic.qos", prefetch_count=1, **{"global": True})
    ch.call("basic.consume", queue="q", tag="c")
    for body in "abc":
        ch.publish("", "q", body)
    assert ch.expect("basic.deliver").message.body == b"a"
    ch.silent()
    ch.call("basic.qos", prefetch_count=7)
    assert [ch.expect("basic.deliver").message.body for _ in "bc"] == [b"b", b"c"]


def test_both_prefetches(ch):
    fill(ch, 10)
    ch.call("basic.qos", prefetch_count=3)
    ch.call("basic.qos", prefetch_count=4, **{"global": True})
    ch.call("basic.consume", queue="q", tag="a")
    assert deliveries(ch, 3) == [1, 2, 3]
    ch.call("basic.consume", queue="q", tag="b")
    assert deliveries(ch, 1) == [4]


def test_prefetch_size_is_not_implemented(peer, ch):
    ch.send("basic.qos", prefetch_size=5)
    peer.expect_close(540, r"^NOT_IMPLEMENTED - prefetch_size!=0 \(5\)", "basic.qos")


def test_order_with_prefetch_1(ch):
    ch.declare("q")
    for number in range(50):
        ch.publish("", "q", b"%d" % number)
    ch.call("basic.qos", prefetch_count=1)
    ch.call("basic.consume", queue="q")
    for number in range(50):
        got = ch.expect("basic.deliver")
        assert got.message.body == b"%d" % number
        ch.send("basic.ack", delivery=got.delivery)


# Priorities of messages.

def test_priorities(ch):
    ch.declare("q", arguments={"x-max-priority": 5})
    for priority in 1, None, 5, 3, 9, 0, 5, 1:
        ch.publish("", "q", str(priority), priority=priority)
    ch.wait_ready("q", 8)
    # None counts as 0, what is above the maximum as the maximum; and first come, first served.
    assert ch.bodies("q") == [b"5", b"9", b"5", b"3", b"1", b"1", b"None", b"0"]


def test_priorities_of_requeued_messages(ch):
    ch.declare("q", arguments={"x-max-priority": 5})
    for priority in 1, 2, 2:
        ch.publish("", "q", str(priority), priority=priority)
    ch.wait_ready("q", 3)
    first = ch.get("q", no_ack=False)
    ch.publish("", "q", "new", priority=2)
    ch.wait_ready("q", 3)
    ch.send("basic.reject", delivery=first.delivery, requeue=True)
    ch.wait_ready("q", 4)
    again = [ch.get("q") for _ in range(4)]
    assert [(m.message.body, m.redelivered) for m in again] == [(b"2", True), (b"2", False), (b"new", False), (b"1", False)]


def test_priority_without_a_priority_queue_is_just_a_property(ch):
    ch.declare("q")
    for priority in 1, 5:
        ch.publish("", "q", str(priority), priority=priority)
    assert [ch.get_soon("q").message.body for _ in range(2)] == [b"1", b"5"]


def test_priorities_and_max_length(ch):
    """The head, which is dropped, is what would be delivered next: the highest priority."""
    ch.call("confirm.select")
    ch.declare("q", arguments={"x-max-priority": 5, "x-max-length": 2})
    for priority in 5, 1, 3:
        ch.publish_safely("", "q", str(priority), priority=priority)
    assert ch.bodies("q") == [b"3", b"1"]
