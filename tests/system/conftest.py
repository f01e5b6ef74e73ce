# SPDX-License-Identifier: MIT
"""Fixtures of the system tests. See README.md beside this file."""
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from rig import processes                   # noqa: E402
from rig.client import Client               # noqa: E402
from rig.embedded import Embedded           # noqa: E402
from rig.harkd import BINARY, Harkd         # noqa: E402
from rig.notify import NotifySocket         # noqa: E402
from rig.proxy import Proxy                 # noqa: E402
from rig.rabbitmq import RabbitMQ           # noqa: E402
from rig.raw import RawClient               # noqa: E402
from rig.scripts import Scripts             # noqa: E402

BROKERS = {"rabbitmq": RabbitMQ, "embedded": Embedded}

# Quick reconnection: the tests cut connections all the time.
DEFAULTS = {"log": "text", "log_level": os.environ.get("HARK_TEST_LOG_LEVEL", "info"), "reconnect_min": "20ms",
            "reconnect_max": "300ms", "drain_timeout": "10s"}


def pytest_configure(config):
    # `timeout` and `kill` end pytest by SIGTERM: then clean up as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    processes.adopt_orphans()


@pytest.fixture(scope="session", params=list(BROKERS))
def broker_process(request, tmp_path_factory):
    """A running broker for this session; with xdist, one for each process that runs tests."""
    broker = BROKERS[request.param](str(tmp_path_factory.mktemp(request.param)))
    try:
        broker.start()
        yield broker
    finally:
        broker.close()
        processes.kill_orphans()


@pytest.fixture
def broker(broker_process, request):
    """The broker with an empty vhost, working again whatever the test before has done to it."""
    broker_process.resume()
    broker_process.start()
    broker_process.vhost = "test-%d" % next(_numbers)
    broker_process.add_vhost(broker_process.vhost)
    yield broker_process
    broker_process.resume()
    if broker_process.running:
        broker_process.memory_alarm(False)
        broker_process.delete_vhost(broker_process.vhost)


def _count():
    number = 0
    while True:
        number += 1
        yield number


_numbers = _count()


@pytest.fixture
def client(broker):
    client = Client(broker.url())
    yield client
    client.close()


@pytest.fixture
def raw(broker):
    """A client that sees header types."""
    client = RawClient(broker.url())
    yield client
    client.close()


@pytest.fixture
def proxy(broker):
    """A proxy in front of the broker; start harkd with harkd(ini, via=proxy)."""
    proxy = Proxy((broker.host, broker.port))
    yield proxy
    proxy.close()


@pytest.fixture
def notify(tmp_path):
    notify = NotifySocket(tmp_path)
    yield notify
    notify.close()


@pytest.fixture
def scripts(tmp_path):
    """Programs for exec listeners."""
    return Scripts(str(tmp_path / "scripts"))


@pytest.fixture
def ini(broker):
    """ini(sections, hark="more keys of [hark]", via=proxy, url=None): the whole text of an ini file."""
    def make(sections="", hark="", via=None, url=None):
        given = [line.partition("=")[0].strip() for line in hark.splitlines()]
        lines = ["[hark]", "url = " + (url or broker.url(port=via.port if via else None))]
        lines += ["%s = %s" % item for item in DEFAULTS.items() if item[0] not in given]
        return "\n".join(lines + [hark, sections])
    return make


@pytest.fixture
def harkd(ini, tmp_path, request, proxy):  # pylint: disable=unused-argument
    """harkd(sections, ...) starts one. At the end of the test it is stopped as systemd would: that must work, unless
    the test has ended it or failed before. (It asks for the proxy only so that the proxy outlives it.)"""
    started = []

    def start(sections="", hark="", via=None, url=None, **options):
        folder = tmp_path / ("harkd%d" % len(started))
        folder.mkdir()
        daemon = Harkd(folder, ini(sections, hark, via, url), **options)
        started.append(daemon)
        return daemon
    try:
        yield start
        if not getattr(request.node, "failed", False):
            for daemon in started:
                daemon.stop()
    finally:
        for daemon in started:
            daemon.close()
            if getattr(request.node, "failed", False):
                sys.stderr.write("---- %s\n%s\n" % (daemon.log_path, daemon.log[-8000:]))
        processes.kill_orphans(keep=request.getfixturevalue("broker_process").pids)


@pytest.fixture(scope="session")
def trouble():
    """harkd with the listener module of tests/system/modules/trouble.c, which crashes and hangs on demand."""
    path = os.environ.get("HARKD_TROUBLE", os.path.join(os.path.dirname(BINARY), "harkd-trouble"))
    if not os.path.exists(path):
        pytest.fail("%s is not built" % path)
    return path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if call.when != "teardown":
        item.failed = report.failed     # also of the second try
    if report.failed and "HARK_TEST_FAILURES" in os.environ:
        with open(os.environ["HARK_TEST_FAILURES"], "a") as file:
            file.write("%s\n%s\n%s\n" % (item.nodeid, report.longreprtext, report.capstderr))


