/* SPDX-License-Identifier: MIT */
/*
 * Heartbeats (AMQP 0-9-1, 4.2.7) as a rule without a clock or a socket: when to send one, and when the peer counts as
 * dead. Embedded in a link, which has the timer and does what is due.
 *
 * Any traffic counts, both ways. Not reading is our own doing, so a pause is no silence. A broker that has blocked us
 * (connection.blocked) does not read, so while `patient` neither silence nor a full socket is death.
 */
#ifndef NET_HEARTBEAT_H
#define NET_HEARTBEAT_H

#include "base/base.h"

struct heartbeat {
    int64_t interval;      /* ms; 0: off */
    int64_t read, written; /* when something last arrived, and was last taken by the kernel */
    int64_t stuck;         /* since when the kernel takes nothing; 0: it does */
    bool patient;
};

enum heartbeat_due {
    HEARTBEAT_NOTHING,
    HEARTBEAT_SEND,   /* nothing was written for half the interval */
    HEARTBEAT_SILENT, /* nothing arrived for twice the interval: dead */
    HEARTBEAT_STUCK,  /* nothing could be written for twice the interval: dead */
};

/* What is due, and in how many ms to ask again. Before the first: set `read` and `written`. */
enum heartbeat_due heartbeat_look(struct heartbeat *heartbeat, int64_t now, bool paused, int64_t *again);

#endif
