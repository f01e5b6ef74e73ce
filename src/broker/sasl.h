/* SPDX-License-Identifier: MIT */
/* SASL responses of connection.start-ok: from bytes to a user. */
#ifndef BROKER_SASL_H
#define BROKER_SASL_H

#include "broker/users.h"
#include "wire/reply.h"

/* What a connection is, as far as login is concerned. */
struct sasl_peer {
    bool loopback; /* 127.0.0.0/8, ::1, or a Unix socket */
    bool trusted;  /* the workers' own socket: EXTERNAL is users_trusted() */
    const char *certificate_name; /* the verified client certificate's common name; NULL: none */
};

/* The mechanisms to offer, separated by blanks: "PLAIN AMQPLAIN", and EXTERNAL where it can work. */
const char *sasl_mechanisms(const struct sasl_peer *peer);

/* One reference. NULL with error: 403 ACCESS_REFUSED with RabbitMQ's words for a login that fails; for a
 * mechanism that is not offered and for a malformed response what RabbitMQ answers there.
 * `who` (for the log, never the password) receives the name that was tried, escaped. */
struct user *sasl_login(struct users *users, const struct sasl_peer *peer, struct span mechanism, struct span response,
                        char *who, size_t size, struct reply *error) HARK_MUSTCHECK;

#endif
