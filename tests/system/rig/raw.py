# SPDX-License-Identifier: MIT
"""A raw AMQP client: sends and sees header tables as they are on the wire."""
import socket
import struct
from collections import namedtuple
from urllib.parse import unquote, urlsplit

from . import wire
from .waiting import PATIENCE, wait_until

RawMessage = namedtuple("RawMessage", "exchange key properties body")


def recv_exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise EOFError("connection closed")
        data += more
    return data


def recv_frame(sock):
    """(kind, channel, payload)"""
    kind, channel, size = struct.unpack(">BHI", recv_exactly(sock, 7))
    payload = recv_exactly(sock, size + 1)
    assert payload[-1:] == wire.END, "frame end expected"
    return kind, channel, payload[:-1]


class RawClient:
    """One connection, one channel with confirms. Blocking; anything unexpected raises."""

    def __init__(self, url):
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), PATIENCE)
        self._socket.sendall(wire.HEADER)
        self._expect(10, 10)
        login = "\0%s\0%s" % (unquote(parts.username), unquote(parts.password))
        self._send(0, 10, 11, wire.table([]) + wire.short("PLAIN") + wire.long(login) + wire.short("en_US"))
        self._expect(10, 30)
        self._send(0, 10, 31, struct.pack(">HIH", 1, 131072, 0))
        self._send(0, 10, 40, wire.short(unquote(parts.path[1:])) + b"\0\0")
        self._expect(10, 41)
        self._send(1, 20, 10, b"\0")
        self._expect(20, 11)
        self._send(1, 85, 10, b"\0")
        self._expect(85, 11)

    def _send(self, channel, class_id, method_id, arguments):
        self._socket.sendall(wire.method(channel, class_id, method_id, arguments))

    def _method(self):
        while True:
            kind, _, payload = recv_frame(self._socket)
            if kind == wire.METHOD:
                return struct.unpack(">HH", payload[:4]) + (wire.Reader(payload[4:]),)

    def _expect(self, *allowed):
        class_id, method_id, arguments = self._method()
        assert class_id == allowed[0] and method_id in allowed[1:], "%d.%d instead of %s: %r" % (
            class_id, method_id, allowed, arguments.data)
        return method_id, arguments

    def publish(self, exchange, key, body=b"", **properties):
        """Publishes and waits for the confirm."""
        self.publish_encoded(exchange, key, body, wire.properties(**properties))

    def publish_encoded(self, exchange, key, body, properties_bytes):
        """The same with the bytes of the properties as given."""
        self._send(1, 60, 40, b"\0\0" + wire.short(exchange) + wire.short(key) + b"\1")
        self._socket.sendall(wire.content(1, body, properties_bytes))
        self._expect(60, 80)

    def get_now(self, queue):
        self._send(1, 60, 70, b"\0\0" + wire.short(queue) + b"\1")
        method_id, arguments = self._expect(60, 71, 72)
        if method_id == 72:
            return None
        arguments.take(9)
        exchange, key = arguments.short().decode(), arguments.short().decode()
        _, _, payload = recv_frame(self._socket)
        size, body = struct.unpack(">Q", payload[4:12])[0], b""
        while len(body) < size:
            body += recv_frame(self._socket)[2]
        return RawMessage(exchange, key, wire.read_properties(payload[12:]), body)

    def get(self, queue, count=1, timeout=None):
        found = []

        def enough():
            while len(found) < count:
                message = self.get_now(queue)
                if not message:
                    return False
                found.append(message)
            return True
        wait_until(enough, lambda: "%d messages in %s, got %d" % (count, queue, len(found)), timeout)
        return found

    def close(self):
        self._socket.close()
