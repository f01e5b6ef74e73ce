# SPDX-License-Identifier: MIT
"""basic.consume, cancel and get: who gets what."""
import re

import pytest


def fill(ch, count=3, queue="q", **options):
    ch.declare(queue, **options)
    for number in range(count):
        ch.publish("", queue, b"%d" % number)
    ch.wait_ready(queue, count)


def test_deliver(ch):
    fill(ch, 1)
    ch.call("queue.bind", queue="q", exchange="amq.direct", key="k")
    ch.publish("amq.direct", "k", "1")
    ch.wait_ready("q", 2)
    assert ch.call("basic.consume", queue="q", tag="c").tag == "c"
    ch.expect("basic.deliver", tag="c", delivery=1, redelivered=False, exchange="", key="q")
    ch.expect("basic.deliver", tag="c", delivery=2, redelivered=False, exchange="amq.direct", key="k")


def test_tags_by_the_server(ch):
    ch.declare("q")
    tags = {ch.call("basic.consume", queue="q").tag for _ in range(10)}
    assert len(tags) == 10
    assert all(re.match(r"^amq\.ctag-[\w-]{22}$", tag) for tag in tags)


def test_tags_are_the_channels(peer, ch):
    ch.declare("q")
    ch.call("basic.consume", queue="q", tag="c")
    peer.channel().call("basic.consume", queue="q", tag="c")
    ch.call("basic.cancel", tag="c")
    ch.call("basic.consume", queue="q", tag="c")


@pytest.mark.parametrize("queue", ["q", "r", "not there"])
def test_tag_twice(peer, ch, queue):
    ch.declare("q")
    ch.declare("r")
    ch.call("basic.consume", queue="q", tag="c")
    ch.send("basic.consume", queue=queue, tag="c")
    peer.expect_close(530, "^NOT_ALLOWED - attempt to reuse consumer tag 'c'", "basic.consume")


def test_cancel(ch):
    fill(ch, 1)
    ch.call("basic.consume", queue="q", tag="c")
    got = ch.expect("basic.deliver")
    assert ch.call("basic.cancel", tag="c").tag == "c"
    ch.publish("", "q", "later")
    ch.wait_ready("q", 1)
    ch.send("basic.ack", delivery=got.delivery)     # what was delivered can still be acknowledged
    ch.call("basic.qos")
    assert ch.get("q").message.body == b"later"


def test_cancel_leaves_unacknowledged_messages_with_the_channel(peer, ch):
    fill(ch, 1)
    ch.call("basic.consume", queue="q", tag="c")
    ch.expect("basic.deliver")
    ch.call("basic.cancel", tag="c")
    other = peer.channel()
    assert other.get("q") is None
    ch.close()
    assert other.get_soon("q").redelivered


def test_cancel_of_none_is_no_error(ch):
    assert ch.call("basic.cancel", tag="none").tag == "none"


def test_exclusive_consumer(peer, ch):
    ch.declare("q")
    ch.call("basic.consume", queue="q", tag="c", exclusive=True)
    for exclusive in False, True:
        other = peer.channel()
        other.send("basic.consume", queue="q", exclusive=exclusive)
        other.expect_close(403, "^ACCESS_REFUSED - queue 'q' in vhost '%s' in exclusive use" % peer.vhost, "basic.consume")
    ch.call("basic.cancel", tag="c")
    peer.channel().call("basic.consume", queue="q")
    ch.send("basic.consume", queue="q", exclusive=True)
    ch.expect_close(403, "in exclusive use", "basic.consume")


def test_get_beside_an_exclusive_consumer(peer, ch):
    ch.declare("q")
    ch.call("basic.qos", prefetch_count=1)
    ch.call("basic.consume", queue="q", exclusive=True)
    for body in "ab":
        ch.publish("", "q", body)
    ch.expect("basic.deliver")
    assert peer.channel().get_soon("q").message.body == b"b"


def test_no_ack(ch):
    fill(ch, 3)
    ch.call("basic.consume", queue="q", no_ack=True)
    for number in range(3):
        assert ch.expect("basic.deliver", delivery=number + 1).message.body == b"%d" % number
    ch.close()
    ch.open()
    assert ch.ready("q") == 0


def test_consumers_take_turns(peer, ch):
    ch.declare("q")
    channels = [peer.channel() for _ in range(3)]
    for channel in channels:
        channel.call("basic.consume", queue="q", no_ack=True)
    for number in range(9):
        ch.publish("", "q", b"%d" % number)
    for first, channel in enumerate(channels):
        got = [channel.expect("basic.deliver").message.body for _ in range(3)]
        assert got == [b"%d" % number for number in range(first, 9, 3)]


def test_consumers_of_one_channel_take_turns(ch):
    ch.declare("q")
    for tag in "ab":
        ch.call("basic.consume", queue="q", tag=tag, no_ack=True)
    for number in range(4):
        ch.publish("", "q", b"%d" % number)
    assert [ch.expect("basic.deliver").tag for _ in range(4)] == list("abab")


def test_a_slow_consumer_slows_nobody(peer, ch):
    ch.declare("q")
    slow, fast = peer.channel(), peer.channel()
    for channel in slow, fast:
        channel.call("basic.qos", prefetch_count=1)
        channel.call("basic.consume", queue="q")
    for number in range(20):
        ch.publish("", "q", b"%d" % number)
    slow.expect("basic.deliver")
    for _ in range(19):
        fast.send("basic.ack", delivery=fast.expect("basic.deliver").delivery)
    slow.silent()


# Priorities of consumers.

def test_consumer_priority(peer, ch):
    ch.declare("q")
    channels = {}
    for priority in 0, 5, -1:
        channels[priority] = channel = peer.channel()
        channel.call("basic.qos", prefetch_count=2)
        channel.call("basic.consume", queue="q", arguments={"x-priority": priority} if priority else {})
    for number in range(6):
        ch.publish("", "q", b"%d" % number)
    for priority, expected in (5, [b"0", b"1"]), (0, [b"2", b"3"]), (-1, [b"4", b"5"]):
        assert [channels[priority].expect("basic.deliver").message.body for _ in range(2)] == expected
    for priority in -1, 5:
        channels[priority].send("basic.ack", delivery=1)
        channels[priority].call("basic.qos", prefetch_count=2)
    ch.publish("", "q", "next")
    assert channels[5].expect("basic.deliver").message.body == b"next"
    ch.publish("", "q", "and next")
    assert channels[-1].expect("basic.deliver").message.body == b"and next"


@pytest.mark.parametrize("value, kind", [("a", "longstr"), (True, "bool"), (("d", 1.5), "double")])
def test_consumer_priority_that_is_no_integer(peer, ch, value, kind):
    ch.declare("q")
    ch.send("basic.consume", queue="q", arguments={"x-priority": value})
    ch.expect_close(406, "^PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '%s': \"expected integer, got "
                    '%s"' % (peer.vhost, kind), "basic.consume")


# Single active consumer.

def test_single_active_consumer(peer, ch):
    ch.declare("q", arguments={"x-single-active-consumer": True})
    first, second, third = (peer.channel() for _ in range(3))
    for channel, tag in (first, "1"), (second, "2"), (third, "3"):
        channel.call("basic.consume", queue="q", tag=tag)
    for number in range(4):
        ch.publish("", "q", b"%d" % number)
    got = [first.expect("basic.deliver") for _ in range(4)]
    second.silent()
    first.send("basic.ack", delivery=got[0].delivery)
    first.call("basic.cancel", tag="1")
    ch.publish("", "q", "for the second")
    assert second.expect("basic.deliver", redelivered=False).message.body == b"for the second"
    first.close()       # gives back 1, 2, 3
    assert [second.expect("basic.deliver", redelivered=True).message.body for _ in range(3)] == [b"1", b"2", b"3"]
    third.silent()
    second.close()
    assert [third.expect("basic.deliver", redelivered=True).message.body for _ in range(4)] == [
        b"1", b"2", b"3", b"for the second"]


def test_single_active_consumer_respects_prefetch(peer, ch):
    ch.declare("q", arguments={"x-single-active-consumer": True})
    first, second = peer.channel(), peer.channel()
    for channel in first, second:
        channel.call("basic.qos", prefetch_count=1)
        channel.call("basic.consume", queue="q")
    for body in "ab":
        ch.publish("", "q", body)
    got = first.expect("basic.deliver")
    first.silent()
    second.silent()     # although the first is busy
    first.send("basic.ack", delivery=got.delivery)
    assert first.expect("basic.deliver").message.body == b"b"


def test_no_exclusive_consumer_beside_single_active_ones(peer, ch):
    ch.declare("q", arguments={"x-single-active-consumer": True})
    ch.send("basic.consume", queue="q", exclusive=True)
    ch.expect_close(403, "^ACCESS_REFUSED - queue 'q' in vhost '%s' in exclusive use" % peer.vhost, "basic.consume")


# Get.

def test_get(ch):
    fill(ch, 3)
    for number in range(3):
        got = ch.get("q", no_ack=False)
        assert got.arguments == {"delivery": number + 1, "redelivered": False, "exchange": "", "key": "q",
                                 "messages": 2 - number}
    assert ch.get("q") is None
    ch.send("basic.nack", delivery=3, multiple=True, requeue=True)
    ch.wait_ready("q", 3)
    assert ch.get("q").redelivered


def test_get_counts_delivery_tags_with_consumers(ch):
    fill(ch, 1)
    fill(ch, 1, "r")
    ch.call("basic.consume", queue="r", no_ack=True)
    ch.expect("basic.deliver", delivery=1)
    assert ch.get("q").delivery == 2


def test_what_was_published_before_a_cancel_is_delivered_before_it(ch):
    ch.declare("q")
    for _ in range(20):
        ch.call("basic.consume", queue="q", tag="c", no_ack=True)
        ch.publish("", "q", "x")
        ch.send("basic.cancel", tag="c")
        ch.expect("basic.deliver", tag="c")
        ch.expect("basic.cancel-ok", tag="c")


@pytest.mark.parametrize("ask", ["basic.get", "queue.declare", "queue.purge", "queue.delete"])
def test_consumers_come_before_who_asks_behind(peer, ch, ask):
    ch.declare("q")
    other = peer.channel()
    other.call("basic.consume", queue="q", no_ack=True)
    ch.publish("", "q", "x")
    if ask == "basic.get":
        assert ch.get("q") is None
    else:
        assert ch.call(ask, queue="q", **({"passive": True} if ask == "queue.declare" else {})).messages == 0
    other.expect("basic.deliver")


def test_the_channels_limit_holds_consumers_without_acks_too(ch):
    ch.call("basic.qos", prefetch_count=1, **{"global": True})
    for name, no_ack in ("q", False), ("r", True):
        ch.declare(name)
        ch.call("basic.consume", queue=name, tag=name, no_ack=no_ack)
    ch.publish("", "q", "a")
    ch.expect("basic.deliver", tag="q", delivery=1)
    ch.publish("", "r", "b")
    ch.silent()
    assert ch.ready("r") == 1
    ch.send("basic.ack", delivery=1)
    ch.expect("basic.deliver", tag="r", delivery=2)
    ch.publish("", "r", "c")
    ch.expect("basic.deliver", tag="r", delivery=3)


@pytest.mark.parametrize("queues", [["q", "q", "q"], ["q", "r", "s"]])
def test_consumers_take_turns_at_the_channels_limit(ch, queues):
    for name in sorted(set(queues)):
        ch.declare(name)
        for _ in range(40):
            ch.publish("", name, "x")
        ch.wait_ready(name, 40)
    ch.call("basic.qos", prefetch_count=1, **{"global": True})
    for number, name in enumerate(queues):
        ch.call("basic.consume", queue=name, tag="c%d" % number)
        if number == 0:
            got = ch.expect("basic.deliver", tag="c0")
    served = dict.fromkeys(["c0", "c1", "c2"], 0)
    for _ in range(39):
        served[got.tag] += 1
        ch.send("basic.ack", delivery=got.delivery)
        got = ch.expect("basic.deliver")
    assert min(served.values()) > 0, served     # RabbitMQ draws among queues


def test_get_is_not_held_by_prefetch(ch):
    fill(ch, 5)
    ch.call("basic.qos", prefetch_count=1)
    ch.call("basic.qos", prefetch_count=1, **{"global": True})
    assert [ch.get("q", no_ack=False).delivery for _ in range(5)] == [1, 2, 3, 4, 5]


# Direct reply-to.

REPLY_TO = "amq.rabbitmq.reply-to"


def test_direct_reply_to(connect, peer, ch):
    ch.declare("requests")
    ch.call("basic.consume", queue=REPLY_TO, no_ack=True, tag="answers")
    ch.publish("", "requests", "question", reply_to=REPLY_TO, correlation_id="7")
    server = connect().channel()
    request = server.get_soon("requests").message
    address = request.properties["reply_to"]
    assert address.startswith(REPLY_TO + ".") and request.properties["correlation_id"] == "7"
    assert server.declare(address, passive=True) == address     # is the client still there?
    server.publish("", address, "answer", correlation_id="7", headers={"a": 1})
    got = ch.expect("basic.deliver", tag="answers", delivery=1, redelivered=False, exchange="", key=address)
    assert (got.message.body, got.message.headers) == (b"answer", {"a": 1})
    ch.call("basic.cancel", tag="answers")
    server.publish("", address, "nobody hears this")
    server.send("queue.declare", queue=address, passive=True)
    server.expect_close(404, "^NOT_FOUND - no queue '", "queue.declare")


def test_direct_reply_to_with_confirms(connect, ch):
    ch.declare("requests")
    ch.call("basic.consume", queue=REPLY_TO, no_ack=True)
    ch.publish("", "requests", "question", reply_to=REPLY_TO)
    server = connect().channel(confirms=True)
    address = server.get_soon("requests").message.properties["reply_to"]
    server.publish("", address, "answer")
    server.expect("basic.ack", delivery=1)
    assert ch.expect("basic.deliver").message.body == b"answer"


def test_direct_reply_to_of_a_channel_that_is_gone(connect, ch):
    ch.declare("requests")
    client = connect()
    channel = client.channel()
    channel.call("basic.consume", queue=REPLY_TO, no_ack=True)
    channel.publish("", "requests", "question", reply_to=REPLY_TO)
    address = ch.get_soon("requests").message.properties["reply_to"]
    channel.close()
    ch.send("queue.declare", queue=address, passive=True)
    ch.expect_close(404, "^NOT_FOUND - no queue '", "queue.declare")


def test_direct_reply_to_rules(peer, ch):
    ch.publish("", "q", "x", reply_to=REPLY_TO)
    ch.expect_close(406, "^PRECONDITION_FAILED - fast reply consumer does not exist", "basic.publish")
    ch.open()
    ch.send("basic.consume", queue=REPLY_TO)
    ch.expect_close(406, "^PRECONDITION_FAILED - reply consumer cannot acknowledge", "basic.consume")
    ch.open()
    ch.call("basic.consume", queue=REPLY_TO, no_ack=True)
    ch.send("basic.consume", queue=REPLY_TO, no_ack=True)
    ch.expect_close(406, "^PRECONDITION_FAILED - reply consumer already set", "basic.consume")


def test_direct_reply_to_is_hardly_a_queue(peer, ch):
    assert ch.call("queue.declare", queue=REPLY_TO, passive=True).arguments == {
        "queue": REPLY_TO, "messages": 0, "consumers": 1}
    assert ch.call("queue.declare", queue=REPLY_TO).consumers == 1
    ch.call("queue.delete", queue=REPLY_TO)
    ch.send("basic.get", queue=REPLY_TO)
    ch.expect_close(404, "^NOT_FOUND - no queue '%s' in vhost" % REPLY_TO, "basic.get")


def test_direct_reply_to_made_up(peer):
    ch = peer.channel(confirms=True)
    ch.publish("", REPLY_TO + ".made-up", "x", mandatory=True)
    ch.expect("basic.return", code=312)
    ch.expect("basic.ack")
    ch.send("queue.declare", queue=REPLY_TO + ".made-up", passive=True)
    ch.expect_close(404, "^NOT_FOUND - no queue '%s.made-up' in vhost" % REPLY_TO, "queue.declare")
