# SPDX-License-Identifier: MIT
"""Debian's rabbitmq-server as an ordinary process with ports, node name and folders of its own.

rabbitmqctl takes a second and more per call, so the node runs a small server of our own (CONTROL) that evaluates
Erlang expressions: a vhost per test costs ten milliseconds.
"""
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess

from . import processes
from .broker import Broker
from .certs import Certificates
from .ports import free_port
from .waiting import wait_until

# Evaluated in the node. Requests and answers are length-prefixed texts on a loopback port.
CONTROL = """
spawn(fun() ->
    {ok, Listener} = gen_tcp:listen(%d, [binary, {packet, 4}, {ip, {127, 0, 0, 1}}, {active, false},
                                         {reuseaddr, true}]),
    Serve = fun Serve(Socket) ->
        case gen_tcp:recv(Socket, 0) of
            {ok, Text} ->
                Answer = try
                    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
                    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
                    {value, Value, _} = erl_eval:exprs(Expressions, []),
                    if is_binary(Value) -> [<<"ok">>, Value];
                       true -> [<<"ok">>, io_lib:format("~0p", [Value])] end
                catch Class:Reason:Stack -> [<<"no">>, io_lib:format("~0p", [{Class, Reason, Stack}])]
                end,
                gen_tcp:send(Socket, unicode:characters_to_binary(Answer)),
                Serve(Socket);
            _ ->
                gen_tcp:close(Socket)
        end
    end,
    Accept = fun Accept() ->
        case gen_tcp:accept(Listener) of
            {ok, Socket} ->
                Server = spawn(fun() -> receive go -> Serve(Socket) end end),
                gen_tcp:controlling_process(Socket, Server),
                Server ! go;
            _ -> timer:sleep(10)
        end,
        Accept()
    end,
    Accept()
end).
"""

CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
listeners.ssl.1 = 127.0.0.1:{tls_port}
ssl_options.cacertfile = {certs.ca}
ssl_options.certfile = {certs.server}
ssl_options.keyfile = {certs.server_key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
loopback_users = none
vm_memory_high_watermark.absolute = 4GB
disk_free_limit.absolute = 1MB
log.file.level = info
"""

QUEUES = """
rabbit_json:encode([ begin
    {{resource, _, queue, Name}} = proplists:get_value(name, Info),
    #{{name => Name, ready => proplists:get_value(messages_ready, Info),
      unacked => proplists:get_value(messages_unacknowledged, Info),
      consumers => proplists:get_value(consumers, Info), durable => proplists:get_value(durable, Info),
      arguments => maps:from_list([{{K, V}} || {{K, _, V}} <- proplists:get_value(arguments, Info)])}}
  end || Info <- rabbit_amqqueue:info_all(<<"{vhost}">>,
                 [name, messages_ready, messages_unacknowledged, consumers, durable, arguments]) ]).
"""


class RabbitMQ(Broker):
    name = "rabbitmq"

    def __init__(self, folder):
        self.folder = folder
        self.certificates = Certificates(os.path.join(folder, "certs"))
        self.port, self.tls_port = free_port(), free_port()
        self._control_port, self._epmd_port, self._distribution_port = free_port(), free_port(), free_port()
        self._process = self._epmd = self._control = None
        self._paused = False
        self._write("control.erl", CONTROL % self._control_port)
        self._write("rabbitmq.conf", CONFIGURATION.format(port=self.port, tls_port=self.tls_port,
                                                          certs=self.certificates))
        self._write("enabled_plugins", "[rabbitmq_auth_mechanism_ssl].\n")

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _write(self, name, text):
        with open(self._path(name), "w") as file:
            file.write(text)

    def _environment(self):
        own = {
            "HOME": self.folder,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": "hark%d@localhost" % self.port,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": self._path("mnesia"),
            "RABBITMQ_LOG_BASE": self._path("log"),
            "RABBITMQ_CONFIG_FILE": self._path("rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": self._path("advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": self._path("rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": self._path("enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": self._path("generated"),
            "RABBITMQ_PID_FILE": self._path("pid"),
            # The start script then becomes the node instead of watching over it: one process to signal.
            "RABBITMQ_ALLOW_INPUT": "1",
            # No busy waiting: two brokers and two daemons under test share two cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": '+sbwt none +sbwtdcpu none +sbwtdio none '
                                                   '-eval file:eval("%s")' % self._path("control.erl"),
        }
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_", "NOTIFY_"))}
        environment.update(own)
        return environment

    # The process.

    def start(self):
        if self._process and self._process.poll() is None:
            return
        # Debian's /usr/sbin/rabbitmq-server changes to the user rabbitmq; the one behind it runs as anyone.
        program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
        program = program if os.path.exists(program) else shutil.which("rabbitmq-server")
        environment = self._environment()
        if not self._epmd:
            epmd = shutil.which("epmd") or "/usr/lib/erlang/bin/epmd"
            self._epmd = processes.start([epmd, "-address", "127.0.0.1", "-port", str(self._epmd_port)],
                                         env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda: _accepts(self._epmd_port), "epmd to listen")
        with open(self._path("console"), "ab") as console:
            self._process = processes.start([program, "-noinput"], env=environment, stdout=console, stderr=console,
                                            cwd=self.folder)
        wait_until(self._started, lambda: "RabbitMQ to start:\n" + self._tail(), timeout=90, interval=0.05)

    def _started(self):
        assert self._process.poll() is None, "RabbitMQ ended:\n" + self._tail()
        try:
            return _accepts(self._control_port) and self.evaluate("rabbit:is_running().") == "true"
        except OSError:     # not while it starts
            return False

    def _tail(self):
        with open(self._path("console"), errors="replace") as console:
            return console.read()[-2000:] + self.log()[-4000:]

    def stop(self):
        self._end(signal.SIGTERM)

    def kill9(self):
        self._end(signal.SIGKILL)

    def _end(self, number):
        self.resume()
        self._hang_up()
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(60)
        self._process = None

    def close(self):
        """The end of the session."""
        self.kill9()
        if self._epmd:
            self._epmd.kill()
            self._epmd.wait()

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    @property
    def pids(self):
        """What processes.kill_orphans() has to leave alone."""
        return [p.pid for p in (self._process, self._epmd) if p]

    def pause(self):
        self._paused = True
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        if self._paused:
            self._process.send_signal(signal.SIGCONT)
            self._paused = False

    def log(self):
        path = self._path("log/hark%d@localhost.log" % self.port)
        if not os.path.exists(path):
            return ""
        with open(path, errors="replace") as file:
            return file.read()

    # Control.

    def evaluate(self, expressions):
        """Evaluates Erlang in the node; a binary comes back as it is, anything else printed."""
        if not self._control:
            self._control = socket.create_connection(("127.0.0.1", self._control_port))
        request = expressions.encode()
        try:
            self._control.sendall(struct.pack(">I", len(request)) + request)
            answer = _read(self._control, struct.unpack(">I", _read(self._control, 4))[0])
        except OSError:
            self._hang_up()
            raise
        assert answer[:2] == b"ok", "%s\n%s" % (expressions, answer[2:].decode())
        return answer[2:].decode()

    def _hang_up(self):
        if self._control:
            self._control.close()
            self._control = None

    # What is in it.

    def add_vhost(self, name):
        self.evaluate('ok = rabbit_vhost:add(<<"{0}">>, <<"rig">>), rabbit_auth_backend_internal:set_permissions('
                      '<<"guest">>, <<"{0}">>, <<".*">>, <<".*">>, <<".*">>, <<"rig">>).'.format(name))

    def delete_vhost(self, name):
        self.evaluate('rabbit_vhost:delete(<<"%s">>, <<"rig">>).' % name)

    def add_user(self, name, password=None, configure=".*", write=".*", read=".*", tags=""):
        self.evaluate(
            'catch rabbit_auth_backend_internal:add_user(<<"{0}">>, <<"{1}">>, <<"rig">>), '
            'rabbit_auth_backend_internal:set_tags(<<"{0}">>, [{6}], <<"rig">>), '
            'rabbit_auth_backend_internal:set_permissions(<<"{0}">>, <<"{2}">>, <<"{3}">>, <<"{4}">>, <<"{5}">>, '
            '<<"rig">>).'.format(name, password or name, self.vhost, configure, write, read, tags))

    def queues(self):
        found = json.loads(self.evaluate(QUEUES.format(vhost=self.vhost)))
        return {queue.pop("name"): queue for queue in found}

    def delete_queue(self, name):
        self.evaluate('{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{0}">>, queue, <<"{1}">>)), '
                      'rabbit_amqqueue:delete(Q, false, false, <<"rig">>).'.format(self.vhost, name))

    def connections(self):
        return int(self.evaluate('length([1 || [{{vhost, <<"{0}">>}}] <- rabbit_networking:connection_info_all('
                                 '[vhost])]).'.format(self.vhost)))

    def users(self):
        return set(json.loads(self.evaluate(
            'rabbit_json:encode([User || [{{user, User}}, {{vhost, <<"{0}">>}}] <- '
            'rabbit_networking:connection_info_all([user, vhost])]).'.format(self.vhost))))

    def close_connections(self, reason="closed by the test"):
        self.evaluate('[rabbit_networking:close_connection(P, "{1}") || [{{pid, P}}, {{vhost, <<"{0}">>}}] <- '
                      'rabbit_networking:connection_info_all([pid, vhost])].'.format(self.vhost, reason))

    def memory_alarm(self, on):
        self.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(%s)."
                      % ("0.00000001" if on else "{absolute, 4000000000}"))
        # The alarm goes round in messages: wait until every connection has had its own.
        states = "blocking|blocked" if on else "running"
        wait_until(lambda: re.fullmatch(r"\[(\[{state,(%s)}\],?)*\]" % states, self._states()),
                   lambda: "all connections to be %s: %s" % (states, self._states()))

    def _states(self):
        return self.evaluate("[[{state, S}] || [{state, S}, {vhost, <<\"%s\">>}] <- "
                             "rabbit_networking:connection_info_all([state, vhost])]." % self.vhost)


def _accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _read(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("RabbitMQ's control connection ended")
        data += more
    return data
