# SPDX-License-Identifier: MIT
"""Promise 10: what the broker refuses is said once, clearly, and the rest keeps working."""
import pytest

from rig.sections import TOPOLOGY, forward
from rig.waiting import stays, wait_until

GOOD = """
[exchange good-events]
[queue good]
bind = good-events #
[queue good-results]
[listener good]
module = forward
queue = good
emit = "" good-results
"""


def good_works(client):
    client.publish("good-events", "k", "m")
    assert client.get_one("good-results").body == b"m"


def said_once(daemon, *patterns, objects=1):
    """One line with all of the patterns, and one for each object that is refused, however often it is tried again:
    declaring, binding and consuming fail for the same reason."""
    def complaints():
        lines = [line for line in daemon.log.splitlines() if " error " in line or " warning " in line]
        return [line for line in lines if "refused" in line and "login" not in line]

    def lines():
        return [line for line in complaints() if all(pattern.lower() in line.lower() for pattern in patterns)]
    wait_until(lambda: lines() and len(complaints()) >= objects, lambda: "a line with %s in:\n%s" % (patterns, daemon.log))
    stays(lambda: len(complaints()) == objects, 3, lambda: "said once: %s" % "\n".join(complaints()))
    return lines()[0]


def test_queue_with_other_arguments(harkd, broker, client):
    client.exchange("events")
    client.queue("in", "events #", arguments={"x-max-length": 5})
    daemon = harkd(GOOD + TOPOLOGY.replace("[queue in]", "[queue in]\nargument.x-max-length = 10") + forward(),
                   wait="ready")
    line = said_once(daemon, "PRECONDITION_FAILED", "[queue in]")
    assert "x-max-length" in line and "hark.ini:" in line
    good_works(client)
    # What is refused is tried again: when the queue is gone, it is declared as the file says.
    broker.delete_queue("in")
    wait_until(lambda: (broker.queue("in") or {}).get("arguments") == {"x-max-length": 10}, "the right queue",
               timeout=45)


def test_one_worker_says_it_for_all(harkd, client):
    """And the workers after a reload say it anew."""
    client.exchange("events")
    client.queue("in", "events #", arguments={"x-max-length": 5})
    ini = GOOD + TOPOLOGY.replace("[queue in]", "[queue in]\nargument.x-max-length = 10") + forward()
    daemon = harkd(ini, wait="ready", hark="workers = 4")
    said_once(daemon, "PRECONDITION_FAILED", "[queue in]")
    good_works(client)
    daemon.reload()
    said_once(daemon, "PRECONDITION_FAILED", "[queue in]", objects=2)


def test_exchange_of_another_type(harkd, client):
    client.exchange("events", "direct")
    daemon = harkd(GOOD + TOPOLOGY + forward(), wait="ready")
    line = said_once(daemon, "PRECONDITION_FAILED", "[exchange events]")
    assert "type" in line
    good_works(client)


def test_passive_and_missing(harkd, client):
    daemon = harkd(GOOD + "[queue nowhere]\ndeclare = passive\n" + forward(queue="nowhere", emit="good-events"),
                   wait="ready")
    said_once(daemon, "NOT_FOUND", "nowhere")
    good_works(client)
    client.queue("nowhere")
    client.publish("", "nowhere", "late")
    assert client.get_one("good-results", timeout=45).body == b"late"


def test_arguments_that_the_broker_does_not_know(harkd, client):
    """The queue does not come into being, so neither can it be bound nor consumed from: that is not said again."""
    daemon = harkd(GOOD + TOPOLOGY.replace("[queue in]", "[queue in]\nargument.x-max-length = -5") + forward(),
                   wait="ready")
    line = said_once(daemon, "PRECONDITION_FAILED", "[queue in]")
    assert "x-max-length" in line
    good_works(client)


def test_not_declared_and_missing(harkd, client):
    daemon = harkd(GOOD + "[queue nowhere]\ndeclare = no\nbind = good-events a\nbind = good-events b\n" +
                   forward(queue="nowhere", emit="good-events"), wait="ready")
    said_once(daemon, "NOT_FOUND", "nowhere")
    good_works(client)
    client.queue("nowhere")
    client.publish("", "nowhere", "late")
    assert client.get_one("good-results", timeout=45).body == b"late"


def test_dead_letter_queue_with_a_section(harkd, broker):
    """It is declared as its section says before it is bound."""
    daemon = harkd(GOOD + "[queue hark.dead]\nargument.x-max-length = 1000\n")
    assert broker.queue("hark.dead")["arguments"] == {"x-max-length": 1000}
    assert "refused" not in daemon.log


def test_bind_to_a_missing_exchange(harkd, client):
    daemon = harkd(GOOD + "[queue in]\nbind = nowhere #\n" + forward(emit="good-events"), wait="ready")
    said_once(daemon, "NOT_FOUND", "nowhere")
    good_works(client)


@pytest.mark.parametrize("rights,section,objects", [
    ({"configure": "^(good|hark).*"}, "[exchange events]", 4),
    ({"read": "^([^i].*|i|i[^n].*|in.+)$"}, "[queue in]", 1),
])
def test_access_refused(harkd, broker, client, rights, section, objects):
    broker.add_user("bob", **rights)
    daemon = harkd(GOOD + TOPOLOGY + forward(), url=broker.url("bob", "bob"), wait="ready")
    daemon.wait_for_log("ACCESS_REFUSED")
    said_once(daemon, "ACCESS_REFUSED", section, objects=objects)
    good_works(client)


def test_may_not_publish(harkd, broker, client):
    """The broker closes the channel: the messages of others get through, this one is dead-lettered with the reason."""
    broker.add_user("bob", write="^(hark|good|in|amq.default|events).*")
    harkd(GOOD + TOPOLOGY + forward(more="retry = 50ms"), url=broker.url("bob", "bob"))
    client.publish("events", "k", "m")
    dead = client.get_one("hark.dead")
    assert "ACCESS_REFUSED" in dead.headers["x-hark-error"]
    good_works(client)


def test_exchange_of_an_unknown_type(harkd, broker, client):
    """The broker closes the whole connection over it: which one it is is found out, and everything else works."""
    daemon = harkd(GOOD + "[exchange odd]\ntype = x-no-such-type\n[queue odd]\nbind = odd #\n", wait="ready")
    line = said_once(daemon, "COMMAND_INVALID", "[exchange odd]")
    assert "x-no-such-type" in line
    good_works(client)
    connected = daemon.log.count("connected to")
    assert connected <= 5
    stays(lambda: daemon.log.count("connected to") == connected and broker.connections() == 3, 2, "no reconnecting")


def test_missing_destination_costs_the_others_little(harkd, client):
    """The broker closes the channel for each message to an exchange that does not exist, and all in flight with it are
    undecided. Nothing of the others is lost, or held up for long."""
    client.exchange("events")
    client.exchange("good-events")
    client.queue("bad", "events bad")
    client.queue("good", "good-events #")
    for i in range(500):
        client.publish("events", "bad", b"%d" % i)
        client.publish("good-events", "k", b"%d" % i)
    harkd("[exchange events]\n[queue bad]\nbind = events bad\n" + GOOD +
          forward("bad", queue="bad", emit="nowhere", more="retry ="))
    bodies = {b"%d" % i for i in range(500)}
    client.collect("good-results", bodies, timeout=30)
    dead = client.collect("hark.dead", bodies, timeout=30)
    assert all("NOT_FOUND" in message.headers["x-hark-error"] for message in dead)


def test_message_that_the_broker_does_not_take(harkd, client):
    """One in the midst of others, all in flight together: CC has to be an array, a string closes the channel."""
    client.exchange("events")
    client.queue("in", "events #")
    for i in range(200):
        client.publish("events", "bad" if i == 100 else "k", b"%d" % i)
    harkd(TOPOLOGY + forward(more="on = k") + forward("bad", more="on = bad\nretry =\nheader.CC = elsewhere"))
    dead = client.get_one("hark.dead")
    assert dead.body == b"100" and "CC" in dead.headers["x-hark-error"]
    client.collect("results", {b"%d" % i for i in range(200) if i != 100})


@pytest.mark.parametrize("user,password,vhost,words", [
    ("guest", "wrong", None, "ACCESS_REFUSED"),
    ("nobody", "nobody", None, "ACCESS_REFUSED"),
    ("guest", "guest", "no-such-vhost", "NOT_ALLOWED|vhost"),
])
def test_login_refused(harkd, broker, user, password, vhost, words):
    """Said with the broker's words, without the password, and tried again without flooding broker and log."""
    daemon = harkd(TOPOLOGY + forward(), wait="ready", url=broker.url(user, password, vhost=vhost),
                   hark="reconnect_min = 100ms")
    daemon.wait_for_log(words)
    position = daemon.log_size()
    stays(lambda: len(daemon.log[position:].splitlines()) < 30, 2, "few lines")
    if password == "wrong":
        assert "wrong" not in daemon.log


def test_the_right_password_comes_later(harkd, broker, client):
    daemon = harkd(TOPOLOGY + forward(), wait="ready", url=broker.url("late", "late"))
    daemon.wait_for_log("ACCESS_REFUSED")
    broker.add_user("late")
    daemon.wait_consuming()
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"


def test_exclusive_queue_of_another(harkd, broker, client):
    client.channel.queue_declare("in", exclusive=True)
    daemon = harkd(GOOD + TOPOLOGY + forward(), wait="ready")
    said_once(daemon, "RESOURCE_LOCKED", "in")
    good_works(client)


def test_quorum_queue(harkd, broker, client):
    harkd(TOPOLOGY.replace("[queue in]", "[queue in]\ntype = quorum") + forward())
    assert broker.queue("in")["arguments"]["x-queue-type"] == "quorum"
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"


def test_topology_arguments_are_typed(harkd, broker, client, raw):
    """As RabbitMQ wants them: integers, booleans, strings; headers exchanges with binding arguments."""
    harkd("""
[exchange by-header]
type = headers
[exchange all]
type = fanout
bind = by-header
[exchange spare]
argument.alternate-exchange = all
[queue in]
bind = by-header
bind_argument.x-match = all
bind_argument.size = 5
bind_argument.ok = true
argument.x-max-length = 1000
argument.x-queue-mode = "default"
argument.x-single-active-consumer = true
priority = 7
[queue rest]
bind = all
[listener f]
module = forward
queue = in
emit = "" rest
""")
    assert broker.queue("in")["arguments"] == {"x-max-length": 1000, "x-queue-mode": "default",
                                               "x-single-active-consumer": True}
    raw.publish("by-header", "k", b"m", headers=[("size", "l", 5), ("ok", "t", True)], delivery_mode=2)
    assert [m.body for m in client.get("rest", 2)] == [b"m", b"m"], "forwarded, and through the fanout exchange"
    client.publish("spare", "nobody", "via alternate")
    assert client.get_one("rest").body == b"via alternate"
