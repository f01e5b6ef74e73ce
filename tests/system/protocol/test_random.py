# SPDX-License-Identifier: MIT
"""Random walks: a client that does this and that sees the same on RabbitMQ and on the embedded broker.

HARK_RANDOM_WALKS=1000-1200 takes other seeds than the few of every run.
"""
import os

import pytest

from rig.embedded import Embedded
from rig.random_walk import Walk

STEPS = 90
FIRST, LAST = [int(number) for number in os.environ.get("HARK_RANDOM_WALKS", "1-12").split("-")]


@pytest.fixture(scope="session")
def embedded(tmp_path_factory):
    """The embedded broker, beside the RabbitMQ of all tests."""
    broker = Embedded(str(tmp_path_factory.mktemp("beside")))
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def walk(broker, vhost, seed):
    broker.vhost = vhost
    broker.add_vhost(vhost)
    try:
        return Walk(broker, seed).run(STEPS)
    finally:
        broker.delete_vhost(vhost)


def first_difference(one, other):
    """The number of the first line that differs, or of the end."""
    return next((number for number, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


@pytest.mark.parametrize("broker_process", ["rabbitmq"], indirect=True)
@pytest.mark.parametrize("seed", range(FIRST, LAST + 1))
def test_walk(broker_process, embedded, seed):
    rabbitmq, ours = walk(broker_process, "walk", seed), walk(embedded, "walk", seed)
    if ours != rabbitmq:    # does RabbitMQ itself do the same every time?
        again = walk(broker_process, "walk", seed)
        end = first_difference(rabbitmq, again)
        if end < len(again):
            rabbitmq, ours = rabbitmq[:end], ours[:end]
    at = first_difference(rabbitmq, ours)
    assert ours == rabbitmq, "line %d:\n%s\nRabbitMQ: %s\nembedded: %s" % (
        at, "\n".join(rabbitmq[max(0, at - 12):at]), rabbitmq[at:at + 2], ours[at:at + 2])
