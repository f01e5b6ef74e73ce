/* SPDX-License-Identifier: MIT */
/*
 * What a publisher has in flight: published on the present channel and not yet confirmed. The
 * channel counts its messages from 1, and confirmations name that number, so a ring holds them:
 * sequence & mask is the place.
 *
 * Confirmations may be late (a queue without its leader) while thousands behind them are confirmed.
 * What the ring has to give up its place for then moves to a short list, so one late message
 * neither stops the others nor makes the ring grow.
 *
 * Taking one out is one step: whoever is called with it may put others in.
 */
#ifndef CLIENT_FLIGHT_H
#define CLIENT_FLIGHT_H

#include "wire/outgoing.h"

struct flight {
    struct outgoing **ring;            /* NULL in it: has been taken out */
    size_t size;                       /* a power of two */
    uint64_t oldest, next;             /* the ring holds oldest to next - 1 */
    size_t count;                      /* in ring and list */
    struct outgoing *late, **late_end; /* older than the ring's, in their order */
};

/* Room for twice the window; more than the window is the owner's mistake, but works. -1: no memory.
 */
int flight_init(struct flight *flight, size_t window) HARK_MUSTCHECK;
void flight_free(struct flight *flight); /* it must be empty */

/* Gives it the next sequence. */
void flight_add(struct flight *flight, struct outgoing *outgoing);
/* Takes out the one with this sequence. NULL: there is none (any more). */
struct outgoing *flight_take(struct flight *flight, uint64_t sequence);
/* Takes out the oldest if its sequence is at most this. NULL: there is none. */
struct outgoing *flight_take_oldest(struct flight *flight, uint64_t sequence);
/* The one that a basic.return, which carries no sequence, is about: the first with the same
 * exchange, key, body and properties that has not been returned yet, or the one most like it. Equal
 * ones are interchangeable; copies of equal messages are not, and differ in a header only. Of a
 * body that was too large to be kept, which the message then lacks, the size must do. It stays.
 * NULL: none. */
struct outgoing *flight_find(struct flight *flight, const struct message *message, uint64_t size);
/* Takes out all: a chain in the order of publishing. The count starts at 1 again. */
struct outgoing *flight_rewind(struct flight *flight);

#endif
