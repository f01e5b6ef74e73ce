# SPDX-License-Identifier: MIT
"""AMQP 0-9-1 bytes by hand: frames, methods, tables with their wire types. Knows no socket.

Other clients hide which type a header had, or cannot send some of them. Here a table is a list of
(name, letter, value), and comes back as exactly that. Letters are RabbitMQ's.
"""
import struct

HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, CONTENT, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"

_NUMBERS = {"b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">Q", "f": ">f",
            "d": ">d", "T": ">Q"}

# Bit and kind of each basic property, in the order of the wire.
PROPERTIES = [("content_type", 15, "short"), ("content_encoding", 14, "short"), ("headers", 13, "table"),
              ("delivery_mode", 12, "octet"), ("priority", 11, "octet"), ("correlation_id", 10, "short"),
              ("reply_to", 9, "short"), ("expiration", 8, "short"), ("message_id", 7, "short"),
              ("timestamp", 6, "time"), ("type", 5, "short"), ("user_id", 4, "short"), ("app_id", 3, "short"),
              ("cluster_id", 2, "short")]


def _bytes(value):
    return value.encode() if isinstance(value, str) else bytes(value)


def short(value):
    value = _bytes(value)
    return struct.pack(">B", len(value)) + value


def long(value):
    value = _bytes(value)
    return struct.pack(">I", len(value)) + value


def field(letter, value):
    """A value with its letter in front."""
    head = letter.encode()
    if letter in _NUMBERS:
        return head + struct.pack(_NUMBERS[letter], value)
    if letter == "t":
        return head + (b"\1" if value else b"\0")
    if letter in "Sx":
        return head + long(value)
    if letter == "D":
        return head + struct.pack(">BI", *value)
    if letter == "F":
        return head + table(value)
    if letter == "A":
        return head + long(b"".join(field(*item) for item in value))
    if letter == "V":
        return head
    raise ValueError(letter)


def table(entries):
    return long(b"".join(short(name) + field(letter, value) for name, letter, value in entries))


class Reader:
    """Takes values off the front of `data`."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise EOFError("%d bytes wanted, %d left" % (count, len(self.data) - self.at))
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def short(self):
        return self.take(self.number(">B"))

    def long(self):
        return self.take(self.number(">I"))

    def field(self):
        letter = self.take(1).decode("latin-1")
        if letter in _NUMBERS:
            return letter, self.number(_NUMBERS[letter])
        if letter == "t":
            return letter, self.number(">B") != 0
        if letter in "Sx":
            return letter, self.long()
        if letter == "D":
            return letter, struct.unpack(">BI", self.take(5))
        if letter == "F":
            return letter, self.table()
        if letter == "A":
            inner, items = Reader(self.long()), []
            while inner.at < len(inner.data):
                items.append(inner.field())
            return letter, items
        if letter == "V":
            return letter, None
        raise ValueError("no such field type: %r" % letter)

    def table(self):
        inner, entries = Reader(self.long()), []
        while inner.at < len(inner.data):
            name = inner.short().decode("utf-8", "surrogateescape")
            entries.append((name,) + inner.field())
        return entries


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + END


def method(channel, class_id, method_id, arguments=b""):
    return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


def properties(**given):
    """Flags and values of basic properties; `headers` is a table as above."""
    flags, values = 0, b""
    for name, bit, kind in PROPERTIES:
        if given.get(name) is None:
            continue
        flags |= 1 << bit
        value = given[name]
        values += {"short": short, "table": table, "octet": lambda v: struct.pack(">B", v),
                   "time": lambda v: struct.pack(">Q", v)}[kind](value)
    return struct.pack(">H", flags) + values


def read_properties(data):
    """{name: value} of the properties that are set."""
    reader = Reader(data)
    flags, found = reader.number(">H"), {}
    for name, bit, kind in PROPERTIES:
        if flags & (1 << bit):
            found[name] = {"short": reader.short, "table": reader.table, "octet": lambda: reader.number(">B"),
                           "time": lambda: reader.number(">Q")}[kind]()
    if reader.at != len(data):
        raise ValueError("%d bytes after the properties" % (len(data) - reader.at))
    return found


def content(channel, body, properties_bytes, frame_max=131072, size=None):
    """Header frame and body frames; `size` lies about the body's length."""
    head = struct.pack(">HHQ", 60, 0, len(body) if size is None else size) + properties_bytes
    frames = [frame(CONTENT, channel, head)]
    step = frame_max - 8
    frames += [frame(BODY, channel, body[i:i + step]) for i in range(0, len(body), step)]
    return b"".join(frames)
