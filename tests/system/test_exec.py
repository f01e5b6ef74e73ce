# SPDX-License-Identifier: MIT
"""The exec listener with real programs and a real broker."""
import os

import pytest

from rig import processes
from rig.harkd import BINARY
from rig.sections import TOPOLOGY, run
from rig.waiting import wait_until


@pytest.mark.parametrize("status,verdict", [(0, "done"), (64, "reject"), (65, "reject"), (66, "reject"),
                                            (1, "retry"), (63, "retry"), (67, "retry"), (255, "retry")])
def test_exit_codes(harkd, broker, client, scripts, status, verdict):
    check_exit(harkd, broker, client, scripts, status, verdict, "")


@pytest.mark.parametrize("status,verdict", [(0, "done"), (3, "reject"), (5, "reject"), (4, "retry"), (6, "retry"),
                                            (64, "retry")])
def test_strict_exit_codes(harkd, broker, client, scripts, status, verdict):
    check_exit(harkd, broker, client, scripts, status, verdict, "exit_codes = strict\n")


def check_exit(harkd, broker, client, scripts, status, verdict, more):
    program = scripts.recorder("e", "exit %d" % status)
    harkd(TOPOLOGY + run("e", program, more + "retry = 30ms"))
    client.publish("events", "k", "m")
    scripts.wait_seen("e", 2 if verdict == "retry" else 1)
    if verdict != "done":
        dead = client.get_one("hark.dead")
        assert dead.headers["x-hark-reason"] == ("attempts" if verdict == "retry" else "rejected")
        assert "status %d" % status in dead.headers["x-hark-error"]
    wait_until(lambda: broker.queue("in")["ready"] + broker.queue("in")["unacked"] == 0, "settled")
    assert len(scripts.seen("e")) == (2 if verdict == "retry" else 1)
    assert client.get_all("hark.dead") == []


def test_output_is_emitted(harkd, client, scripts):
    """Standard output becomes the body; nothing written, nothing emitted."""
    program = scripts.make("e", 'cat > in.$$; [ -s in.$$ ] && { printf "got: "; cat in.$$; }; exit 0')
    harkd(TOPOLOGY + run("e", program, "emit = out key.of.mine\noutput_type = text/plain"))
    client.publish("events", "k", "")
    client.publish("events", "k", "x\0y")
    got = client.get_one("results")
    assert (got.body, got.key, got.properties.content_type) == (b"got: x\0y", "key.of.mine", "text/plain")
    assert client.get_all("results") == []


def test_large_input_and_output(harkd, client):
    """A program that copies 8 MB: both pipes at once, and neither stalls the other."""
    harkd(TOPOLOGY + run("e", "/bin/cat", "emit = out\noutput_max = 10M"))
    body = os.urandom(8 * 1024 * 1024)
    client.publish("events", "k", body)
    assert client.get_one("results").body == body


def test_program_that_does_not_read(harkd, broker, client):
    """Its input is larger than a pipe holds and nobody reads it: no harm."""
    harkd(TOPOLOGY + run("e", "/bin/true"))
    client.publish("events", "k", b"x" * 1000000)
    wait_until(lambda: broker.queue("in")["ready"] + broker.queue("in")["unacked"] == 0, "settled")


def test_too_much_output(harkd, broker, client):
    harkd(TOPOLOGY + run("e", "/usr/bin/yes", "emit = out\noutput_max = 64K"))
    client.publish("events", "k", "m")
    dead = client.get_one("hark.dead")
    assert dead.headers["x-hark-reason"] == "rejected" and "output_max" in dead.headers["x-hark-error"]
    assert client.get_all("results") == []


def test_environment(harkd, client, scripts):
    program = scripts.make("e", "env > env.new; mv env.new env")
    harkd(TOPOLOGY + run("e", program, "environment.LANG = C.UTF-8\nenvironment.HOME = /nowhere"),
          environment={"HARK_STRANGE": "no", "KEPT": "yes"})
    client.publish("events", "user.new", "m", message_id="m1", correlation_id="c1", content_type="text/plain",
                   type="t", app_id="a", timestamp=1700000000,
                   headers={"my-head.er": "v; $(reboot)", "n": 7, "flag": True})
    scripts.wait_for("env")
    env = dict(line.partition("=")[::2] for line in scripts.lines("env"))
    expected = {"HARK_ROUTING_KEY": "user.new", "HARK_EXCHANGE": "events", "HARK_QUEUE": "in", "HARK_MESSAGE_ID": "m1",
                "HARK_CORRELATION_ID": "c1", "HARK_CONTENT_TYPE": "text/plain", "HARK_TYPE": "t", "HARK_APP_ID": "a",
                "HARK_TIMESTAMP": "1700000000", "HARK_ATTEMPT": "1", "HARK_REDELIVERED": "false",
                "HARK_HEADER_MY_HEAD_ER": "v; $(reboot)", "HARK_HEADER_N": "7", "HARK_HEADER_FLAG": "true",
                "LANG": "C.UTF-8", "HOME": "/nowhere", "KEPT": "yes"}
    assert {name: env.get(name) for name in expected} == expected
    assert "HARK_STRANGE" not in env and "NOTIFY_SOCKET" not in env


def test_no_shell_is_involved(harkd, client):
    """Arguments are words; quotes keep a word together, a dollar is just one."""
    harkd(TOPOLOGY + run("e", '/usr/bin/printf "<%s>" "two words" $$HOME ";" *', "emit = out"))
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"<two words><$HOME><;><*>"


def test_stderr_goes_to_the_log(harkd, client, scripts):
    program = scripts.make("e", 'printf "one\\ntwo \\033[31mred\\nlast without end" >&2')
    daemon = harkd(TOPOLOGY + run("e", program))
    client.publish("events", "k", "m")
    daemon.wait_for_log("stderr: one$")
    daemon.wait_for_log("stderr: last without end")
    assert "\x1b" not in daemon.log


def test_timeout_kills_the_whole_group(harkd, client, scripts):
    """Children of the program go with it."""
    program = scripts.make("e", "sleep 600 & echo $! >> pids; echo $$ >> pids; wait")
    harkd(TOPOLOGY + run("e", program, "timeout = 300ms\nretry ="))
    client.publish("events", "k", "m")
    dead = client.get_one("hark.dead")
    assert dead.headers["x-hark-reason"] in ("attempts", "timeout")
    pids = [int(line) for line in scripts.lines("pids")]
    assert len(pids) == 2
    wait_until(lambda: not any(processes.alive(pid) for pid in pids), "the program and its child to be gone")


def test_killed_by_a_signal(harkd, client, scripts):
    harkd(TOPOLOGY + run("e", scripts.make("e", "kill -TERM $$"), "retry ="))
    client.publish("events", "k", "m")
    dead = client.get_one("hark.dead")
    assert dead.headers["x-hark-reason"] == "attempts" and "signal 15" in dead.headers["x-hark-error"]


def test_no_such_program(harkd, client):
    harkd(TOPOLOGY + run("e", "/no/such/program", "retry = 30ms"))
    client.publish("events", "k", "m")
    dead = client.get_one("hark.dead")
    assert dead.headers["x-hark-attempts"] == 2 and "/no/such/program" in dead.headers["x-hark-error"]


def test_more_programs_than_a_shells_limit_allows(harkd, client, scripts):
    """Each takes descriptors: harkd takes as many as it may have, and none of its programs fails for want of them."""
    program = scripts.make("e", "touch here.$HARK_MESSAGE_ID\nwhile [ ! -e go ]; do sleep 0.1; done")
    limited = scripts.make("limited", 'ulimit -Sn 64\nexec "%s" "$@"' % BINARY)
    daemon = harkd(TOPOLOGY + run("e", program, "concurrency = 40\ntimeout = 60s\nretry ="), binary=limited)
    for i in range(40):
        client.publish("events", "k", "m", message_id=str(i))
    for i in range(40):
        scripts.wait_for("here.%d" % i)
    scripts.touch("go")
    assert not daemon.find("cannot be started")


def test_programs_run_beside_each_other(harkd, client, scripts):
    """Four programs that wait for each other."""
    program = scripts.make("e", "touch here.$HARK_MESSAGE_ID\nwhile [ $(ls here.* | wc -l) -lt 4 ]; do sleep 0.02; done")
    harkd(TOPOLOGY + run("e", program, "emit = out\nconcurrency = 4\ntimeout = 15s\nretry =\n"))
    for i in range(4):
        client.publish("events", "k", "m", message_id=str(i))
    for i in range(4):
        scripts.wait_for("here.%d" % i)
