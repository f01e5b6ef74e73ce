# SPDX-License-Identifier: MIT
"""An AMQP client for cases of the protocol: everything it sends is the test's, everything it gets is looked at.

Blocking, one socket. Methods are given by name, as in the specification:

    channel.call("queue.declare", queue="q")            sends it and returns its -ok
    channel.send("basic.publish", exchange="", key="q")  sends it
    channel.expect("basic.ack", delivery=1)              the next method on the channel must be this, with that
    channel.expect_close(404, "no queue 'q'")            the channel must be closed so; answers close-ok
    channel.silent()                                     nothing may come

What comes on other channels meanwhile is kept for them. What is not expected fails.
"""
import re
import select
import socket
import struct
import time

from . import methods, wire
from .waiting import PATIENCE

CAPABILITIES = {"publisher_confirms": True, "exchange_exchange_bindings": True, "basic.nack": True,
                "consumer_cancel_notify": True, "connection.blocked": True, "consumer_priorities": True,
                "authentication_failure_close": True, "per_consumer_qos": True, "direct_reply_to": True}
END = "the end of the connection"


class Ended(Exception):
    """The server has closed the socket."""


class Channel:
    """What is said on one channel; number 0 is the connection's."""

    def __init__(self, peer, number):
        self.peer, self.number = peer, number
        self.inbox = []
        self.deaf = False
        self.published, self.unconfirmed = 0, set()     # since confirm.select
        self._method = self._size = self._properties = None     # of content that is not complete
        self._body = b""

    # Sending.

    def send(self, name, **arguments):
        self.frame(wire.METHOD, methods.encode(name, arguments))

    def frame(self, kind, payload):
        self.peer.write(wire.frame(kind, self.number, payload))

    def call(self, name, **arguments):
        self.send(name, **arguments)
        return self.expect(name + "-ok")

    def open(self):
        self.call("channel.open")
        return self

    def content(self, body=b"", **properties):
        """Header and body frames; `size` lies about the length."""
        size = properties.pop("size", None)
        if "headers" in properties:
            properties["headers"] = methods.entries(properties["headers"])
        body = body.encode() if isinstance(body, str) else body
        self.peer.write(wire.content(self.number, body, wire.properties(**properties), self.peer.frame_max, size))

    def publish(self, exchange, key, body=b"", mandatory=False, immediate=False, **properties):
        self.published += 1
        self.unconfirmed.add(self.published)
        self.send("basic.publish", exchange=exchange, key=key, mandatory=mandatory, immediate=immediate)
        self.content(body, **properties)

    def publish_safely(self, exchange, key, *bodies, **properties):
        """With confirms (the channel must be in confirm mode): returns when all have been routed."""
        for body in bodies:
            self.publish(exchange, key, body, **properties)
        while self.unconfirmed:
            self.expect("basic.ack")

    # Receiving.

    def next(self, timeout=None):
        """The next method on this channel."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while not self.inbox:
            self.peer.read(deadline, "a method on channel %d" % self.number)
        return self.inbox.pop(0)

    def expect(self, name, timeout=None, **arguments):
        method = self.next(timeout)
        assert method.name == name, "%r instead of %s" % (method, name)
        for argument, value in arguments.items():
            got = getattr(method, argument)
            assert got == value, "%s is %r instead of %r: %r" % (argument, got, value, method)
        return method

    def expect_any(self, *names):
        """These methods in any order, as a dict by name."""
        found = {}
        for _ in names:
            method = self.next()
            assert method.name in names, "%r instead of one of %s" % (method, names)
            found[method.name] = method
        assert len(found) == len(names), "%s instead of %s" % (list(found), names)
        return found

    def expect_close(self, code, text="", method=None, answer=True):
        """The server closes the channel (on channel 0, the connection) with this code and, somewhere in it, this text
        (a regular expression); `method` is the one it blames, None for any, "" for none."""
        closing = "channel.close" if self.number else "connection.close"
        while True:
            close = self.next()
            # What was on its way before is not the matter here.
            if close.name == closing or close.name not in ("basic.ack", "basic.deliver", "basic.return"):
                break
        assert close.name == closing, "%r instead of %s %d %s" % (close, closing, code, text)
        assert close.code == code and re.search(text, close.text), "%r instead of %d %s" % (close, code, text)
        if method is not None:
            assert (close.class_id, close.method_id) == (methods.IDS[method] if method else (0, 0)), repr(close)
        if answer:
            self.send(closing + "-ok")
            if not self.number:
                self.peer.expect_end()
        return close

    def silent(self, seconds=0.15):
        """Nothing comes for a while, on this channel."""
        deadline = time.monotonic() + seconds
        while not self.inbox and self.peer.readable(deadline):
            self.peer.read(deadline + PATIENCE, "the rest of a frame")
        assert not self.inbox, "%r came" % self.inbox

    # What most cases do.

    def declare(self, queue="", **options):
        """A queue; returns its name."""
        return self.call("queue.declare", queue=queue, **options).queue

    def get(self, queue, no_ack=True):
        """basic.get: the method with its message, or None."""
        self.send("basic.get", queue=queue, no_ack=no_ack)
        got = self.next()
        assert got.name in ("basic.get-ok", "basic.get-empty"), repr(got)
        return got if got.name == "basic.get-ok" else None

    def get_soon(self, queue, no_ack=True, timeout=None):
        """The same for a message that is still on its way."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while True:
            got = self.get(queue, no_ack)
            if got:
                return got
            assert time.monotonic() < deadline, "no message in %s" % queue
            time.sleep(0.005)

    def bodies(self, queue):
        """All that is in a queue now."""
        found = []
        while True:
            got = self.get(queue)
            if not got:
                return found
            found.append(got.message.body)

    def ready(self, queue):
        """How many messages are ready in a queue."""
        return self.call("queue.declare", queue=queue, passive=True).messages

    def wait_ready(self, queue, count):
        """Messages with this many ready, soon: a broker may be asynchronous behind a publish without confirm."""
        deadline = time.monotonic() + PATIENCE
        while self.ready(queue) != count:
            assert time.monotonic() < deadline, "%d messages in %s instead of %d" % (self.ready(queue), queue, count)
            time.sleep(0.005)

    def close(self):
        self.call("channel.close", code=200, text="done")

    # Frames of this channel, from the connection.

    def take(self, kind, payload):
        if kind == wire.METHOD:
            assert self._method is None, "a method amidst content: %r" % payload
            method = methods.decode(payload)
            if method.name == "confirm.select-ok":
                self.published, self.unconfirmed = 0, set()
            elif method.name in ("basic.ack", "basic.nack"):
                self.unconfirmed = {n for n in self.unconfirmed if n != method.delivery
                                    and not (method.multiple and n < method.delivery)}
            if method.name in methods.WITH_CONTENT:
                self._method = method
            else:
                self.inbox.append(method)
        elif kind == wire.CONTENT:
            assert self._method is not None and self._size is None, "content header without a method"
            class_id, weight, self._size = struct.unpack(">HHQ", payload[:12])
            assert (class_id, weight) == (60, 0), "wrong content header: %r" % payload
            self._properties, self._body = wire.read_properties(payload[12:]), b""
        elif kind == wire.BODY:
            assert self._size is not None and payload, "body without a header, or an empty one"
            self._body += payload
            assert len(self._body) <= self._size, "more body than announced"
        else:
            raise AssertionError("frame type %d" % kind)
        if self._size is not None and len(self._body) == self._size:
            self._method.message = methods.Message(self._properties, self._body)
            self.inbox.append(self._method)
            self._method = self._size = None


class Peer:
    """A connection. With `until` it stops before that step: "header", "start-ok", "tune-ok", "open"."""

    def __init__(self, broker, until=None, user="guest", password="guest", vhost=None, capabilities=None, tls=None,
                 tune=(2047, 131072, 0), mechanism="PLAIN", response=None, source=None):
        self._socket = socket.create_connection((broker.host, broker.tls_port if tls else broker.port), PATIENCE,
                                                source_address=source)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._buffer, self.heartbeats, self.frame_max = b"", 0, tune[1] or 131072
        self.channels = {}
        self.zero = self.channels[0] = Channel(self, 0)
        self.vhost = broker.vhost if vhost is None else vhost
        if until == "header":
            return
        self.write(wire.HEADER)
        self.start = self.zero.expect("connection.start")
        if until == "start-ok":
            return
        if response is None:
            response = "\0%s\0%s" % (user, password)
        self.start_ok(mechanism, response, capabilities)
        if until == "tune":
            return
        self.tune = self.zero.expect("connection.tune")
        if until == "tune-ok":
            return
        self.zero.send("connection.tune-ok", channel_max=tune[0], frame_max=tune[1], heartbeat=tune[2])
        if until == "open":
            return
        self.zero.call("connection.open", vhost=self.vhost)

    def start_ok(self, mechanism, response, capabilities=None):
        capabilities = CAPABILITIES if capabilities is None else capabilities
        self.zero.send("connection.start-ok", client_properties={"product": "hark tests", "capabilities": capabilities},
                       mechanism=mechanism, response=response, locale="en_US")

    def channel(self, number=None, confirms=False):
        """Opens a channel: the first free number, unless given."""
        number = number or next(n for n in range(1, 65536) if n not in self.channels)
        channel = self.channels[number] = Channel(self, number)
        channel.open()
        if confirms:
            channel.call("confirm.select")
        return channel

    def forget(self, channel):
        """What still comes on it (the close-ok) is not looked at; the number is not used again."""
        self.channels[channel.number].deaf = True

    def raw_channel(self, number):
        """A channel that is not opened."""
        return self.channels.setdefault(number, Channel(self, number))

    # Bytes.

    def write(self, data):
        self._socket.sendall(data)

    def write_some(self, data):
        """As much of it as goes now; 0 if nothing does within a second."""
        if not select.select([], [self._socket], [], 1)[1]:
            return 0
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def readable(self, deadline):
        """Does anything come before the deadline?"""
        return len(self._buffer) >= 7 or self._socket_readable(deadline)

    def _socket_readable(self, deadline):
        if getattr(self._socket, "pending", lambda: 0)():   # TLS has read it already
            return True
        return bool(select.select([self._socket], [], [], max(0, deadline - time.monotonic()))[0])

    def _take(self, count, deadline, what):
        while len(self._buffer) < count:
            if not self._socket_readable(deadline):
                raise AssertionError("waited in vain for %s" % what)
            try:
                more = self._socket.recv(262144)
            except ConnectionResetError:
                more = b""
            if not more:
                raise Ended("the server hung up instead of sending %s" % what)
            self._buffer += more
        return self._buffer[:count]

    def read(self, deadline, what):
        """Reads one frame and gives it to its channel."""
        kind, number, size = struct.unpack(">BHI", self._take(7, deadline, what))
        frame = self._take(size + 8, deadline, what)
        self._buffer = self._buffer[size + 8:]
        assert frame[-1:] == wire.END, "frame end expected"
        assert size + 8 <= self.frame_max or not self.frame_max, "a frame larger than frame_max"
        if kind == wire.HEARTBEAT:
            assert number == 0 and size == 0, "a strange heartbeat"
            self.heartbeats += 1
            return
        assert number in self.channels, "a frame on channel %d: %r" % (number, frame)
        if not self.channels[number].deaf:
            self.channels[number].take(kind, frame[7:-1])

    def read_raw(self, count):
        """Bytes that are no frame."""
        data = self._take(count, time.monotonic() + PATIENCE, "%d bytes" % count)
        self._buffer = self._buffer[count:]
        return data

    def expect_end(self, timeout=None):
        """The server closes the socket, and says nothing more."""
        deadline = time.monotonic() + (PATIENCE if timeout is None else timeout)
        try:
            while True:
                self.read(deadline, END)
                got = [method for channel in self.channels.values() for method in channel.inbox]
                assert not got, "%r instead of %s" % (got, END)
        except Ended:
            assert not self._buffer, "half a frame at the end: %r" % self._buffer

    def expect_close(self, code, text="", method=None, answer=True):
        return self.zero.expect_close(code, text, method, answer)

    def alive(self):
        """The connection still serves: opens and closes a channel."""
        channel = self.channel()
        channel.close()
        del self.channels[channel.number]

    def close(self):
        """connection.close and close-ok. (RabbitMQ leaves it to the client to close the socket.)"""
        self.zero.call("connection.close", code=200, text="bye")
        self.hang_up()

    def hang_up(self):
        self._socket.close()
