# SPDX-License-Identifier: MIT
"""harkd with its embedded broker: no RabbitMQ anywhere."""
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess

import pika
import pytest

from rig import processes
from rig.certs import Certificates
from rig.client import Client, Flow, expect_all
from rig.harkd import Harkd
from rig.notify import NotifySocket
from rig.ports import free_port
from rig.sections import TOPOLOGY, forward, run
from rig.waiting import wait_until

HARK = {"log": "text", "log_level": os.environ.get("HARK_TEST_LOG_LEVEL", "info"), "reconnect_min": "20ms",
        "reconnect_max": "300ms", "drain_timeout": "10s"}


class Embedded(Harkd):
    """A harkd with a broker on a port of its own."""

    def __init__(self, folder, sections="", hark="", broker="", url="embedded:", port=None, **options):
        os.makedirs(folder, exist_ok=True)
        self.port = port or free_port()
        self.hark, self.general_url = hark, url
        super().__init__(folder, self.ini(sections, broker), **options)

    def ini(self, sections="", broker=""):
        given = [line.partition("=")[0].strip() for line in (self.hark + "\n" + broker).splitlines()]
        lines = ["[hark]", "url = " + self.general_url]
        lines += ["%s = %s" % item for item in HARK.items() if item[0] not in given]
        lines += [self.hark, "[broker]"]
        if "listen" not in given:
            lines.append("listen = 127.0.0.1:%d" % self.port)
        if "data" not in given:
            lines.append("data = data")     # in the folder that it runs in: the name of a socket is short
        return "\n".join(lines + [broker, sections])

    def url(self, user="guest", password="guest", vhost="%2f"):
        return "amqp://%s:%s@127.0.0.1:%d/%s" % (user, password, self.port, vhost)

    def logs_in(self, *arguments, **options):
        """Whether such a user may enter."""
        client = Client(self.url(*arguments, **options))
        try:
            return client.channel.is_open
        except (pika.exceptions.ProbableAuthenticationError, pika.exceptions.ProbableAccessDeniedError,
                pika.exceptions.ConnectionClosedByBroker):
            return False
        finally:
            client.close()


@pytest.fixture
def start(tmp_path, request):
    """start(sections, hark=, broker=, ...) is an Embedded; at the end it has to leave as it is told."""
    started = []

    def make(*arguments, name="h", **options):
        daemon = Embedded(str(tmp_path / name), *arguments, **options)
        started.append(daemon)
        return daemon
    yield make
    try:
        if not getattr(request.node, "failed", False):
            for daemon in started:
                daemon.stop()
    finally:
        for daemon in started:
            daemon.close()


@pytest.fixture
def connect(request):
    def make(url):
        client = Client(url)
        request.addfinalizer(client.close)
        return client
    return make


def taken(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(taken(5672), reason="somebody listens on port 5672")
def test_standalone_first_message(tmp_path):
    """What the log says to type works as it stands."""
    daemon = Harkd(tmp_path, None, arguments=["--standalone", "--log", "text"], wait="ready",
                   environment={"STATE_DIRECTORY": str(tmp_path / "state")})
    try:
        command = daemon.wait_for_log(r"publish a first message: (.*) \(").group(1)
        assert command.startswith("amqp-publish ")
        subprocess.run(shlex.split(command), check=True, timeout=20)
        daemon.wait_for_log(r'listener\[log\]: key="hello.world" exchange="events" queue="events" .*it works')
        assert os.path.isdir(tmp_path / "state")
        daemon.stop()
    finally:
        daemon.close()


def test_processes(start):
    """The broker has a name of its own, and is started before the workers."""
    daemon = start(TOPOLOGY + forward(), hark="workers = 2")
    broker = daemon.wait_broker()
    workers = daemon.wait_workers(2)
    assert processes.title(broker) == "harkd: broker"
    assert sorted(processes.title(pid) for pid in workers) == ["harkd: worker 1", "harkd: worker 2"]
    log = daemon.log
    assert log.index("broker: started pid") < log.index("worker 1: started pid")


def test_killed_broker_loses_nothing(start, connect):
    """kill -9 of the broker, several times under load: named in the log, started again on the same sockets; the
    workers stay and come back; every message that was confirmed is handled."""
    daemon = start(TOPOLOGY + forward(), hark="workers = 2")
    workers = daemon.wait_workers(2)
    flow = Flow(daemon.url(), "events", "k", 3000)
    seen = []
    for _ in range(3):
        broker = daemon.wait_broker(without=seen)
        before = flow.sent
        wait_until(lambda: flow.sent > before + 200, "the flow to go on")
        os.kill(broker, signal.SIGKILL)
        seen.append(broker)
    flow.join()
    expect_all(connect(daemon.url()), 3000)
    assert daemon.workers() == workers
    assert len(daemon.find(r"broker: died by signal 9 \(Killed\)")) == 3


def test_hanging_broker_is_replaced(start, connect):
    """A broker that stands still is killed after hang_timeout, as a worker is."""
    daemon = start(TOPOLOGY + forward(), hark="hang_timeout = 2s")
    connect(daemon.url()).publish("events", "k", "0", message_id="0")
    first = daemon.wait_broker()
    os.kill(first, signal.SIGSTOP)
    daemon.wait_for_log(r"broker: pid %d has stood still for \d+ ms: killed" % first)
    daemon.wait_broker(without=[first])
    expect_all(connect(daemon.url()), 1)


def test_durable_across_restart(start, connect):
    daemon = start("[exchange events]\n[queue kept]\nbind = events #\n", wait="ready")
    client = connect(daemon.url())
    wait_until(lambda: client.channel.queue_declare("kept", durable=True), "the queue")
    client.channel.queue_bind("kept", "amq.topic", "#")
    for i in range(50):
        client.publish("amq.topic", "k", str(i))
    client.close()
    daemon.stop()
    daemon.start(wait="ready")
    assert [message.body for message in connect(daemon.url()).get("kept", 50)] == [b"%d" % i for i in range(50)]


def test_stop_in_order(start, connect, scripts):
    """SIGTERM, to the whole group even: what the workers have in hand is settled before the broker leaves."""
    program = scripts.recorder("e", "while [ ! -e go ]; do sleep 0.02; done\necho done")
    daemon = start(TOPOLOGY + run("e", program, "emit = out"))
    client = connect(daemon.url())
    client.publish("events", "k", "m")
    scripts.wait_seen("e", 1)
    client.close()
    for pid in [daemon.pid, daemon.wait_broker()] + daemon.workers():
        os.kill(pid, signal.SIGTERM)
    daemon.wait_for_log(r"worker\[1\]: draining")
    scripts.touch("go")
    assert daemon.wait() == 0
    log = daemon.log    # (The supervisor's line about the worker and the broker's first may come in any order.)
    assert "worker 1: pid" in log
    assert log.index("broker: stopping") < log.index("broker: pid") < log.index("stopped\n")
    assert not os.path.exists(os.path.join(daemon.folder, "data/workers.sock"))
    daemon.start()
    client = connect(daemon.url())
    assert client.get_one("results").body == b"done\n"
    assert client.get_now("in") is None
    assert len(scripts.seen("e")) == 1


def test_reload_adds_user_and_vhost(start, connect):
    """The running broker takes new users and virtual hosts, and forgets old ones; nobody is disconnected."""
    daemon = start(TOPOLOGY + forward() + "[user old]\npassword = secret\n")
    broker = daemon.wait_broker()
    client = connect(daemon.url("old", "secret"))
    client.publish("events", "k", "0")
    assert not daemon.logs_in("new", "word")
    assert not daemon.logs_in("guest", "guest")     # there are others
    daemon.reload(daemon.ini(TOPOLOGY + forward() + """
[user new]
password = word
permission = shop ^shop\\. ^shop\\. .*
permission = / "" "" .*
""", "vhost = shop"))
    assert daemon.wait_broker() == broker
    assert daemon.logs_in("new", "word", vhost="shop") and daemon.logs_in("new", "word")
    assert not daemon.logs_in("old", "secret")
    shop = connect(daemon.url("new", "word", "shop"))
    shop.queue("shop.orders")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
        shop.queue("orders")
    assert refused.value.reply_code == 403
    reader = connect(daemon.url("new", "word"))
    expect_all(reader, 1)
    assert "secret" not in daemon.log and "word" not in re.sub("password", "", daemon.log)


def test_reload_with_mistakes_changes_nothing(start):
    daemon = start(TOPOLOGY + forward() + "[user one]\npassword = secret\n")
    daemon.reload(daemon.ini(TOPOLOGY + forward() + "[user two]\npassword = word\npermission = / * * *\n"), good=False)
    assert daemon.logs_in("one", "secret") and not daemon.logs_in("two", "word")


def test_changed_address_waits_for_restart(start):
    daemon = start(TOPOLOGY + forward())
    before, daemon.port = daemon.port, free_port()
    position = daemon.reload(daemon.ini(TOPOLOGY + forward()))
    daemon.wait_for_log("a changed listen, listen_tls or data takes effect at the next restart", since=position)
    assert not taken(daemon.port) and taken(before)
    daemon.stop()
    daemon.start()
    assert taken(daemon.port)


def test_one_folder_one_harkd(start):
    """The second one says why it does not start."""
    first = start(TOPOLOGY + forward())
    second = start(TOPOLOGY + forward(), name="second", broker="data = ../h/data", wait=None)
    assert second.wait() == 71
    assert re.search(r"hark\.ini:\d+: \[broker\] data = \.\./h/data: .*another process listens there", second.log)
    assert first.logs_in()


def test_taken_address_is_named(start):
    first = start(TOPOLOGY + forward())
    second = start(TOPOLOGY + forward(), name="second", port=first.port, wait=None)
    assert second.wait() == 71
    assert re.search(r"hark\.ini:\d+: \[broker\] listen = 127\.0\.0\.1:%d: .*Address already in use" % first.port, second.log)


def test_broker_only(start, connect, tmp_path):
    """Without exchanges, queues and listeners there are no workers."""
    notify = NotifySocket(tmp_path)
    daemon = start(wait="ready", environment=notify.environment)
    assert daemon.workers() == []
    client = connect(daemon.url())
    client.queue("q", "amq.topic #")
    client.publish("amq.topic", "k", "m")
    assert client.get_one("q").body == b"m"
    wait_until(lambda: [text for text in notify.values("STATUS") if "Serving: broker: 1 connections, 1 queues" in text],
               lambda: notify.messages)
    daemon.reload()
    assert client.channel.is_open
    client.close()
    notify.close()


def test_killed_supervisor(start):
    """Nobody is left behind, and the next one can start at once on the same data and the same port."""
    daemon = start(TOPOLOGY + forward())
    below = processes.descendants(daemon.pid)
    assert len(below) == 2
    daemon.kill9()
    wait_until(lambda: not [pid for pid in below if processes.alive(pid)], "the end of broker and worker")
    daemon.start()
    assert daemon.logs_in()


def test_tls(start, tmp_path):
    """TLS, a user by certificate, and a certificate that is renewed by a reload."""
    certificates = Certificates(str(tmp_path / "certs"))
    port = free_port()
    broker = "listen_tls = 127.0.0.1:%d\ntls_certificate = %s\ntls_key = %s\ntls_ca = %s\ntls_verify = yes\n"
    sections = "[user %s]\n" % certificates.client_name
    daemon = start(sections, broker=broker % (port, certificates.server, certificates.server_key, certificates.ca),
                   wait="ready")

    def serial():
        context = ssl.create_default_context(cafile=certificates.ca)
        context.load_cert_chain(certificates.client, certificates.client_key)
        options = pika.SSLOptions(context, "localhost")
        parameters = pika.ConnectionParameters("127.0.0.1", port, ssl_options=options,
                                               credentials=pika.credentials.ExternalCredentials())
        connection = pika.BlockingConnection(parameters)
        connection.close()
        with socket.create_connection(("127.0.0.1", port)) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                return secure.getpeercert()["serialNumber"]
    before = serial()
    renewed = Certificates(str(tmp_path / "renewed"))
    for name in ("server", "server_key", "ca", "client", "client_key"):
        os.replace(getattr(renewed, name), getattr(certificates, name))
    daemon.reload()
    assert serial() != before


def test_definitions(start, connect, tmp_path):
    """RabbitMQ's export."""
    path = tmp_path / "definitions.json"
    path.write_text("""{"vhosts": [{"name": "shop"}],
        "users": [{"name": "u", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", "tags": "",
                   "hashing_algorithm": "rabbit_password_hashing_sha256"}],
        "permissions": [{"user": "u", "vhost": "shop", "configure": ".*", "write": ".*", "read": ".*"}],
        "queues": [{"name": "orders", "vhost": "shop", "durable": true, "auto_delete": false, "arguments": {}}],
        "exchanges": [], "bindings": []}""")
    daemon = start(broker="definitions = %s" % path, wait="ready")
    client = connect(daemon.url("u", "test12", "shop"))
    client.publish("", "orders", "m")
    assert client.get_one("orders").body == b"m"
    client.close()
    path.write_text("{")
    daemon.stop()
    daemon.start(wait=None)
    assert daemon.wait() == 1
    assert str(path) in daemon.log
