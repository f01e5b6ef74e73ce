# SPDX-License-Identifier: MIT
"""What does not stay in a queue: time to live, and length limits."""
import time

import pytest

from rig.waiting import wait_until


# Time to live.

@pytest.mark.parametrize("value", ["abc", "", " 5", "-1", "1.5", "5x", "315360000001", "18446744073709551616"])
def test_invalid_expiration(ch, value):
    ch.declare("q")
    ch.publish("", "q", "x", expiration=value)
    ch.expect_close(406, "^PRECONDITION_FAILED - invalid expiration '%s': " % value, "basic.publish")


@pytest.mark.parametrize("value", ["1000", "4294967296", "315360000000", "007000"])
def test_valid_expiration(ch, value):
    ch.declare("q")
    ch.publish("", "q", "x", expiration=value)
    assert ch.get_soon("q").message.properties == {"expiration": value}


def test_expiration(ch):
    ch.declare("q")
    ch.publish("", "q", "short", expiration="100")
    ch.wait_ready("q", 1)
    ch.wait_ready("q", 0)


def test_expiration_counts_at_the_head_of_the_queue(ch):
    ch.declare("q")
    ch.publish("", "q", "stays")
    ch.publish("", "q", "goes", expiration="20")
    ch.wait_ready("q", 2)
    time.sleep(0.1)
    assert ch.bodies("q") == [b"stays"]


def test_expiration_0_is_for_waiting_consumers_only(ch):
    ch.declare("q")
    ch.publish("", "q", "nobody", expiration="0")
    time.sleep(0.05)
    assert ch.ready("q") == 0
    ch.call("basic.consume", queue="q", no_ack=True)
    ch.publish("", "q", "somebody", expiration="0")
    assert ch.expect("basic.deliver").message.body == b"somebody"


def test_expired_behind_one_with_more_time(ch):
    ch.declare("q")
    for body, expiration in ("1", "600000"), ("2", "20"), ("3", "600000"), ("4", "20"), ("5", "20"):
        ch.publish("", "q", body, expiration=expiration)
    ch.wait_ready("q", 5)
    time.sleep(0.1)
    ch.call("basic.consume", queue="q")
    assert [ch.expect("basic.deliver").message.body for _ in range(2)] == [b"1", b"3"]
    ch.silent()


@pytest.mark.parametrize("came_back", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"x-max-priority": 2}])
def test_expires_at_the_head_only(ch, came_back, arguments):
    ch.declare("q", arguments=arguments)
    ch.call("confirm.select")
    ch.publish_safely("", "q", "first", priority=1)
    if came_back:
        ch.send("basic.reject", delivery=ch.get("q", no_ack=False).delivery, requeue=True)
        ch.wait_ready("q", 1)
    ch.publish_safely("", "q", "a", priority=0, expiration="0")
    ch.publish_safely("", "q", "b", expiration="1")
    time.sleep(0.05)
    assert ch.ready("q") == 3
    assert ch.get("q").message.body == b"first"
    assert ch.ready("q") == 0


def test_what_expired_behind_a_message_is_not_counted_with_it(ch):
    ch.declare("q")
    ch.call("confirm.select")
    ch.publish_safely("", "q", "first")
    ch.publish_safely("", "q", "a", "b", expiration="0")
    assert ch.ready("q") == 3
    assert ch.get("q", no_ack=False).messages == 0


def test_expiration_0_comes_back_to_nobody(ch):
    ch.declare("q", arguments={"x-message-ttl": 0})
    ch.call("basic.consume", queue="q")
    for body in "ab":
        ch.publish("", "q", body)
    assert [ch.expect("basic.deliver").message.body for _ in range(2)] == [b"a", b"b"]
    ch.send("basic.nack", delivery=2, multiple=True, requeue=True)
    ch.silent()


def test_expiration_0_in_a_heap(ch):
    """All that are sent at once find the consumer waiting."""
    ch.declare("q")
    ch.call("basic.consume", queue="q", no_ack=True)
    for number in range(30):
        ch.publish("", "q", b"%d" % number, expiration="0")
    for number in range(30):
        assert ch.expect("basic.deliver").message.body == b"%d" % number


def test_message_ttl(ch):
    ch.declare("q", arguments={"x-message-ttl": 100})
    for _ in range(3):
        ch.publish("", "q", "x")
    ch.wait_ready("q", 3)
    ch.wait_ready("q", 0)


def test_message_ttl_0(ch):
    ch.declare("q", arguments={"x-message-ttl": 0})
    ch.call("confirm.select")
    ch.publish("", "q", "x", mandatory=True)
    ch.expect("basic.ack")      # it was routed
    assert ch.get("q") is None


def test_the_shorter_one_counts(ch):
    ch.declare("q", arguments={"x-message-ttl": 300})
    ch.publish("", "q", "x", expiration="60000")
    ch.declare("r", arguments={"x-message-ttl": 60000})
    ch.publish("", "r", "x", expiration="300")
    ch.wait_ready("q", 1)
    ch.wait_ready("q", 0)
    ch.wait_ready("r", 0)


def test_unacknowledged_messages_do_not_expire(ch):
    ch.declare("q", arguments={"x-message-ttl": 100})
    ch.publish("", "q", "x")
    got = ch.get_soon("q", no_ack=False)
    time.sleep(0.2)
    ch.send("basic.ack", delivery=got.delivery)
    ch.call("basic.qos")


def test_requeued_messages_keep_their_time(ch):
    ch.declare("q", arguments={"x-message-ttl": 300})
    begin = time.monotonic()
    ch.publish("", "q", "x")
    got = ch.get_soon("q", no_ack=False)
    time.sleep(0.2)
    ch.send("basic.reject", delivery=got.delivery, requeue=True)
    ch.wait_ready("q", 1)
    ch.wait_ready("q", 0)
    assert time.monotonic() - begin < 2


def test_expired_while_unacknowledged(ch):
    ch.declare("q", arguments={"x-message-ttl": 50})
    ch.publish("", "q", "x")
    got = ch.get_soon("q", no_ack=False)
    time.sleep(0.1)
    ch.send("basic.reject", delivery=got.delivery, requeue=True)
    time.sleep(0.05)
    assert ch.get("q") is None


# Lengths.

def test_max_length_drops_the_head(ch):
    ch.call("confirm.select")
    ch.declare("q", arguments={"x-max-length": 3})
    ch.publish_safely("", "q", *"abcde")
    assert ch.ready("q") == 3
    assert ch.bodies("q") == [b"c", b"d", b"e"]


def test_max_length_counts_ready_messages(ch):
    ch.call("confirm.select")
    ch.declare("q", arguments={"x-max-length": 2})
    ch.publish_safely("", "q", *"ab")
    ch.get("q", no_ack=False)
    ch.get("q", no_ack=False)
    ch.publish_safely("", "q", *"cde")
    assert ch.bodies("q") == [b"d", b"e"]


def test_max_length_0(ch):
    ch.call("confirm.select")
    ch.declare("q", arguments={"x-max-length": 0})
    ch.publish_safely("", "q", "a")
    assert ch.get("q") is None


def test_max_length_bytes(ch):
    ch.call("confirm.select")
    ch.declare("q", arguments={"x-max-length-bytes": 10})
    ch.publish_safely("", "q", "aaaa", "bbbb", "cc", "ddd")
    assert ch.bodies("q") == [b"bbbb", b"cc", b"ddd"]
    ch.publish_safely("", "q", "much too long")
    assert ch.get("q") is None


def test_both_limits(ch):
    ch.call("confirm.select")
    ch.declare("q", arguments={"x-max-length-bytes": 10, "x-max-length": 2})
    ch.publish_safely("", "q", *"abc")
    assert ch.bodies("q") == [b"b", b"c"]
    ch.publish_safely("", "q", "aaaaaaaa", "bbbb")
    assert ch.bodies("q") == [b"bbbb"]


def test_requeue_beyond_the_limit(ch):
    ch.call("confirm.select")
    ch.declare("q", arguments={"x-max-length": 2})
    ch.publish_safely("", "q", *"ab")
    got = ch.get("q", no_ack=False)
    ch.publish_safely("", "q", "c")
    ch.send("basic.reject", delivery=got.delivery, requeue=True)
    wait_until(lambda: ch.ready("q") == 2, "the limit")
    assert ch.bodies("q") == [b"b", b"c"]


@pytest.mark.parametrize("limit, kept", [(0, []), (1, [b"b"]), (2, [b"a", b"b"])])
def test_requeue_beyond_the_limit_while_a_consumer_waits(ch, limit, kept):
    """What comes back is held against the limit first: only a new message goes to a waiting consumer at once."""
    ch.declare("q", arguments={"x-max-length": limit})
    ch.call("basic.consume", queue="q", tag="c")
    for body in "ab":
        ch.publish("", "q", body)
    assert [ch.expect("basic.deliver").message.body for _ in "ab"] == [b"a", b"b"]
    ch.send("basic.nack", delivery=2, multiple=True, requeue=True)
    assert [ch.expect("basic.deliver", redelivered=True).message.body for _ in kept] == kept
    ch.silent()


@pytest.mark.parametrize("ask", ["basic.get", "queue.declare", "queue.purge", "queue.delete"])
def test_what_is_asked_behind_it_sees_it_done(ch, ask):
    """Pipelined: a requeue beyond the limit, and a question."""
    ch.declare("q", arguments={"x-max-length": 2})
    ch.call("confirm.select")
    ch.publish_safely("", "q", "1", "2")
    for _ in range(2):
        ch.get("q", no_ack=False)
    ch.publish_safely("", "q", "3", "4")
    ch.send("basic.nack", delivery=2, multiple=True, requeue=True)
    if ask == "basic.get":
        got = ch.get("q")
        assert (got.message.body, got.messages) == (b"3", 1)
    else:
        assert ch.call(ask, queue="q", **({"passive": True} if ask == "queue.declare" else {})).messages == 2


def test_reject_publish(ch):
    ch.call("confirm.select")
    ch.declare("q", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    ch.publish_safely("", "q", *"ab")
    for delivery in 3, 4:
        ch.publish("", "q", "c", mandatory=True)
        ch.expect("basic.nack", delivery=delivery)      # and no basic.return: it had a route
    assert ch.get("q").message.body == b"a"
    ch.publish("", "q", "d")
    ch.expect("basic.ack", delivery=5)
    assert ch.bodies("q") == [b"b", b"d"]


def test_reject_publish_without_confirms_is_silent(ch):
    ch.declare("q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for body in "abc":
        ch.publish("", "q", body)
    ch.silent()
    assert ch.bodies("q") == [b"a"]


def test_one_rejecting_queue_of_several_nacks(ch):
    ch.call("confirm.select")
    for name in "ab":
        ch.declare(name, arguments={"x-max-length": 1, "x-overflow": "reject-publish"} if name == "a" else {})
        ch.call("queue.bind", queue=name, exchange="amq.fanout")
    ch.publish_safely("amq.fanout", "", "1")
    ch.publish("amq.fanout", "", "2")
    ch.expect("basic.nack", delivery=2)
    assert ch.bodies("a") == [b"1"]
    assert ch.bodies("b") == [b"1", b"2"]


def test_reject_publish_in_bytes(ch):
    ch.call("confirm.select")
    ch.declare("q", arguments={"x-max-length-bytes": 5, "x-overflow": "reject-publish"})
    ch.publish_safely("", "q", "abc")
    for delivery in 2, 3:
        ch.publish("", "q", "def")
        ch.expect("basic.nack", delivery=delivery)
    ch.publish_safely("", "q", "gh")
    assert ch.bodies("q") == [b"abc", b"gh"]
