# SPDX-License-Identifier: MIT
"""Frames and methods that should not come: hard errors, which close the connection."""
import struct

import pytest

from differences import differs
from rig import methods, wire
from rig.wire import BODY, CONTENT, HEARTBEAT, METHOD

# RabbitMQ goes on with Erlang terms of what it has seen: that is nobody's protocol.
FRAME = "^FRAME_ERROR - "
UNEXPECTED = "^UNEXPECTED_FRAME - "
SYNTAX = "^SYNTAX_ERROR - "
INVALID = "^COMMAND_INVALID - "
CHANNEL = "^CHANNEL_ERROR - "


def header(class_id=60, weight=0, size=0, flags=0, more=b""):
    return struct.pack(">HHQH", class_id, weight, size, flags) + more


# Frames.

@pytest.mark.parametrize("kind", [0, 4, 5, 7, 9, 65, 255])
def test_unknown_frame_type(peer, ch, kind):
    ch.frame(kind, b"abc")
    peer.expect_close(501, FRAME, "")


def test_wrong_frame_end(peer, ch):
    peer.write(wire.method(ch.number, 85, 10, b"\0")[:-1] + b"\xcf")
    peer.expect_close(501, FRAME, "")


def test_frame_that_is_too_large_is_refused_before_it_has_come(peer, ch):
    peer.write(struct.pack(">BHI", BODY, ch.number, 140000))
    peer.expect_close(501, FRAME, "")


def test_protocol_header_amidst(peer):
    peer.write(wire.HEADER)
    peer.expect_close(501, FRAME, "")


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\x32\0"])
def test_method_frame_too_short(peer, ch, payload):
    ch.frame(METHOD, payload)
    peer.expect_close(501, FRAME, "")


def test_heartbeat_with_a_payload(peer):
    peer.zero.frame(HEARTBEAT, b"abc")
    peer.expect_close(501, FRAME, "")


def test_heartbeat_on_a_channel(peer, ch):
    """501 in the specification (4.2.7)."""
    ch.frame(HEARTBEAT, b"")
    peer.expect_close(505, UNEXPECTED, "")


def test_heartbeats_are_always_welcome(peer):
    for _ in range(3):
        peer.zero.frame(HEARTBEAT, b"")
    peer.alive()


def test_frames_in_bytes(peer, ch):
    """However a frame is cut on its way."""
    for octet in wire.frame(METHOD, ch.number, methods.encode("queue.declare", {"queue": "q"})):
        peer.write(bytes([octet]))
    ch.expect("queue.declare-ok", queue="q")


# Content.

@pytest.mark.parametrize("kind", [CONTENT, BODY])
def test_content_without_a_method(peer, ch, kind):
    ch.frame(kind, header())
    peer.expect_close(505, UNEXPECTED, "")


def test_content_on_channel_0(peer):
    peer.zero.frame(CONTENT, header())
    peer.expect_close(505, UNEXPECTED, "")


def test_method_instead_of_a_header(peer, ch):
    ch.send("basic.publish", key="q")
    ch.send("tx.select")
    peer.expect_close(505, UNEXPECTED, "basic.publish")


def test_body_instead_of_a_header(peer, ch):
    ch.send("basic.publish", key="q")
    ch.frame(BODY, b"x")
    peer.expect_close(505, UNEXPECTED, "basic.publish")


def test_header_instead_of_a_body(peer, ch):
    ch.send("basic.publish", key="q")
    ch.frame(CONTENT, header(size=4))
    ch.frame(CONTENT, header(size=4))
    peer.expect_close(505, UNEXPECTED, "basic.publish")


def test_method_instead_of_a_body(peer, ch):
    ch.send("basic.publish", key="q")
    ch.frame(CONTENT, header(size=4))
    ch.send("tx.select")
    peer.expect_close(505, UNEXPECTED, "basic.publish")


def test_other_channels_between_the_frames_of_a_message(peer, ch):
    other = peer.channel()
    ch.declare("q")
    ch.send("basic.publish", key="q")
    other.call("basic.qos")
    ch.frame(CONTENT, header(size=4))
    other.publish("", "q", "other")
    other.call("basic.qos")
    ch.frame(BODY, b"ab")
    peer.zero.frame(HEARTBEAT, b"")
    ch.frame(BODY, b"cd")
    assert [ch.get_soon("q").message.body for _ in range(2)] == [b"other", b"abcd"]


def test_header_of_another_class(peer, ch):
    ch.send("basic.publish", key="q")
    ch.frame(CONTENT, header(class_id=50))
    peer.expect_close(505, UNEXPECTED, "basic.publish")


def test_header_with_a_weight(peer, ch):
    ch.send("basic.publish", key="q")
    ch.frame(CONTENT, header(weight=9))
    peer.expect_close(505, UNEXPECTED, "basic.publish")


def test_header_too_short(peer, ch):
    ch.send("basic.publish", key="q")
    ch.frame(CONTENT, b"\0\x3c")
    peer.expect_close(501, FRAME)


@pytest.mark.parametrize("content", [header(flags=0xfffc), header(flags=0x8000, more=b"\x09short"),
                                     header(more=b"rest"), header(flags=0x2000, more=struct.pack(">I", 500))])
def test_header_with_broken_properties(broker, peer, ch, content):
    ch.send("basic.publish", key="q")
    ch.frame(CONTENT, content)
    peer.expect_close(502 if differs(broker, "malformed arguments and properties") else 541)


def test_body_larger_than_announced(broker, peer, ch):
    ch.send("basic.publish", key="q")
    ch.frame(CONTENT, header(size=4))
    ch.frame(BODY, b"12345")
    if differs(broker, "more body than announced"):
        peer.expect_close(501, FRAME, "basic.publish")
    else:
        ch.silent()
        peer.alive()


def test_body_frames_may_be_empty(ch):
    ch.declare("q")
    ch.send("basic.publish", key="q")
    ch.frame(CONTENT, header(size=2))
    for part in (b"", b"a", b"", b"b"):
        ch.frame(BODY, part)
    assert ch.get_soon("q").message.body == b"ab"


# Methods.

@pytest.mark.parametrize("payload", [b"\0\x63\0\x0a", b"\0\x32\0\x63", b"\0\x55\0\x63", b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_unknown_method(broker, peer, ch, payload):
    ch.frame(METHOD, payload)
    if differs(broker, "unknown methods"):
        peer.expect_close(540, "^NOT_IMPLEMENTED - ")
    else:
        peer.expect_end()


@pytest.mark.parametrize("name, payload", [
    ("queue.declare", methods.encode("queue.declare", {})[:9]),
    ("queue.declare", methods.encode("queue.declare", {}) + b"xx"),
    ("tx.select", methods.encode("tx.select", {}) + b"x"),
    ("queue.declare", methods.encode("queue.declare", {})[:-4] + b"\0\0\1\xf4"),
    ("queue.bind", methods.encode("queue.bind", {})[:6] + b"\xffshort")])
def test_arguments_that_cannot_be_decoded(broker, peer, ch, name, payload):
    ch.frame(METHOD, payload)
    peer.expect_close(502 if differs(broker, "malformed arguments and properties") else 501, method=name)


def test_table_with_an_unknown_type(broker, peer, ch):
    ch.frame(METHOD, methods.encode("queue.declare", {"queue": "q"})[:-4] + wire.long(b"\1aZ"))
    if differs(broker, "unknown methods"):
        peer.expect_close(502, SYNTAX, "queue.declare")
    else:
        peer.expect_end()


def test_reserved_fields_and_bits_are_ignored(ch):
    ch.frame(METHOD, methods.encode("basic.qos", {})[:-1] + b"\xfe")
    ch.expect("basic.qos-ok")
    assert ch.declare("q", ticket=77) == "q"


@pytest.mark.parametrize("name, arguments", [
    ("queue.declare-ok", {"queue": "q"}), ("channel.open-ok", {}),
    ("basic.consume-ok", {"tag": "x"}), ("basic.get-empty", {}), ("confirm.select-ok", {})])
def test_methods_of_servers(peer, ch, name, arguments):
    ch.send(name, **arguments)
    peer.expect_close(503, INVALID, name)


@pytest.mark.parametrize("name", ["basic.deliver", "basic.return", "basic.get-ok"])
def test_content_of_servers(peer, ch, name):
    ch.send(name)
    ch.frame(CONTENT, header())
    peer.expect_close(503, INVALID, name)


@pytest.mark.parametrize("name", ["connection.open", "connection.close", "connection.tune-ok",
                                  "connection.update-secret"])
def test_connection_methods_on_a_channel(peer, ch, name):
    ch.send(name)
    peer.expect_close(503, INVALID, name)


@pytest.mark.parametrize("name", ["channel.open", "channel.close", "queue.declare", "basic.ack", "confirm.select",
                                  "basic.publish"])
def test_channel_methods_on_channel_0(peer, name):
    peer.zero.send(name)
    if name == "basic.publish":
        peer.zero.frame(CONTENT, header())
    peer.expect_close(504, CHANNEL, name)


@pytest.mark.parametrize("name", ["connection.start-ok", "connection.secure-ok", "connection.tune-ok",
                                  "connection.open"])
def test_handshake_after_the_handshake(peer, name):
    peer.zero.send(name)
    peer.expect_close(504, CHANNEL, name)


@pytest.mark.parametrize("until, name", [("start-ok", "connection.tune-ok"), ("start-ok", "connection.open"),
                                         ("tune-ok", "connection.open"), ("tune-ok", "connection.start-ok"),
                                         ("open", "connection.tune-ok")])
def test_handshake_out_of_order(broker, connect, until, name):
    peer = connect(until=until)
    peer.zero.send(name)
    if differs(broker, "says why before it is open"):
        peer.expect_close(503, INVALID, name)
    elif until == "open":
        peer.expect_close(504, CHANNEL, name)
    else:
        peer.expect_end()


@pytest.mark.parametrize("until", ["start-ok", "tune-ok"])
def test_channel_before_the_connection_is_open(broker, connect, until):
    peer = connect(until=until)
    peer.raw_channel(1).send("channel.open")
    if differs(broker, "says why before it is open"):
        peer.expect_close(504, CHANNEL)
    else:
        peer.expect_end()


def test_channel_opened_twice(peer, ch):
    ch.send("channel.open")
    peer.expect_close(504, "^CHANNEL_ERROR - second 'channel.open' seen", "channel.open")


@pytest.mark.parametrize("name", ["queue.declare", "channel.close", "basic.publish", "basic.ack"])
def test_channel_that_was_not_opened(peer, name):
    channel = peer.raw_channel(5)
    channel.send(name)
    if name == "basic.publish":
        channel.content("x")
    peer.expect_close(504, "^CHANNEL_ERROR - expected 'channel.open'", name)


def test_channel_numbers(connect):
    """channel_max says how many, and nothing of their numbers."""
    peer = connect(tune=(6, 131072, 0))
    for number in (65535, 7, 1, 64, 2048, 63):
        peer.channel(number).declare("")
    peer.channels[65535].call("channel.close", code=200, text="bye")
    peer.channel(4096).declare("")
    peer.raw_channel(65535).send("channel.open")
    peer.expect_close(530, r"^NOT_ALLOWED - number of channels opened \(6\)", "")


def test_access_request_of_older_clients(ch):
    ch.call("access.request", realm="/data", active=True)


def test_hard_error_ends_all_channels(peer, ch):
    other = peer.channel()
    ch.send("basic.recover", requeue=False)
    peer.expect_close(540, "^NOT_IMPLEMENTED - requeue=false", "basic.recover", answer=False)
    other.send("queue.declare", queue="late")
    other.silent()
    peer.zero.send("connection.close-ok")
    peer.expect_end()
