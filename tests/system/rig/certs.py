# SPDX-License-Identifier: MIT
"""Certificates for a run, made with openssl: a CA with a server's and a client's, and a CA that nobody trusts."""
import os
import subprocess


def _openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


class Certificates:
    """Paths of PEM files. The client's common name is `client_name`, the user EXTERNAL logs in as."""

    client_name = "hark-client"

    def __init__(self, folder):
        os.makedirs(folder)
        self.folder = folder
        self.ca, _ = self._authority("ca")
        self.stranger, _ = self._authority("stranger")
        self.server, self.server_key = self._signed("server", "localhost", "DNS:localhost,IP:127.0.0.1")
        self.client, self.client_key = self._signed("client", self.client_name, "DNS:client")
        self.client_key_encrypted = self._path("client-encrypted.key")
        _openssl(folder, "pkey", "-in", self.client_key, "-aes256", "-passout", "pass:sesame",
                 "-out", self.client_key_encrypted)

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _key(self, name):
        path = self._path(name + ".key")
        _openssl(self.folder, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
        os.chmod(path, 0o644)
        return path

    def _authority(self, name):
        key, certificate = self._key(name), self._path(name + ".pem")
        _openssl(self.folder, "req", "-x509", "-new", "-key", key, "-subj", "/CN=hark test " + name,
                 "-days", "2", "-out", certificate)
        return certificate, key

    def _signed(self, name, common_name, alternatives):
        key, request, certificate = self._key(name), self._path(name + ".csr"), self._path(name + ".pem")
        _openssl(self.folder, "req", "-new", "-key", key, "-subj", "/CN=" + common_name, "-out", request)
        extensions = self._path(name + ".ext")
        with open(extensions, "w") as file:
            file.write("subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n" % alternatives)
        _openssl(self.folder, "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._path("ca.key"),
                 "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate)
        return certificate, key
