# SPDX-License-Identifier: MIT
"""What is there again after the broker was stopped, or killed: what is durable, as it was, and nothing else."""
import pytest

BODIES = [b"%d" % number for number in range(200)]


@pytest.fixture(params=["stop", "kill9"])
def reborn(broker, connect, request):
    """reborn() ends the broker one way or the other, starts it, and returns a channel to it."""
    if request.param == "kill9" and broker.name == "rabbitmq":
        pytest.skip("RabbitMQ answers before definitions and transactions are on disk: what a kill leaves is a matter of luck")

    def again():
        getattr(broker, request.param)()
        broker.start()
        return connect().channel()
    return again


def passive(ch, name, **arguments):
    """Is there such a thing? The channel serves on."""
    ch.send(name, passive=True, **arguments)
    answer = ch.next()
    if answer.name == name + "-ok":
        return True
    assert answer.code == 404
    ch.send("channel.close-ok")
    ch.open()
    return False


def test_definitions(ch, reborn):
    for durable in True, False:
        name = "durable" if durable else "transient"
        ch.call("exchange.declare", exchange=name, type="topic", durable=durable)
        ch.declare(name, durable=durable, arguments={"x-max-length": 5, "x-dead-letter-exchange": "durable"})
        ch.call("queue.bind", queue=name, exchange="durable", key="a.*", arguments={"n": 1})
    ch.declare("mine", durable=True, exclusive=True)
    ch.call("exchange.declare", exchange="last", type="headers", durable=True, arguments={"alternate-exchange": "durable"})
    ch.call("exchange.bind", destination="last", source="durable", key="#")
    ch.call("queue.bind", queue="durable", exchange="last", arguments={"x-match": "all", "h": "yes"})
    ch = reborn()
    assert [passive(ch, "queue.declare", queue=name) for name in ("durable", "transient", "mine")] == [True, False, False]
    assert [passive(ch, "exchange.declare", exchange=name, type="topic") for name in ("durable", "transient", "last")] == [
        True, False, True]
    # The same once more: equivalent.
    ch.declare("durable", durable=True, arguments={"x-max-length": 5, "x-dead-letter-exchange": "durable"})
    ch.call("exchange.declare", exchange="last", type="headers", durable=True, arguments={"alternate-exchange": "durable"})
    ch.call("confirm.select")
    ch.publish_safely("durable", "a.b", "topic")
    ch.publish_safely("durable", "z", "headers", headers={"h": "yes"})
    ch.publish_safely("durable", "z", "nowhere", headers={"h": "no"})
    assert ch.bodies("durable") == [b"topic", b"headers"]


def test_confirmed_persistent_messages(ch, reborn):
    ch.call("confirm.select")
    ch.declare("q", durable=True)
    ch.publish_safely("", "q", *BODIES, delivery_mode=2, headers={"a": [1, "x"]}, message_id="m")
    ch.publish_safely("", "q", "gone", delivery_mode=1)
    ch = reborn()
    for body in BODIES:
        got = ch.get("q")
        assert got.message.body == body      # redelivered may be said to be on the safe side
        assert got.message.properties == {"delivery_mode": 2, "message_id": "m"}
        assert got.message.headers == {"a": [1, "x"]}
    assert ch.get("q") is None


def test_acknowledged_messages_stay_away_and_others_come_back(ch, reborn):
    ch.call("confirm.select")
    ch.declare("q", durable=True)
    ch.publish_safely("", "q", *BODIES[:10], delivery_mode=2)
    for _ in range(6):
        got = ch.get("q", no_ack=False)
    ch.send("basic.ack", delivery=3, multiple=True)
    ch.send("basic.reject", delivery=5, requeue=False)
    ch.call("basic.qos")
    ch.publish_safely("", "q", "a commit behind the acks", delivery_mode=2)
    assert got.delivery == 6
    ch = reborn()
    again = [ch.get("q") for _ in range(9)]
    assert [m.message.body for m in again if m] == BODIES[3:4] + BODIES[5:10] + [b"a commit behind the acks"]
    assert all(m.redelivered for m in again[:2])


def test_a_message_in_several_queues(ch, reborn):
    ch.call("confirm.select")
    for name in "abc":
        ch.declare(name, durable=name != "b")
        ch.call("queue.bind", queue=name, exchange="amq.fanout")
    ch.publish_safely("amq.fanout", "", *BODIES[:20], delivery_mode=2)
    assert ch.bodies("a") == BODIES[:20]
    ch.publish_safely("amq.fanout", "", "last", delivery_mode=2)
    ch = reborn()
    assert ch.bodies("a") == [b"last"]
    assert ch.bodies("c") == BODIES[:20] + [b"last"]
    assert not passive(ch, "queue.declare", queue="b")


def test_priorities(ch, reborn):
    ch.call("confirm.select")
    ch.declare("q", durable=True, arguments={"x-max-priority": 9})
    for priority in 1, 5, 0, 9, 5:
        ch.publish_safely("", "q", "%d" % priority, priority=priority, delivery_mode=2)
    ch = reborn()
    assert ch.bodies("q") == [b"9", b"5", b"5", b"1", b"0"]


def test_dead_letters(ch, reborn):
    ch.call("confirm.select")
    ch.declare("dl", durable=True)
    ch.declare("q", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dl",
                                             "x-message-ttl": 300})
    ch.publish_safely("", "q", "x", delivery_mode=2)
    ch.wait_ready("dl", 1)
    ch = reborn()
    ch.wait_ready("dl", 1)
    dead = ch.get("dl").message
    assert dead.headers["x-death"][0]["reason"] == "expired"
    assert ch.ready("q") == 0


def test_time_goes_on_while_it_is_down(ch, reborn):
    ch.call("confirm.select")
    ch.declare("q", durable=True)
    ch.publish_safely("", "q", "short", delivery_mode=2, expiration="100")
    ch.publish_safely("", "q", "long", delivery_mode=2, expiration="600000")
    ch = reborn()
    ch.wait_ready("q", 1)
    assert ch.bodies("q") == [b"long"]


def test_a_committed_transaction(ch, reborn):
    ch.call("tx.select")
    ch.declare("q", durable=True)
    for body in BODIES[:50]:
        ch.publish("", "q", body, delivery_mode=2)
    ch.call("tx.commit")
    ch.publish("", "q", "not committed", delivery_mode=2)
    ch.call("basic.qos")
    ch = reborn()
    assert ch.bodies("q") == BODIES[:50]


def test_purged_and_deleted_stays_so(ch, reborn):
    ch.call("confirm.select")
    for name in "pd":
        ch.declare(name, durable=True)
        ch.publish_safely("", name, *BODIES[:20], delivery_mode=2)
    ch.call("queue.purge", queue="p")
    ch.call("queue.delete", queue="d")
    ch.publish_safely("", "p", "after the purge", delivery_mode=2)
    ch = reborn()
    assert ch.bodies("p") == [b"after the purge"]
    assert not passive(ch, "queue.declare", queue="d")
