# SPDX-License-Identifier: MIT
"""A server that lies, stumbles, hangs up or says nothing. Each time harkd says what was wrong, lives, and works as soon
as a good broker answers at the same port."""
import socket
import struct
import threading

import pytest

from rig import processes, wire
from rig.hostile import START, TUNE, deliver, play
from rig.raw import recv_exactly, recv_frame
from rig.sections import TOPOLOGY, forward
from rig.waiting import stays, wait_until

OPEN_OK = wire.method(0, 10, 41, b"\0")


def nested(depth):
    """A table in a table in a table ..., by its bytes."""
    data = b""
    for _ in range(depth):
        data = b"\x01kF" + struct.pack(">I", len(data)) + data
    return struct.pack(">I", len(data)) + data


def handshake(sock, state):
    """The server's side up to `state`: 0 nothing read, 1 header read, 2 start sent and answered, 3 tuned and opened,
    4 open."""
    if state >= 1:
        recv_exactly(sock, 8)
    if state >= 2:
        sock.sendall(START)
        recv_frame(sock)
    if state >= 3:
        sock.sendall(TUNE)
        recv_frame(sock)
        recv_frame(sock)
    if state >= 4:
        sock.sendall(OPEN_OK)
        recv_frame(sock)


BAD = {
    "garbage": (1, b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10),
    "another-protocol": (1, b"AMQP\x00\x01\x00\x00"),
    "zeros": (1, b"\0" * 4096),
    "frame-without-end": (1, START[:-1] + b"\0" + START),
    "huge-frame": (1, struct.pack(">BHI", 1, 0, 0xffffffff) + b"x" * 1000),
    "frame-over-the-limit": (4, struct.pack(">BHI", 3, 1, 200000) + b"x" * 1000),
    "unknown-frame-kind": (1, wire.frame(77, 0, b"hello")),
    "empty-method": (1, wire.frame(1, 0, b"")),
    "unknown-method": (1, wire.method(0, 10, 99)),
    "unknown-class": (4, wire.method(1, 999, 1)),
    "cut-method": (1, wire.method(0, 10, 10, b"\0\x09\0\0\xff\xff")),
    "very-deep-table": (1, wire.method(0, 10, 10, b"\0\x09" + nested(500) + wire.long("PLAIN") + wire.long("en_US"))
                        + wire.method(0, 10, 99)),
    "no-login-mechanism": (1, wire.method(0, 10, 10, b"\0\x09" + wire.table([]) + wire.long("KERBEROS")
                                          + wire.long("en_US"))),
    "amqp-0-8": (1, wire.method(0, 10, 10, b"\x08\0" + wire.table([]) + wire.long("PLAIN") + wire.long("en_US"))),
    "open-ok-before-start": (1, OPEN_OK),
    "tune-before-start": (1, TUNE),
    "start-twice": (2, START),
    "tiny-frame-max": (2, wire.method(0, 10, 30, struct.pack(">HIH", 100, 100, 60))),
    "start-when-open": (4, START),
    "delivery-out-of-nowhere": (4, wire.method(1, 60, 60, wire.short("x") + b"\0" * 9 + wire.short("") * 2)),
    "content-without-method": (4, wire.content(1, b"body", wire.properties())),
    "body-on-channel-0": (4, wire.frame(3, 0, b"body")),
    "unknown-channel": (4, wire.method(4321, 20, 11, b"\0\0\0\0")),
    "heartbeat-on-a-channel": (4, wire.frame(8, 7, b"")),
    "close-with-control-characters": (4, wire.method(0, 10, 50, struct.pack(">H", 320)
                                                     + wire.short("\x1b[31mevil\r\n") + b"\0\0\0\0")),
}


def then_works(daemon, proxy, client):
    """The good broker at the same port."""
    proxy.script = None
    proxy.cut_scripts()
    good = daemon.wait_for_log(r"consuming: connected to .*\((RabbitMQ|hark)").end()
    wait_until(lambda: daemon.find('consuming from queue "in"', since=good), "a subscription", timeout=40)
    client.publish("events", "k", "m")
    wait_until(lambda: b"m" in {m.body for m in client.get_all("results")}, "the message")
    assert not daemon.find("died by signal")
    assert "\x1b" not in daemon.log and "\r" not in daemon.log


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_bytes(harkd, client, proxy, name):
    state, data = BAD[name]

    def script(sock):
        sock.settimeout(10)
        handshake(sock, state)
        sock.sendall(data)
        while sock.recv(65536):
            pass
    proxy.script = script
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait=None, hark="connect_timeout = 500ms\nheartbeat = 1s")
    daemon.wait_for_log(r"warning.*(trying again|lost)")
    wait_until(lambda: proxy.accepted >= 3, "another attempt")
    assert all(processes.rss(pid) < 200 << 20 for pid in daemon.workers())
    then_works(daemon, proxy, client)


@pytest.mark.parametrize("state", [0, 1, 2, 3, 4])
def test_hangs_up(harkd, client, proxy, state):
    """The connection ends in each state of the handshake."""
    proxy.script = lambda sock: handshake(sock, state)
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait=None)
    daemon.wait_for_log(r"warning.*(trying again|lost)")
    wait_until(lambda: proxy.accepted >= 3, "another attempt")
    then_works(daemon, proxy, client)


@pytest.mark.parametrize("state", [0, 1, 2, 3])
def test_says_nothing(harkd, client, proxy, state):
    """Silence in each state of the handshake: connect_timeout ends it."""
    def script(sock):
        sock.settimeout(20)
        handshake(sock, state)
        while sock.recv(65536):
            pass
    proxy.script = script
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait=None, hark="connect_timeout = 300ms")
    daemon.wait_for_log(r"warning.*trying again")
    wait_until(lambda: proxy.accepted >= 3, "another attempt")
    then_works(daemon, proxy, client)


@pytest.mark.parametrize("request_", [(20, 10), (40, 10), (50, 10), (60, 10), (60, 20), (85, 10)],
                         ids=lambda method: "%d.%d" % method)
def test_does_not_answer(harkd, client, proxy, request_):
    """An open connection, heartbeats both ways, and no answer to one kind of request: connect_timeout ends it."""
    def script(sock):
        sock.settimeout(20)
        play(sock, lambda sock, channel, method, arguments: None, silent=[request_])
    proxy.script = script
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait=None, hark="connect_timeout = 300ms\nheartbeat = 1s")
    daemon.wait_for_log(r"warning.*lost .*no answer to [a-z.]+ .*on channel \d+ for 300 ms; trying again")
    wait_until(lambda: proxy.accepted >= 5, "another attempt")
    assert len(daemon.find("no answer")) <= 6, "said once by each connection, and each reason"
    then_works(daemon, proxy, client)


def test_one_byte_at_a_time(harkd, client, broker, proxy):
    """A slow server is no bad server."""
    def script(sock):
        server = socket.create_connection((broker.host, broker.port))
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def up():
            try:
                while True:
                    data = sock.recv(65536)
                    if not data:
                        break
                    server.sendall(data)
            except OSError:
                pass
            server.close()
        threading.Thread(target=up, daemon=True).start()
        while True:
            byte = server.recv(1)
            if not byte:
                return
            sock.sendall(byte)
    proxy.script = script
    harkd(TOPOLOGY + forward(), via=proxy)
    client.publish("events", "k", "slow")
    assert client.get_one("results").body == b"slow"


def deep_headers(depth):
    return struct.pack(">H", 1 << 13) + nested(depth)


def lying_table():
    """A headers table whose inner string says that it is longer than the table."""
    inner = b"\x01aS" + struct.pack(">I", 0x7fffffff) + b"short"
    return struct.pack(">H", 1 << 13) + struct.pack(">I", len(inner)) + inner


# Said in place of a delivery, once harkd consumes: (channel, consumer tag) -> bytes.
EVIL_DELIVERIES = {
    "more-body-than-said": lambda c, t: deliver(c, 1, b"x" * 100, size=10, consumer=t),
    "body-of-exabytes": lambda c, t: deliver(c, 1, b"x", size=1 << 62, consumer=t) + wire.method(c, 60, 60),
    "header-twice": lambda c, t: deliver(c, 1, b"", size=5, consumer=t) + wire.content(c, b"", wire.properties()),
    "method-inside-content": lambda c, t: deliver(c, 1, b"x", size=5, consumer=t) + deliver(c, 2, b"y", consumer=t),
    "content-of-another-class": lambda c, t: deliver(c, 1, consumer=t)[:-len(wire.content(c, b"", wire.properties()))]
    + wire.frame(2, c, struct.pack(">HHQ", 50, 0, 0) + b"\0\0"),
    "deeply-nested-headers": lambda c, t: deliver(c, 1, b"", deep_headers(4000), consumer=t),
    "table-that-lies": lambda c, t: deliver(c, 1, b"", lying_table(), consumer=t),
    "unknown-property-flags": lambda c, t: deliver(c, 1, b"", b"\x00\x03", consumer=t),
    "properties-cut-short": lambda c, t: deliver(c, 1, b"", b"\xff\xfc", consumer=t),
    "header-frame-too-short": lambda c, t: wire.method(c, 60, 60, wire.short(t) + b"\0" * 9 + wire.short("") * 2)
    + wire.frame(2, c, b"\0\x3c"),
    "delivery-with-garbage-after": lambda c, t: wire.method(c, 60, 60, wire.short(t) + b"\0" * 4),
    "consumer-nobody-has": lambda c, t: deliver(c, 1, b"x", consumer="who?") + wire.frame(99, 0, b""),
    "cancel-of-nobody": lambda c, t: wire.method(c, 60, 30, wire.short("who?") + b"\0") + wire.frame(99, 0, b""),
    "channel-close-then-more": lambda c, t: wire.method(c, 20, 40, struct.pack(">H", 406) + wire.short("PRECONDITION") +
                                                        b"\0\0\0\0") + deliver(c, 1, b"x", consumer=t)
    + wire.frame(99, 0, b""),
}


@pytest.mark.parametrize("name", sorted(EVIL_DELIVERIES))
def test_evil_deliveries(harkd, client, proxy, name):
    """harkd consumes, and what comes is no delivery."""
    def on_method(sock, channel, method, tag):
        if method == (60, 20):
            sock.sendall(EVIL_DELIVERIES[name](channel, tag))

    def script(sock):
        sock.settimeout(10)
        play(sock, on_method)
    proxy.script = script
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait=None, hark="heartbeat = 1s")
    daemon.wait_for_log(r"(warning|error).*(trying again|lost|closed)")
    wait_until(lambda: proxy.accepted >= 3, "another attempt")
    assert all(processes.rss(pid) < 200 << 20 for pid in daemon.workers())
    then_works(daemon, proxy, client)


@pytest.mark.parametrize("name,answer", [
    ("confirms-what-was-not-sent", lambda c: wire.method(c, 60, 80, struct.pack(">QB", 12345, 1))),
    ("confirms-twice", lambda c: wire.method(c, 60, 80, struct.pack(">QB", 1, 0)) * 3),
    ("nacks", lambda c: wire.method(c, 60, 120, struct.pack(">QB", 1, 0))),
    ("returns-another-message", lambda c: wire.method(c, 60, 50, struct.pack(">H", 312) + wire.short("NO_ROUTE")
                                                      + wire.short("x") + wire.short("y"))
     + wire.content(c, b"other", wire.properties()) + wire.method(c, 60, 80, struct.pack(">QB", 1, 0))),
    ("flow-off", lambda c: wire.method(c, 20, 20, b"\0")),
], ids=lambda value: value if isinstance(value, str) else "")
def test_evil_confirms(harkd, client, proxy, name, answer):
    """One message is delivered, and the answers to what harkd publishes for it are odd. It lives, and says goodbye."""
    published = threading.Event()

    def on_method(sock, channel, method, tag):
        if method == (60, 20):
            sock.sendall(deliver(channel, 1, b"x", consumer=tag))
        elif method == (60, 40):
            sock.sendall(answer(channel))
            published.set()

    def script(sock):
        sock.settimeout(10)
        play(sock, on_method)
    proxy.script = script
    daemon = harkd(TOPOLOGY + forward(more="retry = 50ms"), via=proxy, wait=None)
    assert published.wait(20)
    then_works(daemon, proxy, client)


def test_cancel_and_channel_close_are_survived_often(harkd, client, proxy):
    """A server that cancels each consumer at once, in turn with closing its channel: tried again with a pause, not in a
    busy loop."""
    count = 0

    def on_method(sock, channel, method, tag):
        nonlocal count
        if method == (60, 20):
            count += 1
            if count % 2:
                sock.sendall(wire.method(channel, 60, 30, wire.short(tag) + b"\1"))
            else:
                sock.sendall(wire.method(channel, 20, 40, struct.pack(">H", 404) + wire.short("NOT_FOUND - gone")
                                         + struct.pack(">HH", 60, 20)))

    def script(sock):
        sock.settimeout(10)
        play(sock, on_method)
    proxy.script = script
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait=None)
    wait_until(lambda: count >= 3, "three attempts")
    stays(lambda: count < 60, 1.5, "pauses between attempts")
    then_works(daemon, proxy, client)
