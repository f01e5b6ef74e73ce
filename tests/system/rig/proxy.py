# SPDX-License-Identifier: MIT
"""A TCP proxy between harkd and a broker that can do what networks do: cut, stall, swallow, cut after n bytes.

Instead of forwarding, a connection can be given to a script (see hostile.py), which plays a server of its own at the
same port; so one port can be hostile first and a good broker afterwards.
"""
import select
import socket
import threading

from .ports import free_port
from .waiting import wait_until

# How a connection that publishes with confirms gives itself away: confirm.select.
CONFIRM_SELECT = b"\x00\x55\x00\x0a"
BASIC_CONSUME = b"\x00\x3c\x00\x14"


class Link:
    """One connection through the proxy. `up` is towards the broker, `down` towards harkd."""

    def __init__(self, proxy, client):
        self.proxy = proxy
        self.client = client
        self.server = None
        self.up = self.down = 0        # bytes forwarded
        self.head = b""                # the first bytes that harkd sent
        self.stalled = {"up": False, "down": False}
        self.limit = {"up": None, "down": None}     # cut after so many bytes
        self.stall_at = {"up": None, "down": None}  # stalled after so many bytes
        self.closed = False

    def stall(self, *directions):
        """Stops forwarding; what comes stays in the kernel's buffers."""
        for direction in directions or ("up", "down"):
            self.stalled[direction] = True

    def go_on(self):
        self.stalled = {"up": False, "down": False}

    def cut(self):
        """Resets both sides."""
        self.closed = True
        for sock in (self.client, self.server):
            if sock:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def has(self, method):
        return method in self.head

    def run(self):
        try:
            self.server = socket.create_connection(self.proxy.target, 5)
            self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.cut()
            self.client.close()
            return
        pairs = {self.client: (self.server, "up"), self.server: (self.client, "down")}
        try:
            while not self.closed:
                wanted = [s for s, (_, direction) in pairs.items() if not self.stalled[direction]]
                readable = select.select(wanted, [], [], 0.02)[0]
                for source in readable:
                    target, direction = pairs[source]
                    if self.stalled[direction]:
                        continue
                    data = source.recv(65536)
                    if not data or not self._forward(target, direction, data):
                        return
        except OSError:
            pass
        finally:
            self.cut()
            self.client.close()
            self.server.close()

    def _forward(self, target, direction, data):
        limit = self.limit[direction]
        done = self.up if direction == "up" else self.down
        if limit is not None:
            data = data[:max(0, limit - done)]
        target.sendall(data)
        if direction == "up":
            self.up += len(data)
            if len(self.head) < 1 << 16:
                self.head += data
        else:
            self.down += len(data)
        if self.stall_at[direction] is not None and done + len(data) >= self.stall_at[direction]:
            self.stalled[direction] = True
            self.stall_at[direction] = None
        return limit is None or done + len(data) < limit


class Proxy:
    """Listens on `port` and forwards to (host, port) `target`."""

    def __init__(self, target, port=None):
        self.target = target
        self.port = port or free_port()
        self.links = []
        self.script = None        # function(socket) that plays a server, instead of forwarding
        self.prepare = None       # function(link) called before a connection is forwarded
        self.refuse = False       # close each connection at once
        self.accepted = 0
        self._played = []
        self._ended = False
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._ended:
                client.close()
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            if self.refuse:
                client.close()
            elif self.script:
                threading.Thread(target=self._play, args=(self.script, client), daemon=True).start()
            else:
                link = Link(self, client)
                if self.prepare:
                    self.prepare(link)
                self.links.append(link)
                threading.Thread(target=link.run, daemon=True).start()

    def _play(self, script, client):
        self._played.append(client)
        try:
            script(client)
        except (OSError, EOFError):
            pass
        finally:
            client.close()

    def cut_scripts(self):
        """Ends the connections that scripts play on."""
        for client in self._played:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @property
    def live(self):
        return [link for link in self.links if not link.closed]

    def cut(self):
        """Cuts all connections that are open now."""
        for link in self.live:
            link.cut()

    def stall(self, *directions):
        for link in self.live:
            link.stall(*directions)

    def link_with(self, method):
        """The live connection on which harkd has sent `method`, once there is one."""
        return wait_until(lambda: next((link for link in reversed(self.live) if link.has(method)), None),
                          "a connection with %r" % method)

    def close(self):
        self._ended = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self.cut()
        self.cut_scripts()
