# SPDX-License-Identifier: MIT
"""Workers that die, hang and are replaced."""
import os
import re
import signal

import pytest

from rig import processes
from rig.client import Flow, expect_all
from rig.sections import TOPOLOGY, forward, run, trouble as trouble_listener
from rig.waiting import stays, wait_until


def empty(broker, queue="in"):
    wait_until(lambda: broker.queue(queue)["ready"] + broker.queue(queue)["unacked"] == 0,
               lambda: "%s to be empty: %s" % (queue, broker.queue(queue)))


def test_processes_and_their_names(harkd):
    daemon = harkd(TOPOLOGY + forward(), hark="workers = 3")
    pids = daemon.wait_workers(3)
    titles = set()
    for pid in pids:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            titles.add(file.read().rstrip(b"\0").decode())
    assert titles == {"harkd: worker 1", "harkd: worker 2", "harkd: worker 3"}


def test_killed_worker_is_replaced(harkd, broker, client, scripts):
    """kill -9: named in the log, replaced, what it had in hand is delivered again."""
    program = scripts.recorder("e", "while [ ! -e go ]; do sleep 0.02; done")
    daemon = harkd(TOPOLOGY + run("e", program))
    first = daemon.wait_workers(1)
    client.publish("events", "k", "m")
    scripts.wait_seen("e", 1)
    os.kill(first[0], signal.SIGKILL)
    daemon.wait_for_log(r"worker 1.*(died|killed).*signal|worker 1.*signal 9|worker 1.*SIGKILL")
    daemon.wait_workers(1, without=first)
    scripts.wait_seen("e", 2)
    scripts.touch("go")
    empty(broker)


def test_programs_of_a_dead_worker_die_too(harkd, client, scripts):
    """Its process group is known to the supervisor: no second copy of a program beside the first."""
    program = scripts.recorder("e", 'echo $$ >> pids\n[ $HARK_REDELIVERED = true ] || exec sleep 600')
    daemon = harkd(TOPOLOGY + run("e", program))
    client.publish("events", "k", "m")
    wait_until(lambda: scripts.lines("pids"), "the program")
    pid = int(scripts.lines("pids")[0])
    os.kill(daemon.wait_workers(1)[0], signal.SIGKILL)
    wait_until(lambda: not processes.alive(pid), "the end of the program")


def test_crash_names_the_listener_and_dead_letters(harkd, broker, client, trouble):
    """A message that brings down crash_limit workers ends among the dead letters, the others are handled."""
    daemon = harkd(TOPOLOGY + trouble_listener("bad", "emit = out"), binary=trouble, hark="crash_limit = 2")
    daemon.sanitizer_silent = False
    client.publish("events", "user.new", "crash", message_id="the-bad-one")
    client.publish("events", "user.new", "fine")
    dead = client.get_one("hark.dead")
    assert (dead.body, dead.headers["x-hark-reason"], dead.headers["x-hark-listener"]) == (b"crash", "crashed", "bad")
    assert client.get_one("results").body == b"fine"
    empty(broker)
    line = daemon.wait_for_log(r"^.*signal.*the-bad-one.*$").group()
    assert '"bad"' in line and "user.new" in line and re.search(r"worker 1", line)
    assert len(daemon.find(r"^.*signal.*the-bad-one")) == 2
    daemon.wait_workers(1)


def test_crashes_spare_the_bystanders(harkd, broker, client, trouble):
    """What else was in hand when the worker died is not blamed for it."""
    daemon = harkd(TOPOLOGY + trouble_listener("bad", "emit = out"), binary=trouble,
                   hark="crash_limit = 2\nworkers = 2")
    daemon.sanitizer_silent = False
    for i in range(60):
        client.publish("events", "k", "crash" if i % 20 == 10 else "fine %d" % i, message_id=str(i))
    dead, done = [], []

    def complete():
        dead.extend(client.get_all("hark.dead"))
        done.extend(client.get_all("results"))
        return len({m.properties.message_id for m in dead}) >= 3 and len({m.body for m in done}) >= 57
    wait_until(complete, lambda: "dead %d, done %d" % (len(dead), len(done)))
    empty(broker)
    dead += client.get_all("hark.dead")
    assert {m.properties.message_id for m in dead} == {"10", "30", "50"}


def test_crashing_after_redelivery_with_other_listeners(harkd, broker, client, trouble, scripts):
    """Only the listener that crashes is given up; the other one does its work."""
    daemon = harkd(TOPOLOGY + trouble_listener("bad") + run("good", scripts.recorder("good")), binary=trouble,
                   hark="crash_limit = 2")
    daemon.sanitizer_silent = False
    client.publish("events", "k", "crash", message_id="x")
    assert client.get_one("hark.dead").headers["x-hark-listener"] == "bad"
    empty(broker)
    assert scripts.seen("good") and set(scripts.seen("good")) == {"crash"}


def test_hanging_worker_is_killed(harkd, broker, client, trouble):
    """A listener that never returns: hang_timeout ends the worker, and names listener, key and message."""
    daemon = harkd(TOPOLOGY + trouble_listener("stuck", "emit = out"), binary=trouble,
                   hark="hang_timeout = 500ms\ncrash_limit = 2")
    daemon.sanitizer_silent = False
    first = daemon.wait_workers(1)
    client.publish("events", "user.new", "hang", message_id="the-bad-one")
    daemon.wait_for_log(r"stood still|hang|hung")
    daemon.wait_for_log(r'"stuck".*user\.new.*the-bad-one')
    daemon.wait_workers(1, without=first)
    assert client.get_one("hark.dead").headers["x-hark-reason"] == "crashed"
    client.publish("events", "k", "fine")
    assert client.get_one("results").body == b"fine"
    empty(broker)


def test_stopped_worker_is_a_hanging_one(harkd, client):
    """SIGSTOP: outside of any listener, so nobody is blamed, but it is replaced."""
    daemon = harkd(TOPOLOGY + forward(), hark="hang_timeout = 500ms")
    first = daemon.wait_workers(1)
    os.kill(first[0], signal.SIGSTOP)
    daemon.wait_workers(1, without=first)
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"


def test_idle_worker_does_not_count_as_hanging(harkd, client):
    daemon = harkd(TOPOLOGY + forward(), hark="hang_timeout = 300ms")
    first = daemon.wait_workers(1)
    stays(lambda: daemon.workers() == first, 1.5, "the same worker")


def test_slow_call_is_named(harkd, client, trouble):
    daemon = harkd(TOPOLOGY + trouble_listener("slowpoke"), binary=trouble, hark="slow_call = 100ms")
    client.publish("events", "k", "slow")
    daemon.wait_for_log(r"slowpoke.*\d+ ms")


def test_restarts_back_off(harkd, broker, client, trouble):
    """A worker that dies at once, again and again, is not started without a pause."""
    daemon = harkd(TOPOLOGY + trouble_listener("bad"), binary=trouble, hark="crash_limit = 1000")
    daemon.sanitizer_silent = False
    client.publish("events", "k", "crash", message_id="x")
    daemon.wait_for_log(r"starts again in|worker 1: started", count=4)
    count = len(daemon.find(r"worker 1: started"))
    stays(lambda: len(daemon.find(r"worker 1: started")) < count + 10, 1.5, "few starts")
    client.channel.queue_purge("in")
    daemon.kill9()


def test_workers_end_with_their_supervisor(harkd, broker):
    daemon = harkd(TOPOLOGY + forward(), hark="workers = 2")
    pids = daemon.wait_workers(2)
    daemon.kill9()
    wait_until(lambda: not any(processes.alive(pid) for pid in pids), "the workers' end")
    wait_until(lambda: broker.connections() == 0, "the connections' end")


@pytest.mark.parametrize("workers", [1, 2])
def test_killing_workers_in_a_flow(harkd, broker, client, workers):
    """Nothing is lost, whoever is killed and when."""
    daemon = harkd(TOPOLOGY + forward(), hark="workers = %d" % workers)
    flow = Flow(broker.url(), "events", "k", 1000)
    for at in range(200, 900, 200):
        wait_until(lambda at=at: flow.sent >= at, "the flow")
        os.kill(daemon.wait_workers(workers)[0], signal.SIGKILL)
    flow.join()
    expect_all(client, 1000)
    empty(broker)
