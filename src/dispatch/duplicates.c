/* SPDX-License-Identifier: MIT */
/*
 * Duplicates, on queues with `dedup`: a message whose id was settled a short while ago is acknowledged and not handled
 * again. One that comes while the first is still in hand waits for it (a twin) and ends as it does. Retry copies are no
 * duplicates: listener and attempt are part of what is compared. Messages without an id are never taken for
 * duplicates.
 */
#include "dispatch/parts.h"

#include <stdlib.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* A clock that all workers share: the test kit's stays out of it. */
static int64_t duplicates_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static size_t duplicates_slot(const struct dispatch_queue *queue, uint64_t hash)
{
    size_t mask = queue->in_hand_size - 1;
    size_t at = (size_t)hash & mask;

    while (queue->in_hand[at] != NULL && queue->in_hand[at]->dedup_hash != hash)
        at = (at + 1) & mask;
    return at;
}

static int duplicates_room(struct dispatch_queue *queue)
{
    size_t in_hand = queue->dispatcher->counters.in_hand;
    struct delivery **old = queue->in_hand;
    size_t old_size = queue->in_hand_size;
    size_t size = old_size == 0 ? 512 : old_size;

    while (size < 2 * in_hand + 2)
        size *= 2;
    if (size == old_size)
        return 0;
    queue->in_hand = calloc(size, sizeof(*queue->in_hand));
    if (queue->in_hand == NULL) {
        queue->in_hand = old;
        return -1;
    }
    queue->in_hand_size = size;
    for (size_t i = 0; i < old_size; i++)
        if (old[i] != NULL)
            queue->in_hand[duplicates_slot(queue, old[i]->dedup_hash)] = old[i];
    free(old);
    return 0;
}

bool duplicates_catch(struct delivery *delivery, struct span listener)
{
    struct dispatch_queue *queue = delivery->queue;
    struct dispatcher *dispatcher = queue->dispatcher;
    bool named = message_id(delivery->message).length > 0 || delivery->id_length > 0;
    struct delivery *first;
    uint64_t hash;
    size_t at;

    if (dispatcher->options.dedup == NULL || queue->dedup_window == 0 || !named)
        return false;
    hash = XXH3_64bits_withSeed(listener.data, listener.length,
                                delivery_hash(delivery) + delivery->attempt + ((uint64_t)delivery->round << 20));
    if (hash == 0)
        hash = 1;
    if (dedup_seen(dispatcher->options.dedup, hash, duplicates_now(), queue->dedup_window)) {
        dispatcher->counters.duplicates++;
        return true;
    }
    if (duplicates_room(queue) != 0)
        return false;
    at = duplicates_slot(queue, hash);
    first = queue->in_hand[at];
    if (first == NULL) {
        delivery->dedup_hash = hash;
        queue->in_hand[at] = delivery;
        return false;
    }
    dispatcher->counters.duplicates++;
    delivery->twin = first->twin;
    first->twin = delivery;
    delivery->pending++; /* the first one's end */
    return true;
}

void duplicates_end(struct delivery *delivery, bool settled)
{
    struct dispatch_queue *queue = delivery->queue;
    size_t mask = queue->in_hand_size - 1;
    size_t hole = duplicates_slot(queue, delivery->dedup_hash);
    struct delivery *twin = delivery->twin;

    if (settled)
        dedup_add(queue->dispatcher->options.dedup, delivery->dedup_hash, duplicates_now());
    queue->in_hand[hole] = NULL;
    for (size_t at = (hole + 1) & mask; queue->in_hand[at] != NULL; at = (at + 1) & mask) {
        struct delivery *moved = queue->in_hand[at];

        queue->in_hand[at] = NULL;
        queue->in_hand[duplicates_slot(queue, moved->dedup_hash)] = moved;
    }
    delivery->twin = NULL;
    while (twin != NULL) {
        struct delivery *next = twin->twin;

        twin->twin = NULL;
        twin->abandoned = !settled;
        if (!settled && delivery->oversized > 0) /* that one was given back, too: it is not the worker that leaves */
            queue->dispatcher->ports.requeue(queue->dispatcher->ports.arg, &twin->ticket);
        delivery_release(twin);
        twin = next;
    }
}
