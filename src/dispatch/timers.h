/* SPDX-License-Identifier: MIT */
/*
 * Timers on one libevent timer: a heap of deadlines by a clock that the test kit can move. The owner embeds the timer.
 */
#ifndef DISPATCH_TIMERS_H
#define DISPATCH_TIMERS_H

#include "base/base.h"
#include <event2/event.h>

struct timer {
    int64_t due;
    size_t place; /* in the heap, from 1; 0: not set */
    void (*fire)(struct timer *timer);
};

struct timers {
    struct event *wake;
    struct timer **heap; /* heap[0] is the earliest */
    size_t count, capacity;
    int64_t ahead; /* how far the test kit has moved the clock */
    int64_t armed; /* deadline that `wake` is set for; 0: none */
};

int timers_init(struct timers *timers, struct event_base *base) HARK_MUSTCHECK;
void timers_close(struct timers *timers);
int64_t timers_now(const struct timers *timers); /* ms */

/* Sets it, or sets it anew. -1: no memory. */
int timers_set(struct timers *timers, struct timer *timer, int64_t in_ms) HARK_MUSTCHECK;
void timers_cancel(struct timers *timers, struct timer *timer);
/* Moves the clock and fires what is due, in order. */
void timers_advance(struct timers *timers, int64_t ms);

#endif
