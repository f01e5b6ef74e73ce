/* SPDX-License-Identifier: MIT */
/*
 * SASL responses of connection.start-ok: from bytes to a user. There are no challenges: connection.secure is never
 * sent. For the connection handler.
 *
 * What RabbitMQ 3.10 answers, which the handler is to do likewise, by the code of the error:
 *
 *   403 ACCESS_REFUSED   The login failed. To a client whose properties have the capability authentication_failure_close:
 *                        connection.close at once with this code and text, class and method 0, and the socket is closed
 *                        without waiting for close-ok. To any other client: nothing, and the socket is closed 3 seconds
 *                        later.
 *   502 SYNTAX_ERROR,    A malformed response, a mechanism that is not offered. Nothing is sent whatever the client's
 *   503 COMMAND_INVALID  capabilities; the socket is closed 3 seconds later. The text is for the log.
 *
 * In the 3 seconds nothing is read. An empty user name or password is a failed login.
 */
#ifndef BROKER_SASL_H
#define BROKER_SASL_H

#include "broker/users.h"
#include "wire/reply.h"

/* What a connection is, as far as login is concerned. */
struct sasl_peer {
    bool loopback;                /* 127.0.0.0/8, ::1, or a Unix socket */
    bool trusted;                 /* the workers' own socket: EXTERNAL is users_trusted() */
    const char *certificate_name; /* the verified client certificate's common name; NULL: none */
};

/* The mechanisms to offer, separated by blanks: "PLAIN AMQPLAIN", behind EXTERNAL where it can work: to a certificate in
 * the name of a user. Who uses it with another certificate unasked is refused as with a wrong password. */
const char *sasl_mechanisms(struct users *users, const struct sasl_peer *peer);

/* One reference. NULL with error: 403 with RabbitMQ's words for a login that fails; 502 for a malformed response, 503
 * for a mechanism that is not offered. `who` is for the log (never the password), escaped: the user's name, or as
 * RabbitMQ logs a refusal "user 'guest' - invalid credentials", "user 'guest' can only connect via localhost"; "" when
 * no name was read. */
struct user *sasl_login(struct users *users, const struct sasl_peer *peer, struct span mechanism, struct span response,
                        char *who, size_t size, struct reply *error) HARK_MUSTCHECK;

#endif
