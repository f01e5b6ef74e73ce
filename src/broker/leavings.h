/* SPDX-License-Identifier: MIT */
/*
 * What is left of queues that were purged or deleted: messages that are gone for everybody, and still hold memory. It
 * is given back a part per turn of the loop, since millions of them at once would hold everybody up.
 */
#ifndef BROKER_LEAVINGS_H
#define BROKER_LEAVINGS_H

#include "broker/ring.h"

struct broker;
struct leaving;

struct leavings {
    struct leaving *first;
    struct event *next_turn; /* while there are some */
};

/* Takes the messages out of the ring, and the ring's own memory. What the store has of them is the caller's to
 * remove. */
void leavings_take(struct broker *broker, struct ring *ring);
/* What they hold, counted: for the invariants. */
double leavings_bytes(const struct leavings *leavings);
/* Everything goes, now. */
void leavings_free(struct broker *broker);

#endif
