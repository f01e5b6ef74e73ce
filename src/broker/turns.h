/* SPDX-License-Identifier: MIT */
/*
 * Whose turn it is among the consumers of a queue that could take a message: the highest priority first, in turns
 * within one priority. A list for each priority; those of priority 0, which is nearly everybody, cost nothing else. The
 * other lists stand in a heap while somebody is in them, so that as many priorities as consumers hold nobody up either.
 *
 * Owned by a queue. Memory is asked for with turns_join() only: what happens to consumers later cannot fail.
 */
#ifndef BROKER_TURNS_H
#define BROKER_TURNS_H

#include "base/base.h"

struct queue_consumer;
struct turns_level;

struct turns {
    struct queue_consumer *ordinary; /* a list: those of priority 0 */
    struct turns_level *levels;      /* a table: the other priorities that a consumer has */
    struct turns_level **heap;       /* those of them in which somebody stands, the highest first; room for all */
    size_t standing, room;
};

/* A consumer is new; turns_leave() when it goes. -1: no memory. */
int turns_join(struct turns *turns, struct queue_consumer *consumer) HARK_MUSTCHECK;
void turns_leave(struct turns *turns, struct queue_consumer *consumer);
/* It stands behind all others of its priority; it must not stand there yet. */
void turns_put(struct turns *turns, struct queue_consumer *consumer);
void turns_take(struct turns *turns, struct queue_consumer *consumer);
/* Who is next; NULL: nobody can. */
struct queue_consumer *turns_first(const struct turns *turns);
/* It has had its turn. */
void turns_rotate(struct turns *turns, struct queue_consumer *consumer);
/* Everybody has left. */
void turns_free(struct turns *turns);

#endif
