/* SPDX-License-Identifier: MIT */
/*
 * Relays: messages that are too large to be kept are passed on as they come, part by part, from the
 * consuming connection to one of their own; in memory there is never more than a link holds anyway.
 *
 * Each message has a channel of its own, with confirms. Until that is open, and whenever their link
 * is full, the consuming link is not read. Nothing but the end of the connection ends a message
 * half-way (RabbitMQ takes channel.close within a content for a broken frame), so one whose source
 * ends takes the connection along, and that is why they have one of their own: it is opened when
 * it is needed, and closed when it was not for a while.
 *
 * Each message ends with exactly one outcome, and unlike a publisher's it is not tried again: its
 * bytes are gone.
 */
#ifndef CLIENT_RELAY_H
#define CLIENT_RELAY_H

#include "client/session.h"
#include "wire/outgoing.h"

struct relay;

struct relays {
    struct session *from;
    /* Makes their session; its ops call relays_opened() and relays_lost(). NULL: no memory. */
    struct session *(*connect)(void *arg);
    void *arg;
    /* Theirs. */
    struct session *to, *closing; /* NULL: none at the moment */
    struct event *idle;
    struct relay *first;
};

/* The session that the messages come from, and how to make the other one. -1: no memory. */
int relays_init(struct relays *relays, struct session *from, struct session *(*connect)(void *arg),
                void *arg) HARK_MUSTCHECK;
void relays_opened(struct relays *relays);
void relays_lost(struct relays *relays);
/* Ends all of them with OUTCOME_ABANDONED, and their connection. */
void relays_abandon(struct relays *relays);
void relays_free(struct relays *relays); /* abandons; also what was never initialised but zeroed */

/* Takes the outgoing, whose `streamed` bytes will follow. `holder` is set, and NULL again as soon as
 * no more parts are wanted: all have come, or it is over. The outgoing's done() may be called from
 * within. */
void relay_start(struct relays *relays, struct outgoing *outgoing, struct relay **holder);
void relay_part(struct relay *relay, struct span part);
/* No more parts will come, and not all have. NULL is fine. */
void relay_cut(struct relay *relay);

#endif
