/* SPDX-License-Identifier: MIT */
/* TLS rules (OpenSSL): which certificates are trusted, shown and demanded. Made once, shared by links. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/base.h"

struct tls_context;

struct tls_options {
    const char *ca;           /* file or folder; NULL: the system's */
    const char *certificate;  /* chain, PEM; NULL: none */
    const char *key;          /* PEM; NULL: in the certificate file */
    const char *key_password; /* NULL: none */
    bool verify; /* the peer's chain, and (as a client) its name. A server with `ca` asks for a certificate also
                                 without it, but takes clients that have none */
    bool server;
};

/* NULL with a message that names the file and what is wrong with it. TLS 1.2 and later only. */
struct tls_context *tls_context_new(const struct tls_options *options, char *error, size_t size);
/* Takes other certificates and rules, for handshakes from now on. -1 with a message; then all stays as it was. */
int tls_context_renew(struct tls_context *context, const struct tls_options *options, char *error,
                      size_t size) HARK_MUSTCHECK;
void tls_context_free(struct tls_context *context);

#endif
