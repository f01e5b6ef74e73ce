/* SPDX-License-Identifier: MIT */
#include "client/gather.h"

#define GATHER_PERIOD_MS 10
#define GATHER_RATE 10 /* deliveries a millisecond that are taken for a backlog */
#define GATHER_PAUSE_US 1000

unsigned gather_pause(struct gather *gather, int64_t now, unsigned delivered, bool full, unsigned in_hand,
                      unsigned prefetch)
{
    int64_t elapsed = now - gather->since;

    gather->count += delivered;
    gather->full |= full;
    if (elapsed >= GATHER_PERIOD_MS) {
        gather->busy = (gather->full || gather->count >= elapsed * GATHER_RATE) &&
                       gather->count < elapsed * prefetch / 2;
        gather->since = now;
        gather->count = 0;
        gather->full = false;
    }
    return gather->busy && in_hand < prefetch / 2 ? GATHER_PAUSE_US : 0;
}
