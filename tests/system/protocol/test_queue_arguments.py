# SPDX-License-Identifier: MIT
"""Arguments of queue.declare: which are wrong, and which must be the same the next time."""
import pytest

from differences import differs


def declare(ch, arguments=None, **options):
    ch.send("queue.declare", queue="q", arguments=arguments or {}, **options)


def invalid(peer, name, what):
    return "^PRECONDITION_FAILED - invalid arg '%s' for queue 'q' in vhost '%s'%s" % (name, peer.vhost, what)


INTEGERS = ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority"]


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [-1, "5", True, ("d", 1.5), None])
def test_integer_that_is_none(peer, ch, name, value):
    declare(ch, {name: value})
    ch.expect_close(406, invalid(peer, name, ": "), "queue.declare")


@pytest.mark.parametrize("letter", "bBsuIil")
@pytest.mark.parametrize("name", INTEGERS)
def test_every_integer_type_will_do(ch, name, letter):
    declare(ch, {name: (letter, 9)})
    ch.expect("queue.declare-ok")


@pytest.mark.parametrize("name, value", [
    ("x-expires", 0), ("x-message-ttl", 315360000001), ("x-expires", 315360000001), ("x-overflow", "bogus"),
    ("x-overflow", 5), ("x-dead-letter-routing-key", 5),
    ("x-dead-letter-routing-key", "no exchange"), ("x-max-priority", 256), ("x-single-active-consumer", 1),
    ("x-single-active-consumer", "yes"), ("x-queue-mode", "bogus"), ("x-queue-type", "bogus"), ("x-queue-type", 5)])
def test_invalid(peer, ch, name, value):
    declare(ch, {name: value}, durable=True)
    ch.expect_close(406, invalid(peer, name, ": "), "queue.declare")


def test_dead_letter_exchange_must_be_a_string(peer, ch):
    declare(ch, {"x-dead-letter-exchange": 5})
    ch.expect_close(406, "^PRECONDITION_FAILED - invalid .*'x-dead-letter-exchange'.* queue 'q' in vhost '%s'" % peer.vhost,
                    "queue.declare")


@pytest.mark.parametrize("arguments", [
    {"x-message-ttl": 0}, {"x-message-ttl": 4294967296},
    {"x-message-ttl": 315360000000}, {"x-expires": 1000000}, {"x-expires": 315360000000}, {"x-max-length": 0},
    {"x-max-length-bytes": 0}, {"x-max-priority": 0}, {"x-overflow": "drop-head"}, {"x-overflow": "reject-publish"},
    {"x-overflow": "reject-publish-dlx"}, {"x-dead-letter-exchange": ""}, {"x-dead-letter-exchange": "not there yet"},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k"}, {"x-single-active-consumer": True},
    {"x-single-active-consumer": False}, {"x-queue-mode": "lazy"}, {"x-queue-mode": "default"},
    {"x-queue-type": "classic"}, {"x-queue-version": 1}, {"x-unknown": 1}, {"unknown": {"a": [1]}}])
def test_valid(ch, arguments):
    for _ in range(2):
        declare(ch, arguments, durable=True)
        ch.expect("queue.declare-ok", queue="q")


# Quorum queues.

@pytest.mark.parametrize("arguments", [{}, {"x-delivery-limit": 3}, {"x-message-ttl": 1000}, {"x-max-length": 5},
                                       {"x-overflow": "reject-publish"}, {"x-single-active-consumer": True},
                                       {"x-expires": 100000}, {"x-dead-letter-exchange": "x"},
                                       {"x-quorum-initial-group-size": 3},
                                       {"x-dead-letter-strategy": "at-least-once"}])
def test_quorum(ch, arguments):
    for _ in range(2):
        declare(ch, dict(arguments, **{"x-queue-type": "quorum"}), durable=True)
        ch.expect("queue.declare-ok", queue="q")


@pytest.mark.parametrize("options, name", [({}, "non-durable"), ({"durable": True, "exclusive": True}, "exclusive-owner"),
                                           ({"durable": True, "auto_delete": True}, "auto-delete"),
                                           ({"exclusive": True, "auto_delete": True}, "auto-delete")])
def test_quorum_queues_are_durable_and_everyones(peer, ch, options, name):
    declare(ch, {"x-queue-type": "quorum"}, **options)
    ch.expect_close(406, "^PRECONDITION_FAILED - invalid property '%s' for queue 'q' in vhost '%s'" % (name, peer.vhost),
                    "queue.declare")


@pytest.mark.parametrize("kind, name, value", [
    ("classic", "x-delivery-limit", 5), ("quorum", "x-max-priority", 5), ("quorum", "x-queue-mode", "lazy")])
def test_arguments_of_the_other_kind(broker, peer, ch, kind, name, value):
    declare(ch, {"x-queue-type": kind, name: value}, durable=True)
    if differs(broker, "arguments of any queue"):
        ch.expect("queue.declare-ok")
    else:
        ch.expect_close(406, invalid(peer, name, " of queue type rabbit_%s_queue" % kind), "queue.declare")


# Declared again.

@pytest.mark.parametrize("option", ["durable", "auto_delete"])
@pytest.mark.parametrize("before", [False, True])
def test_inequivalent_option(peer, ch, option, before):
    ch.declare("q", **{option: before})
    declare(ch, **{option: not before})
    ch.expect_close(406, "^PRECONDITION_FAILED - inequivalent arg '%s' for queue 'q' in vhost '%s': received '%s' but current "
                    "is '%s'" % (option, peer.vhost, str(not before).lower(), str(before).lower()), "queue.declare")


OTHERS = [("x-message-ttl", 1000, 2000), ("x-expires", 100000, 200000), ("x-max-length", 5, 6),
          ("x-max-length-bytes", 5, 6), ("x-max-priority", 3, 4), ("x-overflow", "drop-head", "reject-publish"),
          ("x-dead-letter-exchange", "a", "b"), ("x-queue-mode", "lazy", "default")]


def inequivalent(peer, name, what):
    return "^PRECONDITION_FAILED - inequivalent arg '%s' for queue 'q' in vhost '%s': %s" % (name, peer.vhost, what)


@pytest.mark.parametrize("name, before, after", OTHERS)
def test_inequivalent_argument(peer, ch, name, before, after):
    ch.declare("q", arguments={name: before})
    declare(ch, {name: after})
    ch.expect_close(406, inequivalent(peer, name, "received '%s' but current is '%s'" % (after, before)), "queue.declare")


@pytest.mark.parametrize("name, before, after", OTHERS)
def test_missing_argument(peer, ch, name, before, after):
    kind = "longstr" if isinstance(before, str) else "signedint"
    ch.declare("q", arguments={name: before})
    declare(ch)
    ch.expect_close(406, inequivalent(peer, name, "received none but current is the value '%s' of type '%s'" % (
        before, kind)), "queue.declare")


@pytest.mark.parametrize("name, before, after", OTHERS)
def test_added_argument(peer, ch, name, before, after):
    kind = "longstr" if isinstance(before, str) else "signedint"
    ch.declare("q")
    declare(ch, {name: before})
    ch.expect_close(406, inequivalent(peer, name, "received the value '%s' of type '%s' but current is none" % (
        before, kind)), "queue.declare")


def test_inequivalent_single_active_consumer(peer, ch):
    ch.declare("q", arguments={"x-single-active-consumer": True})
    declare(ch)
    ch.expect_close(406, inequivalent(peer, "x-single-active-consumer", "received none but current is the value 'true' of "
                                      "type 'bool'"), "queue.declare")


def test_inequivalent_routing_key(peer, ch):
    ch.declare("q", arguments={"x-dead-letter-exchange": "a", "x-dead-letter-routing-key": "k"})
    declare(ch, {"x-dead-letter-exchange": "a", "x-dead-letter-routing-key": "l"})
    ch.expect_close(406, inequivalent(peer, "x-dead-letter-routing-key", "received 'l' but current is 'k'"))


def test_integers_are_compared_by_value_and_order_does_not_count(ch):
    ch.declare("q", arguments={"x-max-length": ("I", 5), "x-message-ttl": ("I", 60000)})
    ch.declare("q", arguments={"x-message-ttl": ("l", 60000), "x-max-length": ("b", 5)})


def test_unknown_arguments_do_not_count(ch):
    ch.declare("q", arguments={"x-note": "a"})
    ch.declare("q", arguments={"x-note": "b"})
    ch.declare("q")


def test_classic_is_what_no_type_means(ch):
    ch.declare("q", durable=True)
    ch.declare("q", durable=True, arguments={"x-queue-type": "classic"})


@pytest.mark.parametrize("before, after, text", [
    (None, "quorum", "received the value 'quorum' of type 'longstr' but current is none"),
    ("quorum", None, "received none but current is the value 'quorum' of type 'longstr'"),
    ("quorum", "classic", "received 'classic' but current is 'quorum'")])
def test_type_must_be_the_same(peer, ch, before, after, text):
    ch.declare("q", durable=True, arguments={"x-queue-type": before} if before else {})
    declare(ch, {"x-queue-type": after} if after else {}, durable=True)
    ch.expect_close(406, inequivalent(peer, "x-queue-type", text), "queue.declare")
