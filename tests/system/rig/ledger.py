# SPDX-License-Identifier: MIT
"""What must be in the queues at some point of a recording, by what the clients had said and heard up to there.

A message is known by its body, which begins with "number:". The ledger follows each connection's bytes, so it knows for
every copy of a message in a place (a queue, or the queues that it moves between as a dead letter) when it was published,
when that was confirmed, when it was taken out, and when something that was asked for after that was confirmed: from then
on it must not come back. It judges what harkd promises: all that one turn of its loop asks for is one step, in order.
"""
from . import methods, wire
from .powercut import GOT, SENT

NEVER = float("inf")


class Copy:
    """Positions in the recording."""

    def __init__(self, published, port):
        self.published, self.port = published, port
        self.confirmed = self.taken = self.gone = NEVER     # taken: perhaps no longer there; gone: surely

    def allowed(self, cut):
        """How often it may be there."""
        if self.published > cut or self.gone <= cut:
            return (0,)
        return (1,) if self.confirmed <= cut < self.taken else (0, 1)


class _Stream:
    """Frames of one direction of a connection."""

    def __init__(self):
        self.buffer = b""

    def frames(self, data):
        self.buffer += data
        if self.buffer.startswith(b"AMQP"):
            self.buffer = self.buffer[8:]
        while len(self.buffer) >= 7:
            size = int.from_bytes(self.buffer[3:7], "big") + 8
            if len(self.buffer) < size:
                return
            frame, self.buffer = self.buffer[:size], self.buffer[size:]
            yield frame[0], int.from_bytes(frame[1:3], "big"), frame[7:-1]


class _Channel:
    def __init__(self):
        self.content = {}           # direction -> [method, size, body]
        self.confirms = False
        self.published = 0
        self.waiting = {}           # of confirms: number -> (copies, how many removals before it)
        self.transaction = None     # (copies added, copies taken)
        self.commits = []           # asked for, not yet answered
        self.gets, self.tags = [], {}
        self.asked = []             # queues of purge, delete and declare that wait for their -ok


class Ledger:
    """`place` gives the place of a queue; `route` the queues of a message, by exchange and key."""

    def __init__(self, place, route):
        self.place, self.route = place, route
        self.copies = {}            # (place, number) -> Copy
        self.transactions = []      # (copies added, copies taken)
        self.queues = {}            # name -> [(position, event)]
        self._streams, self._channels = {}, {}
        self._taken = {}            # port -> copies taken out, in order

    def take(self, position, kind, port, data):
        if kind not in (GOT, SENT):
            return
        stream = self._streams.setdefault((port, kind), _Stream())
        for frame_kind, number, payload in stream.frames(data):
            channel = self._channels.setdefault((port, number), _Channel())
            if frame_kind == wire.METHOD:
                method = methods.decode(payload)
                if method.name in ("basic.publish", "basic.get-ok", "basic.deliver", "basic.return"):
                    channel.content[kind] = [method, None, b""]
                else:
                    self._method(position, port, channel, method)
                continue
            content = channel.content[kind] if frame_kind in (wire.CONTENT, wire.BODY) else None
            if frame_kind == wire.CONTENT:
                content[1] = int.from_bytes(payload[4:12], "big")
            elif frame_kind == wire.BODY:
                content[2] += payload
            if content is not None and len(content[2]) == content[1]:
                self._message(position, port, channel, content[0], content[2])

    def _message(self, position, port, channel, method, body):
        number = int(body.partition(b":")[0])
        if method.name == "basic.publish":
            copies = [self.copies.setdefault((self.place(queue), number), Copy(position, port))
                      for queue in self.route(method.exchange, method.key)]
            if channel.transaction is not None:
                channel.transaction[0].extend(copies)
            elif channel.confirms:
                channel.published += 1
                channel.waiting[channel.published] = (copies, len(self._taken.get(port, ())))
        elif method.name == "basic.get-ok":
            channel.tags[method.delivery] = self.copies[self.place(channel.gets.pop(0)), number]

    def _take_out(self, position, port, copies):
        for copy in copies:
            copy.taken = min(copy.taken, position)
        self._taken.setdefault(port, []).extend(copies)

    def _method(self, position, port, channel, method):
        name = method.name
        if name == "confirm.select":
            channel.confirms = True
        elif name == "tx.select":
            channel.transaction = ([], [])
        elif name == "basic.get":
            channel.gets.append(method.queue)
        elif name == "basic.get-empty":
            channel.gets.pop(0)
        elif name == "basic.ack" and channel.waiting:
            self._confirmed(position, port, channel, method)
        elif name in ("basic.ack", "basic.nack", "basic.reject"):
            self._settled(position, port, channel, method)
        elif name == "tx.commit":
            added, taken = channel.transaction
            channel.commits.append((added, taken, len(self._taken.get(port, ()))))
            self._take_out(position, port, taken)
            self.transactions.append((added, taken))
            channel.transaction = ([], [])
        elif name == "tx.commit-ok":
            added, taken, before = channel.commits.pop(0)
            for copy in added:
                copy.confirmed = position
            self._gone(position, port, before)
            for copy in taken:
                copy.gone = min(copy.gone, position)
        elif name in ("queue.declare", "queue.delete", "queue.purge"):
            self.queues.setdefault(method.queue, []).append((position, name))
            copies = []
            if name != "queue.declare":
                copies = [copy for (place, _), copy in self.copies.items() if place == method.queue]
                self._take_out(position, port, copies)
            channel.asked.append((method.queue, copies))
        elif name in ("queue.declare-ok", "queue.delete-ok", "queue.purge-ok"):
            queue, copies = channel.asked.pop(0)
            self.queues[queue].append((position, name))
            for copy in copies if name == "queue.delete-ok" else ():
                copy.gone = min(copy.gone, position)

    def _settled(self, position, port, channel, method):
        tags = [tag for tag in channel.tags if tag == method.delivery or (
            getattr(method, "multiple", False) and tag < method.delivery)]
        copies = [channel.tags.pop(tag) for tag in tags]
        if method.name != "basic.ack":
            return      # it comes back, or is a dead letter: it stays in its place
        if channel.transaction is not None:
            channel.transaction[1].extend(copies)
        else:
            self._take_out(position, port, copies)

    def _confirmed(self, position, port, channel, method):
        numbers = [number for number in channel.waiting if number == method.delivery or (
            method.multiple and number < method.delivery)]
        for number in numbers:
            copies, before = channel.waiting.pop(number)
            for copy in copies:
                copy.confirmed = position
            self._gone(position, port, before)

    def _gone(self, position, port, before):
        for copy in self._taken.get(port, ())[:before]:
            copy.gone = min(copy.gone, position)

    # At a cut.

    def judge_queue(self, queue, cut, there):
        """Whether it may be there."""
        events = [name for position, name in self.queues.get(queue, ()) if position <= cut]
        last = events[-1] if events else "queue.delete-ok"
        while last in ("queue.purge", "queue.purge-ok"):
            events.pop()
            last = events[-1]
        assert there or last != "queue.declare-ok", "queue %s was declared and is not there" % queue
        assert not there or last != "queue.delete-ok", "queue %s was deleted and is there" % queue

    def judge(self, cut, found):
        """`found`: queue -> numbers in the order that they came."""
        times = {}
        for queue, numbers in found.items():
            for number in numbers:
                key = self.place(queue), number
                assert key in self.copies, "message %d came from %s, where nobody has sent it" % (number, queue)
                times[key] = times.get(key, 0) + 1
        for (place, number), copy in self.copies.items():
            count = times.get((place, number), 0)
            assert count in copy.allowed(cut), "message %d is %d times in %s, not %s: %s" % (
                number, count, place, copy.allowed(cut), vars(copy))
            copy.count = count
        for added, taken in self.transactions:
            self._judge_transaction(cut, added, taken)

    def _judge_transaction(self, cut, added, taken):
        done = {copy.count for copy in added if copy.published <= cut < copy.taken}
        done |= {1 - copy.count for copy in taken if copy.confirmed <= cut}
        assert len(done) < 2, "half a transaction is there: %s, %s" % ([vars(copy) for copy in added],
                                                                      [vars(copy) for copy in taken])
