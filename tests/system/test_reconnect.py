# SPDX-License-Identifier: MIT
"""Promise 9: connections come back and consume again, and nothing is lost on the way."""
import pika
import pytest

from rig.client import Flow, expect_all
from rig.ports import free_port
from rig.proxy import BASIC_CONSUME, CONFIRM_SELECT, Proxy
from rig.sections import TOPOLOGY, forward, run
from rig.waiting import wait_until

COUNT = 1500


def test_broker_down_at_start(harkd, broker, client):
    """No error: it waits for it, says so, and then declares and consumes."""
    proxy = Proxy((broker.host, broker.port))
    proxy.refuse = True
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait="ready")
    daemon.wait_for_log(r"no connection|cannot connect|lost", count=2)
    proxy.refuse = False
    daemon.wait_consuming()
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"
    daemon.stop()
    proxy.close()


def test_nobody_listens_at_start(harkd, broker):
    daemon = harkd(TOPOLOGY + forward(), wait="ready",
                   url="amqp://guest:guest@127.0.0.1:%d/" % free_port())
    daemon.wait_for_log(r"refused")
    daemon.stop()


def test_connections_cut_in_a_flow(harkd, broker, client, proxy):
    daemon = harkd(TOPOLOGY + forward(), via=proxy)
    flow = Flow(broker.url(), "events", "k", COUNT)
    for at in range(200, COUNT - 200, 200):
        wait_until(lambda at=at: flow.sent >= at, "the flow")
        proxy.cut()
    flow.join()
    expect_all(client, COUNT)
    wait_until(lambda: broker.queue("in")["ready"] + broker.queue("in")["unacked"] == 0, "all acknowledged")
    assert not daemon.find(r"unknown delivery tag|PRECONDITION")
    assert "unknown delivery tag" not in broker.log()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_cut_after_any_number_of_bytes(harkd, broker, client, proxy, direction):
    """Each connection lives for some bytes more than the one before: in the handshake, in declarations, in frames."""
    limits = iter(list(range(1, 700, 37)) + [1000, 1500, 2500, 5000, 9000])

    def prepare(link):
        limit = next(limits, None)
        link.limit[direction] = limit
    proxy.prepare = prepare
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait="ready", hark="reconnect_max = 20ms")
    client.exchange("events")
    client.queue("in", "events #")
    for i in range(300):
        client.channel.basic_publish("events", "k", b"%d" % i, pika.BasicProperties(message_id=str(i)))
    expect_all(client, 300)
    wait_until(lambda: proxy.accepted >= 20, "the connections")
    wait_until(lambda: broker.queue("in")["ready"] + broker.queue("in")["unacked"] == 0, "all acknowledged")
    assert daemon.running


def test_connections_closed_by_the_broker_in_a_flow(harkd, broker, client):
    daemon = harkd(TOPOLOGY + forward(), hark="workers = 2")
    flow = Flow(broker.url(), "events", "k", COUNT)
    for at in range(300, COUNT - 200, 300):
        wait_until(lambda at=at: flow.sent >= at, "the flow")
        broker.close_connections("maintenance")
    flow.join()
    expect_all(client, COUNT)
    daemon.wait_for_log(r"CONNECTION_FORCED|maintenance")


@pytest.mark.parametrize("end", ["restart", "kill9"])
def test_broker_restarts_in_a_flow(harkd, broker, client, end):
    daemon = harkd(TOPOLOGY + forward(), hark="workers = 2")
    flow = Flow(broker.url(), "events", "k", 3000)
    wait_until(lambda: flow.sent >= 500, "the flow")
    if end == "kill9":
        broker.kill9()
        broker.start()
    else:
        broker.restart()
    flow.join()
    client.close()
    expect_all(client, 3000)
    wait_until(lambda: broker.queue("in")["ready"] + broker.queue("in")["unacked"] == 0, "all acknowledged")
    assert daemon.running


def test_late_settlement_is_not_sent_on_a_new_channel(harkd, broker, client, proxy, scripts):
    """A program that outlives its connection: the message is delivered again, and the old word is not sent."""
    program = scripts.recorder("e", "while [ ! -e go ]; do sleep 0.02; done")
    daemon = harkd(TOPOLOGY + run("e", program), via=proxy)
    client.publish("events", "k", "m")
    scripts.wait_seen("e", 1)
    proxy.cut()
    scripts.wait_seen("e", 2)
    scripts.touch("go")
    wait_until(lambda: broker.queue("in")["unacked"] == 0, "acknowledged")
    client.publish("events", "k", "next")
    assert scripts.wait_seen("e", 3) == ["m", "m", "next"]
    assert "unknown delivery tag" not in broker.log() + daemon.log


def test_silent_connection_is_noticed(harkd, broker, client, proxy):
    """No end of the connection is seen, only silence: the heartbeat finds it."""
    daemon = harkd(TOPOLOGY + forward(), via=proxy, hark="heartbeat = 1s")
    proxy.stall()
    daemon.wait_for_log(r"heartbeat|silent|nothing (was )?(read|received|heard|came)", timeout=10)
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"


def test_heartbeats_keep_an_idle_connection(harkd, broker, proxy):
    """Nothing to do for longer than two intervals: neither side gives up."""
    daemon = harkd(TOPOLOGY + forward(), via=proxy, hark="heartbeat = 1s")
    up = [link.up for link in proxy.live]
    wait_until(lambda: all(link.up >= start + 5 * 8 for link, start in zip(proxy.links, up)), "five heartbeats each")
    assert proxy.accepted == 2 and not daemon.find(r"lost")


def test_queue_deleted_under_us(harkd, broker, client):
    """basic.cancel: the queue is declared and consumed again, the other queue does not notice."""
    daemon = harkd(TOPOLOGY + "[queue other]\nbind = events #\n" + forward() + forward("o", queue="other"))
    for _ in range(3):
        position = daemon.log_size()
        broker.delete_queue("in")
        wait_until(lambda: (broker.queue("in") or {}).get("consumers") == 1, "the queue is back, with a consumer")
        daemon.wait_for_log(r'consuming from queue "in"', since=position)
    client.publish("events", "k", "m")
    assert [m.body for m in client.get("results", 2)] == [b"m", b"m"]
    assert len(daemon.find('consuming from queue "other"')) == 1


def test_retry_queue_deleted_under_us(harkd, broker, client, scripts):
    """What harkd needs for itself is declared again when it turns out to be missing."""
    program = scripts.recorder("e", '[ "$HARK_ATTEMPT" -ge 2 ]')
    harkd(TOPOLOGY + run("e", program, "retry = 100ms"))
    broker.delete_queue("hark.retry.100")
    client.publish("events", "k", "m")
    assert scripts.wait_seen("e", 2) == ["m", "m"]
    client.channel.exchange_delete("hark.retry.100")
    client.publish("events", "k", "n")
    assert scripts.wait_seen("e", 4)[2:] == ["n", "n"]


def test_dead_letter_queue_deleted_under_us(harkd, broker, client, scripts):
    harkd(TOPOLOGY + run("e", scripts.make("e", "exit 64")))
    broker.delete_queue("hark.dead")
    client.publish("events", "k", "m")
    assert client.get_one("hark.dead").body == b"m"
    client.channel.exchange_delete("hark.dead")
    client.publish("events", "k", "n")
    assert client.get_one("hark.dead").body == b"n"


def test_several_hosts(harkd, broker, client):
    """The first host is down, the second goes down later: it goes on with the third."""
    second, third = Proxy((broker.host, broker.port)), Proxy((broker.host, broker.port))
    hosts = "127.0.0.1:%d,127.0.0.1:%d,localhost:%d" % (free_port(), second.port, third.port)
    daemon = harkd(TOPOLOGY + forward(), url=broker.url(host=hosts))
    wait_until(lambda: second.live or third.live, "a connection")
    for gone, other in ((second, third), (third, second)):
        gone.refuse, other.refuse = True, False
        gone.cut()
        wait_until(lambda other=other: len(other.live) >= 2, "both connections at the other host")
        client.publish("events", "k", "m")
        assert client.get_one("results").body == b"m"
    daemon.stop()
    second.close()
    third.close()


def test_ipv6_and_names(harkd, broker, client):
    daemon = harkd(TOPOLOGY + forward(), url=broker.url(host="localhost:%d" % broker.port))
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"
    daemon.stop()
    daemon = harkd(TOPOLOGY + forward(), url=broker.url(host="no-such-host.invalid:5672"), wait="ready")
    daemon.wait_for_log(r"no-such-host\.invalid", count=2)


def test_only_the_publishing_connection_is_cut(harkd, broker, client, proxy):
    harkd(TOPOLOGY + forward(), via=proxy)
    consuming = proxy.link_with(BASIC_CONSUME)
    for _ in range(3):
        proxy.link_with(CONFIRM_SELECT).cut()
        client.publish("events", "k", "m")
        assert client.get_one("results").body == b"m"
    assert not consuming.closed


def test_broker_comes_back_empty(harkd, broker, client, scripts):
    """A vhost that has lost everything: all is declared before anything is published into it, so that no listener is
    blamed and no attempt used up."""
    program = scripts.recorder("e", "while [ ! -e go ]; do sleep 0.02; done\necho out")
    daemon = harkd(TOPOLOGY + run("e", program, "emit = out\nretry ="))
    for i in range(5):
        client.publish("events", "k", str(i))
    scripts.wait_seen("e", 5)
    client.close()
    position = daemon.log_size()
    broker.delete_vhost(broker.vhost)
    broker.add_vhost(broker.vhost)
    scripts.touch("go")
    daemon.wait_consuming(position)
    client.publish("events", "k", "after")
    wait_until(lambda: client.get_one("results").body == b"out\n", "an output")
    wait_until(lambda: broker.queue("in")["ready"] + broker.queue("in")["unacked"] == 0, "all acknowledged")
    assert client.get_all("hark.dead") == [] and not daemon.find("NOT_FOUND - no exchange", since=position)
