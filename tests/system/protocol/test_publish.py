# SPDX-License-Identifier: MIT
"""basic.publish: what comes out as it went in, returns, confirms."""
import pytest

from rig import wire

EVERY_TYPE = [("bool", "t", True), ("byte", "b", -5), ("ubyte", "B", 200), ("short", "s", -300), ("ushort", "u", 60000),
              ("int", "I", -70000), ("uint", "i", 4000000000), ("long", "l", -1 << 40), ("float", "f", 0.5),
              ("double", "d", 0.1), ("decimal", "D", (2, 314)), ("string", "S", b"s\xc3\xbc"), ("binary", "x", b"\0\xff"),
              ("time", "T", 1700000000), ("void", "V", None), ("table", "F", [("inner", "l", 7)]),
              ("array", "A", [("S", b"one"), ("l", 2), ("A", [("V", None)])])]
PROPERTIES = {"content_type": "text/plain", "content_encoding": "gzip", "delivery_mode": 2, "priority": 9,
              "correlation_id": "c", "reply_to": "r", "expiration": "60000", "message_id": "m", "timestamp": 1700000000,
              "type": "t", "user_id": "guest", "app_id": "a", "cluster_id": "cl"}


def test_all_properties_and_header_types_come_through(ch):
    ch.declare("q")
    ch.publish("", "q", b"\0\xff", headers=EVERY_TYPE, **PROPERTIES)
    message = ch.get_soon("q").message
    assert message.properties == PROPERTIES
    assert message.table == EVERY_TYPE
    assert message.body == b"\0\xff"


@pytest.mark.parametrize("name", list(PROPERTIES))
def test_each_property_alone(ch, name):
    ch.declare("q")
    ch.publish("", "q", **{name: PROPERTIES[name]})
    message = ch.get_soon("q").message
    assert (message.properties, message.has_headers) == ({name: PROPERTIES[name]}, False)


def test_empty_headers_stay(ch):
    ch.declare("q")
    ch.send("basic.publish", key="q")
    ch.frame(wire.CONTENT, b"\0\x3c" + bytes(10) + b"\x20\0" + bytes(4))
    assert ch.get_soon("q").message.has_headers


@pytest.mark.parametrize("size", [0, 1, 131063, 131064, 131065, 262128, 1000003])
def test_sizes(ch, size):
    ch.declare("q")
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    ch.publish("", "q", body)
    assert ch.get_soon("q").message.body == body


@pytest.mark.parametrize("user, name", [("guest", "bob"), ("guest", ""), ("guest", "Guest")])
def test_user_id_of_somebody_else(ch, user, name):
    ch.declare("q")
    ch.publish("", "q", "x", user_id=name)
    ch.expect_close(406, "^PRECONDITION_FAILED - user_id property set to '%s' but authenticated user was '%s'" % (name, user),
                    "basic.publish")


@pytest.mark.parametrize("tags", ["impersonator", "monitoring,impersonator"])
def test_an_impersonator_may_be_anybody(broker, connect, tags):
    broker.add_user("actor", tags=tags)
    ch = connect(user="actor", password="actor").channel()
    ch.declare("q")
    ch.publish("", "q", "x", user_id="somebody")
    assert ch.get_soon("q").message.properties == {"user_id": "somebody"}


def test_error_of_one_publish_stops_those_behind_it(ch):
    ch.declare("q")
    ch.call("confirm.select")
    ch.publish("", "q", "1")
    ch.expect("basic.ack")
    ch.publish("none", "q", "2")
    for _ in range(3):
        ch.publish("", "q", "3", mandatory=True)
    ch.expect_close(404, "no exchange 'none'", "basic.publish")
    ch.open()
    assert ch.bodies("q") == [b"1"]
    ch.call("confirm.select")
    ch.publish("", "q", "4")
    ch.expect("basic.ack", delivery=1)      # counted anew


def test_immediate_is_not_implemented(peer, ch):
    ch.declare("q")
    ch.publish("", "q", "x", immediate=True)
    peer.expect_close(540, "^NOT_IMPLEMENTED - immediate=true", "basic.publish")


# Returns.

def test_return(ch):
    ch.publish("amq.direct", "nowhere", b"x" * 200000, mandatory=True, headers={"a": 1, "BCC": ["b"]}, message_id="m")
    back = ch.expect("basic.return", code=312, text="NO_ROUTE", exchange="amq.direct", key="nowhere")
    assert back.message.body == b"x" * 200000
    assert back.message.properties == {"message_id": "m"}
    assert back.message.headers == {"a": 1}


def test_no_return_without_mandatory_or_with_a_route(ch):
    ch.declare("q")
    ch.publish("amq.direct", "nowhere", "x")
    ch.publish("", "q", "x", mandatory=True)
    ch.publish("", "none", "x", mandatory=True, headers={"CC": ["q"]})
    ch.silent()


def test_return_comes_before_its_ack(ch):
    ch.call("confirm.select")
    for number in range(10):
        ch.publish("", "none", b"%d" % number, mandatory=True)
    waiting, acked = 10, 0
    for number in range(10):
        while True:
            method = ch.next()
            if method.name == "basic.return":
                break
            acked = method.delivery
            assert acked <= number      # nothing is acked before its return
        assert method.message.body == b"%d" % number
        waiting -= 1
    while acked < 10:
        acked = ch.expect("basic.ack").delivery
    assert waiting == 0


# Confirms.

def acks(ch, count):
    """Delivery tags of confirms until `count` are settled, and how."""
    settled = {}
    while len(settled) < count:
        method = ch.next()
        assert method.name in ("basic.ack", "basic.nack"), repr(method)
        for tag in range(1, method.delivery + 1) if method.multiple else [method.delivery]:
            if tag in settled:
                assert method.multiple, "%d confirmed twice" % tag
            else:
                settled[tag] = method.name
    return settled


def test_confirms_count_from_1(ch):
    ch.declare("q")
    ch.publish("", "q", "before")
    ch.call("confirm.select")
    ch.publish("", "q", "x")
    ch.expect("basic.ack", delivery=1, multiple=False)
    ch.publish("", "none", "no route")
    ch.expect("basic.ack", delivery=2, multiple=False)
    ch.call("confirm.select")   # again: no change
    ch.publish("", "q", "x", delivery_mode=2)
    ch.expect("basic.ack", delivery=3, multiple=False)


@pytest.mark.parametrize("durable, mode", [(False, 1), (True, 1), (True, 2)])
def test_every_publish_is_confirmed_once(ch, durable, mode):
    ch.declare("q", durable=durable)
    ch.call("confirm.select")
    for _ in range(1000):
        ch.publish("", "q", "x", delivery_mode=mode)
    assert acks(ch, 1000) == dict.fromkeys(range(1, 1001), "basic.ack")
    ch.silent()
    assert ch.ready("q") == 1000


def test_confirms_to_several_queues(ch):
    for name in "abc":
        ch.declare(name, durable=name != "b")
        ch.call("queue.bind", queue=name, exchange="amq.fanout")
    ch.call("confirm.select")
    for _ in range(100):
        ch.publish("amq.fanout", "", "x", delivery_mode=2)
    assert acks(ch, 100) == dict.fromkeys(range(1, 101), "basic.ack")


def test_confirm_of_a_consumed_message(ch):
    ch.declare("q", durable=True)
    ch.call("basic.consume", queue="q", no_ack=True)
    ch.call("confirm.select")
    for _ in range(20):
        ch.publish("", "q", "x", delivery_mode=2)
    seen, settled = 0, set()
    while seen < 20 or len(settled) < 20:
        method = ch.next()
        if method.name == "basic.deliver":
            seen += 1
        else:
            assert method.name == "basic.ack"
            settled |= set(range(1, method.delivery + 1)) if method.multiple else {method.delivery}


def test_channels_confirm_for_themselves(peer):
    one, two = peer.channel(confirms=True), peer.channel(confirms=True)
    one.declare("q")
    one.publish("", "q", "x")
    one.expect("basic.ack", delivery=1)
    two.publish("", "q", "x")
    two.expect("basic.ack", delivery=1)


def test_no_confirms_unless_selected(ch):
    ch.declare("q")
    ch.publish("", "q", "x")
    ch.silent()
