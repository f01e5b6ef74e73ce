/* SPDX-License-Identifier: MIT */
/*
 * When to gather: the broker is the slow half, and it works cheapest on large batches. A client
 * that pauses a millisecond after each wake-up makes them large, but it adds that millisecond to
 * every message, and it makes things slower when the prefetch window is used up while it waits. So:
 * only while much is coming in, never at low rates, never when half the window is already in hand, and
 * not with a broker so fast that it would use up the window in such a pause.
 */
#ifndef CLIENT_GATHER_H
#define CLIENT_GATHER_H

#include "base/base.h"

struct gather {
    int64_t since;  /* ms: when the current period of measuring began */
    unsigned count; /* deliveries in it */
    bool full;      /* a read filled its buffer in it */
    bool busy;      /* the last period had a backlog */
};

/* After everything readable was handed over: `delivered` of them, `in_hand` of `prefetch` not yet
 * acknowledged. Returns the microseconds that the next turn should wait, 0: none. */
unsigned gather_pause(struct gather *gather, int64_t now, unsigned delivered, bool full, unsigned in_hand,
                      unsigned prefetch);

#endif
