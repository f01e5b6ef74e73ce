/* SPDX-License-Identifier: MIT */
/*
 * Dead letters: what expired, was too much or rejected goes to the queue's dead-letter exchange, with a record of it in the
 * header x-death.
 *
 * One death may cause others (a full queue that dead-letters into a full queue). So they wait in a
 * line, and are dealt with one after the other, before the method that caused them is done.
 */
#ifndef BROKER_DEATHS_H
#define BROKER_DEATHS_H

#include "broker/ring.h"

struct broker;
struct queue;

enum death_reason { DEATH_REJECTED, DEATH_EXPIRED, DEATH_MAXLEN, DEATH_DELIVERY_LIMIT };

struct death {
    struct queue *queue; /* held */
    struct entry entry;
    enum death_reason reason;
};

struct deaths {
    struct death *items; /* a line: [start, end) */
    size_t start, end, capacity;
    bool running;
};

/* Takes the entry, which is no longer in the queue's rings; removes it from the store in the same batch that adds the dead letter. */
void deaths_add(struct queue *queue, const struct entry *entry, enum death_reason reason);
/* Deals with all that wait, unless this is called from within. */
void deaths_run(struct broker *broker);
void deaths_free(struct deaths *deaths);

#endif
