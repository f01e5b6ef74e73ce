# SPDX-License-Identifier: MIT
"""Promises 6 and 7: stable ids, de-duplication, causality."""
import os
import signal

from rig.proxy import CONFIRM_SELECT
from rig.sections import TOPOLOGY, forward, run
from rig.waiting import wait_until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def empty(broker, queue="in"):
    wait_until(lambda: broker.queue(queue)["ready"] + broker.queue(queue)["unacked"] == 0, "%s to be empty" % queue)


def test_same_event_emits_the_same_id(harkd, broker, client):
    """The id of an emitted message derives from its parent's and the listener: again the same, elsewhere another."""
    harkd(TOPOLOGY + forward("one", "header.by = one") + forward("two", "header.by = two"))
    client.publish("events", "k", "m", message_id="parent")
    first = {m.headers["by"]: m.properties.message_id for m in client.get("results", 2)}
    client.publish("events", "k", "m", message_id="parent")
    second = {m.headers["by"]: m.properties.message_id for m in client.get("results", 2)}
    assert first == second and first["one"] != first["two"]
    client.publish("events", "k", "m", message_id="another")
    third = {m.headers["by"]: m.properties.message_id for m in client.get("results", 2)}
    assert not set(first.values()) & set(third.values())
    empty(broker)


def test_redelivery_emits_the_same_id(harkd, client, proxy):
    """The connection that consumes ends before the acknowledgement: the broker delivers again, ids stay."""
    harkd(TOPOLOGY + forward(), via=proxy)
    link = proxy.link_with(CONFIRM_SELECT)
    link.stall("down")
    client.publish("events", "k", "m", message_id="parent")
    first = client.get_one("results")
    proxy.cut()
    again = client.get_one("results")
    assert again.properties.message_id == first.properties.message_id


def test_causality(harkd, client):
    """Two hops: correlation_id stays the first message's id, cause is the parent's, hops count, the trace passes on."""
    harkd(TOPOLOGY + "[queue middle]\nbind = out step\n[queue last]\nbind = out last\n"
          + forward("first", "routing_key = step") + forward("second", "routing_key = last", queue="middle"))
    client.publish("events", "k", "m", message_id="root", headers={"traceparent": TRACE, "tracestate": "a=b"})
    step, last = (m for _, m in sorted((m.key != "step", m) for m in client.get("results", 2)))
    assert (step.headers["x-hark-cause"], step.headers["x-hark-hops"]) == ("root", 1)
    assert (last.headers["x-hark-cause"], last.headers["x-hark-hops"]) == (step.properties.message_id, 2)
    for message in (step, last):
        assert message.properties.correlation_id == "root"
        assert (message.headers["traceparent"], message.headers["tracestate"]) == (TRACE, "a=b")


def test_causality_of_a_program(harkd, client, scripts):
    """The output of a program belongs to the event as well, although it is a new message."""
    harkd(TOPOLOGY + run("e", scripts.make("e", "echo out"), "emit = out"))
    client.publish("events", "k", "m", message_id="root", correlation_id="chosen", headers={"traceparent": TRACE})
    got = client.get_one("results")
    assert got.body == b"out\n" and got.properties.message_id not in ("", "root", None)
    assert got.properties.correlation_id == "chosen"
    assert (got.headers["x-hark-cause"], got.headers["x-hark-hops"], got.headers["traceparent"]) == ("root", 1, TRACE)


def test_dedup(harkd, broker, client):
    """With dedup a message id that was settled is acknowledged and not handled again; without an id nothing is."""
    harkd("[exchange events]\n[exchange out]\n[queue in]\nbind = events #\ndedup = 10m\n[queue results]\nbind = out #\n"
          + forward())
    client.publish("events", "k", "first", message_id="m1")
    assert client.get_one("results").body == b"first"
    empty(broker)
    client.publish("events", "k", "first again", message_id="m1")
    client.publish("events", "k", "other", message_id="m2")
    client.publish("events", "k", "nameless")
    client.publish("events", "k", "nameless")
    assert [m.body for m in client.get("results", 3)] == [b"other", b"nameless", b"nameless"]
    empty(broker)
    assert client.get_all("results") == []


def test_dedup_is_shared_by_workers(harkd, broker, client):
    harkd("[exchange events]\n[exchange out]\n[queue in]\nbind = events #\ndedup = 10m\n[queue results]\nbind = out #\n"
          + forward(), hark="workers = 2")
    client.publish("events", "k", "once", message_id="m1")
    client.get_one("results")
    empty(broker)
    for _ in range(20):
        client.publish("events", "k", "again", message_id="m1")
    empty(broker)
    assert client.get_all("results") == []


def test_dedup_does_not_swallow_a_retry(harkd, broker, client, scripts):
    """What has not been settled is no duplicate."""
    program = scripts.recorder("e", '[ "$HARK_ATTEMPT" -ge 3 ]')
    harkd("[exchange events]\n[queue in]\nbind = events #\ndedup = 10m\n" + run("e", program, "retry = 50ms 60ms"))
    client.publish("events", "k", "m", message_id="m1")
    scripts.wait_seen("e", 3)
    empty(broker)
    assert "hark.dead" not in broker.queues() or broker.ready("hark.dead") == 0


def test_worker_killed_emits_the_same_id(harkd, broker, client, scripts):
    """A worker that dies in the middle: its successor gets the event again and emits under the same id."""
    program = scripts.recorder("e", 'while [ ! -e go ]; do sleep 0.02; done; echo "$HARK_REDELIVERED"')
    daemon = harkd(TOPOLOGY + run("e", program, "emit = out"))
    client.publish("events", "k", "m", message_id="parent")
    scripts.wait_seen("e", 1)
    worker = daemon.workers()[0]
    os.kill(worker, signal.SIGKILL)
    daemon.wait_workers(1, without=[worker])
    scripts.wait_seen("e", 2)
    scripts.touch("go")
    got = client.get_one("results")
    assert got.body == b"true\n"
    client.publish("events", "k", "m", message_id="parent")
    assert client.get_one("results").properties.message_id == got.properties.message_id
