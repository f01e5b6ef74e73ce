# SPDX-License-Identifier: MIT
"""Routing: which listener sees what, and what becomes of bodies of all sizes."""
import os

import pytest

from rig.sections import TOPOLOGY, forward, run
from rig.waiting import stays, wait_until


def test_listeners_by_pattern(harkd, client):
    """Each listener whose patterns match sees a message, and no other."""
    patterns = {"all": "#", "users": "user.#", "one": "user.*", "exact": "user.new", "twice": "user.new user.#",
                "last": "#.failed", "middle": "*.x.*"}
    harkd(TOPOLOGY + "".join(forward(name, "on = %s\nheader.by = %s" % (on, name)) for name, on in patterns.items()))
    expected = {
        "user.new": {"all", "users", "one", "exact", "twice"},
        "user": {"all", "users", "twice"},
        "user.login.failed": {"all", "users", "twice", "last"},
        "a.x.b": {"all", "middle"},
        "failed": {"all", "last"},
        "": {"all"},
        "user.": {"all", "users", "one", "twice"},
        "Users.new": {"all"},
    }
    for key, names in expected.items():
        client.publish("events", key, key)
        messages = client.get("results", len(names))
        assert sorted(m.headers["by"] for m in messages) == sorted(names), key
        assert {m.key for m in messages} == {key}
    assert client.get_all("results") == []


def test_several_queues_and_emit_targets(harkd, client):
    """One listener on two queues, two listeners on one queue, emits to a fixed key and to the default exchange."""
    harkd("""
[exchange events]
[exchange out]
[queue a]
bind = events a.#
[queue b]
bind = events b.#
[queue results]
bind = out #
[queue direct]
[listener both]
module = forward
queue = a b
emit = out both.done
[listener a-only]
module = forward
queue = a
emit = "" direct
""")
    client.publish("events", "a.1", "one")
    client.publish("events", "b.1", "two")
    results = client.get("results", 2)
    assert sorted((m.key, m.body) for m in results) == [("both.done", b"one"), ("both.done", b"two")]
    direct = client.get_one("direct")
    assert (direct.body, direct.exchange) == (b"one", "")
    assert client.get_all("direct") == []


def test_keeps_properties_and_sets_its_own(harkd, client):
    harkd(TOPOLOGY + forward("f", "header.extra = yes\nwithout = secret"))
    client.publish("events", "k", "body", content_type="text/plain", content_encoding="utf-8", priority=4,
                   correlation_id="c", reply_to="r", expiration="600000", message_id="m", timestamp=1700000000,
                   type="t", app_id="a", headers={"kept": 1, "secret": "s"})
    got = client.get_one("results")
    p = got.properties
    assert (p.content_type, p.content_encoding, p.priority, p.correlation_id, p.reply_to, p.timestamp, p.type,
            p.app_id, p.delivery_mode) == ("text/plain", "utf-8", 4, "c", "r", 1700000000, "t", "a", 2)
    assert got.headers["kept"] == 1 and got.headers["extra"] == "yes" and "secret" not in got.headers


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 400000, 15 * 1024 * 1024])
def test_bodies_of_all_sizes(harkd, client, size):
    """No body, one byte, just one frame, a byte more than a frame, several frames, many."""
    harkd(TOPOLOGY + forward())
    body = os.urandom(size)
    client.publish("events", "k", body)
    assert client.get_one("results").body == body


def test_small_frames(harkd, client):
    """frame_max 8192: bodies are cut into small frames in both directions."""
    harkd(TOPOLOGY + forward(), hark="frame_max = 8K")
    for size in (8183, 8184, 8185, 100000):
        body = os.urandom(size)
        client.publish("events", "k", body)
        assert client.get_one("results").body == body


def test_two_workers_share_a_queue(harkd, client):
    daemon = harkd(TOPOLOGY + forward(), hark="workers = 2")
    daemon.wait_workers(2)
    bodies = [b"%d" % i for i in range(2000)]
    for body in bodies:
        client.channel.basic_publish("events", "k", body)
    got = [m.body for m in client.get("results", len(bodies))]
    assert sorted(got) == sorted(bodies)


def test_log_listener_escapes(harkd, client):
    """What strangers put into keys and bodies cannot write control characters into the log."""
    daemon = harkd(TOPOLOGY + "[listener l]\nmodule = log\nqueue = in\n")
    client.publish("events", "evil\x1b[31m\n2026-01-01 error forged", "b\x07ody", message_id="m\r\nx")
    daemon.wait_for_log("evil")
    line = next(line for line in daemon.log.split("\n") if "evil" in line)
    assert "\x1b" not in daemon.log and "\x07" not in daemon.log and "\r" not in daemon.log
    assert "forged" in line, "a routing key began a new line"


def test_concurrency_bounds_what_runs_at_once(harkd, broker, client, scripts):
    program = scripts.make("hold", "echo x >> running\nwhile [ ! -e go ]; do sleep 0.02; done")
    harkd(TOPOLOGY + run("e", program, "concurrency = 3"))
    for i in range(10):
        client.publish("events", "k", str(i))
    wait_until(lambda: len(scripts.lines("running")) == 3, "three programs")
    stays(lambda: len(scripts.lines("running")) == 3, 0.3, "three programs at once")
    scripts.touch("go")
    wait_until(lambda: len(scripts.lines("running")) == 10, "all ten")
    wait_until(lambda: broker.queue("in")["unacked"] == 0, "all acknowledged")
