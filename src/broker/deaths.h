/* SPDX-License-Identifier: MIT */
/*
 * Dead letters: what expired, was too much or rejected goes to the queue's dead-letter exchange, with a record of it in
 * the header x-death.
 *
 * One death may cause others (a full queue that dead-letters into a full queue), and in circles of full queues very
 * many. So they are dealt with one after the other, each with all that it causes before the next, which bounds how many
 * wait; before the method that caused them is done, or if they are many, in turns. One that waits still is in its queue
 * as far as the disk is concerned.
 */
#ifndef BROKER_DEATHS_H
#define BROKER_DEATHS_H

#include "base/buf.h"
#include "broker/ring.h"

struct broker;
struct queue;
struct vhost;

enum death_reason { DEATH_REJECTED, DEATH_EXPIRED, DEATH_MAXLEN, DEATH_DELIVERY_LIMIT };

struct death {
    struct queue *queue; /* held */
    struct entry entry;
    enum death_reason reason;
};

struct death_line {
    struct death *items;
    size_t end, capacity;
};

struct deaths {
    struct death_line now;   /* the last is next */
    struct death_line later; /* behind all of those, the first is next: of other causes, while some are left */
    size_t turned;           /* of `now`; behind: added since, the first of them is next */
    bool running;
    bool resting;       /* the turn has done its share */
    struct event *rest; /* those left by one turn, in the next */
    struct queue *held; /* a list: they are scheduled when none wait any longer */
};

/* Takes the entry, which is no longer in the queue's rings; removes it from the store in the same batch that adds
 * the dead letter. */
void deaths_add(struct queue *queue, const struct entry *entry, enum death_reason reason);
/* Deals with those that wait, or as many as one turn may take; not if called from within. */
void deaths_run(struct broker *broker);
/* Whether some wait for a turn, of whatever queue: then this one is scheduled when none do. */
bool deaths_hold(struct queue *queue);
/* It goes. */
void deaths_let_go(struct queue *queue);
/* Those of this virtual host (NULL: all) are not dealt with: its queues go, or the process ends. */
void deaths_forget(struct broker *broker, const struct vhost *vhost);

/* The headers of the dead letter: those of the message, with this death in x-death. Without memory `out` turns
 * `failed`. */
void death_put_headers(struct buf *out, const struct death *death);
/* A message that has already died in this queue, and never by being rejected since, goes round in circles.
 * `headers`: the dead letter's. */
bool death_is_cycle(const struct queue *queue, struct span headers);

#endif
