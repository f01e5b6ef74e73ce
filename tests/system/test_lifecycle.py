# SPDX-License-Identifier: MIT
"""Start, stop, reload, and workers that die."""
import os
import signal
import subprocess

from rig import processes
from rig.client import Flow
from rig.harkd import BINARY
from rig.sections import TOPOLOGY, forward, run
from rig.waiting import wait_until


def empty(broker, queue="in"):
    wait_until(lambda: broker.queue(queue)["ready"] + broker.queue(queue)["unacked"] == 0, "%s to be empty" % queue)


def bodies_of(client, queue="results"):
    return [m.body for m in client.get_all(queue)]


def test_stop_drains(harkd, broker, client, scripts):
    """SIGTERM: what runs is finished, emitted and acknowledged; what has not begun stays in the queue."""
    program = scripts.recorder("e", 'while [ ! -e go ]; do sleep 0.02; done; echo "$body"')
    daemon = harkd(TOPOLOGY + run("e", program, "emit = out\nconcurrency = 2"))
    for i in range(2):
        client.publish("events", "k", str(i))
    scripts.wait_seen("e", 2)
    daemon.signal(signal.SIGTERM)
    daemon.wait_for_log("draining: 2 in hand")
    client.publish("events", "k", "late")
    scripts.touch("go")
    assert daemon.wait() == 0
    assert sorted(bodies_of(client)) == [b"0\n", b"1\n"]
    assert (broker.ready("in"), broker.unacked("in")) == (1, 0)
    assert daemon.find("stopped$")


def test_second_sigterm_stops_at_once(harkd, broker, client, scripts):
    program = scripts.recorder("e", "echo $$ > pid; exec sleep 600")
    daemon = harkd(TOPOLOGY + run("e", program, "timeout = 0"))
    client.publish("events", "k", "m")
    scripts.wait_for("pid")
    daemon.signal(signal.SIGTERM)
    daemon.wait_for_log("worker.*draining")
    daemon.signal(signal.SIGTERM)
    daemon.wait(timeout=5)
    assert daemon.find("second time")
    wait_until(lambda: broker.queue("in")["ready"] == 1, "the message back in its queue")


def test_drain_timeout(harkd, ini, broker, client, scripts):
    program = scripts.recorder("e", "exec sleep 600")
    daemon = harkd(TOPOLOGY + run("e", program, "timeout = 0"))
    daemon.stop()
    daemon.write_ini(ini(TOPOLOGY + run("e", program, "timeout = 0")).replace("drain_timeout = 10s",
                                                                             "drain_timeout = 300ms"))
    daemon.start()
    client.publish("events", "k", "m")
    scripts.wait_seen("e", 1)
    daemon.signal(signal.SIGTERM)
    daemon.wait(timeout=8)
    assert daemon.find("drain_timeout is over: 1 ")
    wait_until(lambda: broker.queue("in")["ready"] == 1, "the message back in its queue")


def test_reload_in_a_flow(harkd, ini, broker, client):
    """Several reloads while messages flow: none lost, none twice, and the new file counts."""
    daemon = harkd(TOPOLOGY + forward(more="header.version = 0"), hark="workers = 2")
    flow = Flow(client.url, "events", "k", 1500, pause=0.001)
    for version in (1, 2, 3):
        wait_until(lambda: flow.sent >= version * 300, "the flow")
        daemon.reload(ini(TOPOLOGY + forward(more="header.version = %d" % version), hark="workers = 2"))
    flow.join()
    got = client.get("results", flow.count)
    empty(broker)
    got += client.get_all("results")
    assert sorted(int(m.body) for m in got) == list(range(flow.count))
    assert {m.headers["version"] for m in got} >= {"0", "3"}
    daemon.wait_workers(2)


def test_bad_reload_changes_nothing(harkd, ini, client):
    daemon = harkd(TOPOLOGY + forward())
    before = daemon.workers()
    position = daemon.reload(ini(TOPOLOGY + forward(more="hedaer.x = 1")), good=False)
    assert daemon.find(r"hark\.ini:\d+: \[listener f\] unknown key", since=position)
    client.publish("events", "k", "still there")
    assert client.get_one("results").body == b"still there"
    assert daemon.workers() == before


def test_reload_changes_the_number_of_workers(harkd, ini, client):
    daemon = harkd(TOPOLOGY + forward())
    daemon.reload(ini(TOPOLOGY + forward(), hark="workers = 3"))
    daemon.wait_workers(3)
    daemon.reload(ini(TOPOLOGY + forward()))
    daemon.wait_workers(1)
    client.publish("events", "k", "m")
    client.get_one("results")


def test_killed_worker_is_replaced(harkd, broker, client):
    """kill -9 of both workers in a flow: others take over, nothing is lost."""
    daemon = harkd(TOPOLOGY + forward(), hark="workers = 2")
    flow = Flow(client.url, "events", "k", 1000, pause=0.001)
    for goal in (200, 500):
        wait_until(lambda: flow.sent >= goal, "the flow")
        victims = daemon.wait_workers(2)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        daemon.wait_workers(2, without=victims)
    flow.join()
    seen = set()

    def complete():
        seen.update(bodies_of(client))
        return len(seen) == flow.count
    wait_until(complete, lambda: "all messages, have %d" % len(seen), timeout=30)
    empty(broker)
    assert daemon.find("died by signal 9")


def test_programs_die_with_their_worker(harkd, client, scripts):
    """No program runs on for a worker that is gone; its event is handled again."""
    program = scripts.recorder("e", "echo $$ >> pids; [ $HARK_REDELIVERED = true ] || exec sleep 600")
    daemon = harkd(TOPOLOGY + run("e", program))
    client.publish("events", "k", "m")
    wait_until(lambda: scripts.lines("pids"), "the program")
    worker = daemon.workers()[0]
    os.kill(worker, signal.SIGKILL)
    scripts.wait_seen("e", 2)
    wait_until(lambda: not any(processes.alive(int(pid)) for pid in scripts.lines("pids")), "no program left")


def test_crash_is_blamed(harkd, broker, client, trouble):
    """Listener, key and message id are named; after crash_limit workers the message is a dead letter."""
    daemon = harkd(TOPOLOGY + "\n[listener t]\nmodule = trouble\nqueue = in\nemit = out\n", hark="crash_limit = 2",
                   binary=trouble)
    client.publish("events", "evil", "crash", message_id="m1")
    client.publish("events", "good", "fine", message_id="m2")
    dead = client.get_one("hark.dead", timeout=40)
    assert dead.headers["x-hark-reason"] == "crashed" and dead.body == b"crash"
    assert client.get_one("results", timeout=40).body == b"fine"
    line = daemon.wait_for_log("died by signal 11.*").group()
    assert '"t"' in line and "evil" in line and "m1" in line
    assert len(daemon.find("died by signal 11")) == 2
    empty(broker)


def test_hang_is_ended(harkd, client, trouble):
    daemon = harkd(TOPOLOGY + "\n[listener t]\nmodule = trouble\nqueue = in\nemit = out\n",
                   hark="crash_limit = 1\nhang_timeout = 1s", binary=trouble)
    client.publish("events", "evil", "hang", message_id="m1")
    assert client.get_one("hark.dead", timeout=40).headers["x-hark-reason"] == "crashed"
    client.publish("events", "good", "fine")
    client.get_one("results", timeout=40)
    assert daemon.running


def test_broker_down_at_start(harkd, broker, client, proxy):
    """Nobody there when harkd starts: it says so, keeps trying, and then works."""
    proxy.refuse = True
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait=None)
    daemon.wait_for_log("trying again")
    wait_until(lambda: proxy.accepted >= 4, "several attempts")
    assert daemon.running
    proxy.refuse = False
    daemon.wait_for_log('consuming from queue "in"')
    client.publish("events", "k", "m")
    client.get_one("results")


def test_stops_while_the_broker_is_down(harkd, proxy):
    proxy.refuse = True
    daemon = harkd(TOPOLOGY + forward(), via=proxy, wait=None)
    daemon.wait_for_log("trying again")
    daemon.stop()


def test_service_manager(harkd, client, notify):
    """What Type=notify-reload needs to hear."""
    daemon = harkd(TOPOLOGY + forward(), environment=dict(notify.environment, WATCHDOG_USEC="2000000"))
    notify.wait("READY", "1")
    notify.wait("WATCHDOG", "1", count=2)
    daemon.reload()
    notify.wait("RELOADING", "1")
    reloading = next(m for m in notify.messages if "RELOADING" in m)
    assert int(reloading["MONOTONIC_USEC"]) > 0
    notify.wait("READY", "1", count=2)
    daemon.stop()
    notify.wait("STOPPING", "1")
    assert notify.values("STATUS")


def test_wrong_file_ends_with_1(ini, tmp_path):
    path = tmp_path / "hark.ini"
    path.write_text(ini(TOPOLOGY + forward(more="comand = x")))
    for arguments in ([], ["--check"]):
        ended = subprocess.run([BINARY, "-c", str(path)] + arguments, capture_output=True, text=True, timeout=20,
                               check=False)
        assert ended.returncode == 1 and "[listener f]" in ended.stderr + ended.stdout
