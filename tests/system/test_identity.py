# SPDX-License-Identifier: MIT
"""Promises 6 and 7: stable ids, de-duplication, causality."""
import os
import signal

from rig.proxy import CONFIRM_SELECT
from rig.sections import TOPOLOGY, forward, run, trouble as trouble_listener
from rig.waiting import wait_until


def handled(broker, queue="in"):
    wait_until(lambda: broker.queue(queue)["ready"] + broker.queue(queue)["unacked"] == 0,
               lambda: "%s to be empty: %s" % (queue, broker.queue(queue)))


def test_a_redelivered_event_emits_the_same_ids(harkd, client, proxy, broker, trouble):
    """The worker dies after its messages have arrived and before it has heard so."""
    daemon = harkd(TOPOLOGY + trouble_listener("t", "emit = out"), via=proxy, binary=trouble)
    workers = daemon.wait_workers(1)
    proxy.link_with(CONFIRM_SELECT).stall("down")
    client.publish("events", "k", "many", message_id="parent")
    first = client.get("results", 100)
    os.kill(workers[0], signal.SIGKILL)
    second = client.get("results", 100)
    ids = [m.properties.message_id for m in first]
    assert len(set(ids)) == 100
    assert [m.properties.message_id for m in second] == ids
    handled(broker)


def test_ids_differ_by_listener_and_parent(harkd, client):
    harkd(TOPOLOGY + forward("one") + forward("two"))
    client.publish("events", "k", "a", message_id="a")
    client.publish("events", "k", "a", message_id="b")
    ids = {m.properties.message_id for m in client.get("results", 4)}
    assert len(ids) == 4 and not ids & {"a", "b", None}


def test_messages_without_an_id_have_children_with_different_ids(harkd, client):
    harkd(TOPOLOGY + forward())
    client.publish("events", "k", "same")
    client.publish("events", "k", "same")
    first, second = client.get("results", 2)
    assert first.properties.message_id and second.properties.message_id
    assert first.properties.message_id != second.properties.message_id


def test_what_comes_from_a_message_without_an_id_is_found_by_the_first_one_that_has(harkd, client, trouble):
    """No header names an id that nobody has ever seen."""
    harkd(TOPOLOGY + trouble_listener("t", "emit = out"), binary=trouble)
    client.publish("events", "k", "many")
    first, *others = client.get("results", 100)
    assert first.properties.correlation_id is None
    assert {m.properties.correlation_id for m in others} == {first.properties.message_id}
    assert all(m.headers == {"x-hark-hops": 1} for m in (first, *others))


def test_what_several_listeners_make_of_a_message_without_an_id_belongs_together(harkd, client):
    harkd(TOPOLOGY + forward("one") + forward("two"))
    client.publish("events", "k", "a")
    client.publish("events", "k", "b")
    found = {}
    for message in client.get("results", 4):
        found.setdefault(message.body, set()).add(message.properties.correlation_id)
    assert [len(ids) for ids in found.values()] == [1, 1] and None not in found[b"a"] | found[b"b"]
    assert found[b"a"] != found[b"b"]


def test_causality(harkd, client):
    """Three generations: the first message's id, the parent's id, the distance, and the W3C headers go along."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    harkd("[exchange events]\n[queue in]\nbind = events a\n[queue mid]\nbind = events b\n[queue end]\nbind = events c\n"
          + forward("one", queue="in", emit="events b") + forward("two", queue="mid", emit="events c"))
    client.queue("copy", "events b")
    client.publish("events", "a", "x", message_id="first", headers={"traceparent": trace, "tracestate": "v=1"})
    middle, last = client.get_one("copy"), client.get_one("end")
    assert middle.properties.correlation_id == last.properties.correlation_id == "first"
    assert middle.headers["x-hark-cause"] == "first"
    assert last.headers["x-hark-cause"] == middle.properties.message_id
    assert (middle.headers["x-hark-hops"], last.headers["x-hark-hops"]) == (1, 2)
    assert last.headers["traceparent"] == trace and last.headers["tracestate"] == "v=1"


def test_exec_output_carries_causality(harkd, client, scripts):
    """Also what does not start from the event's own properties."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    harkd(TOPOLOGY + run("e", scripts.recorder("e", "echo out"), "emit = out done"))
    client.publish("events", "k", "x", message_id="m", correlation_id="c", headers={"traceparent": trace, "other": 1})
    got = client.get_one("results")
    assert (got.body, got.key, got.properties.correlation_id) == (b"out\n", "done", "c")
    assert got.headers == {"x-hark-cause": "m", "x-hark-hops": 1, "traceparent": trace}
    assert got.properties.delivery_mode == 2


def test_dedup_drops_a_duplicate(harkd, broker, client, scripts):
    queue = TOPOLOGY.replace("[queue in]", "[queue in]\ndedup = 10m")
    harkd(queue + run("e", scripts.recorder("e")))
    for body, identity in (("1", "a"), ("2", "a"), ("3", "b")):
        client.publish("events", "k", body, message_id=identity)
        handled(broker)
    client.publish("events", "k", "no id")
    client.publish("events", "k", "no id")
    assert scripts.wait_seen("e", 4) == ["1", "3", "no id", "no id"]
    handled(broker)


def test_dedup_is_per_queue_and_off_by_default(harkd, broker, client, scripts):
    queues = ("[exchange events]\n[queue a]\nbind = events #\ndedup = 10m\n[queue b]\nbind = events #\ndedup = 10m\n"
              "[queue c]\nbind = events #\n")
    harkd(queues + "".join(run(q, scripts.recorder(q), queue=q) for q in "abc"))
    for _ in range(2):
        client.publish("events", "k", "m", message_id="same")
        for queue in "abc":
            handled(broker, queue)
    assert [len(scripts.seen(q)) for q in "abc"] == [1, 1, 2]


def test_dedup_lets_the_window_pass(harkd, broker, client, scripts):
    harkd(TOPOLOGY.replace("[queue in]", "[queue in]\ndedup = 200ms") + run("e", scripts.recorder("e")))
    client.publish("events", "k", "m", message_id="a")
    handled(broker)

    def again():
        client.publish("events", "k", "m", message_id="a")
        handled(broker)
        return len(scripts.seen("e")) >= 2
    wait_until(again, "a second run after the window", interval=0.1)


def test_dedup_does_not_take_retries_for_duplicates(harkd, broker, client, scripts):
    """A retry copy has its message's id; and what failed is not settled."""
    program = scripts.recorder("e", '[ "$HARK_ATTEMPT" -ge 3 ]')
    harkd(TOPOLOGY.replace("[queue in]", "[queue in]\ndedup = 10m") + run("e", program, "retry = 50ms 100ms")
          + run("other", scripts.recorder("other")))
    client.publish("events", "k", "m", message_id="a")
    scripts.wait_seen("e", 3)
    handled(broker)
    client.publish("events", "k", "m", message_id="a")
    handled(broker)
    assert (len(scripts.seen("e")), len(scripts.seen("other"))) == (3, 1)


def test_dedup_does_not_swallow_what_a_dead_worker_left(harkd, broker, client, scripts):
    """Redelivered after a crash: not settled, so no duplicate. Another worker remembers what the dead one settled."""
    program = scripts.recorder("e", '[ "$body" = slow ] || exit 0\nwhile [ ! -e go ]; do sleep 0.02; done')
    daemon = harkd(TOPOLOGY.replace("[queue in]", "[queue in]\ndedup = 10m") + run("e", program))
    client.publish("events", "k", "quick", message_id="q")
    handled(broker)
    client.publish("events", "k", "slow", message_id="s")
    scripts.wait_seen("e", 2)
    os.kill(daemon.wait_workers(1)[0], signal.SIGKILL)
    scripts.wait_seen("e", 3)
    scripts.touch("go")
    client.publish("events", "k", "quick", message_id="q")
    handled(broker)
    assert scripts.seen("e") == ["quick", "slow", "slow"]


def test_dedup_is_shared_by_workers(harkd, broker, client):
    """Whichever worker gets the duplicate knows what the other has settled."""
    harkd(TOPOLOGY.replace("[queue in]", "[queue in]\ndedup = 10m") + forward(), hark="workers = 2")
    client.publish("events", "k", "once", message_id="m1")
    client.get_one("results")
    handled(broker)
    for _ in range(20):
        client.publish("events", "k", "again", message_id="m1")
    handled(broker)
    assert client.get_all("results") == []


def test_dedup_downstream_of_a_second_emit(harkd, broker, client, proxy, scripts):
    """The whole chain: an event that is handled twice has one effect downstream, because its message has the same id."""
    harkd("[exchange events]\n[exchange out]\n[queue in]\nbind = events #\n[queue down]\nbind = out #\ndedup = 10m\n"
          + forward() + run("e", scripts.recorder("e"), queue="down"), via=proxy)
    link = proxy.link_with(CONFIRM_SELECT)
    link.stall("down")
    client.publish("events", "k", "m", message_id="a")
    scripts.wait_seen("e", 1)
    link.cut()
    handled(broker)
    handled(broker, "down")
    assert scripts.seen("e") == ["m"]
