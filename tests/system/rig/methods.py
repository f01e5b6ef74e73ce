# SPDX-License-Identifier: MIT
"""The methods of AMQP 0-9-1, with RabbitMQ's extensions, by name: to bytes and back. Knows no socket."""
import struct

from . import wire

# Name -> class, method, and the arguments in the order of the wire. Kinds: o, h, l, L: unsigned integers of 1, 2, 4 and 8
# bytes; s, S: short and long strings; F: a table; b: a bit.
_TABLE = """
connection.start 10 10 o:major o:minor F:server_properties S:mechanisms S:locales
connection.start-ok 10 11 F:client_properties s:mechanism S:response s:locale
connection.secure 10 20 S:challenge
connection.secure-ok 10 21 S:response
connection.tune 10 30 h:channel_max l:frame_max h:heartbeat
connection.tune-ok 10 31 h:channel_max l:frame_max h:heartbeat
connection.open 10 40 s:vhost s:capabilities b:insist
connection.open-ok 10 41 s:known_hosts
connection.close 10 50 h:code s:text h:class_id h:method_id
connection.close-ok 10 51
connection.blocked 10 60 s:reason
connection.unblocked 10 61
connection.update-secret 10 70 S:new_secret s:reason
connection.update-secret-ok 10 71
channel.open 20 10 s:out_of_band
channel.open-ok 20 11 S:channel_id
channel.flow 20 20 b:active
channel.flow-ok 20 21 b:active
channel.close 20 40 h:code s:text h:class_id h:method_id
channel.close-ok 20 41
access.request 30 10 s:realm b:exclusive b:passive b:active b:write b:read
access.request-ok 30 11 h:ticket
exchange.declare 40 10 h:ticket s:exchange s:type b:passive b:durable b:auto_delete b:internal b:nowait F:arguments
exchange.declare-ok 40 11
exchange.delete 40 20 h:ticket s:exchange b:if_unused b:nowait
exchange.delete-ok 40 21
exchange.bind 40 30 h:ticket s:destination s:source s:key b:nowait F:arguments
exchange.bind-ok 40 31
exchange.unbind 40 40 h:ticket s:destination s:source s:key b:nowait F:arguments
exchange.unbind-ok 40 51
queue.declare 50 10 h:ticket s:queue b:passive b:durable b:exclusive b:auto_delete b:nowait F:arguments
queue.declare-ok 50 11 s:queue l:messages l:consumers
queue.bind 50 20 h:ticket s:queue s:exchange s:key b:nowait F:arguments
queue.bind-ok 50 21
queue.purge 50 30 h:ticket s:queue b:nowait
queue.purge-ok 50 31 l:messages
queue.delete 50 40 h:ticket s:queue b:if_unused b:if_empty b:nowait
queue.delete-ok 50 41 l:messages
queue.unbind 50 50 h:ticket s:queue s:exchange s:key F:arguments
queue.unbind-ok 50 51
basic.qos 60 10 l:prefetch_size h:prefetch_count b:global
basic.qos-ok 60 11
basic.consume 60 20 h:ticket s:queue s:tag b:no_local b:no_ack b:exclusive b:nowait F:arguments
basic.consume-ok 60 21 s:tag
basic.cancel 60 30 s:tag b:nowait
basic.cancel-ok 60 31 s:tag
basic.publish 60 40 h:ticket s:exchange s:key b:mandatory b:immediate
basic.return 60 50 h:code s:text s:exchange s:key
basic.deliver 60 60 s:tag L:delivery b:redelivered s:exchange s:key
basic.get 60 70 h:ticket s:queue b:no_ack
basic.get-ok 60 71 L:delivery b:redelivered s:exchange s:key l:messages
basic.get-empty 60 72 s:cluster_id
basic.ack 60 80 L:delivery b:multiple
basic.reject 60 90 L:delivery b:requeue
basic.recover-async 60 100 b:requeue
basic.recover 60 110 b:requeue
basic.recover-ok 60 111
basic.nack 60 120 L:delivery b:multiple b:requeue
confirm.select 85 10 b:nowait
confirm.select-ok 85 11
tx.select 90 10
tx.select-ok 90 11
tx.commit 90 20
tx.commit-ok 90 21
tx.rollback 90 30
tx.rollback-ok 90 31
"""

_FORMS = {"o": ">B", "h": ">H", "l": ">I", "L": ">Q"}
IDS, _ARGUMENTS, NAMES = {}, {}, {}
for _line in _TABLE.split("\n"):
    if _line:
        _name, _class, _method, *_args = _line.split()
        IDS[_name] = (int(_class), int(_method))
        NAMES[IDS[_name]] = _name
        _ARGUMENTS[_name] = [tuple(arg.split(":")) for arg in _args]
WITH_CONTENT = ("basic.return", "basic.deliver", "basic.get-ok")


def typed(value):
    """(letter, value) of a Python value, as most clients write it; a pair stays what it is."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, bool):
        return "t", value
    if isinstance(value, int):
        return ("I" if -1 << 31 <= value < 1 << 31 else "l"), value
    if isinstance(value, (str, bytes)):
        return "S", value
    if value is None:
        return "V", None
    if isinstance(value, list):
        return "A", [typed(item) for item in value]
    return "F", entries(value)


def entries(values):
    """A table as wire.table wants it, of a dict; a list stays what it is."""
    if isinstance(values, dict):
        return [(name,) + typed(value) for name, value in values.items()]
    return values or []


def plain(letter, value):
    """What a field read from the wire means in Python; texts are str where they are UTF-8."""
    if letter == "F":
        return {name: plain(kind, inner) for name, kind, inner in value}
    if letter == "A":
        return [plain(*item) for item in value]
    return text(value)


def text(value):
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


class Method:
    """One method that was received: `name`, and its arguments as attributes; `message` where content follows."""

    def __init__(self, name, arguments):
        self.name, self.arguments, self.message = name, arguments, None
        self.__dict__.update(arguments)

    def __repr__(self):
        return "%s%r" % (self.name, self.arguments)


class Message:
    """Content: `properties` of str and int, `headers` as a dict, `table` as on the wire, `body` as bytes."""

    def __init__(self, properties, body):
        self.table = properties.get("headers", [])
        self.properties = {name: text(value) for name, value in properties.items() if name != "headers"}
        self.has_headers = "headers" in properties
        self.headers = plain("F", self.table)
        self.body = body

    def __repr__(self):
        return "Message(%r, %r, %r)" % (self.properties, self.headers, self.body)


def encode(name, given):
    """The payload of a method frame. Arguments that are not given are 0, empty or false."""
    given = dict(given)
    out, bits, used = b"", 0, 0
    for kind, argument in _ARGUMENTS[name]:
        value = given.pop(argument, None)
        if kind == "b":
            bits |= bool(value) << used
            used += 1
            continue
        if used:
            out, bits, used = out + struct.pack(">B", bits), 0, 0
        if kind == "s":
            out += wire.short(value or "")
        elif kind == "S":
            out += wire.long(value or "")
        elif kind == "F":
            out += wire.table(entries(value))
        else:
            out += struct.pack(_FORMS[kind], value or 0)
    assert not given, "%s has no argument %s" % (name, ", ".join(given))
    if used:
        out += struct.pack(">B", bits)
    return struct.pack(">HH", *IDS[name]) + out


def decode(payload):
    """A Method of the payload of a method frame."""
    name = NAMES[struct.unpack(">HH", payload[:4])]
    reader, found, bits, used = wire.Reader(payload[4:]), {}, 0, 0
    for kind, argument in _ARGUMENTS[name]:
        if kind == "b":
            bits = reader.number(">B") if used == 0 else bits
            found[argument] = bool(bits & (1 << used))
            used += 1
            continue
        used = 0
        if kind == "s":
            found[argument] = text(reader.short())
        elif kind == "S":
            found[argument] = text(reader.long())
        elif kind == "F":
            found[argument] = plain("F", reader.table())
        else:
            found[argument] = reader.number(_FORMS[kind])
    assert reader.at == len(reader.data), "%s has more than its arguments: %r" % (name, payload)
    return Method(name, found)
