# SPDX-License-Identifier: MIT
"""harkd's own broker: the harkd under test with `url = embedded:` and no listeners. What the rig wants of it goes over
its control socket, a line of JSON each way."""
import json
import os
import signal
import socket
import subprocess

from . import processes
from .broker import Broker
from .certs import Certificates
from .harkd import BINARY, REPORT
from .ports import free_port
from .waiting import wait_until

CONFIGURATION = """
[hark]
url = embedded:
log = text
log_level = {level}

[broker]
listen = 127.0.0.1:{port}
listen_tls = 127.0.0.1:{tls_port}
tls_certificate = {certs.server}
tls_key = {certs.server_key}
tls_ca = {certs.ca}
data = {data}
memory_limit = {memory}
disk_free_limit = 1M

[user guest]
password = guest
permission = / .* .* .*
"""

MEMORY = 1 << 30


class Embedded(Broker):
    name = "embedded"

    def __init__(self, folder):
        self.folder = folder
        self.certificates = Certificates(os.path.join(folder, "certs"))
        self.port, self.tls_port = free_port(), free_port()
        self._process = self._control = None
        self._paused = False
        with open(self._path("hark.ini"), "w") as file:
            file.write(CONFIGURATION.format(port=self.port, tls_port=self.tls_port, certs=self.certificates, memory=MEMORY,
                                            data=self._path("data"), level=os.environ.get("HARK_TEST_LOG_LEVEL", "info")))

    def _path(self, name):
        return os.path.join(self.folder, name)

    # The process, which is the supervisor: its broker is its child.

    def start(self):
        if self.running:
            return
        environment = dict(os.environ)
        environment.pop("NOTIFY_SOCKET", None)
        environment.pop("JOURNAL_STREAM", None)
        environment.setdefault("ASAN_OPTIONS", "detect_leaks=1")
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        with open(self._path("log"), "ab") as log:
            self._process = processes.start([BINARY, "-c", self._path("hark.ini")], env=environment, cwd=self.folder,
                                            stdout=log, stderr=log)
        wait_until(self._started, lambda: "the embedded broker to start:\n" + self.log()[-4000:])

    def _started(self):
        assert self.running, "the embedded broker ended:\n" + self.log()[-4000:]
        try:
            return bool(self.ask("status"))
        except OSError:     # not yet
            return False

    def stop(self):
        if not self.running:
            return
        self.resume()
        self._hang_up()
        self._process.terminate()
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            raise AssertionError("the embedded broker does not stop:\n" + self.log()[-4000:]) from None
        self._process = None
        assert code == 0, "the embedded broker ended with %d:\n%s" % (code, self.log()[-4000:])

    def kill9(self):
        """All of it at once, as a power cut would."""
        if self._process:
            self._hang_up()
            self.pause()    # or the supervisor would start another broker in place of the first to go
            processes.kill_tree(self._process.pid)
            self._process.wait()
            self._process, self._paused = None, False

    def close(self):
        """The end of the session."""
        try:
            self.stop()
            report = REPORT.search(self.log())
            assert not report, "a sanitizer complained:\n" + self.log()[max(0, report.start() - 200):][:6000]
        finally:
            self.kill9()

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    @property
    def pids(self):
        """What processes.kill_orphans() has to leave alone."""
        return [self._process.pid] if self._process else []

    def _signal(self, number):
        for pid in [self._process.pid] + processes.descendants(self._process.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def pause(self):
        if not self._paused:
            self._signal(signal.SIGSTOP)
            self._paused = True

    def resume(self):
        if self._paused:
            self._signal(signal.SIGCONT)
            self._paused = False

    def log(self):
        if not os.path.exists(self._path("log")):
            return ""
        with open(self._path("log"), errors="replace") as file:
            return file.read()

    # Control.

    def ask(self, command, **arguments):
        """What the broker answers to a command."""
        if not self._control:
            control = socket.socket(socket.AF_UNIX)
            control.settimeout(30)
            try:
                control.connect(self._path("data/control"))
            except OSError:
                control.close()
                raise
            self._control = control.makefile("rwb", buffering=0)
            control.close()     # the file keeps the connection
        try:
            self._control.write(json.dumps(dict(arguments, command=command)).encode() + b"\n")
            line = self._control.readline()
            if not line:
                raise ConnectionError("the broker's control connection ended")
        except OSError:
            self._hang_up()
            raise
        answer = json.loads(line)
        assert answer["ok"], "%s %r: %s" % (command, arguments, answer["error"])
        return answer["result"]

    def _hang_up(self):
        if self._control:
            self._control.close()
            self._control = None

    # What is in it.

    def add_vhost(self, name):
        self.ask("add-vhost", name=name)
        self.ask("permit", user="guest", vhost=name, configure=".*", write=".*", read=".*")

    def delete_vhost(self, name):
        self.ask("delete-vhost", name=name)

    def add_user(self, name, password=None, configure=".*", write=".*", read=".*", tags=""):
        self.ask("put-user", name=name, password=password or name, tags=tags)
        self.ask("permit", user=name, vhost=self.vhost, configure=configure, write=write, read=read)

    def queues(self):
        return {queue.pop("name"): queue for queue in self.ask("queues", vhost=self.vhost)}

    def delete_queue(self, name):
        self.ask("delete-queue", vhost=self.vhost, name=name)

    def connections(self):
        return len(self.ask("connections", vhost=self.vhost))

    def users(self):
        return {connection["user"] for connection in self.ask("connections", vhost=self.vhost)}

    def close_connections(self, reason="closed by the test"):
        self.ask("close-connections", vhost=self.vhost, reason=reason)

    def memory_alarm(self, on):
        self.ask("set", memory_limit=0 if on else MEMORY)
