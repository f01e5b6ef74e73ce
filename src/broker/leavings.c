/* SPDX-License-Identifier: MIT */
#include "broker/leavings.h"

#include "broker/broker_private.h"

#include <stdlib.h>

#define LEAVINGS_TURN 8192 /* messages given back in one turn: less than a millisecond */

struct leaving {
    struct ring ring;
    struct leaving *next;
};

static void leavings_drop(struct broker *broker, struct ring *ring, size_t most)
{
    for (; ring->count > 0 && most > 0; most--) {
        broker_drop_entry(broker, ring_first(ring));
        ring_drop_first(ring);
    }
    if (ring->count == 0)
        ring_free(ring);
}

static void leavings_go_on(evutil_socket_t fd, short what, void *arg)
{
    struct broker *broker = arg;
    struct leavings *leavings = &broker->leavings;
    struct leaving *first = leavings->first;

    (void)fd;
    (void)what;
    leavings_drop(broker, &first->ring, LEAVINGS_TURN);
    if (first->ring.count == 0) {
        leavings->first = first->next;
        free(first);
    }
    if (leavings->first != NULL)
        evtimer_add(leavings->next_turn, &(struct timeval){0});
}

void leavings_take(struct broker *broker, struct ring *ring)
{
    struct leavings *leavings = &broker->leavings;
    struct leaving *leaving = NULL;

    if (ring->count > LEAVINGS_TURN) {
        if (leavings->next_turn == NULL)
            leavings->next_turn = evtimer_new(loop_base(broker->loop), leavings_go_on, broker);
        if (leavings->next_turn != NULL)
            leaving = malloc(sizeof(*leaving));
    }
    if (leaving == NULL) { /* few, or no memory to keep them for later */
        leavings_drop(broker, ring, SIZE_MAX);
        return;
    }
    *leaving = (struct leaving){.ring = *ring, .next = leavings->first};
    *ring = (struct ring){0};
    leavings->first = leaving;
    evtimer_add(leavings->next_turn, &(struct timeval){0});
}

double leavings_bytes(const struct leavings *leavings)
{
    double bytes = 0;

    for (const struct leaving *leaving = leavings->first; leaving != NULL; leaving = leaving->next)
        for (size_t at = 0; at < leaving->ring.count; at++)
            bytes += broker_entry_share(ring_at(&leaving->ring, at));
    return bytes;
}

void leavings_free(struct broker *broker)
{
    struct leavings *leavings = &broker->leavings;
    struct leaving *leaving;

    while ((leaving = leavings->first) != NULL) {
        leavings->first = leaving->next;
        leavings_drop(broker, &leaving->ring, SIZE_MAX);
        free(leaving);
    }
    if (leavings->next_turn != NULL)
        event_free(leavings->next_turn);
}
