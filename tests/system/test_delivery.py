# SPDX-License-Identifier: MIT
"""Promises 1 to 3: acknowledged when all is safe, all or nothing, only the failed listener again."""
from rig.proxy import CONFIRM_SELECT
from rig.sections import TOPOLOGY, forward, run, trouble as trouble_listener
from rig.waiting import stays, wait_until

RETRY = "retry = 100ms\n"


def settled(broker, queue="in"):
    wait_until(lambda: broker.queue(queue)["ready"] + broker.queue(queue)["unacked"] == 0,
               lambda: "%s to be acknowledged: %s" % (queue, broker.queue(queue)))


def test_not_acknowledged_while_a_listener_works(harkd, broker, client, scripts):
    """Two listeners: one done at once, one that waits. The message stays unacknowledged until both are done."""
    hold = scripts.recorder("hold", "while [ ! -e go ]; do sleep 0.02; done")
    quick = scripts.recorder("quick")
    harkd(TOPOLOGY + run("hold", hold) + run("quick", quick))
    client.publish("events", "k", "m")
    scripts.wait_seen("hold", 1)
    scripts.wait_seen("quick", 1)
    stays(lambda: broker.unacked("in") == 1, 0.3, "unacknowledged")
    scripts.touch("go")
    settled(broker)


def test_not_acknowledged_before_the_confirm(harkd, broker, client, proxy):
    """The emitted message is in its queue, but the broker's word on it does not come through: no acknowledgement."""
    harkd(TOPOLOGY + forward(), via=proxy)
    client.publish("events", "k", "first")
    client.get_one("results")
    settled(broker)
    link = proxy.link_with(CONFIRM_SELECT)
    link.stall("down")
    client.publish("events", "k", "second")
    first = client.get_one("results")
    stays(lambda: broker.unacked("in") == 1, 0.3, "unacknowledged")
    # Nobody knows whether it arrived: it is published again under the same id.
    link.cut()
    again = client.get_one("results")
    assert (again.body, again.properties.message_id) == (b"second", first.properties.message_id)
    settled(broker)
    assert client.get_all("results") == []


def test_unroutable_emit_is_retried_then_dead_lettered(harkd, broker, client):
    """A returned message counts as failed although the broker confirms it."""
    daemon = harkd(TOPOLOGY + "[exchange void]\n" + forward(emit="void", more=RETRY))
    client.publish("events", "k", "body", message_id="m1")
    dead = client.get_one("hark.dead")
    assert dead.body == b"body" and dead.headers["x-hark-attempts"] == 2
    assert "route" in dead.headers["x-hark-error"].lower()
    settled(broker)
    assert daemon.find("returned")


def test_missing_exchange_takes_no_innocents(harkd, broker, client):
    """Publishing to an exchange that is not there closes the channel on all that is under way: the others' messages are
    published again, the guilty one is dead-lettered."""
    harkd(TOPOLOGY + "[queue bad]\nbind = events bad\n[queue good]\nbind = events good\n"
          + forward("guilty", "exchange = nowhere\n" + RETRY, queue="bad", emit="out")
          + forward("innocent", queue="good", emit="out"))
    for i in range(200):
        client.channel.basic_publish("events", "good", b"%d" % i)
        if i % 50 == 25:
            client.channel.basic_publish("events", "bad", b"bad")
    got = client.get("results", 200)
    wait_until(lambda: client.count("hark.dead") >= 4, "the guilty ones in the dead letters")
    settled(broker, "good")
    settled(broker, "bad")
    bodies = [m.body for m in got + client.get_all("results")]
    assert set(bodies) == {b"%d" % i for i in range(200)}
    dead = client.get_all("hark.dead")
    assert {m.body for m in dead} == {b"bad"}
    assert all("nowhere" in m.headers["x-hark-error"] for m in dead)


def test_all_or_nothing(harkd, broker, client, scripts):
    """Output of a program that then fails or rejects is not published; of the attempt that works, once."""
    program = scripts.recorder("e", 'echo "out of attempt $HARK_ATTEMPT"\n[ "$body" = reject ] && exit 65\n'
                                    '[ $HARK_ATTEMPT -ge 3 ]')
    harkd(TOPOLOGY + run("e", program, "emit = out\nretry = 50ms 100ms 150ms"))
    client.publish("events", "k", "reject")
    client.publish("events", "k", "works at last")
    assert client.get_one("results").body == b"out of attempt 3\n"
    assert client.get_one("hark.dead").body == b"reject"
    settled(broker)
    assert client.get_all("results") == []


def test_emits_all_of_an_event(harkd, broker, client, trouble):
    """A hundred messages from one event: each with an id of its own, all or none."""
    harkd(TOPOLOGY + trouble_listener("t", "emit = out"), binary=trouble)
    client.publish("events", "k", "many", message_id="parent")
    got = client.get("results", 100)
    assert [m.body for m in got] == [b"%d" % i for i in range(100)]
    assert len({m.properties.message_id for m in got}) == 100
    settled(broker)


def test_only_the_failed_listener_runs_again(harkd, broker, client, scripts):
    fails = scripts.recorder("fails", '[ "$HARK_ATTEMPT" -ge 3 ]')
    works = scripts.recorder("works")
    harkd(TOPOLOGY + run("fails", fails, "retry = 50ms 100ms\nemit = out") + run("works", works)
          + forward("forwards", "header.by = forward"))
    client.publish("events", "k", "m")
    scripts.wait_seen("fails", 3)
    settled(broker)
    assert scripts.seen("works") == ["m"]
    assert [m.headers["by"] for m in client.get_all("results")] == ["forward"]


def test_rejected_by_one_done_by_another(harkd, broker, client, scripts):
    rejects = scripts.make("rejects", "echo sorry >&2; exit 64")
    harkd(TOPOLOGY + run("rejects", rejects) + forward())
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"
    dead = client.get_one("hark.dead")
    assert (dead.headers["x-hark-listener"], dead.headers["x-hark-reason"]) == ("rejects", "rejected")
    settled(broker)
