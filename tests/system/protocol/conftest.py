# SPDX-License-Identifier: MIT
"""Cases of the protocol: what a client sees, the same on every broker of the rig."""
import pytest

from rig.peer import Peer


@pytest.fixture
def connect(broker):
    """connect(**options) opens a connection; see rig/peer.py. All are hung up at the end of the test."""
    peers = []

    def make(**options):
        peer = Peer(broker, **options)
        peers.append(peer)
        return peer
    yield make
    for peer in peers:
        peer.hang_up()


@pytest.fixture
def peer(connect):
    """A connection to the test's vhost."""
    return connect()


@pytest.fixture
def ch(peer):
    """A channel of `peer`."""
    return peer.channel()
