# SPDX-License-Identifier: MIT
"""What a user may do: configure, write and read, by patterns that names must match."""
import pytest


@pytest.fixture
def bob(broker, connect, ch):
    """A channel of a user who may configure c…, write w… and read r…; there are queues and exchanges r and w."""
    broker.add_user("bob", configure="^c", write="^w", read="^r")
    for name in "rw":
        ch.declare(name)
        ch.call("exchange.declare", exchange=name, type="fanout")
    return connect(user="bob", password="bob").channel()


ALLOWED = [
    ("queue.declare", {"queue": "c"}), ("queue.declare", {"queue": "w", "passive": True}),
    ("exchange.declare", {"exchange": "c", "type": "topic"}),
    ("exchange.declare", {"exchange": "r", "type": "topic", "passive": True}),
    ("exchange.delete", {"exchange": "c"}), ("queue.delete", {"queue": "c"}),
    ("queue.purge", {"queue": "r"}), ("queue.bind", {"queue": "w", "exchange": "r"}),
    ("queue.unbind", {"queue": "w", "exchange": "r"}), ("exchange.bind", {"destination": "w", "source": "r"}),
    ("exchange.unbind", {"destination": "w", "source": "r"}), ("basic.consume", {"queue": "r"})]

REFUSED = [
    ("queue.declare", {"queue": "x"}, "queue 'x'"), ("queue.declare", {"queue": "r"}, "queue 'r'"),
    ("queue.declare", {}, r"queue 'amq\.gen-"), ("queue.delete", {"queue": "r"}, "queue 'r'"),
    ("queue.delete", {"queue": "none"}, "queue 'none'"),
    ("exchange.declare", {"exchange": "x", "type": "topic"}, "exchange 'x'"),
    ("exchange.delete", {"exchange": "w"}, "exchange 'w'"), ("exchange.delete", {"exchange": "none"}, "exchange 'none'"),
    ("queue.purge", {"queue": "w"}, "queue 'w'"), ("queue.purge", {"queue": "none"}, "queue 'none'"),
    ("basic.get", {"queue": "w"}, "queue 'w'"), ("basic.consume", {"queue": "w"}, "queue 'w'"),
    ("basic.consume", {"queue": "none"}, "queue 'none'"),
    ("queue.bind", {"queue": "r", "exchange": "r"}, "queue 'r'"),
    ("queue.bind", {"queue": "w", "exchange": "w"}, "exchange 'w'"),
    ("queue.unbind", {"queue": "r", "exchange": "r"}, "queue 'r'"),
    ("exchange.bind", {"destination": "r", "source": "w"}, "exchange 'r'"),
    ("exchange.unbind", {"destination": "w", "source": "w"}, "exchange 'w'")]


@pytest.mark.parametrize("name, arguments", ALLOWED)
def test_allowed(bob, name, arguments):
    bob.call(name, **arguments)


@pytest.mark.parametrize("name, arguments, what", REFUSED)
def test_refused(peer, bob, name, arguments, what):
    bob.send(name, **arguments)
    bob.expect_close(403, "^ACCESS_REFUSED - access to %s.* in vhost '%s' refused for user 'bob'" % (what, peer.vhost), name)


def test_get(bob):
    assert bob.get("r") is None


def test_publish(ch, bob):
    ch.declare("q")
    ch.call("queue.bind", queue="q", exchange="w")
    bob.publish("w", "k", "x")
    assert ch.get_soon("q").message.body == b"x"


@pytest.mark.parametrize("exchange, shown", [("r", "r"), ("none", "none"), ("", "amq.default")])
def test_publish_refused(peer, bob, exchange, shown):
    bob.publish(exchange, "w", "x")
    bob.expect_close(403, "^ACCESS_REFUSED - access to exchange '%s' in vhost '%s' refused for user 'bob'" % (
        shown, peer.vhost), "basic.publish")


def test_permission_comes_before_existence(bob):
    bob.publish("w-none", "k", "x")
    bob.expect_close(404, "^NOT_FOUND - no exchange 'w-none'", "basic.publish")


def test_dead_letter_exchange_needs_read_of_the_queue(bob):
    bob.send("queue.declare", queue="c", arguments={"x-dead-letter-exchange": "w"})
    bob.expect_close(403, "access to queue 'c'", "queue.declare")


def test_dead_letter_exchange_needs_write_of_the_exchange(broker, connect, ch):
    broker.add_user("carl", configure="^c", write="^w", read="^c")
    carl = connect(user="carl", password="carl").channel()
    carl.declare("c1", arguments={"x-dead-letter-exchange": "w"})
    carl.send("queue.declare", queue="c2", arguments={"x-dead-letter-exchange": "x"})
    carl.expect_close(403, "access to exchange 'x'", "queue.declare")


def test_alternate_exchange_needs_write_of_it(broker, connect, ch):
    broker.add_user("carl", configure="^c", write="^w", read="^c")
    carl = connect(user="carl", password="carl").channel()
    carl.call("exchange.declare", exchange="c1", type="fanout", arguments={"alternate-exchange": "w"})
    carl.send("exchange.declare", exchange="c2", type="fanout", arguments={"alternate-exchange": "x"})
    carl.expect_close(403, "access to exchange 'x'", "exchange.declare")


def test_empty_patterns(broker, connect):
    broker.add_user("dora", configure="", write="", read="")
    dora = connect(user="dora", password="dora").channel()
    dora.send("queue.declare", queue="q")
    dora.expect_close(403, "access to queue 'q'", "queue.declare")


def test_direct_reply_to_needs_no_permission(bob):
    bob.call("basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True)


def test_user_id_is_the_users_own(bob):
    bob.publish("w", "k", "x", user_id="guest")
    bob.expect_close(406, "^PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was 'bob'",
                     "basic.publish")
    bob.open()
    bob.publish("w", "k", "x", user_id="bob")
    bob.call("basic.qos")


def test_default_exchange_has_a_name_here(broker, connect, ch):
    broker.add_user("eve", configure="^$", write="^amq.default$", read="^$")
    ch.declare("q")
    connect(user="eve", password="eve").channel().publish("", "q", "x")
    assert ch.get_soon("q").message.body == b"x"
