# SPDX-License-Identifier: MIT
"""An ordinary AMQP client for the tests: pika with confirms, and words for what the tests do all the time."""
import threading
import time
from collections import namedtuple

import pika

from .waiting import PATIENCE, wait_until

Message = namedtuple("Message", "body key exchange properties headers redelivered")


class Client:
    """Publishes with confirms and mandatory, so that what publish() returned from is safe in a queue."""

    def __init__(self, url):
        self.url = url
        self._connection = self._channel = None

    @property
    def channel(self):
        """The channel, on a new connection when the old one is gone."""
        if not self._channel or not self._channel.is_open:
            self.close()
            parameters = pika.URLParameters(self.url)
            parameters.socket_timeout = parameters.stack_timeout = PATIENCE
            parameters.blocked_connection_timeout = 120
            self._connection = pika.BlockingConnection(parameters)
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        return self._channel

    def close(self):
        try:
            if self._connection and self._connection.is_open:
                self._connection.close()
        except pika.exceptions.AMQPError:
            pass
        self._connection = self._channel = None

    # Topology.

    def exchange(self, name, kind="topic", **options):
        options.setdefault("durable", True)
        self.channel.exchange_declare(name, kind, **options)

    def queue(self, name, *binds, **options):
        """Declares a durable queue and binds it: each of `binds` is "EXCHANGE PATTERN"."""
        options.setdefault("durable", True)
        self.channel.queue_declare(name, **options)
        for bind in binds:
            exchange, _, pattern = bind.partition(" ")
            self.channel.queue_bind(name, exchange, pattern)

    # Publishing.

    def publish(self, exchange, key, body=b"", mandatory=True, **properties):
        if isinstance(body, str):
            body = body.encode()
        properties.setdefault("delivery_mode", 2)
        self.channel.basic_publish(exchange, key, body, pika.BasicProperties(**properties), mandatory=mandatory)

    # Reading.

    def get(self, queue, count=1, timeout=None):
        """Takes `count` messages from the queue; fails when they do not come."""
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

    def get_one(self, queue, timeout=None):
        return self.get(queue, 1, timeout)[0]

    def collect(self, queue, bodies, timeout=None):
        """Takes messages until all of `bodies` were seen, some perhaps more than once."""
        found, wanted = [], set(bodies)

        def complete():
            found.extend(self.get_all(queue))
            return wanted <= {message.body for message in found}
        wait_until(complete, lambda: "%d different bodies in %s, got %d messages" % (len(wanted), queue, len(found)),
                   timeout)
        return found

    def get_now(self, queue):
        """The next message, or None. None too while the queue is not there."""
        try:
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != 404:
                raise
            return None
        if not method:
            return None
        return Message(body, method.routing_key, method.exchange, properties, properties.headers or {},
                       method.redelivered)

    def get_all(self, queue):
        """All that is in the queue now."""
        found = []
        while True:
            message = self.get_now(queue)
            if not message:
                return found
            found.append(message)

    def count(self, queue):
        """Messages that are ready."""
        return self.channel.queue_declare(queue, passive=True).method.message_count


class Flow:
    """A thread that publishes messages "0", "1", ... and publishes again what the broker has not confirmed, however
    often the connection ends. `sent` is how many are safe."""

    def __init__(self, url, exchange, key, count, pause=0.0):
        self.sent = 0
        self.count = count
        self.error = None
        self._stop = threading.Event()
        self._work = (url, exchange, key, pause)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        url, exchange, key, pause = self._work
        client = Client(url)
        try:
            while self.sent < self.count and not self._stop.is_set():
                try:
                    client.publish(exchange, key, str(self.sent), message_id="id-%d" % self.sent)
                    self.sent += 1
                except (pika.exceptions.AMQPError, OSError):
                    client.close()
                    self._stop.wait(0.1)
                if pause:
                    time.sleep(pause)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error
        finally:
            client.close()

    def stop(self):
        self._stop.set()
        self._thread.join(PATIENCE)

    def join(self, timeout=120):
        """Waits until all are sent."""
        self._thread.join(timeout)
        assert not self.error, self.error
        assert self.sent == self.count, "published %d of %d" % (self.sent, self.count)


def expect_all(client, count):
    """Every input id is seen in `results`; what is seen twice has the same message id. Returns how many were."""
    seen = {}
    total = 0

    def collect():
        nonlocal total
        for message in client.get_all("results"):
            seen.setdefault(message.body, set()).add(message.properties.message_id)
            total += 1
        return len(seen) == count
    wait_until(collect, lambda: "all of %d, missing e.g. %s" % (
        count, [i for i in range(count) if b"%d" % i not in seen][:10]), timeout=60, interval=0.1)
    assert all(len(ids) == 1 for ids in seen.values()), "a message was published again under another id"
    return total
