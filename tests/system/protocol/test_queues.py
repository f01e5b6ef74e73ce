# SPDX-License-Identifier: MIT
"""queue.declare, delete and purge; whose a queue is, and when it goes by itself."""
import re
import time

import pytest

from rig.waiting import wait_until

LOCKED = (r"^RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%s' in vhost '%s'\. It could be originally "
          r"declared on another connection or the exclusive property value does not match that of the original "
          r"declaration\.$")
NO_LAST = "^NOT_FOUND - no previously declared queue"


def no_queue(peer, name):
    return "^NOT_FOUND - no queue '%s' in vhost '%s'" % (name, peer.vhost)


def gone(peer, name):
    other = peer.channel()
    other.send("queue.declare", queue=name, passive=True)
    other.expect_close(404, no_queue(peer, name), "queue.declare")
    peer.forget(other)


def code(peer, name):
    """The code of a passive declaration, 0 if all is well."""
    other = peer.channel()
    other.send("queue.declare", queue=name, passive=True)
    answer = other.next()
    other.send("channel.close-ok" if answer.name == "channel.close" else "channel.close")
    peer.forget(other)
    return getattr(answer, "code", 0)


# Names.

def test_server_named(ch):
    names = [ch.declare("") for _ in range(20)]
    assert len(set(names)) == 20
    assert all(re.match(r"^amq\.gen-[\w-]{22}$", name) for name in names)


def test_reserved_names(peer, ch):
    ch.send("queue.declare", queue="amq.mine")
    ch.expect_close(403, r"^ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq\.\*'", "queue.declare")
    ch.open()
    ch.send("queue.declare", queue="amq.mine", passive=True)
    ch.expect_close(404, no_queue(peer, "amq.mine"))


def test_a_server_named_queue_can_be_declared_passively_only(ch):
    name = ch.declare("")
    assert ch.declare(name, passive=True) == name


def test_the_empty_name_is_the_channels_last_queue(peer, ch):
    name = ch.declare("")
    ch.call("queue.bind", queue="", exchange="amq.fanout")
    ch.call("queue.bind", queue="", exchange="amq.direct")       # queue and key empty: the key is the queue's name
    ch.publish("amq.fanout", "", "1")
    ch.wait_ready(name, 1)
    ch.publish("amq.direct", name, "2")
    ch.wait_ready(name, 2)
    assert ch.get("").message.body == b"1"
    assert ch.call("queue.purge", queue="").messages == 1
    ch.call("basic.consume", queue="", tag="c")
    ch.send("queue.delete", queue="")
    ch.expect_any("queue.delete-ok", "basic.cancel")
    gone(peer, name)


def test_passive_declare_counts_as_the_last_queue(ch):
    ch.declare("a")
    ch.declare("b")
    ch.declare("a", passive=True)
    assert ch.call("queue.delete", queue="").messages == 0
    ch.send("queue.declare", queue="a", passive=True)
    ch.expect_close(404)


@pytest.mark.parametrize("name", ["queue.delete", "queue.purge", "basic.get", "basic.consume", "queue.bind",
                                  "queue.unbind"])
def test_the_empty_name_without_a_last_queue(peer, ch, name):
    ch.declare("q")
    other = peer.channel()      # the last queue is the channel's, not the connection's
    other.send(name, queue="", **({"exchange": "amq.direct"} if "bind" in name else {}))
    other.expect_close(404, NO_LAST, name)


@pytest.mark.parametrize("name", ["q\n", "\rq\n", "\r\n\nq\r"])
def test_line_ends_are_no_part_of_a_name(ch, name):
    assert ch.declare(name) == "q"
    assert ch.declare(name) == ch.declare("q", passive=True) == ch.declare(name, passive=True) == "q"
    ch.publish("", "q", "x")
    ch.wait_ready("q", 1)
    assert ch.call("queue.delete", queue=name).messages == 1


def test_a_name_of_line_ends_is_empty(ch):
    name = ch.declare("\r\n")
    assert name.startswith("amq.gen-")
    ch.publish("", name, "x")
    ch.wait_ready(name, 1)
    assert ch.call("queue.delete", queue="\n").messages == 0      # none of that name: not the last one
    ch.wait_ready(name, 1)


@pytest.mark.parametrize("name", ["", "\n"])
def test_passive_declare_means_no_last_queue(peer, ch, name):
    ch.declare("q")
    ch.send("queue.declare", queue=name, passive=True)
    ch.expect_close(404, no_queue(peer, ""), "queue.declare")


@pytest.mark.parametrize("method", ["queue.purge", "basic.get", "basic.consume"])
def test_line_ends_count_elsewhere(peer, ch, method):
    ch.declare("q")
    ch.send(method, queue="q\n")
    ch.expect_close(404, no_queue(peer, "q\n"), method)


def test_longest_name(ch):
    assert ch.declare("x" * 255) == "x" * 255
    assert ch.declare("füße ☃") == "füße ☃"


# Not there.

@pytest.mark.parametrize("name", ["queue.purge", "basic.get", "basic.consume"])
def test_of_what_is_not_there(peer, ch, name):
    ch.send(name, queue="none")
    ch.expect_close(404, no_queue(peer, "none"), name)


def test_passive_of_none(peer, ch):
    ch.send("queue.declare", queue="none", passive=True)
    ch.expect_close(404, no_queue(peer, "none"), "queue.declare")


def test_delete_of_none_is_no_error(ch):
    ch.call("queue.delete", queue="none")


# Figures.

def test_declare_ok_counts_messages_and_consumers(peer, ch):
    assert ch.call("queue.declare", queue="q").arguments == {"queue": "q", "messages": 0, "consumers": 0}
    for _ in range(3):
        ch.publish("", "q", "x")
    ch.wait_ready("q", 3)
    ch.get("q", no_ack=False)
    other = peer.channel()
    other.call("basic.qos", prefetch_count=1)
    other.call("basic.consume", queue="q")
    other.expect("basic.deliver")
    # Ready ones only: neither the one got nor the one delivered.
    assert ch.call("queue.declare", queue="q", passive=True).arguments == {"queue": "q", "messages": 1, "consumers": 1}


def test_purge_leaves_what_is_unacknowledged(ch):
    ch.declare("q")
    for body in "abc":
        ch.publish("", "q", body)
    ch.wait_ready("q", 3)
    got = ch.get("q", no_ack=False)
    assert ch.call("queue.purge", queue="q").messages == 2
    assert ch.call("queue.purge", queue="q").messages == 0
    ch.send("basic.reject", delivery=got.delivery, requeue=True)
    assert ch.get_soon("q").message.body == b"a"


# Deleting.

def test_delete_counts_ready_messages(peer, ch):
    ch.declare("q")
    for body in "abc":
        ch.publish("", "q", body)
    ch.wait_ready("q", 3)
    assert ch.call("queue.delete", queue="q").messages == 3
    gone(peer, "q")


def test_delete_if_unused(peer, ch):
    ch.declare("q")
    ch.call("basic.consume", queue="q", tag="c")
    other = peer.channel()
    other.send("queue.delete", queue="q", if_unused=True)
    other.expect_close(406, "^PRECONDITION_FAILED - queue 'q' in vhost '%s' in use" % peer.vhost, "queue.delete")
    ch.call("basic.cancel", tag="c")
    ch.call("queue.delete", queue="q", if_unused=True)


def test_delete_if_empty(peer, ch):
    ch.declare("q")
    ch.publish("", "q", "x")
    ch.wait_ready("q", 1)
    ch.send("queue.delete", queue="q", if_empty=True)
    ch.expect_close(406, "^PRECONDITION_FAILED - queue 'q' in vhost '%s' not empty" % peer.vhost, "queue.delete")
    ch.open()
    ch.get("q")
    ch.call("queue.delete", queue="q", if_empty=True)


def test_delete_cancels_consumers_that_understand_it(connect, ch):
    ch.declare("q")
    understands, not_so = connect().channel(), connect(capabilities={}).channel()
    for consumer in understands, not_so:
        consumer.call("basic.consume", queue="q", tag="mine")
        consumer.call("basic.consume", queue="q", tag="mine too")
    ch.call("queue.delete", queue="q")
    assert sorted(understands.expect("basic.cancel", nowait=True).tag for _ in range(2)) == ["mine", "mine too"]
    understands.call("basic.consume", queue=ch.declare("r"), tag="mine")    # the tag is free again
    not_so.silent()
    not_so.call("basic.qos")


def test_acks_for_a_deleted_queue_are_no_error(ch):
    ch.declare("q")
    for _ in range(2):
        ch.publish("", "q", "x")
    ch.wait_ready("q", 2)
    first, second = (ch.get("q", no_ack=False).delivery for _ in range(2))
    ch.call("queue.delete", queue="q")
    ch.send("basic.ack", delivery=first)
    ch.send("basic.reject", delivery=second, requeue=True)
    ch.call("basic.qos")


# Exclusive ones.

@pytest.mark.parametrize("name, arguments", [
    ("queue.declare", {}), ("queue.declare", {"passive": True}), ("queue.declare", {"exclusive": True}),
    ("queue.delete", {}), ("queue.purge", {}), ("basic.get", {}), ("basic.consume", {}),
    ("queue.bind", {"exchange": "amq.direct"})])
def test_exclusive_is_closed_to_other_connections(connect, ch, name, arguments):
    ch.declare("q", exclusive=True)
    other = connect()
    channel = other.channel()
    channel.send(name, queue="q", **arguments)
    channel.expect_close(405, LOCKED % ("q", other.vhost), name)


def test_exclusive_is_open_to_all_channels_of_its_connection(peer, ch):
    ch.declare("q", exclusive=True)
    other = peer.channel()
    other.declare("q", exclusive=True)
    other.call("basic.consume", queue="q")
    ch.publish("", "q", "x")
    other.expect("basic.deliver")


def test_anyone_may_publish_to_an_exclusive_queue(connect, ch):
    ch.declare("q", exclusive=True)
    connect().channel().publish("", "q", "x")
    assert ch.get_soon("q").message.body == b"x"


def test_exclusive_goes_with_its_connection(connect):
    owner = connect()
    owner.channel().declare("q", exclusive=True, durable=True)
    owner.channel().close()
    owner.channel(9).declare("q", exclusive=True, durable=True)
    owner.close()
    other = connect()
    wait_until(lambda: code(other, "q") != 405, "the end of the queue")
    gone(other, "q")


def test_exclusive_is_never_durable(peer, ch):
    for durable in (True, False, True):
        ch.declare("q", exclusive=True, durable=durable)
    ch.send("queue.declare", queue="q", exclusive=True, arguments={"x-max-length": 1})
    ch.expect_close(406, "inequivalent arg 'x-max-length'", "queue.declare")


def test_exclusive_differs_in_the_same_connection_too(peer, ch):
    ch.declare("q")
    ch.send("queue.declare", queue="q", exclusive=True)
    ch.expect_close(405, LOCKED % ("q", peer.vhost))
    ch.open()
    ch.declare("mine", exclusive=True)
    ch.send("queue.declare", queue="mine")
    ch.expect_close(405, LOCKED % ("mine", peer.vhost))


# Auto-delete and expiry.

def test_auto_delete_after_the_last_consumer(peer, ch):
    ch.declare("q", auto_delete=True)
    for tag in "ab":
        ch.call("basic.consume", queue="q", tag=tag)
    ch.call("basic.cancel", tag="a")
    ch.declare("q", passive=True)
    ch.call("basic.cancel", tag="b")
    gone(peer, "q")


def test_auto_delete_when_the_channel_closes(peer, ch):
    ch.declare("q", auto_delete=True)
    other = peer.channel()
    other.call("basic.consume", queue="q")
    other.close()
    gone(peer, "q")


def test_auto_delete_waits_for_a_first_consumer(ch):
    ch.declare("q", auto_delete=True)
    ch.publish("", "q", "x")
    ch.get_soon("q")
    ch.declare("q", passive=True)


def test_expires_when_unused(peer, ch):
    ch.declare("q", arguments={"x-expires": 200})
    ch.publish("", "q", "a message is no use")
    # At intervals longer than x-expires: a declaration counts as use.
    wait_until(lambda: code(peer, "q") == 404, "the end of the queue", interval=0.4)


def test_use_puts_expiry_off(peer, ch):
    ch.declare("q", arguments={"x-expires": 600})
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        time.sleep(0.1)
        assert ch.get("q") is None
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        time.sleep(0.1)
        ch.declare("q", arguments={"x-expires": 600})
    ch.call("basic.consume", queue="q", tag="c")
    time.sleep(1.2)
    ch.publish("", "q", "still here")
    ch.expect("basic.deliver")
    ch.call("basic.cancel", tag="c")
    other = peer.channel()
    time.sleep(1.2)
    other.send("queue.declare", queue="q", passive=True)
    other.expect_close(404)
