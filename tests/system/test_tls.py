# SPDX-License-Identifier: MIT
"""TLS to the broker: who is trusted, who is not, and EXTERNAL."""
from rig.sections import TOPOLOGY, forward


def test_verified_server(harkd, broker, client):
    """A server that the CA has signed for this address."""
    harkd(TOPOLOGY + forward(), url=broker.url(scheme="amqps"), hark="tls_ca = " + broker.certificates.ca)
    client.publish("events", "k", "over TLS" * 100000)
    assert client.get_one("results").body == b"over TLS" * 100000


def refused(harkd, url, hark, pattern):
    """harkd says why, sends no password, and keeps trying."""
    daemon = harkd(TOPOLOGY + forward(), url=url, hark=hark, wait=None)
    daemon.wait_for_log(pattern)
    assert daemon.running and not daemon.find("connected to") and not daemon.find("consuming from")


def test_unknown_authority(harkd, broker):
    refused(harkd, broker.url(scheme="amqps"), "tls_ca = " + broker.certificates.stranger, "certificate")


def test_system_authorities_do_not_know_it(harkd, broker):
    refused(harkd, broker.url(scheme="amqps"), "", "certificate")


def test_wrong_name(harkd, broker):
    refused(harkd, broker.url(scheme="amqps"),
            "tls_server_name = elsewhere.example\ntls_ca = " + broker.certificates.ca, "name|mismatch")


def test_tls_to_a_plain_port(harkd, broker):
    """amqps:// and the port speaks plain AMQP."""
    refused(harkd, broker.url(scheme="amqps", port=broker.port).replace(str(broker.tls_port), str(broker.port)),
            "tls_ca = " + broker.certificates.ca, "TLS|SSL|amqps")


def test_verification_off(harkd, broker, client):
    """tls_verify = no takes anybody."""
    harkd(TOPOLOGY + forward(), url=broker.url(scheme="amqps"), hark="tls_verify = no")
    client.publish("events", "k", "m")
    client.get_one("results")


def test_external_with_a_client_certificate(harkd, broker, client):
    """No password at all: the certificate's common name is the user. Its key is encrypted."""
    certificates = broker.certificates
    broker.add_user(certificates.client_name)
    secret = certificates.client_key_encrypted + ".password"
    with open(secret, "w") as file:
        file.write("sesame\n")
    harkd(TOPOLOGY + forward(), url=broker.url(scheme="amqps"),
          hark="auth = external\ntls_ca = %s\ntls_certificate = %s\ntls_key = %s\ntls_key_password_file = %s" % (
              certificates.ca, certificates.client, certificates.client_key_encrypted, secret))
    client.publish("events", "k", "m")
    client.get_one("results")
    assert certificates.client_name in broker.users()
