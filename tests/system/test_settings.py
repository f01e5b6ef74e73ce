# SPDX-License-Identifier: MIT
"""Settings that show only in a running daemon: secrets, modes, log formats."""
import json

import pytest

from rig.sections import TOPOLOGY, forward
from rig.waiting import wait_until


def forwards(client):
    client.publish("events", "k", "m")
    assert client.get_one("results").body == b"m"


def test_secrets_from_files_and_the_environment(harkd, broker, client, tmp_path):
    """The password in a systemd credential, the user from the environment; neither is ever logged."""
    broker.add_user("al ice", "s3cr%t/@:")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "amqp").write_text("s3cr%t/@:\nsecond line\n")
    daemon = harkd(TOPOLOGY + forward(), hark="password_file = amqp\nlog_level = debug",
                   url=broker.url("USER", None).replace("USER", "${RIG_USER}"),
                   environment={"RIG_USER": "al%20ice", "CREDENTIALS_DIRECTORY": str(credentials)})
    forwards(client)
    assert "s3cr" not in daemon.log


def test_percent_encoded_url(harkd, broker, client):
    broker.add_user("a/b@c", "p:w%d")
    harkd(TOPOLOGY + forward(), url=broker.url("a/b@c", "p:w%d"))
    forwards(client)


@pytest.mark.parametrize("log", ["json", "logfmt"])
def test_structured_logs(harkd, client, log):
    """Each line is whole, whatever stands in a key."""
    daemon = harkd(TOPOLOGY + "[listener l]\nmodule = log\nqueue = in\n", hark="log = " + log, wait=None)
    daemon.wait_for_log("consuming from queue")
    client.publish("events", "k\n\"\\\x1b\u00fc", "body\nline", message_id="x\n\u2028")
    daemon.wait_for_log(r"\u00fc|\\u00fc|\\xc3")
    lines = daemon.log.splitlines() if log == "logfmt" else [json.loads(line) for line in daemon.log.split("\n") if line]
    assert len(lines) >= 4 and "\x1b" not in daemon.log


def test_without_confirms(harkd, broker, client):
    """confirm = no: the mode for those who want speed."""
    harkd(TOPOLOGY + forward(), hark="confirm = no\npersistent = no")
    bodies = {b"%d" % i for i in range(500)}
    for body in bodies:
        client.channel.basic_publish("events", "k", body)
    got = client.collect("results", bodies)
    assert len(got) == 500 and {m.properties.delivery_mode for m in got} == {1}
    wait_until(lambda: broker.queue("in")["ready"] + broker.queue("in")["unacked"] == 0, "all acknowledged")


def test_window_of_one(harkd, client):
    """publish_window = 1 and prefetch = 1: slow, but all comes through."""
    harkd(TOPOLOGY.replace("[queue in]", "[queue in]\nprefetch = 1") + forward(), hark="publish_window = 1")
    bodies = {b"%d" % i for i in range(200)}
    for body in bodies:
        client.channel.basic_publish("events", "k", body)
    assert len(client.collect("results", bodies)) == 200


def test_priority_and_timestamp_stay(harkd, client):
    harkd(TOPOLOGY + forward())
    client.publish("events", "k", "m", priority=0, timestamp=0, headers={})
    got = client.get_one("results").properties
    assert (got.priority, got.timestamp) == (0, 0)
