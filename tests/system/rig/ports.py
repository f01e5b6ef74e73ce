# SPDX-License-Identifier: MIT
"""Free TCP ports on the loopback address."""
import socket
import threading

_given = set()
_lock = threading.Lock()


def free_port():
    """A port that nobody listens on now, and that this process has not handed out before."""
    with _lock:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            if port not in _given:
                _given.add(port)
                return port
