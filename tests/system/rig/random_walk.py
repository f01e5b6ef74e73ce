# SPDX-License-Identifier: MIT
"""A client that does random things, the same ones for the same seed, and writes down all that it sees.

Two brokers that a client cannot tell apart make it write the same. Each step waits until nothing moves any more, so
that what is written down does not depend on how fast a broker is. What may differ from one run to another is left out or
put in order: delivery tags, generated names, times, which of two queues was quicker.
"""
import random
import re
import time

from .peer import Ended, Peer

EXCHANGES = ["e0", "e1", "e2", "e3"]
QUEUES = ["q0", "q1", "q2", "q3"]
PREDECLARED = ["", "amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"]
TYPES = ["direct", "fanout", "topic", "headers"]
KEYS = ["a", "b", "a.b", "b.c", "a.b.c", "q0", "q1", "q2", "q3", ""]
PATTERNS = KEYS + ["*", "#", "a.*", "*.b", "a.#", "#.c", "*.#", "#.#.c", "a.*.c"]
HEADER_NAMES = ["h1", "h2", "x-h"]
HEADER_VALUES = [1, 2, "v", None, True]
LONG = 600000                       # ms: longer than any walk
STILL = "still"                     # a queue to ask after, to know that all before it has been done
# A channel is gone for the client before the broker has given back what it held.
AFTERWARDS = 0.03
# Texts that are not worth the same words on all brokers.
WORDING = [(re.compile(r"vhost '[^']*'"), "vhost V"), (re.compile(r"amq\.gen-[\w-]+"), "GENERATED"),
           (re.compile(r"(PRECONDITION_FAILED - invalid) .*"), r"\1 ..."), (re.compile(r"(COMMAND_INVALID) .*"), r"\1 ...")]


class _Session:
    """What the walk knows of one of its channels."""

    def __init__(self, channel):
        self.channel = channel
        self.mode = "plain"         # or "confirm" or "tx": what was selected first
        self.held = []              # (consumer tag or "get", body, delivery tag): not settled
        self.tags = {}              # consumer tag -> no_ack
        self.get_no_ack = False
        self.unconfirmed = set()
        self.uncommitted = False


class Walk:
    def __init__(self, broker, seed):
        self._random = random.Random(seed)
        self._broker = broker
        # Where a dead letter with BCC goes is one of the differences: either there are none, or all have keys.
        self._blind = self._may(.3)
        self._lines = []
        self._published = 0
        self._watch = Peer(broker)      # counts, on a connection of its own
        self._watching = self._watch.channel()
        self._watching.declare(STILL)
        self._connect()

    def run(self, steps):
        """What was seen, line by line: steps begin in the first column."""
        beginning = [lambda name=name: self._declare_exchange(name) for name in EXCHANGES]
        beginning += [lambda name=name: self._declare_queue(name) for name in QUEUES]
        beginning += [self._bind] * 8
        names, weights = zip(*_WEIGHTS.items())
        for number in range(steps):
            step = beginning[number] if number < len(beginning) else getattr(self, self._random.choices(names, weights)[0])
            self._number = self._random.choice([1, 1, 2])
            self._session = self._sessions[self._number]
            self._channel = self._session.channel
            if step.__name__ in _REROUTES and any(session.uncommitted for session in self._sessions.values()):
                continue        # one of the differences: when a transaction is routed
            try:
                said = step()
            except (OSError, Ended):
                self._ended, said = True, "the connection is gone"
            if said:
                self._lines.append("%d channel %d %s" % (number, self._number, said))
                self._look()
        self._lines.append("what is left")
        self._peer.hang_up()
        self._ended = True
        time.sleep(AFTERWARDS)
        self._rest()
        for queue in QUEUES:
            self._lines += ["  %s %s" % (queue, left) for left in self._empty(queue)]
        self._watch.hang_up()
        return [self._reworded(line) for line in self._lines]

    @staticmethod
    def _reworded(line):
        line = line.replace('"', "'")
        for pattern, words in WORDING:
            line = pattern.sub(words, line)
        return line

    # Connections.

    def _connect(self):
        self._peer = Peer(self._broker)
        self._ended = False
        self._sessions = {number: _Session(self._peer.channel(number)) for number in (1, 2)}

    def _reopen(self, number):
        del self._peer.channels[number]
        self._sessions[number] = _Session(self._peer.channel(number))

    # Waiting.

    def _look(self):
        """What the last step has led to."""
        counts, begin = self._rest(), len(self._lines)
        closed = self._write_down()
        if closed and not self._ended:
            time.sleep(AFTERWARDS)
            counts = self._rest()
            self._write_down()
            self._lines[begin:] = sorted(self._lines[begin:], key=lambda line: line.split()[1])     # by channel
        if self._ended:
            # Its channels end one after the other: the last may still get what the first gives back.
            self._lines[begin:] = [line for line in self._lines[begin:] if " basic.deliver " not in line]
            self._lines.append("  the connection has ended")
            self._peer.hang_up()
            time.sleep(AFTERWARDS)
            self._connect()
            counts = self._rest()
        self._lines.append("  %s" % counts)

    def _rest(self):
        """Returns when all has been done and nothing moves: (messages, consumers) of each queue, or why not."""
        self._wait_done()
        still, last = 0, None
        while still < 3:
            came = self._read(0.004)
            now = [self._counts(queue) for queue in QUEUES]
            still = still + 1 if now == last and not came else 0
            last = now
        return last

    def _wait_done(self):
        """The broker has seen all that was sent on this channel."""
        inbox = self._channel.inbox if self._sessions else []
        if self._ended or self._peer.channels.get(self._number) is not self._channel:
            return
        try:
            self._channel.send("queue.declare", queue=STILL, passive=True)
            while not self._peer.zero.inbox and not any(method.name == "channel.close" for method in inbox):
                for method in inbox:
                    if method.name == "queue.declare-ok" and method.queue == STILL:
                        inbox.remove(method)
                        return
                self._peer.read(time.monotonic() + 10, "the end of a step")
        except (OSError, Ended):
            self._ended = True

    def _read(self, seconds):
        came, deadline = False, time.monotonic() + seconds
        try:
            while not self._ended and self._peer.readable(deadline):
                self._peer.read(deadline + 10, "the rest of a frame")
                came = True
        except Ended:
            self._ended = True
        return came

    def _counts(self, queue):
        self._watching.send("queue.declare", queue=queue, passive=True)
        answer = self._watching.next()
        if answer.name == "channel.close":
            self._watching.send("channel.close-ok")
            self._watching.open()
            return answer.code
        return answer.messages, answer.consumers

    def _empty(self, queue):
        while True:
            self._watching.send("basic.get", queue=queue, no_ack=True)
            answer = self._watching.next()
            if answer.name != "basic.get-ok":
                break
            yield answer.redelivered, answer.exchange, answer.key, self._message(answer.message)
        if answer.name == "channel.close":
            self._watching.send("channel.close-ok")
            self._watching.open()

    # Writing down.

    def _write_down(self):
        """All that came; true if a channel was closed."""
        closed = []
        for number, channel in sorted(self._peer.channels.items()):
            inbox, channel.inbox = channel.inbox, []
            groups = {}     # what has an order among itself only
            for method in inbox:
                group, text = self._seen(number, method)
                groups.setdefault(group, []).append(text)
            for group in sorted(groups):
                lines = [str(sorted(groups[group]))] if group == "confirms" else groups[group]
                self._lines += ["  channel %d %s" % (number, line) for line in lines]
            if any(method.name == "channel.close" for method in inbox):
                channel.send("channel.close-ok")
                closed.append(number)
            if any(method.name == "connection.close" for method in inbox):
                channel.send("connection.close-ok")
                self._ended = True
        if not self._ended:
            for number in closed:
                self._reopen(number)
        return bool(closed)

    def _seen(self, number, method):
        arguments = dict(method.arguments)
        session = self._sessions.get(number)
        if method.name in ("basic.ack", "basic.nack"):
            done = {tag for tag in session.unconfirmed
                    if tag == method.delivery or (method.multiple and tag < method.delivery)}
            session.unconfirmed -= done
            return "confirms", [(tag, method.name) for tag in sorted(done)]
        group = ""
        if method.name in ("basic.deliver", "basic.get-ok"):
            group = arguments.get("tag", "get")
            if not (session.tags.get(group) if group != "get" else session.get_no_ack):
                session.held.append((group, method.message.body.decode(), arguments["delivery"]))
            del arguments["delivery"]
        elif method.name == "basic.cancel":
            session.tags.pop(method.tag, None)
            group = "cancel " + method.tag
        elif method.name == "basic.return":
            group = "return"
        if method.message:
            arguments["message"] = self._message(method.message)
        return group, "%s %s" % (method.name, sorted(arguments.items()))

    def _message(self, message):
        return message.body.decode(), sorted(message.properties.items()), self._timeless(message.headers)

    def _timeless(self, value, name=None):
        if name == "time":
            return "a time"
        if isinstance(value, dict):
            return {name: self._timeless(inner, name) for name, inner in sorted(value.items())}
        if isinstance(value, list):
            items = [self._timeless(inner) for inner in value]
            return items[:1] + sorted(items[1:], key=str) if name == "x-death" else items   # one of the differences
        return value

    # Choosing.

    def _may(self, chance):
        return self._random.random() < chance

    def _any(self, *lists):
        return self._random.choice([item for some in lists for item in some])

    def _queue(self):
        return self._any(QUEUES * 20, ["nope"])

    def _exchange(self):
        return self._any(EXCHANGES * 8, PREDECLARED, ["none"])

    def _some_headers(self, chance):
        return {name: self._any(HEADER_VALUES) for name in HEADER_NAMES if self._may(chance)}

    def _binding_arguments(self):
        arguments = self._some_headers(.4) if self._may(.3) else {}
        if self._may(.3):
            arguments["x-match"] = self._any(["all", "any", "any-with-x", "all-with-x"] * 5, ["wrong"])
        return arguments

    # Steps. Each returns what it does, or None if it does nothing.

    def _send(self, name, **arguments):
        self._channel.send(name, **arguments)
        return "%s %s" % (name, arguments)

    def _declare_exchange(self, name=None):
        alternate = {"alternate-exchange": self._any(EXCHANGES)} if self._may(.2) else {}
        return self._send("exchange.declare", exchange=name or self._any(EXCHANGES * 4, ["amq.direct", "amq.new", ""]),
                          type=self._any(TYPES * 6, [] if name else ["nonsense"]), passive=self._may(.1) and not name,
                          durable=self._may(.3), auto_delete=self._may(.2), internal=self._may(.1), arguments=alternate)

    def _delete_exchange(self):
        return self._send("exchange.delete", exchange=self._any(EXCHANGES * 5, PREDECLARED), if_unused=self._may(.3))

    def _bind(self):
        if self._may(.25):
            return self._send("exchange.bind", destination=self._exchange(), source=self._exchange(),
                              key=self._any(PATTERNS), arguments=self._binding_arguments())
        return self._send("queue.bind", queue=self._queue(), exchange=self._exchange(), key=self._any(PATTERNS),
                          arguments=self._binding_arguments())

    def _unbind(self):
        if self._may(.5):
            return self._send("exchange.unbind", destination=self._exchange(), source=self._exchange(),
                              key=self._any(PATTERNS))
        return self._send("queue.unbind", queue=self._queue(), exchange=self._exchange(), key=self._any(PATTERNS))

    def _declare_queue(self, name=None):
        choices = [(.25, "x-max-length", [0, 1, 2, 3]), (.1, "x-max-length-bytes", [0, 5, 10]),
                   (.25, "x-overflow", ["drop-head", "reject-publish", "reject-publish-dlx"]),
                   (.4, "x-dead-letter-exchange", EXCHANGES + ["", "", "", "amq.fanout"]),
                   (.2, "x-max-priority", [1, 3, 10]), (.15, "x-single-active-consumer", [True]),
                   (.1, "x-message-ttl", [0, LONG]), (.01, "x-unknown", [1]), (.01, "x-expires", [-1, "wrong", LONG])]
        arguments = {argument: self._any(values) for chance, argument, values in choices if self._may(chance)}
        if "x-dead-letter-exchange" in arguments and (self._blind or self._may(.7)):
            arguments["x-dead-letter-routing-key"] = self._any(KEYS)
        return self._send("queue.declare", queue=name or self._any(QUEUES * 6, ["", "amq.new"]), arguments=arguments,
                          passive=self._may(.1) and not name, durable=self._may(.3), exclusive=self._may(.12),
                          auto_delete=self._may(.12))

    def _delete_queue(self):
        return self._send("queue.delete", queue=self._queue(), if_unused=self._may(.3), if_empty=self._may(.3))

    def _purge(self):
        return self._send("queue.purge", queue=self._queue())

    def _publish(self):
        self._published += 1
        choices = [(.2, "priority", [0, 1, 2, 5, 11, 255]), (.1, "expiration", ["0", str(LONG)]),
                   (.005, "expiration", ["x", "-1", ""]), (.3, "delivery_mode", [1, 2]),
                   (.1, "user_id", ["guest"] * 20 + ["other"]), (.1, "message_id", ["an id"])]
        properties = {name: self._any(values) for chance, name, values in choices if self._may(chance)}
        if "priority" in properties:    # RabbitMQ does not always notice at once that one has expired that overtook others
            properties.pop("expiration", None)
        headers = self._some_headers(.3)
        for name, chance in ("CC", .2), ("BCC", .2 if self._blind else 0):
            if self._may(chance):
                headers[name] = self._random.sample(KEYS, self._any([1, 2]))
        if headers or self._may(.1):
            properties["headers"] = headers
        exchange, key = self._any(EXCHANGES * 6, [""] * 12, PREDECLARED), self._any(KEYS)
        mandatory, body = self._may(.3), "message %d" % self._published
        self._session.uncommitted = self._session.mode == "tx"
        if self._session.mode == "confirm":
            self._session.unconfirmed.add(self._channel.published + 1)
        self._channel.publish(exchange, key, body, mandatory, **properties)
        return "publish %r to %r with %r mandatory=%r %s" % (body, exchange, key, mandatory, properties)

    def _get(self):
        self._session.get_no_ack = self._may(.3)
        return self._send("basic.get", queue=self._queue(), no_ack=self._session.get_no_ack)

    def _settle(self):
        """Acks, nacks and rejects, one or all, at times what was never delivered."""
        held, chance = self._session.held, self._random.random()
        tag, multiple, what = self._any([0, 999]), self._may(.3), "nothing"
        if held and chance < .15 and self._from_one():
            tag, multiple, what = self._any([0, max(tag for _, _, tag in held)]), True, "all"
            held.clear()
        elif held and chance > .02:
            where, body = self._any(sorted({(where, body) for where, body, _ in held}))
            tag, multiple = min(tag for *message, tag in held if message == [where, body]), False
            held.remove((where, body, tag))
            what = "%s of %s" % (body, where)
        elif chance > .02:
            return None
        method, requeue = self._any(["basic.ack", "basic.nack", "basic.reject"]), self._may(.5)
        arguments = {} if method == "basic.ack" else {"requeue": requeue}
        if method != "basic.reject":
            arguments["multiple"] = multiple
        elif multiple:
            method, arguments["multiple"] = "basic.nack", True
        self._channel.send(method, delivery=tag, **arguments)
        return "%s %s %s" % (method, what, arguments)

    def _from_one(self):
        """RabbitMQ gives back what came by one consumer tag, then what came by another: who waits may get parts of it."""
        return len({where for where, _, _ in self._session.held}) <= 1 and "get" not in {w for w, _, _ in self._session.held}

    def _recover(self):
        if not self._from_one():
            return None
        self._session.held.clear()
        return self._send(self._any(["basic.recover"] * 4, ["basic.recover-async"]), requeue=self._may(.95))

    def _consume(self):
        tag, no_ack = "%s on %d" % (self._any("abc"), self._number), self._may(.2)
        priority = {"x-priority": self._any([-1, 1, 5, 5])} if self._may(.2) else {}
        self._session.tags.setdefault(tag, no_ack)
        return self._send("basic.consume", queue=self._queue(), tag=tag, no_ack=no_ack, exclusive=self._may(.1),
                          arguments=priority)

    def _cancel(self):
        tag = "%s on %d" % (self._any("abc"), self._number)
        self._session.tags.pop(tag, None)
        return self._send("basic.cancel", tag=tag)

    def _qos(self):
        """RabbitMQ counts what basic.get has brought in a limit of the whole channel, and does not notice its settlement."""
        got = any(where == "get" for where, _, _ in self._session.held)
        return self._send("basic.qos", prefetch_count=self._any([0, 1, 2, 3]), prefetch_size=int(self._may(.01)),
                          **{"global": self._may(.3) and not got})

    def _select(self):
        mode = self._any(["confirm", "tx"])
        if self._session.mode == "plain":
            self._session.mode = mode
        return self._send(mode + ".select")

    def _end_transaction(self):
        """RabbitMQ takes nothing else meanwhile."""
        if self._session.mode != "tx":
            return None
        name = self._any(["tx.commit", "tx.commit", "tx.rollback"])
        self._session.uncommitted = False
        said = self._send(name)
        while not self._peer.zero.inbox and not any(m.name in (name + "-ok", "channel.close") for m in self._channel.inbox):
            self._peer.read(time.monotonic() + 10, "the end of a transaction")
        return said

    def _leave_channel(self):
        self._channel.send("channel.close", code=200, text="enough")
        while self._channel.next().name != "channel.close-ok":
            pass
        self._reopen(self._number)
        time.sleep(AFTERWARDS)
        return "channel.close"

    def _leave(self):
        self._peer.hang_up()
        self._ended = True
        return "hangs up"

    def _break_a_rule(self):
        name = self._any(["channel.open", "basic.qos-ok", "access.request"])
        return self._send(name)


_WEIGHTS = {"_publish": 30, "_settle": 21, "_get": 12, "_consume": 8, "_bind": 8, "_cancel": 4, "_end_transaction": 4,
            "_qos": 3, "_declare_queue": 3, "_recover": 2, "_unbind": 2, "_declare_exchange": 2, "_select": 2,
            "_delete_queue": 1, "_purge": 1, "_leave_channel": 1, "_delete_exchange": .7, "_leave": .2, "_break_a_rule": .3}
_REROUTES = ("_bind", "_unbind", "_declare_queue", "_declare_exchange", "_delete_queue", "_delete_exchange")
