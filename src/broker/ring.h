/* SPDX-License-Identifier: MIT */
/*
 * The messages of one queue and one rank that wait in memory, in the order of their positions: a ring, so that both
 * ends are cheap. What goes back to where it was (requeue) is near the front, as a rule.
 */
#ifndef BROKER_RING_H
#define BROKER_RING_H

#include "broker/store.h"

/* One message in one queue. */
struct entry {
    struct message *message;
    uint64_t position;
    uint64_t shared;            /* the store's number, if several queues hold it */
    int64_t expires;            /* ms of CLOCK_REALTIME; 0: never */
    struct store_ticket ticket; /* of its addition to the store */
    uint16_t deliveries;
    uint8_t rank;   /* 0 is delivered first */
    bool stored;    /* there is a row of it on disk, */
    bool transient; /* and it is one that does not outlive the process */
    bool redelivered;
};

struct ring {
    struct entry *entries;
    size_t mask, head, count; /* size is mask + 1 once there are entries */
};

static inline struct entry *ring_at(const struct ring *ring, size_t index)
{
    return &ring->entries[(ring->head + index) & ring->mask];
}

static inline struct entry *ring_first(const struct ring *ring)
{
    return ring_at(ring, 0);
}

static inline void ring_drop_first(struct ring *ring)
{
    ring->head++;
    ring->count--;
}

static inline void ring_drop_last(struct ring *ring)
{
    ring->count--;
}

/* Where an entry behind all others goes; NULL: no memory. */
struct entry *ring_append(struct ring *ring) HARK_MUSTCHECK;
/* To its place by position. -1: no memory. */
int ring_insert(struct ring *ring, const struct entry *entry) HARK_MUSTCHECK;
/* Gives memory back that an earlier crowd has needed. */
void ring_trim(struct ring *ring);
void ring_free(struct ring *ring);

#endif
