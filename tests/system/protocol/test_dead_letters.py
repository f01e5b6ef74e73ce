# SPDX-License-Identifier: MIT
"""Dead letters: when, where to, and what their headers say."""
import time

import pytest

from differences import differs
from rig import methods, wire

TO_DL = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dl"}


def declare(ch, name="q", dead_letter=None, **arguments):
    """Queue with dead letters to `dl` unless given otherwise."""
    ch.declare("dl")
    ch.declare(name, arguments=dict(TO_DL if dead_letter is None else dead_letter, **{
        "x-" + key.replace("_", "-"): value for key, value in arguments.items()}))


def frame_of(name, ch, **arguments):
    return wire.frame(wire.METHOD, ch.number, methods.encode(name, arguments))


def reject(ch, queue="q"):
    """Rejects the queue's first message; what it was."""
    got = ch.get_soon(queue, no_ack=False)
    ch.send("basic.reject", delivery=got.delivery, requeue=False)
    return got


def death(message, count=1, reason="rejected", queue="q", exchange="", keys=("q",), which=0, **more):
    entry = dict(message.headers["x-death"][which])
    assert abs(entry.pop("time") - time.time()) < 60
    assert entry == dict(more, count=count, reason=reason, queue=queue, exchange=exchange, **{"routing-keys": list(keys)})


def first(message, reason="rejected", queue="q", exchange=""):
    assert {name: message.headers[name] for name in message.headers if name.startswith("x-first")} == {
        "x-first-death-reason": reason, "x-first-death-queue": queue, "x-first-death-exchange": exchange}


# Reasons.

def test_many_at_once_keep_their_order(ch):
    """They are more than the embedded broker deals with in one turn."""
    declare(ch)
    for number in range(5000):
        ch.publish("", "q", b"%d" % number)
    ch.wait_ready("q", 5000)
    for _ in range(5000):
        ch.send("basic.get", queue="q", no_ack=False)
    last = [ch.expect("basic.get-ok").delivery for _ in range(5000)][-1]
    ch.peer.write(b"".join(frame_of("basic.nack", ch, delivery=last - left, multiple=True, requeue=False)
                           for left in (2000, 1990, 1000, 0)))
    ch.wait_ready("dl", 5000)
    assert ch.bodies("dl") == [b"%d" % number for number in range(5000)]


@pytest.mark.parametrize("name", ["basic.reject", "basic.nack"])
def test_rejected(ch, name):
    declare(ch)
    ch.publish("", "q", "x", headers={"mine": 1}, message_id="m", priority=3, delivery_mode=2)
    got = ch.get_soon("q", no_ack=False)
    ch.send(name, delivery=got.delivery, requeue=False)
    dead = ch.get_soon("dl")
    assert (dead.exchange, dead.key, dead.redelivered, dead.message.body) == ("", "dl", False, b"x")
    assert dead.message.properties == {"message_id": "m", "priority": 3, "delivery_mode": 2}
    assert list(dead.message.headers) == ["mine", "x-death", "x-first-death-exchange", "x-first-death-queue",
                                          "x-first-death-reason"]
    death(dead.message)
    first(dead.message)


def test_types_of_the_headers(ch):
    declare(ch)
    ch.publish("", "q", "x", expiration="100000")
    reject(ch)
    table = {name: (letter, value) for name, letter, value in ch.get_soon("dl").message.table}
    assert table["x-first-death-reason"] == ("S", b"rejected")
    letter, entries = table["x-death"]
    assert (letter, len(entries), entries[0][0]) == ("A", 1, "F")
    assert {name: letter for name, letter, _ in entries[0][1]} == {
        "count": "l", "reason": "S", "queue": "S", "time": "T", "exchange": "S", "routing-keys": "A",
        "original-expiration": "S"}


def test_expired_by_the_queue(ch):
    declare(ch, message_ttl=20)
    ch.publish("", "q", "x")
    dead = ch.get_soon("dl")
    death(dead.message, reason="expired")
    first(dead.message, "expired")


def test_expired_by_itself(ch):
    declare(ch)
    ch.publish("", "q", "x", expiration="20")
    dead = ch.get_soon("dl")
    assert "expiration" not in dead.message.properties  # or it would expire there again
    death(dead.message, reason="expired", **{"original-expiration": "20"})


def test_maxlen(ch):
    declare(ch, max_length=2)
    for body in "abc":
        ch.publish("", "q", body)
    dead = ch.get_soon("dl")
    assert dead.message.body == b"a"
    death(dead.message, reason="maxlen")
    first(dead.message, "maxlen")
    assert ch.bodies("q") == [b"b", b"c"]


def test_maxlen_in_bytes(ch):
    declare(ch, max_length_bytes=5)
    for body in "1", "23", "456":
        ch.publish("", "q", body)
    death(ch.get_soon("dl").message, reason="maxlen")
    assert ch.bodies("q") == [b"23", b"456"]


def test_reject_publish_dlx(ch):
    declare(ch, max_length=1, overflow="reject-publish-dlx")
    ch.call("confirm.select")
    ch.publish("", "q", "a")
    ch.expect("basic.ack", delivery=1)
    ch.publish("", "q", "b")
    ch.expect("basic.nack", delivery=2)
    dead = ch.get_soon("dl")
    assert dead.message.body == b"b"
    death(dead.message, reason="maxlen")


@pytest.mark.parametrize("action", ["queue.purge", "queue.delete"])
def test_neither_purge_nor_delete_makes_dead_letters(ch, action):
    declare(ch)
    ch.publish("", "q", "x")
    ch.wait_ready("q", 1)
    ch.call(action, queue="q")
    time.sleep(0.1)
    assert ch.ready("dl") == 0


def test_requeue_makes_none(ch):
    declare(ch)
    ch.publish("", "q", "x")
    got = ch.get_soon("q", no_ack=False)
    ch.send("basic.reject", delivery=got.delivery, requeue=True)
    assert ch.get_soon("q").redelivered
    assert ch.ready("dl") == 0


# Where to.

def test_own_routing_key_when_none_is_given(ch):
    ch.declare("dl")
    ch.call("queue.bind", queue="dl", exchange="amq.direct", key="the key")
    ch.call("exchange.declare", exchange="x", type="fanout")
    ch.declare("q", arguments={"x-dead-letter-exchange": "amq.direct"})
    ch.call("queue.bind", queue="q", exchange="x")
    ch.publish("x", "the key", "x")
    assert (lambda m: (m.exchange, m.key))(reject(ch)) == ("x", "the key")
    dead = ch.get_soon("dl")
    assert (dead.exchange, dead.key) == ("amq.direct", "the key")
    death(dead.message, exchange="x", keys=["the key"])
    first(dead.message, exchange="x")


def test_bcc_is_for_the_first_time(broker, ch):
    for name in "q", "hidden":
        ch.declare(name)
    ch.declare("dying", arguments={"x-dead-letter-exchange": ""})
    ch.call("queue.bind", queue="dying", exchange="amq.direct", key="q")
    ch.publish("amq.direct", "q", "x", headers={"BCC": ["hidden"]})
    reject(ch, "dying")
    ch.get_soon("q")
    ch.wait_ready("hidden", 0 if differs(broker, "BCC of a dead letter") else 1)


def test_cc_is_kept_and_bcc_forgotten(ch):
    ch.declare("dl")
    ch.call("queue.bind", queue="dl", exchange="amq.direct", key="c1")
    ch.declare("q", arguments={"x-dead-letter-exchange": "amq.direct"})
    ch.publish("", "q", "x", headers={"CC": ["c1", "c2"], "BCC": ["c3"]})
    reject(ch)
    dead = ch.get_soon("dl")        # by its CC key
    assert dead.message.headers["CC"] == ["c1", "c2"]
    death(dead.message, keys=["q", "c1", "c2"])


def test_cc_ends_with_a_routing_key_of_the_queue(ch):
    declare(ch)
    ch.publish("", "q", "x", headers={"CC": ["c1"], "BCC": ["c2"]})
    reject(ch)
    dead = ch.get_soon("dl")
    assert "CC" not in dead.message.headers
    death(dead.message, keys=["q", "c1"])


def test_to_several_queues(ch):
    ch.declare("dl")
    ch.declare("dl2")
    for name in "dl", "dl2":
        ch.call("queue.bind", queue=name, exchange="amq.fanout")
    ch.declare("q", arguments={"x-dead-letter-exchange": "amq.fanout"})
    ch.publish("", "q", "x")
    reject(ch)
    for name in "dl", "dl2":
        dead = ch.get_soon(name)
        assert (dead.exchange, dead.key) == ("amq.fanout", "q")
        death(dead.message)


@pytest.mark.parametrize("dead_letter", [{"x-dead-letter-exchange": "none"},
                                         {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "none"}, {}])
def test_nowhere_to_go(ch, dead_letter):
    declare(ch, dead_letter=dead_letter)
    ch.publish("", "q", "x")
    reject(ch)
    ch.publish("", "q", "y")
    assert ch.get_soon("q").message.body == b"y"
    ch.call("basic.qos")


def test_order_is_kept(ch):
    declare(ch)
    for number in range(50):
        ch.publish("", "q", b"%d" % number)
    ch.wait_ready("q", 50)
    for _ in range(50):
        last = ch.get("q", no_ack=False)
    ch.send("basic.nack", delivery=last.delivery, multiple=True, requeue=False)
    ch.wait_ready("dl", 50)
    assert ch.bodies("dl") == [b"%d" % number for number in range(50)]


# More than once.

def test_a_second_queue_adds_an_entry_in_front(ch):
    declare(ch, "q2")
    declare(ch, dead_letter={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q2"}, message_ttl=10)
    ch.publish("", "q", "x")
    reject(ch, "q2")
    message = ch.get_soon("dl").message
    assert len(message.headers["x-death"]) == 2
    death(message, queue="q2", keys=["q2"])
    death(message, reason="expired", which=1)
    first(message, "expired")


def test_the_same_again_counts(ch):
    declare(ch, dead_letter={"x-dead-letter-exchange": ""})
    ch.publish("", "q", "x")
    for count in range(1, 4):
        reject(ch)
        message = ch.get_soon("q", no_ack=False)
        assert len(message.message.headers["x-death"]) == 1
        death(message.message, count=count)
        first(message.message)
        ch.send("basic.reject", delivery=message.delivery, requeue=True)


def test_the_latest_comes_to_the_front(ch):
    declare(ch, "a", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"}, message_ttl=10)
    declare(ch, "b", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"})
    ch.publish("", "a", "x")
    reject(ch, "b")
    message = ch.get_soon("b").message
    death(message, 2, "expired", "a", keys=["a"])
    death(message, 1, "rejected", "b", keys=["b"], which=1)
    first(message, "expired", "a")


def test_another_reason_is_another_entry(ch):
    declare(ch, dead_letter={"x-dead-letter-exchange": ""})
    ch.publish("", "q", "x", expiration="50")
    got = ch.get_soon("q", no_ack=False)
    ch.send("basic.reject", delivery=got.delivery, requeue=False)
    got = ch.get_soon("q", no_ack=False)
    death(got.message, **{"original-expiration": "50"})


def test_published_anew_with_its_headers(ch):
    """x-death goes on from what a client sends along."""
    declare(ch)
    ch.publish("", "q", "x")
    reject(ch)
    ch.publish("", "q", "x", headers=ch.get_soon("dl").message.table)
    reject(ch)
    death(ch.get_soon("dl").message, count=2)


def old_death(queue, **more):
    """An entry as RabbitMQ before 3.5 made one for each death."""
    return dict({"reason": "expired", "queue": queue, "exchange": "x", "routing-keys": ["k"]}, **more)


@pytest.mark.parametrize("before, after", [
    ([old_death("a"), old_death("b"), old_death("a"), old_death("a")], {"q": 1, "a": 3, "b": 1}),
    ([old_death("q", reason="rejected")] * 2 + [old_death("b", count=7), old_death("b", count=8)], {"q": 3, "b": 7}),
    ([old_death("q", reason="rejected")], {"q": 1}),
    ([old_death("a")], {"q": 1, "a": None}),
    ([], {"q": 1}),
], ids=["others", "own", "own alone", "other alone", "none"])
def test_entries_without_a_count(ch, before, after):
    """They are counted, each kind is one entry."""
    declare(ch)
    ch.publish("", "q", "x", headers={"x-death": before})
    reject(ch)
    entries = ch.get_soon("dl").message.headers["x-death"]
    assert len(entries) == len(after)
    assert {entry["queue"]: entry.get("count") for entry in entries} == after


@pytest.mark.parametrize("before", [[old_death("a", count=1)], "no array"], ids=["an entry", "no array"])
def test_who_has_died_has_a_first_death_or_gets_none(ch, before):
    declare(ch)
    ch.publish("", "q", "x", headers={"x-death": before})
    reject(ch)
    message = ch.get_soon("dl").message
    assert list(message.headers) == ["x-death"]
    death(message)


def test_the_first_death_is_the_brokers_to_say(ch):
    declare(ch)
    ch.publish("", "q", "x", headers={"x-first-death-reason": "mine", "x-first-death-queue": "a"})
    reject(ch)
    first(ch.get_soon("dl").message)


def test_order_of_many(broker, ch):
    for number in range(1, 6):
        declare(ch, "%d" % number, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "%d" % (number + 1)})
    declare(ch, "6")
    ch.publish("", "1", "x")
    for number in range(1, 6):
        reject(ch, "%d" % number)
    queues = [entry["queue"] for entry in ch.get_soon("6").message.headers["x-death"]]
    assert queues == list("54321" if differs(broker, "order of x-death") else "53124")


# Cycles.

def test_a_cycle_of_expiry_ends(ch):
    """A message that would come back to a queue with no rejection on the way is dropped."""
    declare(ch, dead_letter={"x-dead-letter-exchange": ""}, message_ttl=20)
    declare(ch, "a", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"}, message_ttl=20)
    declare(ch, "b", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"}, message_ttl=20)
    ch.publish("", "q", "x")
    ch.publish("", "a", "x")
    time.sleep(0.3)
    assert [ch.ready(name) for name in ("q", "a", "b", "dl")] == [0] * 4


def test_a_cycle_with_a_rejection_goes_on(ch):
    declare(ch, "a", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"}, message_ttl=10)
    declare(ch, "b", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"})
    ch.publish("", "a", "x")
    for _ in range(4):
        reject(ch, "b")
    death(ch.get_soon("b").message, 5, "expired", "a", keys=["a"])


def test_a_cycle_of_maxlen_ends(ch):
    declare(ch, dead_letter={"x-dead-letter-exchange": ""}, max_length=1)
    ch.publish("", "q", "a")
    ch.publish("", "q", "b")
    time.sleep(0.1)
    assert ch.bodies("q") == [b"b"]


# Quorum queues.

def test_delivery_limit(ch):
    ch.declare("dl")
    ch.declare("q", durable=True, arguments=dict(TO_DL, **{"x-queue-type": "quorum", "x-delivery-limit": 2}))
    ch.publish("", "q", "x", headers={"mine": 1})
    for count in range(3):
        got = ch.get_soon("q", no_ack=False)
        assert got.redelivered == (count > 0)
        assert got.message.headers.get("x-delivery-count", 0) == count
        ch.send("basic.nack", delivery=got.delivery, requeue=True)
    dead = ch.get_soon("dl")
    assert dead.message.headers["mine"] == 1
    death(dead.message, reason="delivery_limit")
    first(dead.message, "delivery_limit")
    assert ch.ready("q") == 0


def test_delivery_limit_without_dead_letters_drops(ch):
    ch.declare("q", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1})
    ch.publish("", "q", "x")
    for _ in range(2):
        got = ch.get_soon("q", no_ack=False)
        ch.send("basic.reject", delivery=got.delivery, requeue=True)
    ch.publish("", "q", "y")
    assert ch.get_soon("q").message.body == b"y"


def test_lost_consumers_count_as_deliveries(peer, ch):
    ch.declare("dl")
    ch.declare("q", durable=True, arguments=dict(TO_DL, **{"x-queue-type": "quorum", "x-delivery-limit": 1}))
    ch.publish("", "q", "x")
    for _ in range(2):
        other = peer.channel()
        other.get_soon("q", no_ack=False)
        other.close()
    death(ch.get_soon("dl").message, reason="delivery_limit")
