/* SPDX-License-Identifier: MIT */
/*
 * The publisher: one confirmed channel on a connection of its own. Messages are sent in order,
 * mandatory, up to `window` unconfirmed; what does not fit waits. Every message ends with exactly
 * one outcome; a lost connection is none: what was not confirmed is published again on the next
 * one.
 *
 * When the server closes the channel, some message was refused but the protocol does not say which.
 * The publisher then goes on carefully, with one message, then two, four, ... as long as all goes
 * well, until the guilty one is found (the channel closes with only that one in flight) and all
 * that were in flight with it are confirmed; so a bad message takes no innocent ones with it. If
 * the server closes the whole connection, which it does for many reasons, it takes three times with
 * the same message alone. Other messages to an exchange that does not exist are then refused
 * without asking, for a second.
 */
#ifndef CLIENT_PUBLISHER_H
#define CLIENT_PUBLISHER_H

#include "client/session.h"
#include "wire/outgoing.h"

struct publisher;

struct publisher_options {
    unsigned window; /* unconfirmed in flight */
    bool confirm;    /* false: safe once in the link's buffer (OUTCOME_CONFIRMED then); returns still
                     arrive, and are logged */
};

struct publisher_ops {
    /* More comes than goes: as many wait as may be in flight (until half of them do), or something
     * waits while the link is full or there is no channel, or the broker blocks. Stop consuming;
     * false: go on. Called on changes only. */
    void (*pressure)(void *arg, bool high);
};

struct publisher *publisher_new(struct session *session, const struct publisher_options *options,
                                const struct publisher_ops *ops, void *arg);
/* To be called from the session's ops. */
void publisher_session_opened(struct publisher *publisher);
void publisher_session_lost(struct publisher *publisher);
void publisher_session_blocked(struct publisher *publisher, bool blocked);
/* While held nothing is sent, it waits. Letting go also forgets which destinations were missing. */
void publisher_hold(struct publisher *publisher, bool held);
/* Takes ownership. Never fails: a message that cannot be sent ends by its outcome. May call done()
 * before it returns only when confirm is off. */
void publisher_send(struct publisher *publisher, struct outgoing *outgoing);
size_t publisher_unconfirmed(const struct publisher *publisher);
size_t publisher_waiting(const struct publisher *publisher);
/* What `pressure` said last. */
bool publisher_is_high(const struct publisher *publisher);
/* Ends everything that is left with OUTCOME_ABANDONED. Legal anywhere, frees at the end of the
 * turn. */
void publisher_free(struct publisher *publisher);

#endif
