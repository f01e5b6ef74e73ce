# SPDX-License-Identifier: MIT
"""The rig itself: what the other tests rely on, tried against the broker alone."""
import socket
import threading

import pika
import pytest

from rig import wire
from rig.client import Client, Flow
from rig.proxy import CONFIRM_SELECT, Proxy
from rig.waiting import stays, wait_until

EVERY_TYPE = [("bool", "t", True), ("byte", "b", -5), ("ubyte", "B", 200), ("short", "s", -300), ("ushort", "u", 60000),
              ("int", "I", -70000), ("uint", "i", 4000000000), ("long", "l", -1 << 40), ("float", "f", 0.5),
              ("double", "d", 0.1), ("decimal", "D", (2, 314)), ("string", "S", b"s\xc3\xbc\xc3\x9f"),
              ("binary", "x", b"\0\xff"), ("time", "T", 1700000000), ("void", "V", None),
              ("table", "F", [("inner", "l", 7), ("deeper", "F", [("x", "t", False)])]),
              ("array", "A", [("S", b"one"), ("l", 2), ("A", [("V", None)])])]


def test_client_publishes_and_reads(broker, client):
    client.exchange("events")
    client.queue("q", "events user.#")
    client.publish("events", "user.new", "hello", message_id="1", headers={"a": 1})
    message = client.get_one("q")
    assert (message.body, message.key, message.properties.message_id) == (b"hello", "user.new", "1")
    with pytest.raises(pika.exceptions.UnroutableError):
        client.publish("events", "nobody", "x")


def test_raw_client_keeps_all_types(broker, client, raw):
    client.queue("q")
    raw.publish("", "q", b"body", headers=EVERY_TYPE, message_id="m", priority=3, delivery_mode=1,
                timestamp=1700000000)
    message = raw.get("q")[0]
    assert message.body == b"body"
    assert message.properties == {"headers": EVERY_TYPE, "message_id": b"m", "priority": 3, "delivery_mode": 1,
                                  "timestamp": 1700000000}


def test_broker_tells_what_is_in_it(broker, client):
    client.queue("q", arguments={"x-max-length": 5})
    client.publish("", "q", "1")
    client.publish("", "q", "2")
    client.channel.basic_get("q")
    assert broker.queue("q") == {"ready": 1, "unacked": 1, "consumers": 0, "durable": True,
                                 "arguments": {"x-max-length": 5}}
    broker.delete_queue("q")
    assert broker.queues() == {}


def test_broker_closes_connections_and_restricts_users(broker, client):
    client.queue("q")
    assert broker.connections() == 1
    broker.close_connections()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
        client.queue("q")
    wait_until(lambda: broker.connections() == 0, "no connection")
    broker.add_user("bob", write="^x$")
    bob = Client(broker.url(user="bob", password="bob"))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        bob.publish("", "q", "x")
    bob.close()


def test_broker_blocks_publishers(broker, client):
    client.queue("q")
    broker.memory_alarm(True)
    thread = threading.Thread(target=client.publish, args=("", "q", "x"), daemon=True)
    thread.start()
    stays(thread.is_alive, 0.3, "the publisher blocked")
    broker.memory_alarm(False)
    thread.join(10)
    assert not thread.is_alive() and broker.ready("q") == 1


def test_flow_survives_cuts(broker, client, proxy):
    client.queue("q")
    flow = Flow(broker.url(port=proxy.port), "", "q", 300)
    for at in (50, 150):
        wait_until(lambda at=at: flow.sent >= at, "the flow to run")
        proxy.cut()
    flow.join()
    assert {m.body for m in client.get_all("q")} == {b"%d" % i for i in range(300)}


def test_proxy_cuts_after_bytes_and_stalls(broker, proxy):
    proxy.prepare = lambda link: link.limit.update(down=100)
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        Client(broker.url(port=proxy.port)).channel  # pylint: disable=expression-not-assigned
    assert proxy.links[0].down == 100
    proxy.prepare = None
    client = Client(broker.url(port=proxy.port))
    client.queue("q")
    link = proxy.link_with(CONFIRM_SELECT)
    link.stall("down")
    thread = threading.Thread(target=client.publish, args=("", "q", "x"), daemon=True)
    thread.start()
    wait_until(lambda: broker.ready("q") == 1, "the message to arrive")
    stays(thread.is_alive, 0.2, "the confirm held back")
    link.go_on()
    thread.join(10)
    assert not thread.is_alive()
    client.close()


def test_proxy_plays_a_server_then_forwards(broker):
    proxy = Proxy((broker.host, broker.port))
    proxy.script = lambda sock: sock.sendall(b"nonsense")
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        assert sock.recv(8) == b"nonsense"
    proxy.script = None
    client = Client(broker.url(port=proxy.port))
    client.queue("q")
    client.close()
    proxy.close()


def test_scripts_run(scripts, tmp_path):
    import subprocess
    program = scripts.recorder("r", "exit 3")
    assert subprocess.run([program], input=b"body", check=False).returncode == 3
    assert scripts.wait_seen("r", 1) == ["body"]


def test_notify_socket(notify):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"READY=1\nSTATUS=fine", notify.path)
    notify.wait("READY", "1")
    assert notify.values("STATUS") == ["fine"]


def test_wire_reads_what_it_writes():
    given = {"headers": EVERY_TYPE, "app_id": b"a", "expiration": b"5", "content_type": b"text/plain"}
    assert wire.read_properties(wire.properties(**given)) == given


def test_certificates(broker):
    import ssl
    certs = broker.certificates
    broker.add_user(certs.client_name)
    context = ssl.create_default_context(cafile=certs.ca)
    context.load_cert_chain(certs.client, certs.client_key)
    with socket.create_connection(("127.0.0.1", broker.tls_port)) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(wire.HEADER)
            assert b"EXTERNAL" in sock.recv(4096)
    stranger = ssl.create_default_context(cafile=certs.stranger)
    with socket.create_connection(("127.0.0.1", broker.tls_port)) as plain:
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.wrap_socket(plain, server_hostname="localhost")
