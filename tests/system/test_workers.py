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


@pytest.mark.parametrize("order,how", [("crash", "signal"), ("exit", "left with status 1"), ("late", "signal")])
def test_crash_names_the_listener_and_dead_letters(harkd, broker, client, trouble, order, how):
    """A message that brings down crash_limit workers ends among the dead letters, the others are handled. Whether its
    listener crashes, calls exit(), or crashes in a call-back when the call is over."""
    daemon = harkd(TOPOLOGY + trouble_listener("bad", "emit = out"), binary=trouble, hark="crash_limit = 2")
    daemon.sanitizer_silent = False
    client.publish("events", "user.new", order, message_id="the-bad-one")
    client.publish("events", "user.new", "fine")
    dead = client.get_one("hark.dead")
    assert (dead.body, dead.headers["x-hark-reason"], dead.headers["x-hark-listener"]) == (
        order.encode(), "crashed", "bad")
    client.collect("results", {b"fine"})
    empty(broker)
    line = daemon.wait_for_log(r"^.*%s.*the-bad-one.*$" % how).group()
    assert '"bad"' in line and "user.new" in line and re.search(r"worker 1", line)
    assert len(daemon.find(r"^.*%s.*the-bad-one" % how)) == 2
    daemon.wait_workers(1)


def test_program_of_a_hung_worker_is_killed(harkd, client, trouble, scripts):
    """It was started in the very turn of the loop that never ended."""
    program = scripts.recorder("e", "echo $$ >> pids\nexec sleep 600")
    daemon = harkd(TOPOLOGY + run("e", program) + trouble_listener("stuck"), binary=trouble,
                   hark="hang_timeout = 1s\ncrash_limit = 1000")
    daemon.sanitizer_silent = False
    first = daemon.wait_workers(1)
    client.publish("events", "k", "hang", message_id="h1")
    wait_until(lambda: scripts.lines("pids"), "the program")
    pid = int(scripts.lines("pids")[0])
    daemon.wait_workers(1, without=first)
    wait_until(lambda: not processes.alive(pid), "the end of the program")


def test_hung_worker_does_not_outlive_the_supervisor(harkd, client, trouble):
    daemon = harkd(TOPOLOGY + trouble_listener("stuck"), binary=trouble, hark="drain_timeout = 1s")
    daemon.sanitizer_silent = False
    worker = daemon.wait_workers(1)[0]
    client.publish("events", "k", "hang")
    daemon.wait_for_log("consuming from queue")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.process.wait()
    wait_until(lambda: not processes.alive(worker), "the end of the worker")


def test_emitted_before_there_is_a_connection(harkd, client, trouble):
    """hark_emit_new() in a module's open()."""
    harkd(TOPOLOGY + trouble_listener("early", "emit = out"), binary=trouble)
    assert client.get_one("results").body == b"opened"


def test_lost_connections_do_not_pile_up_what_waits(harkd, broker, client, proxy, scripts):
    """What waits for its listener when the channel is lost comes again: it is not kept as well."""
    program = scripts.recorder("e", "while [ ! -e go ]; do sleep 0.05; done")
    daemon = harkd(TOPOLOGY.replace("bind = events #", "bind = events #\nprefetch = 10") +
                   run("e", program, "concurrency = 1"), via=proxy, hark="drain_timeout = 20s")
    for i in range(10):
        client.publish("events", "k", str(i), message_id=str(i))
    scripts.wait_seen("e", 1)
    for _ in range(4):
        wait_until(lambda: broker.queue("in")["unacked"] == 10, "all in hand")
        seen = daemon.log_size()
        proxy.cut()
        daemon.wait_for_log("consuming from queue", since=seen)
    wait_until(lambda: broker.queue("in")["unacked"] == 10, "all in hand")
    os.kill(daemon.wait_workers(1)[0], signal.SIGTERM)
    assert int(daemon.wait_for_log(r"draining: (\d+) in hand").group(1)) <= 11
    scripts.touch("go")


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
