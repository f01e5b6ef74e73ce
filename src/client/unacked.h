/* SPDX-License-Identifier: MIT */
/*
 * A consumer's deliveries in hand, and which acknowledgements they call for. Each has a slot, whose
 * number its ticket carries, and the slots in use are chained in the order of their tags: nothing
 * is looked up, and memory is bounded by the prefetch, even while one delivery is held for hours
 * and millions pass it by.
 */
#ifndef CLIENT_UNACKED_H
#define CLIENT_UNACKED_H

#include "base/buf.h"

#define UNACKED_NONE UINT32_MAX

struct unacked_slot {
    uint64_t tag;
    uint32_t previous, next;
    bool used, settled, postponed;
};

struct unacked {
    struct unacked_slot *slots;
    uint32_t size, spare, first, last; /* spare: chained by next */
    uint32_t count;                    /* in hand, settled or not */
    uint32_t *settled;                 /* slots settled since the last unacked_put */
    uint32_t settled_count;
};

void unacked_init(struct unacked *unacked);
void unacked_free(struct unacked *unacked);
/* A slot for a delivery, behind all others. UNACKED_NONE: no memory. */
uint32_t unacked_add(struct unacked *unacked, uint64_t tag) HARK_MUSTCHECK;
/* Whether that delivery is in hand and not settled. */
bool unacked_holds(const struct unacked *unacked, uint32_t slot, uint64_t tag);
void unacked_settle(struct unacked *unacked, uint32_t slot);   /* acknowledged by the next unacked_put */
void unacked_drop(struct unacked *unacked, uint32_t slot);     /* not to be acknowledged */
void unacked_postpone(struct unacked *unacked, uint32_t slot); /* given back by the next unacked_put_back */
void unacked_clear(struct unacked *unacked);
/* Puts the acknowledgements: the front of the chain, as far as it is settled, as one; the others
 * singly. */
void unacked_put(struct unacked *unacked, struct buf *out, uint16_t channel);
/* Puts a basic.reject with requeue for each that was postponed. */
void unacked_put_back(struct unacked *unacked, struct buf *out, uint16_t channel);

#endif
