/* SPDX-License-Identifier: MIT */
#include "broker/invariants.h"

#include "broker/broker_private.h"
#include "broker/peer_channel.h"
#include "broker/queue_private.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

struct sums {
    uint64_t ready, unacked, gathered;
    double memory; /* in shares of messages that are in several queues */
    unsigned queues, consumers, channels, peers, flushing;
};

static void check_ring(const struct queue *queue, const struct ring *ring, unsigned rank, uint64_t *bytes,
                       struct sums *sums)
{
    for (size_t i = 0; i < ring->count; i++) {
        const struct entry *entry = ring_at(ring, i);

        CHECK(entry->message != NULL && entry->message->references > 0);
        CHECK(entry->rank == rank);
        CHECK(entry->position < queue->next_position);
        CHECK(i == 0 || ring_at(ring, i - 1)->position < entry->position);
        CHECK(!queue_is_paged(queue, entry->rank, entry->position));
        *bytes += entry->message->body.length;
        sums->memory += broker_entry_share(entry);
    }
}

static void check_queue(const struct queue *queue, struct sums *sums)
{
    uint64_t count = queue->paged.count + queue->paged.late.count, bytes = queue->paged.bytes;
    unsigned consumers = 0;

    for (unsigned i = 0; i < queue->ring_count; i++) {
        const struct ring *ring = &queue->rings[i];

        check_ring(queue, ring, i / 2, &bytes, sums);
        count += ring->count;
        CHECK(i % 2 == 0 || ring->count == 0 || ring[-1].count == 0 ||
              ring_at(&ring[-1], ring[-1].count - 1)->position < ring_first(ring)->position);
    }
    for (size_t i = 0; i < queue->paged.late.count; i++) {
        bytes += ring_at(&queue->paged.late, i)->message->body.length;
        sums->memory += broker_entry_share(ring_at(&queue->paged.late, i));
    }
    CHECK(!queue->deleted && queue->ready_count == count && queue->ready_bytes == bytes);
    CHECK(queue->references >= 1 + queue->unacked_count);
    for (const struct queue_consumer *consumer = queue->consumers; consumer != NULL; consumer = consumer->next) {
        CHECK(consumer->queue == queue);
        CHECK(!consumer->ready || turns_first(&queue->turns)->priority >= consumer->priority);
        consumers++;
    }
    CHECK(consumers == queue->consumer_count);
    CHECK(queue->active == NULL || queue->active->queue == queue);
    sums->ready += queue->ready_count;
    sums->consumers += consumers;
    sums->queues++;
}

static void check_channel(const struct peer_channel *channel, struct sums *sums)
{
    const struct outstandings *all = &channel->outstanding;
    uint64_t count = 0;

    for (size_t i = all->start; i < all->end; i++) {
        const struct outstanding *item = &all->items[i];

        CHECK(i == all->start || all->items[i - 1].tag < item->tag);
        if (item->queue == NULL)
            continue;
        CHECK(item->entry.message != NULL);
        sums->memory += broker_entry_share(&item->entry);
        count++;
    }
    CHECK(count == all->count);
    CHECK(channel->unacked <= count);
    CHECK(channel->confirmed <= channel->published);
    sums->gathered += channel->gathered + transaction_bytes(channel);
    sums->unacked += count;
    sums->channels++;
}

void broker_check(const struct broker *broker)
{
    const struct peer_channel *channel;
    struct sums sums = {0};

    for (const struct vhost *vhost = broker->vhosts; vhost != NULL; vhost = vhost->hh.next)
        for (const struct queue *queue = vhost->queues; queue != NULL; queue = queue->hh.next)
            check_queue(queue, &sums);
    for (const struct peer *peer = broker->peers; peer != NULL; peer = peer->next) {
        sums.peers++;
        for (unsigned i = 0; (channel = channel_table_next(&peer->channels, &i)) != NULL;)
            check_channel(channel, &sums);
    }
    for (size_t i = 0; i < broker->deaths.now.end; i++)
        sums.memory += broker_entry_share(&broker->deaths.now.items[i].entry);
    for (size_t i = 0; i < broker->deaths.later.end; i++)
        sums.memory += broker_entry_share(&broker->deaths.later.items[i].entry);
    sums.memory += leavings_bytes(&broker->leavings);
    CHECK(sums.ready == broker->ready_count);
    CHECK(sums.unacked == broker->unacked_count);
    CHECK(sums.memory - (double)broker->memory < 1 && (double)broker->memory - sums.memory < 1);
    CHECK(sums.gathered == broker->gathered);
    CHECK(sums.queues == broker->queue_count);
    CHECK(sums.consumers == broker->consumer_count);
    CHECK(sums.channels == broker->channel_count);
    CHECK(sums.peers == broker->peer_count);
    for (const struct peer *peer = broker->flushing; peer != NULL; peer = peer->next) {
        CHECK(peer->state == PEER_GONE && peer->user == NULL);
        sums.flushing++;
    }
    CHECK(sums.flushing == broker->flushing_count);
}
