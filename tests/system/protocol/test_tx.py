# SPDX-License-Identifier: MIT
"""Transactions: publishes and acknowledgements that count together, or not at all."""
import pytest

from differences import differs


@pytest.fixture
def tx(peer):
    channel = peer.channel()
    channel.call("tx.select")
    return channel


def test_publishes_wait_for_commit(ch, tx):
    ch.declare("q")
    tx.publish("", "q", "a")
    tx.publish("", "q", "b", delivery_mode=2)
    tx.call("basic.qos")
    assert ch.get("q") is None
    tx.call("tx.commit")
    assert ch.bodies("q") == [b"a", b"b"]       # they are there when commit-ok is


def test_bindings_made_meanwhile(broker, ch, tx):
    ch.declare("q")
    tx.publish("amq.direct", "k", "a")
    tx.call("basic.qos")
    ch.call("queue.bind", queue="q", exchange="amq.direct", key="k")
    tx.call("tx.commit")
    assert ch.bodies("q") == ([b"a"] if differs(broker, "when a transaction is routed") else [])


def test_rollback_forgets_publishes(ch, tx):
    ch.declare("q")
    tx.publish("", "q", "a")
    tx.call("tx.rollback")
    tx.call("tx.commit")
    assert ch.get("q") is None
    tx.publish("", "q", "b")
    tx.call("tx.commit")
    assert ch.bodies("q") == [b"b"]


def test_acks_wait_for_commit(peer, ch):
    ch.declare("q")
    for body in "ab":
        ch.publish("", "q", body)
    ch.wait_ready("q", 2)
    for commit in False, True:
        tx = peer.channel()
        tx.call("tx.select")
        got = tx.get("q", no_ack=False)
        assert got.message.body == b"a"
        tx.send("basic.ack", delivery=got.delivery)
        if commit:
            tx.call("tx.commit")
        tx.close()
        ch.wait_ready("q", 1 if commit else 2)
    assert ch.get("q").message.body == b"b"


def test_rollback_leaves_messages_with_the_channel(ch, tx):
    ch.declare("q")
    ch.publish("", "q", "a")
    got = tx.get_soon("q", no_ack=False)
    tx.send("basic.ack", delivery=got.delivery)
    tx.call("tx.rollback")
    assert ch.get("q") is None      # neither settled nor requeued
    tx.send("basic.ack", delivery=got.delivery)     # again, for good
    tx.call("tx.commit")
    tx.close()
    assert ch.get("q") is None


@pytest.mark.parametrize("requeue", [False, True])
def test_rejects_wait_for_commit(ch, tx, requeue):
    ch.declare("q")
    ch.publish("", "q", "a")
    got = tx.get_soon("q", no_ack=False)
    tx.send("basic.nack", delivery=got.delivery, requeue=requeue)
    tx.call("basic.qos")
    assert ch.get("q") is None
    tx.call("tx.commit")
    if requeue:
        assert ch.get_soon("q").redelivered
    else:
        tx.close()
        assert ch.get("q") is None


def test_multiple_in_a_transaction(ch, tx):
    ch.declare("q")
    for body in "abc":
        ch.publish("", "q", body)
    ch.wait_ready("q", 3)
    for _ in range(3):
        tx.get("q", no_ack=False)
    tx.send("basic.ack", delivery=2, multiple=True)
    tx.call("tx.commit")
    tx.close()
    ch.wait_ready("q", 1)
    assert ch.bodies("q") == [b"c"]


def test_unknown_tag_is_told_at_once(tx):
    tx.send("basic.ack", delivery=9)
    tx.expect_close(406, "^PRECONDITION_FAILED - unknown delivery tag 9", "basic.ack")


def take(ch, tx, *bodies):
    """Unacknowledged on tx, tags from 1."""
    ch.declare("q")
    for body in bodies:
        ch.publish("", "q", body)
    ch.wait_ready("q", len(bodies))
    for _ in bodies:
        tx.get("q", no_ack=False)


@pytest.mark.parametrize("first, second", [
    (dict(delivery=2), dict(delivery=2)),
    (dict(delivery=2), dict(delivery=2, multiple=True)),
    (dict(delivery=3, multiple=True), dict(delivery=2)),
    (dict(delivery=3, multiple=True), dict(delivery=3, multiple=True)),
    (dict(delivery=0, multiple=True), dict(delivery=1)),
])
def test_acknowledged_twice_in_a_transaction(ch, tx, first, second):
    take(ch, tx, "a", "b", "c")
    tx.send("basic.ack", **first)
    tx.send("basic.ack", **second)
    tx.expect_close(406, "^PRECONDITION_FAILED - unknown delivery tag %d" % second["delivery"], "basic.ack")
    ch.wait_ready("q", 3)       # nothing of it was committed


def test_multiple_counts_what_was_there_when_it_was_sent(ch, tx):
    take(ch, tx, "a", "b")
    tx.send("basic.ack", delivery=0, multiple=True)
    ch.publish("", "q", "c")
    tx.get_soon("q", no_ack=False)
    tx.call("tx.commit")
    tx.close()
    ch.wait_ready("q", 1)
    assert ch.bodies("q") == [b"c"]


def test_settlements_of_one_transaction_in_their_order(ch, tx):
    take(ch, tx, "a", "b", "c", "d")
    tx.send("basic.nack", delivery=2, requeue=True)
    tx.send("basic.ack", delivery=3, multiple=True)
    tx.send("basic.ack", delivery=0, multiple=True)
    tx.send("basic.ack", delivery=0, multiple=True)     # of none
    tx.call("tx.commit")
    tx.close()
    ch.wait_ready("q", 1)
    assert ch.bodies("q") == [b"b"]


@pytest.mark.parametrize("multiple", [False, True])
def test_recover_leaves_what_the_transaction_acknowledges(ch, tx, multiple):
    take(ch, tx, "a", "b", "c", "d")
    tx.send("basic.ack", delivery=2, multiple=multiple)
    tx.call("basic.recover", requeue=True)
    back = [b"c", b"d"] if multiple else [b"a", b"c", b"d"]
    ch.wait_ready("q", len(back))
    assert ch.bodies("q") == back
    tx.call("tx.commit")
    tx.close()
    assert ch.bodies("q") == []


@pytest.mark.parametrize("asked", [[dict(delivery=2)], [dict(delivery=2, multiple=True)],
                                   [dict(delivery=1), dict(delivery=3, multiple=True), dict(delivery=4)]])
def test_after_a_rollback_all_can_be_settled_again(ch, tx, asked):
    take(ch, tx, "a", "b", "c", "d")
    for ack in asked:
        tx.send("basic.ack", **ack)
    tx.call("tx.rollback")
    tx.send("basic.ack", delivery=2, multiple=True)
    tx.send("basic.ack", delivery=4)
    tx.call("tx.commit")
    tx.call("basic.recover", requeue=True)
    ch.wait_ready("q", 1)
    assert ch.bodies("q") == [b"c"]


def test_unknown_exchange_is_told_at_once(tx):
    tx.publish("none", "k", "x")
    tx.expect_close(404, "^NOT_FOUND - no exchange 'none'", "basic.publish")


def test_returns_come_with_commit_and_before_its_ok(tx):
    tx.publish("", "none", "x", mandatory=True)
    tx.silent()
    tx.send("tx.commit")
    assert tx.expect("basic.return", code=312, text="NO_ROUTE").message.body == b"x"
    tx.expect("tx.commit-ok")


def test_close_rolls_back(ch, tx):
    ch.declare("q")
    tx.publish("", "q", "a")
    tx.close()
    assert ch.get("q") is None


def test_consumer_in_a_transaction(ch, tx):
    ch.declare("q")
    tx.call("basic.qos", prefetch_count=1)
    tx.call("basic.consume", queue="q")
    for body in "ab":
        ch.publish("", "q", body)
    got = tx.expect("basic.deliver")
    tx.send("basic.ack", delivery=got.delivery)
    tx.call("tx.commit")
    assert tx.expect("basic.deliver").message.body == b"b"


@pytest.mark.parametrize("name", ["tx.commit", "tx.rollback"])
def test_without_select(ch, name):
    ch.send(name)
    ch.expect_close(406, "^PRECONDITION_FAILED - channel is not transactional", name)


def test_select_twice(tx):
    tx.call("tx.select")


def test_confirms_or_transactions(ch, tx):
    tx.send("confirm.select")
    tx.expect_close(406, "^PRECONDITION_FAILED - cannot switch from tx to confirm mode", "confirm.select")
    ch.call("confirm.select")
    ch.send("tx.select")
    ch.expect_close(406, "^PRECONDITION_FAILED - cannot switch from confirm to tx mode", "tx.select")


def test_commit_of_nothing_and_of_much(ch, tx):
    tx.call("tx.commit")
    tx.call("tx.rollback")
    ch.declare("q", durable=True)
    for number in range(500):
        tx.publish("", "q", b"%d" % number, delivery_mode=2)
    tx.call("tx.commit")
    assert ch.ready("q") == 500
