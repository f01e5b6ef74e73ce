/* SPDX-License-Identifier: MIT */
/* Deliveries that a channel's client has not settled yet, and settling them. */
#include "broker/peer_channel.h"

#include <stdlib.h>

struct outstanding *outstanding_add(struct outstandings *outstandings, uint64_t tag)
{
    struct outstanding *item;

    if (HARK_UNLIKELY(outstandings->end == outstandings->capacity)) {
        /* Holes and what is done go first: one that is held for hours must not make it grow with all that pass it. */
        if (outstandings->count < outstandings->capacity / 2) {
            size_t to = 0;

            for (size_t at = outstandings->start; at < outstandings->end; at++)
                if (outstandings->items[at].queue != NULL)
                    outstandings->items[to++] = outstandings->items[at];
            outstandings->start = 0;
            outstandings->end = to;
        } else {
            size_t capacity = outstandings->capacity == 0 ? 32 : 2 * outstandings->capacity;
            struct outstanding *items = realloc(outstandings->items, capacity * sizeof(*items));

            if (items == NULL)
                return NULL;
            outstandings->items = items;
            outstandings->capacity = capacity;
        }
    }
    item = &outstandings->items[outstandings->end++];
    item->tag = tag;
    item->asked = false;
    outstandings->count++;
    return item;
}

struct outstanding *outstanding_find(struct outstandings *outstandings, uint64_t tag)
{
    size_t low = outstandings->start, high = outstandings->end, guess;

    if (low == high || tag < outstandings->items[low].tag || tag > outstandings->items[high - 1].tag)
        return NULL;
    /* Without holes it is there. */
    guess = low + (size_t)(tag - outstandings->items[low].tag);
    if (HARK_LIKELY(guess < high && outstandings->items[guess].tag == tag))
        return outstandings->items[guess].queue != NULL ? &outstandings->items[guess] : NULL;
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (outstandings->items[middle].tag == tag)
            return outstandings->items[middle].queue != NULL ? &outstandings->items[middle] : NULL;
        if (outstandings->items[middle].tag < tag)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

void outstanding_remove(struct outstandings *outstandings, struct outstanding *outstanding)
{
    outstanding->queue = NULL;
    outstandings->count--;
    while (outstandings->start < outstandings->end && outstandings->items[outstandings->start].queue == NULL)
        outstandings->start++;
    if (outstandings->start == outstandings->end)
        outstandings->start = outstandings->end = 0;
}

struct outstanding *outstanding_first(struct outstandings *outstandings)
{
    return outstandings->count > 0 ? &outstandings->items[outstandings->start] : NULL;
}

uint64_t outstanding_ask(struct peer_channel *channel, uint64_t tag, bool multiple)
{
    struct outstandings *all = &channel->outstanding;
    struct outstanding *item;

    if (multiple && tag == 0) {
        tag = channel->last_tag;
        item = all->end > all->start ? &all->items[all->end - 1] : NULL;
    } else {
        item = outstanding_find(all, tag);
        if (item == NULL || item->asked)
            return UINT64_MAX;
        item->asked = true;
    }
    if (!multiple)
        return tag;
    for (; item != NULL && item->tag > all->asked_to; item = item > &all->items[all->start] ? item - 1 : NULL)
        item->asked = true;
    all->asked_to = tag;
    return tag;
}

void outstanding_ask_not(struct outstandings *outstandings, uint64_t tag, bool multiple)
{
    struct outstanding *item;

    if (!multiple) {
        item = outstanding_find(outstandings, tag);
        if (item != NULL)
            item->asked = false;
        return;
    }
    for (size_t at = outstandings->start; at < outstandings->end; at++) {
        if (outstandings->items[at].tag > outstandings->asked_to)
            break;
        outstandings->items[at].asked = false;
    }
    outstandings->asked_to = 0; /* of all that were asked for together */
}

static void settle_one(struct peer_channel *channel, struct outstanding *outstanding, enum settlement settlement)
{
    struct queue_consumer *consumer = outstanding->consumer;
    struct queue *queue = outstanding->queue;
    struct entry entry = outstanding->entry;
    bool counted = outstanding->counted;

    outstanding_remove(&channel->outstanding, outstanding);
    if (HARK_LIKELY(counted)) {
        channel->unacked--;
        if (HARK_UNLIKELY(channel->channel_prefetch > 0 && channel->unacked + 1U == channel->channel_prefetch))
            peer_channel_wake(channel);
    }
    if (HARK_LIKELY(consumer != NULL)) {
        consumer->unacked--;
        if (!consumer->ready)
            queue_consumer_ready(consumer);
    }
    if (HARK_LIKELY(settlement == SETTLE_ACK))
        queue_acknowledged(queue, &entry);
    else if (settlement == SETTLE_REQUEUE)
        queue_requeue(queue, &entry);
    else
        queue_rejected(queue, &entry);
}

/* Backwards, so that each is put in front of the one before. */
static void settle_requeue(struct peer_channel *channel, uint64_t tag, bool asked)
{
    struct outstandings *all = &channel->outstanding;

    for (size_t at = all->end; at > all->start && all->count > 0;) {
        struct outstanding *item = &all->items[--at];

        if (item->queue != NULL && item->tag <= tag && (asked || !item->asked))
            settle_one(channel, item, SETTLE_REQUEUE);
    }
}

void settle_recover(struct peer_channel *channel)
{
    settle_requeue(channel, UINT64_MAX, false);
}

void settle_up_to(struct peer_channel *channel, uint64_t tag, enum settlement settlement)
{
    struct outstandings *all = &channel->outstanding;
    struct outstanding *first;

    if (settlement == SETTLE_REQUEUE) {
        settle_requeue(channel, tag, true);
        return;
    }
    while ((first = outstanding_first(all)) != NULL && first->tag <= tag)
        settle_one(channel, first, settlement);
}

int settle_deliveries(struct peer_channel *channel, uint64_t tag, bool multiple, enum settlement settlement,
                      struct reply *error)
{
    struct outstanding *outstanding;

    if (multiple && tag == 0) {
        settle_up_to(channel, UINT64_MAX, settlement);
        return 0;
    }
    outstanding = outstanding_find(&channel->outstanding, tag);
    if (HARK_UNLIKELY(outstanding == NULL))
        return reply_set(error, REPLY_PRECONDITION_FAILED, 0, "unknown delivery tag %llu", (unsigned long long)tag);
    if (multiple)
        settle_up_to(channel, tag, settlement);
    else
        settle_one(channel, outstanding, settlement);
    return 0;
}
