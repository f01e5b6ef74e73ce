# SPDX-License-Identifier: MIT
"""Soft errors close the channel; who closes, what is ignored meanwhile, and what remains."""
NOT_FOUND = "^NOT_FOUND - no queue 'none' in vhost '"


def provoke(ch):
    ch.send("queue.declare", queue="none", passive=True)


def test_soft_error_closes_the_channel_alone(peer, ch):
    other = peer.channel()
    provoke(ch)
    ch.expect_close(404, NOT_FOUND, "queue.declare")
    other.declare("q")
    peer.alive()


def test_channel_number_serves_again_after_close_ok(peer, ch):
    for _ in range(3):
        provoke(ch)
        ch.expect_close(404, NOT_FOUND)
        ch.open()
    ch.declare("q")


def test_what_comes_before_close_ok_is_ignored(peer, ch):
    ch.declare("q")
    provoke(ch)
    # On their way before the client knows:
    ch.publish("", "q", "lost")
    ch.send("basic.consume", queue="q")
    ch.send("queue.delete", queue="q")
    provoke(ch)
    ch.expect_close(404, NOT_FOUND, answer=False)
    ch.publish("", "q", "lost, too")
    ch.send("queue.declare", queue="q2")
    ch.silent()
    ch.send("channel.close-ok")
    ch.open()
    assert ch.ready("q") == 0
    ch.send("queue.declare", queue="q2", passive=True)
    ch.expect_close(404)


def test_both_close_at_once(peer, ch):
    """close of the client crosses the server's: it is answered, as the specification wants."""
    provoke(ch)
    ch.send("channel.close", code=200, text="bye")
    ch.expect_close(404, NOT_FOUND, answer=False)
    ch.expect("channel.close-ok")
    peer.alive()


def test_channel_close_by_the_client(peer, ch):
    ch.close()
    ch.open()
    ch.declare("q")


def test_close_of_a_channel_returns_its_messages(peer, ch):
    ch.declare("q")
    for body in "abc":
        ch.publish("", "q", body)
    ch.wait_ready("q", 3)
    other = peer.channel()
    assert [other.get("q", no_ack=False).message.body for _ in range(2)] == [b"a", b"b"]
    other.close()
    ch.wait_ready("q", 3)
    got = [ch.get("q") for _ in range(3)]
    assert [(m.message.body, m.redelivered) for m in got] == [(b"a", True), (b"b", True), (b"c", False)]


def test_connection_close_by_the_client(peer, ch):
    ch.send("queue.declare", queue="q")
    peer.close()


def test_connection_close_comes_after_what_was_asked_before(connect):
    peer = connect()
    ch = peer.channel(confirms=True)
    ch.declare("q")
    for number in range(100):
        ch.publish("", "q", b"%d" % number)
    peer.close()
    assert connect().channel().ready("q") == 100


def test_socket_that_just_ends_returns_messages(connect, ch):
    ch.declare("q")
    ch.publish("", "q", "x")
    ch.wait_ready("q", 1)
    other = connect()
    assert other.channel().get("q", no_ack=False)
    assert ch.ready("q") == 0
    other.hang_up()
    ch.wait_ready("q", 1)
    assert ch.get("q").redelivered


def test_forced_close(broker, peer, ch):
    broker.close_connections("maintenance")
    peer.expect_close(320, "^CONNECTION_FORCED - maintenance", "", answer=False)
    peer.zero.send("connection.close-ok")
    peer.expect_end()


def test_nowait_leaves_out_the_answer(ch):
    ch.send("queue.declare", queue="q", nowait=True)
    ch.send("exchange.declare", exchange="x", type="fanout", nowait=True)
    ch.send("queue.bind", queue="q", exchange="x", nowait=True)
    ch.send("exchange.declare", exchange="y", type="fanout", nowait=True)
    ch.send("exchange.bind", destination="x", source="y", nowait=True)
    ch.send("basic.consume", queue="q", tag="c", nowait=True)
    ch.publish("y", "", "hello")
    ch.expect("basic.deliver", tag="c", exchange="y")
    ch.send("basic.cancel", tag="c", nowait=True)
    ch.send("exchange.unbind", destination="x", source="y", nowait=True)
    ch.send("exchange.delete", exchange="y", nowait=True)
    ch.send("queue.purge", queue="q", nowait=True)
    ch.send("confirm.select", nowait=True)
    ch.publish("", "q", "more")
    ch.expect("basic.ack", delivery=1)
    ch.send("queue.delete", queue="q", nowait=True)
    ch.send("exchange.delete", exchange="x", nowait=True)
    ch.call("basic.qos")
    ch.send("queue.declare", queue="q", passive=True)
    ch.expect_close(404, "no queue 'q'")


def test_nowait_errors_are_still_told(ch):
    ch.send("queue.bind", queue="none", exchange="amq.direct", nowait=True)
    ch.expect_close(404, NOT_FOUND, "queue.bind")


def test_answers_keep_the_order_of_requests(ch):
    for number in range(50):
        ch.send("queue.declare", queue="q%d" % number)
        ch.send("basic.get", queue="q%d" % number)
    for number in range(50):
        ch.expect("queue.declare-ok", queue="q%d" % number)
        ch.expect("basic.get-empty")
