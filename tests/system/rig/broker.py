# SPDX-License-Identifier: MIT
"""What the tests ask of a broker. Whoever implements this can stand in for RabbitMQ in every scenario.

A broker lives for a session; each test gets an empty vhost of its own (`vhost`), which url() names.
"""
import abc
from urllib.parse import quote


class Broker(abc.ABC):
    name = "?"
    host = "127.0.0.1"
    port = 0          # plain AMQP
    tls_port = 0      # AMQP over TLS with `certificates`; 0: no such listener
    certificates = None
    vhost = "/"

    def url(self, user="guest", password="guest", host=None, port=None, vhost=None, scheme="amqp"):
        """An AMQP URL for the test's vhost; `host` may be a list "host:port,host:port"."""
        host = host or "%s:%d" % (self.host, port or (self.tls_port if scheme == "amqps" else self.port))
        login = quote(user, safe="") + (":" + quote(password, safe="") if password is not None else "")
        return "%s://%s@%s/%s" % (scheme, login, host, quote(vhost or self.vhost, safe=""))

    # The process.

    @abc.abstractmethod
    def start(self):
        """Starts it, if it does not run, and returns when it accepts connections."""

    @abc.abstractmethod
    def stop(self):
        """An orderly stop: durable things are there again after start()."""

    @abc.abstractmethod
    def kill9(self):
        """Ends it without a warning."""

    @abc.abstractmethod
    def pause(self):
        """Freezes it: connections stay open and silent."""

    @abc.abstractmethod
    def resume(self):
        """Undoes pause()."""

    def restart(self):
        self.stop()
        self.start()

    @abc.abstractmethod
    def log(self):
        """What it has logged so far."""

    # What is in it.

    @abc.abstractmethod
    def add_vhost(self, name):
        """Makes a vhost in which guest may do everything."""

    @abc.abstractmethod
    def delete_vhost(self, name):
        """Removes a vhost with all in it."""

    @abc.abstractmethod
    def add_user(self, name, password=None, configure=".*", write=".*", read=".*"):
        """Makes a user, or gives an existing one other permissions, in the test's vhost."""

    @abc.abstractmethod
    def queues(self):
        """{name: {"ready": n, "unacked": n, "consumers": n, "durable": bool, "arguments": {...}}} of the vhost."""

    @abc.abstractmethod
    def delete_queue(self, name):
        """Deletes a queue under whoever consumes from it."""

    @abc.abstractmethod
    def connections(self):
        """How many AMQP connections to the vhost are open."""

    @abc.abstractmethod
    def users(self):
        """Names of the users of these connections."""

    @abc.abstractmethod
    def close_connections(self, reason="closed by the test"):
        """Closes all connections to the vhost with connection.close 320 CONNECTION_FORCED."""

    @abc.abstractmethod
    def memory_alarm(self, on):
        """Sets or clears the alarm that blocks publishers."""

    def queue(self, name):
        return self.queues().get(name)

    def ready(self, name):
        queue = self.queue(name)
        return queue["ready"] if queue else None

    def unacked(self, name):
        queue = self.queue(name)
        return queue["unacked"] if queue else None
