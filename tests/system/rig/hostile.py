# SPDX-License-Identifier: MIT
"""A server that answers like a broker, so that a client gets as far as consuming and publishing with confirms; what it
says then is up to the test."""
import struct

from . import wire
from .raw import recv_exactly, recv_frame

START = wire.method(0, 10, 10, b"\0\x09" + wire.table([("product", "S", "hostile"), ("capabilities", "F", [
    ("consumer_cancel_notify", "t", True), ("basic.nack", "t", True), ("publisher_confirms", "t", True)])])
                    + wire.long("PLAIN") + wire.long("en_US"))
TUNE = wire.method(0, 10, 30, struct.pack(">HIH", 100, 131072, 60))

# What an obedient server answers: method -> method and arguments. Anything else gets no answer.
ANSWERS = {
    (10, 11): TUNE,
    (10, 40): wire.method(0, 10, 41, b"\0"),
    (10, 50): wire.method(0, 10, 51),
    (20, 10): (20, 11, b"\0\0\0\0"),
    (20, 40): (20, 41, b""),
    (40, 10): (40, 11, b""),
    (40, 30): (40, 31, b""),
    (50, 10): (50, 11, wire.short("in") + b"\0" * 8),
    (50, 20): (50, 21, b""),
    (60, 10): (60, 11, b""),
    (60, 20): (60, 21, wire.short("tag")),
    (60, 30): (60, 31, wire.short("tag")),
    (85, 10): (85, 11, b""),
}


def deliver(channel, tag, body=b"", properties=None, size=None, consumer="tag"):
    """basic.deliver with its content, as a broker would send it, or with a lie about the size."""
    head = wire.method(channel, 60, 60, wire.short(consumer) + struct.pack(">QB", tag, 0) + wire.short("events")
                       + wire.short("k"))
    return head + wire.content(channel, body, properties or wire.properties(), size=size)


def play(sock, on_method, silent=()):
    """Serves one connection; on_method(sock, channel, (class, method), arguments) is called after each answer. Returns
    when the client leaves. Methods in `silent` get no answer; heartbeats do."""
    recv_exactly(sock, 8)
    sock.sendall(START)
    while True:
        kind, channel, payload = recv_frame(sock)
        if kind == wire.HEARTBEAT:
            sock.sendall(wire.frame(wire.HEARTBEAT, 0, b""))
        if kind != wire.METHOD:
            continue
        method = struct.unpack(">HH", payload[:4])
        if method in silent:
            continue
        answer = ANSWERS.get(method)
        if isinstance(answer, tuple):
            answer = wire.method(channel, *answer)
        if method == (60, 20):
            # The consumer's tag, as the client chose it or as we do.
            reader = wire.Reader(payload[6:])
            reader.short()
            chosen = reader.short() or b"tag"
            answer = wire.method(channel, 60, 21, wire.short(chosen))
            sock.sendall(answer)
            on_method(sock, channel, method, chosen)
            continue
        if answer:
            sock.sendall(answer)
        on_method(sock, channel, method, payload[4:])
