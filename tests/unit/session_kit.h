/* SPDX-License-Identifier: MIT */
/* What the tests of sessions and of channels share: a fake server, a session with it, a channel, and notes of all calls. */
#ifndef TESTS_SESSION_KIT_H
#define TESTS_SESSION_KIT_H

#include "client/session.h"
#include "peer.h"

extern struct loop *loop;
extern struct peer *peer;
extern struct session *session;
extern struct session_host host;       /* the peer */
extern struct session_options options; /* as a test wants them, before kit_start() */
extern struct channel channel;

struct noted {
    unsigned opened, lost, blocked, unblocked;
    char why[512]; /* of the last loss */
    unsigned channel_opened, channel_closed, deliveries, returns, methods, batches, closes_done;
    struct reply channel_error;
    struct message *message; /* the last one delivered */
    uint64_t oversized, delivery_tag;
    uint32_t method_id;
};
extern struct noted noted;

extern const struct channel_ops kit_channel_ops;

void kit_setup(void);
void kit_teardown(void);
void kit_start(void);
void kit_start_open(void);
void kit_start_channel(void);
void kit_done(void *arg);                                                 /* counts closes_done */
bool kit_ignore(void *arg, uint16_t number, const amqp_method_t *method); /* for peer->on_method */

#endif
