/* SPDX-License-Identifier: MIT */
#include "net/heartbeat.h"

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

enum heartbeat_due heartbeat_look(struct heartbeat *heartbeat, int64_t now, bool paused, int64_t *again)
{
    int64_t half = heartbeat->interval / 2 > 0 ? heartbeat->interval / 2 : 1;
    int64_t dead = 2 * heartbeat->interval;
    int64_t next = now + half; /* of a rule that is suspended now and may be in force again by then */
    enum heartbeat_due due = HEARTBEAT_NOTHING;

    if (!paused && !heartbeat->patient) {
        if (now >= heartbeat->read + dead)
            return HEARTBEAT_SILENT;
        next = earlier(next, heartbeat->read + dead);
    }
    if (heartbeat->stuck > 0) {
        /* A heartbeat could only join the queue. */
        if (!heartbeat->patient) {
            if (now >= heartbeat->stuck + dead)
                return HEARTBEAT_STUCK;
            next = earlier(next, heartbeat->stuck + dead);
        }
    } else if (now >= heartbeat->written + half) {
        due = HEARTBEAT_SEND;
    } else {
        next = earlier(next, heartbeat->written + half);
    }
    *again = next - now;
    return due;
}
