# SPDX-License-Identifier: MIT
"""A server that lies, stumbles, hangs up or says nothing. Each time harkd says what was wrong, lives, and works as soon
as a good broker answers at the same port."""
import socket
import struct
import threading

import pytest

from rig import processes, wire
from rig.raw import recv_exactly, recv_frame
from rig.sections import TOPOLOGY, forward
from rig.waiting import wait_until

START = wire.method(0, 10, 10, b"\0\x09" + wire.table([("product", "S", "hostile"), ("capabilities", "F", [])])
                    + wire.long("PLAIN") + wire.long("en_US"))
TUNE = wire.method(0, 10, 30, struct.pack(">HIH", 100, 131072, 60))
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
    daemon.wait_for_log('consuming from queue "in"')
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"
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
