# SPDX-License-Identifier: MIT
"""Start, stop, reload, and what the service manager hears."""
import os
import signal
import subprocess
import time

from rig import processes
from rig.client import Flow
from rig.harkd import BINARY
from rig.sections import TOPOLOGY, forward, run
from rig.waiting import stays, wait_until

HOLD = "while [ ! -e go ]; do sleep 0.02; done"


def test_sigterm_drains(harkd, broker, client, scripts):
    """What is in hand is settled, nothing new is taken, and the acknowledgement reaches the broker."""
    daemon = harkd(TOPOLOGY + run("e", scripts.recorder("e", HOLD + "\necho out"), "emit = out"))
    client.publish("events", "k", "first")
    scripts.wait_seen("e", 1)
    daemon.signal(signal.SIGTERM)
    daemon.wait_for_log("draining")
    wait_until(lambda: broker.queue("in")["consumers"] == 0, "basic.cancel")
    client.publish("events", "k", "second")
    stays(lambda: daemon.running, 0.2, "it waits for what is in hand")
    scripts.touch("go")
    assert daemon.wait() == 0
    assert "stopped" in daemon.log
    assert scripts.seen("e") == ["first"]
    assert client.get_one("results").body == b"out\n"
    assert broker.queue("in")["ready"] == 1 and broker.queue("in")["unacked"] == 0
    assert not client.channel.basic_get("in")[0].redelivered


def test_connection_lost_while_draining(harkd, broker, client, proxy, scripts):
    """The broker has taken back what was in hand: what no listener was called with yet is left to others."""
    daemon = harkd(TOPOLOGY + run("e", scripts.recorder("e", HOLD), "concurrency = 1"), via=proxy)
    for i in range(20):
        client.publish("events", "k", str(i))
    scripts.wait_seen("e", 1)
    wait_until(lambda: broker.queue("in")["unacked"] == 20, "all in hand")
    daemon.signal(signal.SIGTERM)
    daemon.wait_for_log("draining")
    wait_until(lambda: broker.queue("in")["consumers"] == 0, "basic.cancel")
    proxy.cut()
    wait_until(lambda: broker.queue("in")["ready"] == 20, "all back in the queue")
    daemon.wait_for_log(r"consuming: lost")
    scripts.touch("go")
    assert daemon.wait() == 0
    assert len(scripts.seen("e")) == 1


def test_drain_timeout(harkd, broker, client, scripts):
    """What is not settled in time goes back to its queue; its program is killed with its whole group."""
    program = scripts.recorder("e", "echo $$ > pid\nsleep 600 & echo $! > pid2\nwait")
    daemon = harkd(TOPOLOGY + run("e", program), hark="drain_timeout = 300ms")
    client.publish("events", "k", "m")
    wait_until(lambda: scripts.lines("pid2"), "the program")
    start = time.monotonic()
    daemon.stop()
    assert time.monotonic() - start < 5
    wait_until(lambda: broker.ready("in") == 1, "back in its queue")
    for name in ("pid", "pid2"):
        wait_until(lambda name=name: not processes.alive(int(scripts.lines(name)[0])), "the end of the program")


def test_second_sigterm_stops_at_once(harkd, broker, client, scripts):
    daemon = harkd(TOPOLOGY + run("e", scripts.recorder("e", "exec sleep 600")), hark="drain_timeout = 10m")
    client.publish("events", "k", "m")
    scripts.wait_seen("e", 1)
    daemon.signal(signal.SIGTERM)
    daemon.wait_for_log("draining")
    start = time.monotonic()
    daemon.signal(signal.SIGTERM)
    daemon.wait()
    assert time.monotonic() - start < 5
    wait_until(lambda: broker.ready("in") == 1, "back in its queue")


def test_sigint_is_a_stop_too(harkd):
    daemon = harkd(TOPOLOGY + forward())
    daemon.signal(signal.SIGINT)
    assert daemon.wait() == 0


def test_stops_without_a_broker(harkd, broker, proxy):
    """The connection is there but silent: SIGTERM still ends it in time."""
    daemon = harkd(TOPOLOGY + forward(), via=proxy, hark="drain_timeout = 1s")
    proxy.stall()
    daemon.stop(timeout=10)


def test_reload_while_messages_flow(harkd, broker, client, ini):
    """Twenty reloads under a flow of messages: none is lost, none is handled twice."""
    daemon = harkd(TOPOLOGY + forward())
    flow = Flow(broker.url(), "events", "k", 2000, pause=0.001)
    for number in range(20):
        daemon.reload(ini(TOPOLOGY + forward(more="header.generation = %d" % number)))
    flow.join()
    got = client.get("results", 2000)
    wait_until(lambda: broker.queue("in")["ready"] + broker.queue("in")["unacked"] == 0, "all acknowledged")
    got += client.get_all("results")
    assert sorted(int(m.body) for m in got) == list(range(2000))
    daemon.wait_workers(1)
    client.publish("events", "k", "last")
    assert client.get_one("results").headers["generation"] == "19"


def test_reload_of_a_bad_file_changes_nothing(harkd, client, ini):
    """The mistake is logged with file and line; workers and behaviour stay."""
    daemon = harkd(TOPOLOGY + forward())
    workers = daemon.wait_workers(1)
    position = daemon.reload(ini(TOPOLOGY + forward(more="comand = x")), good=False)
    assert daemon.find(r'hark\.ini:\d+: \[listener f\] unknown key "comand"', since=position)
    assert daemon.workers() == workers
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"
    daemon.reload(ini(TOPOLOGY + forward(more="header.a = b")))
    daemon.wait_workers(1, without=workers)
    client.publish("events", "k", "m")
    assert client.get_one("results").headers["a"] == "b"


def test_reload_adds_and_removes(harkd, broker, client, ini):
    """A new queue is consumed, a listener that is gone is not, more workers come."""
    daemon = harkd(TOPOLOGY + forward("one", "header.by = one"))
    daemon.reload(ini(TOPOLOGY + "[queue new]\nbind = events new\n" + forward("two", "header.by = two", queue="new"),
                      hark="workers = 2"))
    daemon.wait_workers(2)
    wait_until(lambda: (broker.queue("new") or {}).get("consumers") == 2, "two consumers of the new queue")
    wait_until(lambda: broker.queue("in")["consumers"] == 0, "none of the old")
    client.publish("events", "new", "m")
    assert client.get_one("results").headers["by"] == "two"


def test_reload_lets_the_old_workers_finish(harkd, broker, client, scripts, ini):
    daemon = harkd(TOPOLOGY + run("e", scripts.recorder("e", HOLD)))
    client.publish("events", "k", "m")
    scripts.wait_seen("e", 1)
    daemon.reload(ini(TOPOLOGY + forward()))
    wait_until(lambda: broker.queue("in")["consumers"] == 1, "the old worker's basic.cancel")
    client.publish("events", "k", "n")
    assert client.get_one("results").body == b"n"
    scripts.touch("go")
    wait_until(lambda: broker.queue("in")["unacked"] == 0, "acknowledged")
    daemon.wait_workers(1)
    assert scripts.seen("e") == ["m"] and client.get_all("results") == []


def test_log_level_on_reload(harkd, ini):
    daemon = harkd(TOPOLOGY + forward())
    daemon.reload(ini(TOPOLOGY + forward(), hark="log_level = debug"))
    daemon.wait_for_log(r" debug (harkd|worker)")


def test_notify_protocol(harkd, notify, ini, client, broker):
    """READY with STATUS, RELOADING with its time, READY again, STOPPING."""
    daemon = harkd(TOPOLOGY + forward(), environment=notify.environment)
    notify.wait("READY", "1")
    notify.wait("STATUS")
    daemon.reload(ini(TOPOLOGY + forward()))
    notify.wait("RELOADING", "1")
    notify.wait("MONOTONIC_USEC")
    notify.wait("READY", "1", count=2)
    order = [name for message in notify.messages for name in ("READY", "RELOADING", "STOPPING") if name in message]
    assert order == ["READY", "RELOADING", "READY"]
    daemon.stop()
    notify.wait("STOPPING", "1")


def test_ready_without_a_broker(harkd, notify, broker, proxy):
    """A broker that is down is no reason to fail the unit."""
    proxy.refuse = True
    harkd(TOPOLOGY + forward(), via=proxy, environment=notify.environment, wait="ready")
    notify.wait("READY", "1")
    proxy.refuse = False


def test_watchdog(harkd, notify, client):
    """Fed while all is well."""
    harkd(TOPOLOGY + forward(), environment=dict(notify.environment, WATCHDOG_USEC="1000000"))
    notify.wait("WATCHDOG", "1", count=4)


def test_watchdog_starves_with_a_stuck_worker(harkd, notify):
    """No feeding for its own sake: while the only worker stands still, and hang_timeout is off, it stops."""
    daemon = harkd(TOPOLOGY + forward(), hark="hang_timeout = 0",
                   environment=dict(notify.environment, WATCHDOG_USEC="400000"))
    notify.wait("WATCHDOG", "1", count=2)
    worker = daemon.wait_workers(1)[0]
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: processes.state(worker) in ("T", "t"), "the stop")

    def starved():
        count = len(notify.values("WATCHDOG"))
        time.sleep(1)
        return len(notify.values("WATCHDOG")) == count
    wait_until(starved, "no more feeding")
    os.kill(worker, signal.SIGCONT)
    notify.wait("WATCHDOG", "1", count=len(notify.values("WATCHDOG")) + 2)


def test_status_has_figures(harkd, notify, client):
    harkd(TOPOLOGY + forward(), environment=notify.environment, hark="hang_timeout = 900ms")
    for i in range(10):
        client.publish("events", "k", str(i))
    wait_until(lambda: any("10 emitted" in status for status in notify.values("STATUS")),
               lambda: "figures in STATUS: %s" % notify.values("STATUS")[-3:])


def test_status_is_prompt(harkd, notify, broker, client, proxy, scripts):
    """What harkd does is in its status at once, not at the next look of the watch, which here is every ten seconds."""
    daemon = harkd(TOPOLOGY + run("e", scripts.recorder("e", HOLD + "\necho out"), "emit = out"), via=proxy,
                   environment=notify.environment)

    def says(beginning):
        begin = time.monotonic()
        wait_until(lambda: notify.values("STATUS") and notify.values("STATUS")[-1].startswith(beginning),
                   lambda: "%s, in %s" % (beginning, notify.values("STATUS")[-3:]))
        assert time.monotonic() - begin < 4

    says("Consuming: 1 of 1 workers connected, 1 of 1 consumers")
    proxy.refuse = True
    proxy.cut()
    says("Waiting for the broker: 0 of 1")
    proxy.refuse = False
    says("Consuming: 1 of 1")
    client.publish("events", "k", "m")
    scripts.wait_seen("e", 1)
    broker.memory_alarm(True)
    scripts.touch("go")                     # who publishes hears of the alarm
    says("Blocked by the broker: ")
    broker.memory_alarm(False)
    says("Consuming: 1 of 1")
    os.remove(scripts.path("go"))
    client.publish("events", "k", "n")
    scripts.wait_seen("e", 2)
    daemon.signal(signal.SIGTERM)
    says("Draining: 1 worker, 1 in hand")
    notify.wait("EXTEND_TIMEOUT_USEC")
    scripts.touch("go")
    assert daemon.wait() == 0


def test_reload_answers(harkd, ini, notify, client):
    """harkd --reload, and so systemctl reload, succeeds when the new file is in force, and fails with the reasons when not."""
    daemon = harkd(TOPOLOGY + forward(), environment=notify.environment)

    def ask():
        got = subprocess.run([BINARY, "--reload", str(daemon.pid)], capture_output=True, text=True, timeout=60)
        assert got.stdout == ""
        return got.returncode, got.stderr

    before = daemon.workers()
    daemon.write_ini(ini(TOPOLOGY + forward()))
    assert ask() == (0, "reloaded %s\n" % daemon.path)
    after = daemon.wait_workers(1, without=before)
    daemon.write_ini(ini(TOPOLOGY + forward(more="comand = x")))
    code, said = ask()
    assert code == 1 and 'unknown key "comand"' in said and "1 mistake: nothing was changed" in said
    notify.wait("READY", "1", count=3)
    wait_until(lambda: "the last reload failed: " in notify.values("STATUS")[-1], lambda: notify.values("STATUS")[-1])
    assert daemon.workers() == after
    daemon.write_ini(ini(TOPOLOGY + forward()))
    assert ask()[0] == 0
    wait_until(lambda: "the last reload failed" not in notify.values("STATUS")[-1], lambda: notify.values("STATUS")[-1])
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"
    daemon.stop()
    code, said = ask()
    assert code == 69 and "no harkd with this number listens" in said


def test_wrong_file_ends_with_1(ini, tmp_path):
    path = tmp_path / "hark.ini"
    path.write_text(ini(TOPOLOGY + forward(more="comand = x")))
    for arguments in ([], ["--check"]):
        ended = subprocess.run([BINARY, "-c", str(path)] + arguments, capture_output=True, text=True, timeout=20,
                               check=False)
        assert ended.returncode == 1 and 'hark.ini:' in ended.stderr + ended.stdout
        assert '[listener f] unknown key "comand"' in ended.stderr + ended.stdout
