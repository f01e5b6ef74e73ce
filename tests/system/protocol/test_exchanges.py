# SPDX-License-Identifier: MIT
"""exchange.declare, delete, bind, unbind; what publishing to one may do."""
import pytest

from differences import differs

DEFAULT = "^ACCESS_REFUSED - operation not permitted on the default exchange"


def no_exchange(peer, name="none"):
    return "^NOT_FOUND - no exchange '%s' in vhost '%s'" % (name, peer.vhost)


def declare(ch, name="x", kind="direct", **options):
    ch.call("exchange.declare", exchange=name, type=kind, **options)


def inequivalent(peer, name, argument, what):
    return "^PRECONDITION_FAILED - inequivalent arg '%s' for exchange '%s' in vhost '%s': %s" % (
        argument, name, peer.vhost, what)


def gone(peer, name):
    other = peer.channel()
    other.send("exchange.declare", exchange=name, type="direct", passive=True)
    other.expect_close(404, no_exchange(peer, name), "exchange.declare")
    peer.forget(other)


# Declaring.

@pytest.mark.parametrize("name, kind", [("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                                        ("amq.headers", "headers"), ("amq.match", "headers")])
def test_every_vhost_has_these(ch, name, kind):
    declare(ch, name, kind, passive=True)
    declare(ch, name, kind, durable=True)


@pytest.mark.parametrize("name", ["x\n", "\rx\n", "\r\n\nx\r"])
def test_line_ends_are_no_part_of_a_name(peer, ch, name):
    declare(ch, name)
    declare(ch, name)
    declare(ch, name, passive=True)
    declare(ch, "x", passive=True)
    ch.call("exchange.delete", exchange=name)
    gone(peer, "x")


def test_a_name_of_line_ends_is_the_default_exchange(peer):
    for method, arguments in ("exchange.declare", {"type": "direct"}), ("exchange.delete", {}):
        ch = peer.channel()
        ch.send(method, exchange="\r\n", **arguments)
        ch.expect_close(403, DEFAULT, method)


def test_line_ends_are_no_part_of_what_is_bound(ch):
    declare(ch, "x")
    declare(ch, "y")
    ch.declare("q")
    ch.call("exchange.bind", source="x\n", destination="\ry", key="k")
    ch.call("queue.bind", queue="q\r", exchange="y\n", key="k")
    ch.publish("x", "k", "1")
    ch.wait_ready("q", 1)
    ch.call("queue.unbind", queue="q\n", exchange="\ny", key="k")
    ch.call("exchange.unbind", source="\rx", destination="y\n", key="k")
    ch.publish("y", "k", "2", mandatory=True)
    ch.expect("basic.return")
    ch.publish("x", "k", "2", mandatory=True)
    ch.expect("basic.return")


def test_line_ends_count_when_publishing(peer, ch):
    declare(ch, "x")
    ch.publish("x\n", "k")
    ch.expect_close(404, no_exchange(peer, "x\n"), "basic.publish")


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_declare_and_declare_again(ch, kind):
    for _ in range(2):
        declare(ch, kind=kind, durable=True, internal=True, auto_delete=True)


def test_passive_looks_at_the_name_only(ch):
    declare(ch)
    declare(ch, kind="fanout", passive=True, durable=True, internal=True)


def test_passive_of_none(peer, ch):
    ch.send("exchange.declare", exchange="none", type="direct", passive=True)
    ch.expect_close(404, no_exchange(peer), "exchange.declare")


@pytest.mark.parametrize("change, received, current", [
    ({"kind": "topic"}, "topic", "direct"), ({"durable": True}, "true", "false"),
    ({"auto_delete": True}, "true", "false"), ({"internal": True}, "true", "false")])
def test_inequivalent(peer, ch, change, received, current):
    declare(ch)
    name = list(change)[0].replace("kind", "type")
    ch.send("exchange.declare", exchange="x", **dict({"type": "direct"}, **{name: list(change.values())[0]}))
    ch.expect_close(406, inequivalent(peer, "x", name, "received '%s' but current is '%s'" % (received, current)),
                    "exchange.declare")


@pytest.mark.parametrize("before, after, text", [
    (None, "ae", "received the value 'ae' of type 'longstr' but current is none"),
    ("ae", "other", "received 'other' but current is 'ae'"),
    ("ae", None, "received none but current is the value 'ae' of type 'longstr'")])
def test_inequivalent_alternate_exchange(peer, ch, before, after, text):
    declare(ch, arguments={"alternate-exchange": before} if before else {})
    ch.send("exchange.declare", exchange="x", type="direct", arguments={"alternate-exchange": after} if after else {})
    ch.expect_close(406, inequivalent(peer, "x", "alternate-exchange", text), "exchange.declare")


def test_other_arguments_do_not_count(ch):
    declare(ch, arguments={"x-note": "one"})
    declare(ch, arguments={"x-note": "two"})


def test_alternate_exchange_must_be_a_string(peer, ch):
    ch.send("exchange.declare", exchange="x", type="direct", arguments={"alternate-exchange": 5})
    ch.expect_close(406, "^PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in "
                    "vhost '%s'" % peer.vhost, "exchange.declare")


def test_reserved_names(ch):
    ch.send("exchange.declare", exchange="amq.mine", type="direct")
    ch.expect_close(403, r"^ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq\.\*'",
                    "exchange.declare")
    ch.open()
    ch.send("exchange.declare", exchange="amq.direct", type="fanout", durable=True)
    ch.expect_close(406, "inequivalent arg 'type' for exchange 'amq.direct'")


@pytest.mark.parametrize("name", ["x", ""])
@pytest.mark.parametrize("kind, text", [("nonsense", "unknown exchange type 'nonsense'"),
                                        ("", "invalid exchange type ''")])
def test_unknown_type(peer, ch, kind, text, name):
    ch.send("exchange.declare", exchange=name, type=kind)
    peer.expect_close(503, "^COMMAND_INVALID - " + text, "exchange.declare")


def test_names_are_utf_8(broker, peer, ch):
    declare(ch, "füße ☃")
    ch.send("exchange.declare", exchange=b"\xff\xfe", type="direct")
    if differs(broker, "names are bytes"):
        ch.expect("exchange.declare-ok")
    else:
        peer.expect_close(501, "^FRAME_ERROR - ")


def test_longest_name(ch):
    declare(ch, "x" * 255)
    declare(ch, "x" * 255, passive=True)


# Deleting.

def test_delete(peer, ch):
    declare(ch)
    ch.call("exchange.delete", exchange="x")
    gone(peer, "x")
    ch.call("exchange.delete", exchange="x")     # deleting what is not there is no error
    declare(ch, kind="fanout")


def test_delete_if_unused(peer, ch):
    declare(ch)
    ch.declare("q")
    ch.call("queue.bind", queue="q", exchange="x", key="k")
    ch.send("exchange.delete", exchange="x", if_unused=True)
    ch.expect_close(406, "^PRECONDITION_FAILED - exchange 'x' in vhost '%s' in use" % peer.vhost, "exchange.delete")
    ch.open()
    ch.call("queue.unbind", queue="q", exchange="x", key="k")
    ch.call("exchange.delete", exchange="x", if_unused=True)
    gone(peer, "x")


def test_an_exchange_that_is_only_a_destination_is_unused(ch):
    declare(ch)
    ch.call("exchange.bind", destination="x", source="amq.fanout")
    ch.call("exchange.delete", exchange="x", if_unused=True)


@pytest.mark.parametrize("name", ["amq.direct", "amq.topic", "amq.none"])
def test_delete_of_a_system_exchange(peer, ch, name):
    ch.send("exchange.delete", exchange=name)
    ch.expect_close(403, "^ACCESS_REFUSED - deletion of system exchange '%s' in vhost '%s' not allowed" % (
        name, peer.vhost), "exchange.delete")


def test_delete_ends_its_bindings(ch):
    declare(ch, kind="fanout")
    ch.declare("q")
    ch.call("queue.bind", queue="q", exchange="x")
    ch.call("exchange.delete", exchange="x")
    declare(ch, kind="fanout")
    ch.call("confirm.select")
    ch.publish("x", "", "lost", mandatory=True)
    ch.expect("basic.return", code=312)
    ch.expect("basic.ack")


@pytest.mark.parametrize("name, arguments", [
    ("exchange.declare", {"exchange": "", "type": "direct"}),
    ("exchange.declare", {"exchange": "", "type": "direct", "passive": True}),
    ("exchange.delete", {"exchange": ""}),
    ("queue.bind", {"queue": "q", "exchange": "", "key": "k"}),
    ("queue.unbind", {"queue": "q", "exchange": "", "key": "q"}),
    ("exchange.bind", {"destination": "amq.direct", "source": ""}),
    ("exchange.bind", {"destination": "", "source": "amq.direct"}),
    ("exchange.unbind", {"destination": "amq.direct", "source": ""})])
def test_default_exchange_is_untouchable(ch, name, arguments):
    ch.declare("q")
    ch.send(name, **arguments)
    ch.expect_close(403, DEFAULT, name)


# Auto-delete.

def test_auto_delete_with_its_last_queue_binding(peer, ch):
    declare(ch, auto_delete=True)
    ch.declare("q")
    ch.call("queue.bind", queue="q", exchange="x", key="a")
    ch.call("queue.bind", queue="q", exchange="x", key="b")
    ch.call("queue.unbind", queue="q", exchange="x", key="a")
    declare(ch, passive=True)
    ch.call("queue.unbind", queue="q", exchange="x", key="b")
    gone(peer, "x")


def test_auto_delete_with_the_queue(peer, ch):
    declare(ch, auto_delete=True)
    ch.declare("q")
    ch.call("queue.bind", queue="q", exchange="x", key="a")
    ch.call("queue.delete", queue="q")
    gone(peer, "x")


def test_auto_delete_along_a_chain(peer, ch):
    for name in "abc":
        declare(ch, name, "fanout", auto_delete=True)
    ch.declare("q")
    ch.call("exchange.bind", destination="b", source="a")
    ch.call("exchange.bind", destination="c", source="b")
    ch.call("queue.bind", queue="q", exchange="c")
    ch.call("queue.delete", queue="q")
    for name in "cba":
        gone(peer, name)


def test_auto_delete_without_ever_a_binding_stays(ch):
    declare(ch, auto_delete=True)
    declare(ch, passive=True)


def test_auto_delete_does_not_go_when_it_is_a_destination_no_more(ch):
    declare(ch, auto_delete=True)
    ch.call("exchange.bind", destination="x", source="amq.fanout")
    ch.call("exchange.unbind", destination="x", source="amq.fanout")
    declare(ch, passive=True)


# Publishing to them.

def test_publish_to_none(peer, ch):
    ch.declare("q")
    ch.publish("none", "k", "x")
    for _ in range(5):
        ch.publish("", "q", "lost")
    ch.expect_close(404, no_exchange(peer), "basic.publish")
    ch.open()
    assert ch.ready("q") == 0


def test_publish_to_an_internal_exchange(peer, ch):
    declare(ch, internal=True)
    ch.publish("x", "k", "x")
    ch.expect_close(403, "^ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '%s'" % peer.vhost,
                    "basic.publish")


def test_internal_exchange_takes_from_others(ch):
    declare(ch, kind="fanout", internal=True)
    ch.declare("q")
    ch.call("queue.bind", queue="q", exchange="x")
    ch.call("exchange.bind", destination="x", source="amq.fanout")
    ch.publish("amq.fanout", "k", "hello")
    got = ch.get_soon("q")
    assert (got.exchange, got.key, got.message.body) == ("amq.fanout", "k", b"hello")


def test_alternate_exchange(ch):
    ch.call("confirm.select")
    declare(ch, "ae", "fanout")
    ch.declare("unrouted")
    ch.call("queue.bind", queue="unrouted", exchange="ae")
    declare(ch, "x", arguments={"alternate-exchange": "ae"})
    ch.declare("q")
    ch.call("queue.bind", queue="q", exchange="x", key="known")
    ch.publish_safely("x", "known", "1")
    ch.publish_safely("x", "unknown", "2", mandatory=True)  # routed by the alternate exchange: not returned
    got = ch.get("unrouted")
    assert (got.exchange, got.key, got.message.body) == ("x", "unknown", b"2")
    assert ch.bodies("q") == [b"1"]
    assert ch.bodies("unrouted") == []


def test_alternate_exchanges_in_a_row_and_in_a_circle(ch):
    ch.call("confirm.select")
    declare(ch, "a", arguments={"alternate-exchange": "b"})
    declare(ch, "b", arguments={"alternate-exchange": "c"})
    declare(ch, "c", arguments={"alternate-exchange": "a"})
    ch.publish("a", "k", "nowhere", mandatory=True)
    ch.expect("basic.return", code=312, exchange="a")
    ch.expect("basic.ack")
    ch.declare("q")
    ch.call("queue.bind", queue="q", exchange="c", key="k")
    ch.publish("a", "k", "somewhere", mandatory=True)
    ch.expect("basic.ack")
    assert ch.bodies("q") == [b"somewhere"]


def test_alternate_exchange_that_is_not_there(ch):
    ch.call("confirm.select")
    declare(ch, "x", arguments={"alternate-exchange": "none"})
    ch.publish("x", "k", "nowhere", mandatory=True)
    ch.expect("basic.return", code=312)
    ch.expect("basic.ack")
