# SPDX-License-Identifier: MIT
"""From the protocol header to connection.open-ok: mechanisms, virtual hosts, who may come in."""
import ssl

import pytest

from differences import differs
from rig import wire
from rig.peer import CAPABILITIES

REFUSED = r"^ACCESS_REFUSED - Login was refused using authentication mechanism %s\. For details see the broker logfile"
SILENT = dict(CAPABILITIES, authentication_failure_close=False)


def amqplain(user, password):
    """A table without its length."""
    return wire.table([("LOGIN", "S", user), ("PASSWORD", "S", password)])[4:]


def tls(broker, certificate=True):
    context = ssl.create_default_context(cafile=broker.certificates.ca)
    if certificate:
        context.load_cert_chain(broker.certificates.client, broker.certificates.client_key)
    return context


def test_start_says_what_the_server_can(connect):
    start = connect(until="start-ok").start
    assert (start.major, start.minor, start.locales) == (0, 9, "en_US")
    assert start.server_properties["capabilities"] == dict.fromkeys(
        ("publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
         "connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
         "direct_reply_to"), True)
    for name in ("platform", "information", "cluster_name"):
        assert isinstance(start.server_properties[name], str), name
    # Kombu and others choose by these how they ask.
    assert start.server_properties["product"] == "RabbitMQ"
    assert tuple(map(int, start.server_properties["version"].split(".")[:2])) >= (3, 10)
    assert {"PLAIN", "AMQPLAIN"} <= set(start.mechanisms.split(" "))


@pytest.mark.parametrize("header", [b"AMQP\0\0\x09\2", b"AMQP\1\1\0\x0a", b"AMQP\0\1\0\0", b"AMQP\0\0\0\0",
                                    b"AMQP\3\1\0\0", b"HTTP/1.1", b"GET / HT"])
def test_another_protocol_header_is_answered_with_ours(connect, header):
    peer = connect(until="header")
    peer.write(header)
    assert peer.read_raw(8) == wire.HEADER
    peer.expect_end()


@pytest.mark.parametrize("header", [b"AMQP\1\1\0\x09", b"AMQP\1\1\x08\0", b"AMQP\1\1\x09\1"])
def test_header_of_amqp_0_8_and_0_9(broker, connect, header):
    peer = connect(until="header")
    peer.write(header)
    if differs(broker, "protocol headers of older versions"):
        assert peer.read_raw(8) == wire.HEADER
        peer.expect_end()
    else:
        peer.zero.expect("connection.start")


def test_plain(connect):
    connect().alive()


def test_amqplain(connect):
    connect(mechanism="AMQPLAIN", response=amqplain("guest", "guest")).alive()


def test_amqplain_may_have_more_fields(connect):
    more = wire.table([("LOGIN", "S", "guest"), ("x", "I", 1), ("PASSWORD", "S", "guest")])[4:]
    connect(mechanism="AMQPLAIN", response=more).alive()


def test_external_takes_the_certificates_name(broker, connect):
    broker.add_user(broker.certificates.client_name)
    connect(tls=tls(broker), mechanism="EXTERNAL", response="").alive()


def test_plain_over_tls(broker, connect):
    connect(tls=tls(broker, False)).alive()


class Resuming:
    """A TLS context that offers the session of the connection before, which has to be open still."""

    def __init__(self, context):
        self._context, self._last = context, None

    @property
    def session(self):
        return self._last and self._last.session

    def wrap_socket(self, sock, **more):
        self._last = self._context.wrap_socket(sock, session=self.session, **more)
        return self._last


@pytest.mark.parametrize("certificate", [False, True], ids=["plain", "external"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_tls_session_can_be_offered_again(broker, connect, version, certificate):
    """As Java's and .NET's clients do when they connect again."""
    context = tls(broker, certificate)
    context.minimum_version = context.maximum_version = version
    again = Resuming(context)
    login = {}
    if certificate:
        broker.add_user(broker.certificates.client_name)
        login = {"mechanism": "EXTERNAL", "response": ""}
    for _ in range(3):
        connect(tls=again, **login).alive()


def test_no_ticket_comes_after_the_handshake(broker, connect):
    """Java's client with NIO takes a ticket of TLS 1.3, which comes between the data, for zeros."""
    context = tls(broker, False)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    again = Resuming(context)
    connect(tls=again).alive()
    assert not again.session.has_ticket


def test_external_without_a_certificate(broker, connect):
    peer = connect(tls=tls(broker, False), until="tune", mechanism="EXTERNAL", response="")
    if differs(broker, "EXTERNAL where it can work"):
        peer.expect_end()
    else:
        peer.expect_close(403, REFUSED % "EXTERNAL")


def test_external_does_not_look_at_the_response(broker, connect):
    broker.add_user(broker.certificates.client_name)
    connect(tls=tls(broker), mechanism="EXTERNAL", response="somebody else").alive()


@pytest.mark.parametrize("mechanism, response", [
    ("PLAIN", "\0guest\0wrong"), ("PLAIN", "\0nobody\0guest"), ("PLAIN", "\0guest\0"), ("PLAIN", "\0\0"),
    ("AMQPLAIN", amqplain("guest", "wrong")), ("AMQPLAIN", amqplain("nobody", "guest"))])
def test_wrong_login(connect, mechanism, response):
    connect(until="tune", mechanism=mechanism, response=response).expect_close(403, REFUSED % mechanism)


def test_wrong_login_of_a_client_that_does_not_understand_why(connect):
    peer = connect(until="tune", password="wrong", capabilities=SILENT)
    peer.expect_end()


@pytest.mark.parametrize("mechanism, response", [
    ("PLAIN", ""), ("PLAIN", "guest"), ("PLAIN", "\0guest"), ("PLAIN", "guest\0guest"),
    ("PLAIN", "\0guest\0guest\0"), ("PLAIN", "someone\0guest\0guest"), ("SCRAM", "x"), ("", "\0guest\0guest"),
    ("AMQPLAIN", ""), ("AMQPLAIN", amqplain("guest", "guest")[:-1]),
    ("AMQPLAIN", wire.table([("LOGIN", "S", "guest")])[4:])])
def test_what_is_no_login_ends_without_a_word(connect, mechanism, response):
    """Before a client has logged in, only one whose password is wrong hears why."""
    connect(until="tune", mechanism=mechanism, response=response).expect_end()


def test_unknown_vhost(connect):
    peer = connect(until="open")
    peer.zero.send("connection.open", vhost="nowhere")
    peer.expect_close(530, "^NOT_ALLOWED - vhost nowhere not found", "connection.open")


def test_forbidden_vhost(broker, connect):
    broker.add_user("bob")
    broker.add_vhost("elsewhere")
    try:
        peer = connect(until="open", user="bob", password="bob", vhost="elsewhere")
        peer.zero.send("connection.open", vhost="elsewhere")
        peer.expect_close(530, "^NOT_ALLOWED - access to vhost 'elsewhere' refused for user 'bob'", "connection.open")
    finally:
        broker.delete_vhost("elsewhere")


def test_deleted_vhost_ends_its_connections(broker, connect):
    broker.add_vhost("doomed")
    peer = connect(vhost="doomed")
    peer.alive()
    broker.delete_vhost("doomed")
    peer.expect_close(320, "^CONNECTION_FORCED - vhost 'doomed' is (deleted|down)", "", answer=False)
    peer.expect_end()


def test_vhosts_do_not_see_each_other(broker, connect, ch):
    ch.declare("q")
    broker.add_vhost("other")
    try:
        other = connect(vhost="other").channel()
        other.send("queue.declare", queue="q", passive=True)
        other.expect_close(404, "no queue 'q' in vhost 'other'", "queue.declare")
    finally:
        broker.delete_vhost("other")


def test_update_secret(peer):
    peer.zero.call("connection.update-secret", new_secret="guest", reason="renewed")
    peer.alive()


def test_open_ok_says_no_hosts(connect):
    peer = connect(until="open")
    peer.zero.send("connection.open", vhost=peer.vhost)
    peer.zero.expect("connection.open-ok", known_hosts="")
