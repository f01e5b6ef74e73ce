# SPDX-License-Identifier: MIT
"""Promises 8 to 10: connections come back and consume again, pressure is obeyed, refusals are said once."""
import pytest

from rig.client import Flow
from rig.proxy import CONFIRM_SELECT
from rig.sections import TOPOLOGY, forward
from rig.waiting import stays, wait_until


def check_all_arrive(broker, client, flow, timeout=40):
    """Each message of the flow arrived at least once, and none waits any more."""
    flow.join()
    seen = set()

    def complete():
        seen.update(m.body for m in client.get_all("results"))
        return len(seen) == flow.count
    wait_until(complete, lambda: "all messages, have %d of %d" % (len(seen), flow.count), timeout)
    wait_until(lambda: broker.queue("in")["ready"] + broker.queue("in")["unacked"] == 0, "all acknowledged")


def test_broker_closes_connections_in_a_flow(harkd, broker, client):
    daemon = harkd(TOPOLOGY + forward())
    flow = Flow(client.url, "events", "k", 900, pause=0.001)
    for goal in (150, 400, 650):
        wait_until(lambda: flow.sent >= goal, "the flow")
        position = daemon.log_size()
        broker.close_connections()
        daemon.wait_for_log('consuming from queue "in"', since=position)
    check_all_arrive(broker, client, flow)
    assert daemon.find("closed by the test")


@pytest.mark.parametrize("direction", ["up", "down"])
def test_cut_after_so_many_bytes(harkd, broker, client, proxy, direction):
    """Each connection ends after some hundred bytes more than the one before: in each state of login, of declaring,
    of consuming and publishing."""
    limits = iter(range(100, 6000, 230))

    def prepare(link):
        link.limit[direction] = next(limits, None)
    proxy.prepare = prepare
    harkd(TOPOLOGY + forward(), via=proxy, wait=None)
    client.exchange("events")
    client.queue("in", "events #")
    flow = Flow(client.url, "events", "k", 300, pause=0.001)
    check_all_arrive(broker, client, flow)


def test_cut_in_a_flow(harkd, broker, client, proxy):
    harkd(TOPOLOGY + forward(), via=proxy)
    flow = Flow(client.url, "events", "k", 800, pause=0.001)
    for goal in (100, 250, 400, 550):
        wait_until(lambda: flow.sent >= goal, "the flow")
        proxy.cut()
        proxy.link_with(CONFIRM_SELECT)
    check_all_arrive(broker, client, flow)


def test_broker_restarts(harkd, broker, client):
    """An orderly restart of the whole broker."""
    daemon = harkd(TOPOLOGY + forward())
    for i in range(50):
        client.publish("events", "k", "before %d" % i)
    client.get("results", 50)
    client.close()
    position = daemon.log_size()
    broker.restart()
    daemon.wait_for_log('consuming from queue "in"', since=position, timeout=60)
    client.publish("events", "k", "after")
    assert client.get_one("results").body == b"after"


def test_deleted_queue_is_declared_again(harkd, broker, client):
    """basic.cancel from the server: that queue comes back; the other one has not noticed."""
    daemon = harkd(TOPOLOGY + "[queue other]\nbind = out other\n" + forward("f", "on = k")
                   + forward("o", queue="other", emit="out", more="routing_key = done"))
    position = daemon.log_size()
    broker.delete_queue("in")
    daemon.wait_for_log('consuming from queue "in"', since=position)
    client.publish("events", "k", "again")
    assert client.get_one("results").body == b"again"
    assert not daemon.find('consuming from queue "other"', since=position)


def test_silent_broker_is_noticed(harkd, client, proxy):
    """Nothing comes any more, not even heartbeats, and no end either: a new connection."""
    daemon = harkd(TOPOLOGY + forward(), via=proxy, hark="heartbeat = 1s")
    position = daemon.log_size()
    for link in proxy.live:
        link.stall()
    daemon.wait_for_log("heartbeat", since=position, timeout=10)
    daemon.wait_for_log('consuming from queue "in"', since=position)
    client.publish("events", "k", "m")
    client.get_one("results")


def test_idle_connection_is_kept(harkd, client, proxy):
    """Both sides send heartbeats: an idle connection with a short heartbeat lives on."""
    daemon = harkd(TOPOLOGY + forward(), via=proxy, hark="heartbeat = 1s")
    accepted = proxy.accepted
    stays(lambda: proxy.accepted == accepted, 4, "the connections")
    assert not daemon.find("heartbeat")


def test_memory_alarm_pauses(harkd, broker, client):
    """connection.blocked: consuming pauses, and goes on when the broker has room; nothing is lost."""
    daemon = harkd(TOPOLOGY + forward(), hark="publish_window = 10")
    client.publish("events", "k", "first")
    client.get_one("results")
    broker.memory_alarm(True)
    flow = Flow(client.url, "events", "k", 200)
    stays(lambda: flow.sent == 0 and not client.get_all("results"), 0.5, "blocked")
    broker.memory_alarm(False)
    check_all_arrive(broker, client, flow)
    assert daemon.running


def test_consuming_pauses_while_blocked(harkd, broker, client):
    """Messages that are in the queue already: at most what was in hand is taken while the broker blocks."""
    daemon = harkd(TOPOLOGY + forward(), hark="publish_window = 10")
    daemon.stop()
    for i in range(2000):
        client.channel.basic_publish("events", "k", b"%d" % i)
    broker.memory_alarm(True)
    daemon.start(wait="ready")
    stays(lambda: client.count("results") == 0, 1, "nothing published")
    broker.memory_alarm(False)
    got = client.get("results", 2000)
    assert {m.body for m in got} == {b"%d" % i for i in range(2000)}


def test_precondition_failed_is_said_once(harkd, client):
    """A queue that exists with other arguments: named with its section; the other queue works."""
    client.queue("bad", arguments={"x-max-length": 5})
    daemon = harkd(TOPOLOGY + "[queue bad]\nbind = events #\nargument.x-max-length = 7\n" + forward()
                   + forward("b", queue="bad"), wait="ready")
    daemon.wait_for_log('consuming from queue "in"')
    daemon.wait_for_log("error worker.*: PRECONDITION_FAILED - ")
    client.publish("events", "k", "m")
    client.get_one("results")
    stays(lambda: len(daemon.find(r"error worker.*: PRECONDITION_FAILED - ")) == 1, 1.5, "said once")
    line = daemon.find(r"error worker.*: PRECONDITION_FAILED - .*")[0]
    assert "[queue bad]" in line and "x-max-length" in line


def test_access_refused_is_said_once(harkd, broker, client):
    broker.add_user("limited", configure="^(events|out|in|results|hark[.].*)$")
    daemon = harkd(TOPOLOGY + "[queue forbidden]\nbind = events #\n" + forward() + forward("b", queue="forbidden"),
                   url=broker.url("limited", "limited"), wait="ready")
    daemon.wait_for_log('consuming from queue "in"')
    daemon.wait_for_log("error worker.*: ACCESS_REFUSED - ")
    client.publish("events", "k", "m")
    client.get_one("results")
    stays(lambda: len(daemon.find("error worker.*: ACCESS_REFUSED - ")) == 1, 1.5, "said once")
    assert "[queue forbidden]" in daemon.find("error worker.*: ACCESS_REFUSED - ")[0]


def test_not_found_is_said_once_and_healed(harkd, client):
    """declare = passive and the queue is not there yet: said, tried again, and found when somebody makes it."""
    daemon = harkd(TOPOLOGY + "[queue later]\ndeclare = passive\n" + forward() + forward("b", queue="later"),
                   wait="ready")
    daemon.wait_for_log('consuming from queue "in"')
    daemon.wait_for_log("error worker.*: NOT_FOUND - ")
    client.publish("events", "k", "m")
    client.get_one("results")
    assert "[queue later]" in daemon.find("error worker.*: NOT_FOUND - .*")[0]
    client.queue("later")
    daemon.wait_for_log('consuming from queue "later"', timeout=40)
    client.publish("", "later", "here")
    assert client.get_one("results").body == b"here"
    assert len(daemon.find('refused queue "later"')) == len(daemon.find("refused to let it consume")) == 1


def test_wrong_password(harkd, broker):
    """Refused as such, and not tried again without a pause."""
    daemon = harkd(TOPOLOGY + forward(), url=broker.url(password="swordfish"), wait=None)
    daemon.wait_for_log("warning worker.*ACCESS_REFUSED")
    assert daemon.running and "swordfish" not in daemon.log


def test_next_host(harkd, client, broker, proxy):
    """The first host of the list refuses: the next one is used."""
    proxy.refuse = True
    harkd(TOPOLOGY + forward(), url=broker.url(host="127.0.0.1:%d,127.0.0.1:%d" % (proxy.port, broker.port)))
    client.publish("events", "k", "m")
    client.get_one("results")
