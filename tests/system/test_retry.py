# SPDX-License-Identifier: MIT
"""Promises 4 and 5: retries wait in the broker, and nothing is dropped silently."""
import time

import pytest

from rig.sections import TOPOLOGY, forward, run, trouble as trouble_listener
from rig.waiting import stays, wait_until


def test_waits_in_the_broker(harkd, broker, client, scripts):
    """While it waits it is neither in the source queue nor in harkd, and it survives that both end."""
    program = scripts.recorder("e", '[ "$HARK_ATTEMPT" -ge 2 ]')
    daemon = harkd(TOPOLOGY + run("e", program, "retry = 2s"))
    client.publish("events", "user.new", "m", message_id="m1")
    wait_until(lambda: broker.ready("hark.retry.2000") == 1, "the copy in hark.retry.2000")
    wait_until(lambda: (broker.ready("in"), broker.unacked("in")) == (0, 0), "the original to be acknowledged")
    queue = broker.queue("hark.retry.2000")
    assert queue["durable"] and queue["arguments"] == {"x-message-ttl": 2000, "x-dead-letter-exchange": ""}
    daemon.kill9()
    daemon.start()
    assert scripts.wait_seen("e", 2) == ["m", "m"]
    wait_until(lambda: broker.queue("in")["unacked"] == 0, "acknowledged")


def test_comes_back_as_it_was_and_to_its_queue_only(harkd, broker, client, raw, scripts):
    """Exchange, key, properties and headers are restored; a second queue bound to the same key sees nothing twice."""
    dump = 'env | grep ^HARK_ | sort >> env.$HARK_ATTEMPT\n[ "$HARK_ATTEMPT" -ge 2 ]'
    program = scripts.recorder("e", dump)
    other = scripts.recorder("other")
    harkd(TOPOLOGY + "[queue second]\nbind = events #\n" + run("e", program, "retry = 50ms")
          + run("other", other, queue="second"))
    raw.publish("events", "user.new", b"m", message_id="m1", correlation_id="c1", content_type="text/x", priority=5,
                delivery_mode=2, timestamp=1700000000, headers=[("n", "I", 5), ("s", "S", b"text"), ("t", "t", True)])
    scripts.wait_seen("e", 2)
    wait_until(lambda: broker.queue("in")["unacked"] == 0, "acknowledged")

    def without(lines):
        return [line for line in lines if not line.startswith(("HARK_ATTEMPT=", "HARK_REDELIVERED="))]
    first, second = scripts.lines("env.1"), scripts.lines("env.2")
    assert "HARK_ROUTING_KEY=user.new" in first and "HARK_EXCHANGE=events" in first and "HARK_HEADER_N=5" in first
    assert without(first) == without(second)
    assert scripts.seen("other") == ["m"]


def test_ladder(harkd, client, trouble):
    """Each attempt waits for the next delay; then the dead letters say how often it was tried, and why not."""
    daemon = harkd(TOPOLOGY + trouble_listener("t", "retry = 100ms 300ms 100ms"), binary=trouble)
    start = time.time()
    client.publish("events", "user.new", "retry", message_id="m1", headers={"mine": "kept"})
    dead = client.get_one("hark.dead")
    assert time.time() - start >= 0.5
    h = dead.headers
    assert (h["x-hark-reason"], h["x-hark-listener"], h["x-hark-queue"], h["x-hark-exchange"], h["x-hark-key"],
            h["x-hark-attempts"]) == ("attempts", "t", "in", "events", "user.new", 4)
    assert "ordered to retry" in h["x-hark-error"]
    assert abs(h["x-hark-time"].timestamp() - time.time() if hasattr(h["x-hark-time"], "timestamp") else 0) < 86400
    assert dead.body == b"retry" and dead.properties.message_id == "m1" and h["mine"] == "kept"
    assert "\x1b" not in daemon.log


def test_no_retry(harkd, client, trouble):
    harkd(TOPOLOGY + trouble_listener("t", "retry ="), binary=trouble)
    client.publish("events", "k", "retry")
    assert client.get_one("hark.dead").headers["x-hark-attempts"] == 1


def test_user_id_can_be_retried(harkd, client, broker, raw, scripts):
    """The broker accepts user_id only from the user it names, who is not harkd's."""
    broker.add_user("alice")
    from rig.raw import RawClient
    alice = RawClient(broker.url("alice", "alice"))
    program = scripts.recorder("e", 'echo "$HARK_USER_ID" >> users\n[ "$HARK_ATTEMPT" -ge 2 ]')
    harkd(TOPOLOGY + run("e", program, "retry = 50ms") + run("dead", scripts.make("no", "exit 64")))
    alice.publish("events", "k", b"m", user_id="alice", delivery_mode=2)
    alice.close()
    wait_until(lambda: len(scripts.lines("users")) == 2, "two users")
    assert scripts.lines("users") == ["alice", "alice"]
    assert client.get_one("hark.dead").headers["x-hark-user-id"] == "alice"


def test_expiration_does_not_shorten_the_wait(harkd, client, scripts):
    """A message's own expiration neither drops it from the retry queue nor brings it back early."""
    program = scripts.recorder("e", 'date +%s%3N >> times\n[ "$HARK_ATTEMPT" -ge 2 ]')
    harkd(TOPOLOGY + run("e", program, "retry = 700ms"))
    client.publish("events", "k", "m", expiration="60")
    wait_until(lambda: len(scripts.lines("times")) == 2, "two times")
    first, second = (int(line) for line in scripts.lines("times"))
    assert second - first >= 690


def test_cc_is_not_multiplied(harkd, broker, client, scripts):
    """CC and BCC route the original; the retry copy and the dead letter go to one queue only, and say so again on
    return."""
    program = scripts.recorder("e", 'echo "$HARK_HEADER_N" >> n\nexit 1')
    harkd(TOPOLOGY + "[queue copies]\nbind = events copy\n" + run("e", program, "on = k\nretry = 50ms 100ms"))
    client.publish("events", "k", "m", headers={"CC": ["copy"], "BCC": ["copy"], "n": 1})
    # Via key k and via CC to `in`, too (bound with #), but once per queue.
    dead = client.get_one("hark.dead")
    scripts.wait_seen("e", 3)
    wait_until(lambda: broker.queue("in")["unacked"] == 0, "acknowledged")
    assert len(client.get_all("copies")) == 1
    assert len(scripts.seen("e")) == 3
    assert client.get_all("hark.dead") == []
    assert dead.key == "k" or dead.headers["x-hark-key"] == "k"


@pytest.mark.parametrize("reason,key,body,more,hark", [
    ("no-listener", "nobody", b"x", "on = somebody", ""),
    ("too-large", "k", b"x" * 70000, "", "max_message_size = 64K"),
    ("rejected", "k", b"reject", "", ""),
    ("attempts", "k", b"retry", "retry = 20ms", ""),
    ("attempts", "k", b"never", "retry = 20ms\ntimeout = 100ms", ""),
], ids=["no-listener", "too-large", "rejected", "attempts", "timeout"])
def test_dead_letters(harkd, broker, client, trouble, reason, key, body, more, hark):
    daemon = harkd(TOPOLOGY + trouble_listener("t", more), hark=hark, binary=trouble)
    client.publish("events", key, body, message_id="m1", type="t")
    dead = client.get_one("hark.dead")
    assert dead.headers["x-hark-reason"] == reason
    assert (dead.headers["x-hark-queue"], dead.headers["x-hark-exchange"], dead.headers["x-hark-key"]) == (
        "in", "events", key)
    assert dead.properties.message_id == "m1" and dead.properties.type == "t"
    assert dead.body == body
    wait_until(lambda: broker.queue("in")["unacked"] == 0, "acknowledged")
    daemon.wait_for_log(r"dead-lettered, " + reason)


def test_listener_is_gone(harkd, broker, client, ini, trouble):
    """A retry comes back when its listener is not in the file any more: a dead letter that names it, so that no other
    listener runs again, neither now nor when it is replayed; and it runs when it is there again."""
    both = TOPOLOGY + forward("f") + trouble_listener("t", "retry = 2s")
    daemon = harkd(both, binary=trouble)
    client.publish("events", "k", "retry", message_id="m1")
    wait_until(lambda: broker.ready("hark.retry.2000") == 1, "the copy in hark.retry.2000")
    daemon.reload(ini(TOPOLOGY + forward("f")))
    assert client.get_one("results").body == b"retry"
    for _ in range(2):
        dead = client.get_one("hark.dead")
        assert (dead.headers["x-hark-reason"], dead.headers["x-hark-listener"]) == ("no-listener", "t")
        assert 'listener "t" does not exist' in dead.headers["x-hark-error"]
        client.publish("", "in", dead.body, headers=dead.headers, message_id="m1")
    assert client.get_one("hark.dead").headers["x-hark-round"] == 3
    daemon.reload(ini(both))
    client.publish("", "in", dead.body, headers=dead.headers, message_id="m1")
    wait_until(lambda: broker.ready("hark.retry.2000") == 1, "another try of t")
    assert client.get_all("results") == []


def test_too_large_passes_through(harkd, broker, client):
    """What is too large to be kept goes to the dead letters as it comes, whole; the memory that it takes has a bound, and
    what comes before and after it, and on another queue, is handled as ever."""
    daemon = harkd(TOPOLOGY + "[queue other]\nbind = events other\n" + forward() + forward("g", queue="other"),
                   hark="max_message_size = 64K")
    pid, = daemon.workers()
    before = daemon.rss(pid)
    bodies = [bytes([i]) * (20000000 + i) for i in range(4)] + [b"x" * 65537]
    for body in bodies:
        client.publish("events", "other", body, headers={"mine": "kept"})
        client.publish("events", "k", b"small")
    most = before
    for _ in range(2):      # `other` is bound with key other, `in` with #
        for body in bodies:
            dead = client.get_one("hark.dead", timeout=60)
            most = max(most, daemon.rss(pid))
            assert len(dead.body) == dead.headers["x-hark-body-size"] and dead.body in bodies
            assert dead.headers["x-hark-reason"] == "too-large" and dead.headers["mine"] == "kept"
    assert client.get_all("hark.dead") == []
    assert [m.body for m in client.get("results", len(bodies))] == [b"small"] * len(bodies)
    for queue in ("in", "other"):
        wait_until(lambda: broker.queue(queue)["unacked"] + broker.queue(queue)["ready"] == 0, "acknowledged")
    assert most - before < (300 if "asan" in daemon._binary else 12) << 20, "%d KiB" % ((most - before) >> 10)


def test_too_large_waits_until_it_is_safe(harkd, broker, client):
    """The dead letters do not take it: it stays in its queue, and is passed on when they do."""
    body = b"x" * 700000
    daemon = harkd(TOPOLOGY + forward(), hark="max_message_size = 64K")
    broker.delete_queue("hark.dead")
    client.exchange("hark.dead")
    client.publish("events", "k", body)
    daemon.wait_for_log("did not take the dead letter")
    stays(lambda: broker.queue("in")["unacked"] + broker.queue("in")["ready"] == 1, 0.5, "kept")
    assert client.get_one("hark.dead", timeout=60).body == body
    wait_until(lambda: broker.queue("in")["unacked"] + broker.queue("in")["ready"] == 0, "acknowledged")


def test_own_dead_letter_exchange_and_queue(harkd, broker, client, trouble):
    harkd(TOPOLOGY + trouble_listener(), hark="dead_letter = graveyard\ndead_letter_queue = bones", binary=trouble)
    client.publish("events", "some.key", "reject")
    assert client.get_one("bones").exchange == "graveyard"
    assert "hark.dead" not in broker.queues()


def test_headers_near_the_frame_limit(harkd, broker, client, trouble):
    """What harkd adds does not fit into the frame any more: something is cut, but the letter arrives."""
    harkd(TOPOLOGY + trouble_listener(), hark="frame_max = 8K", binary=trouble)
    client.publish("events", "k" * 200, "reject", headers={"big": "x" * 7600})
    dead = client.get_one("hark.dead")
    assert dead.headers["x-hark-reason"] == "rejected" and dead.body == b"reject"
    wait_until(lambda: broker.queue("in")["unacked"] == 0, "acknowledged")


def test_dead_letter_waits_for_its_confirm(harkd, broker, client, trouble):
    """While the dead-letter queue refuses messages, the original is not acknowledged; then both go through."""
    client.exchange("hark.dead")
    client.queue("hark.dead", "hark.dead #", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.publish("hark.dead", "k", "in the way")
    harkd(TOPOLOGY + trouble_listener(),
          binary=trouble, hark="dead_letter_queue =")
    client.publish("events", "k", "reject")
    wait_until(lambda: broker.queue("in")["unacked"] == 1, "taken")
    stays(lambda: broker.queue("in")["unacked"] == 1, 0.5, "unacknowledged")
    assert client.get_one("hark.dead").body == b"in the way"
    assert client.get_one("hark.dead", timeout=60).body == b"reject"
    wait_until(lambda: broker.queue("in")["unacked"] == 0, "acknowledged")


def test_hops(harkd, broker, client):
    """A loop ends in the dead letters."""
    harkd("[exchange events]\n[queue in]\nbind = events #\n" + forward(emit="events"), hark="max_hops = 5")
    client.publish("events", "k", "round")
    dead = client.get_one("hark.dead")
    assert dead.headers["x-hark-reason"] == "hops" and dead.headers["x-hark-hops"] == 5
    wait_until(lambda: broker.queue("in")["unacked"] + broker.queue("in")["ready"] == 0, "the end of it")


def test_many_delays(harkd, client, trouble):
    """Each delay that is asked for has its queue, however many there are."""
    many = "retry = " + " ".join("%dms" % (100000 + i) for i in range(300)) + "\non = never.heard"
    harkd(TOPOLOGY + trouble_listener("many", many) + trouble_listener("t", "retry = 50ms"), binary=trouble)
    client.publish("events", "k", "retry")
    assert client.get_one("hark.dead").headers["x-hark-attempts"] == 2
