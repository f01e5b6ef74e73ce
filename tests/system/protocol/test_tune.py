# SPDX-License-Identifier: MIT
"""connection.tune: what is proposed, what a client may answer, and what then holds."""
import struct
import time

import pytest

from differences import differs
from rig import methods, wire
from rig.peer import Ended
from rig.waiting import wait_until


def answer(connect, **tune):
    peer = connect(until="tune-ok")
    asked = peer.tune.arguments
    peer.zero.send("connection.tune-ok", **dict(asked, **tune))
    peer.zero.send("connection.open", vhost=peer.vhost)
    return peer


def test_proposal(connect):
    tune = connect(until="tune-ok").tune
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


@pytest.mark.parametrize("tune", [{}, {"frame_max": 4096}, {"channel_max": 1}, {"heartbeat": 0}, {"heartbeat": 1},
                                  {"heartbeat": 600}, {"channel_max": 2047, "frame_max": 131072}])
def test_accepted(connect, tune):
    answer(connect, **tune).zero.expect("connection.open-ok")


@pytest.mark.parametrize("tune", [{"frame_max": 4095}, {"frame_max": 1}, {"frame_max": 131073}, {"frame_max": 0},
                                  {"channel_max": 2048}, {"channel_max": 0}])
def test_refused(broker, connect, tune):
    """What is beyond the proposal, or means "no limit"."""
    peer = connect(until="tune-ok")
    peer.zero.send("connection.tune-ok", **dict(peer.tune.arguments, **tune))
    if differs(broker, "says why before it is open"):
        peer.expect_close(530, "^NOT_ALLOWED - negotiated %s = " % list(tune)[0], "connection.tune-ok")
    else:
        peer.expect_end()


def test_channels_end_at_channel_max(connect):
    peer = connect(tune=(3, 131072, 0))
    for number in (1, 2, 3):
        peer.channel(number)
    peer.raw_channel(4).send("channel.open")
    peer.expect_close(530, r"^NOT_ALLOWED - number of channels opened \(3\) has reached the negotiated channel_max \(3\)")


def test_content_is_cut_to_frame_max(connect):
    channel = connect(tune=(2047, 4096, 0)).channel()
    channel.declare("q")
    body = bytes(range(256)) * 40
    channel.publish("", "q", body)
    assert channel.get_soon("q").message.body == body   # rig/peer.py looks at the frames' sizes


@pytest.mark.parametrize("frame_max", [4096, 131072])
def test_a_frame_with_a_payload_of_frame_max(connect, frame_max):
    channel = connect(tune=(2047, frame_max, 0)).channel()
    channel.declare("q")
    channel.send("basic.publish", key="q")
    channel.frame(wire.CONTENT, struct.pack(">HHQH", 60, 0, frame_max, 0))
    channel.frame(wire.BODY, b"x" * frame_max)
    assert len(channel.get_soon("q").message.body) == frame_max


@pytest.mark.parametrize("frame_max", [4096, 131072])
def test_a_frame_larger_than_frame_max(connect, frame_max):
    peer = connect(tune=(2047, frame_max, 0))
    channel = peer.channel()
    channel.send("basic.publish", key="q")
    peer.write(wire.frame(wire.BODY, 1, b"x" * (frame_max + 1)))
    peer.expect_close(501, "^FRAME_ERROR - ")


def start_ok(size):
    """A frame of so many bytes."""
    def frame(filler):
        return wire.frame(wire.METHOD, 0, methods.encode("connection.start-ok", {
            "client_properties": {"filler": filler}, "mechanism": "PLAIN", "response": "\0guest\0guest", "locale": "en_US"}))
    return frame("x" * (size - len(frame(""))))


@pytest.mark.parametrize("size", [4096, 4104])
def test_largest_frame_before_tune_ok(connect, size):
    """RabbitMQ bears with clients to whom frame_max is the payload's."""
    peer = connect(until="start-ok")
    peer.write(start_ok(size))
    peer.zero.expect("connection.tune")


def test_too_large_a_frame_before_tune_ok(broker, connect):
    peer = connect(until="start-ok")
    peer.write(start_ok(4105))
    if differs(broker, "says why before it is open"):
        peer.expect_close(501, "^FRAME_ERROR - ", answer=False)
    peer.expect_end()


def test_server_sends_heartbeats(connect):
    peer = connect(tune=(2047, 131072, 1))
    wait_until(lambda: pump(peer) >= 2, "heartbeats")


def pump(peer):
    if peer.readable(time.monotonic() + 0.1):
        peer.read(time.monotonic() + 5, "a heartbeat")
    return peer.heartbeats


def test_server_without_heartbeats_is_silent(connect):
    peer = connect(tune=(2047, 131072, 0))
    peer.zero.silent(1.5)
    assert peer.heartbeats == 0


def test_server_hangs_up_on_a_client_without_heartbeats(connect):
    peer = connect(tune=(2047, 131072, 1))
    begin = time.monotonic()
    with pytest.raises(Ended):
        while True:
            peer.read(time.monotonic() + 10, "the end")
    assert 1 <= time.monotonic() - begin < 5


def test_any_frame_is_a_sign_of_life(connect):
    peer = connect(tune=(2047, 131072, 1))
    channel = peer.channel()
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        channel.call("channel.flow", active=True)
        time.sleep(0.3)
    peer.alive()


def test_client_heartbeats_keep_the_connection(connect):
    peer = connect(tune=(2047, 131072, 1))
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        peer.write(wire.frame(wire.HEARTBEAT, 0, b""))
        time.sleep(0.3)
    peer.alive()
