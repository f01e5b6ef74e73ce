# SPDX-License-Identifier: MIT
"""The other end of sd_notify: a socket for NOTIFY_SOCKET that remembers what a service said."""
import os
import socket
import threading

from .waiting import wait_until


class NotifySocket:
    def __init__(self, folder):
        self.path = os.path.join(str(folder), "notify")
        self.messages = []         # dicts, in order; a datagram may hold several assignments
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def environment(self):
        return {"NOTIFY_SOCKET": self.path}

    def _read(self):
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                return
            if not data:
                return
            lines = data.decode("utf-8", "replace").split("\n")
            self.messages.append(dict(line.partition("=")[::2] for line in lines if "=" in line))

    def values(self, name):
        """All values given to `name` so far."""
        return [message[name] for message in list(self.messages) if name in message]

    def wait(self, name, value=None, count=1, timeout=None):
        def found():
            values = self.values(name)
            return len([v for v in values if value is None or v == value]) >= count
        wait_until(found, lambda: "%s=%s (%d), got %s" % (name, value, count, self.messages), timeout)

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
