/* SPDX-License-Identifier: MIT */
/* Messages come in, are taken, settled, put back and purged. */
#include "broker/queue_private.h"

#include <stdlib.h>

/* ---- small pieces ---- */

struct store_entry queue_row(const struct queue *queue, const struct entry *entry)
{
    return (struct store_entry){
        .queue = queue->id,
        .position = entry->position,
        .shared = entry->shared,
        .expires = entry->expires,
        .deliveries = entry->deliveries,
        .rank = entry->rank,
        .transient = entry->transient,
        .redelivered = entry->redelivered,
    };
}

void queue_drop_entry(struct queue *queue, struct entry *entry)
{
    broker_drop_entry(queue_broker(queue), entry);
}

static void queue_forget_row(struct queue *queue, struct entry *entry)
{
    struct store_entry row = queue_row(queue, entry);

    if (HARK_UNLIKELY(queue_broker(queue)->replacing))
        store_replace(queue_broker(queue)->store, &row, &entry->ticket);
    else
        store_remove(queue_broker(queue)->store, &row, &entry->ticket);
}

void queue_forget_entry(struct queue *queue, struct entry *entry)
{
    if (entry->stored && !queue->deleted)
        queue_forget_row(queue, entry);
    queue_drop_entry(queue, entry);
}

struct entry *queue_first(struct queue *queue, struct ring **ring)
{
    for (unsigned i = 0; i < queue->ring_count; i++) {
        *ring = &queue->rings[i];
        if ((*ring)->count > 0)
            return ring_first(*ring);
    }
    return NULL;
}

static void queue_count(struct queue *queue, int messages, size_t bytes)
{
    queue->ready_count += (uint64_t)messages;
    queue->ready_bytes += messages > 0 ? bytes : -bytes;
    queue_broker(queue)->ready_count += (uint64_t)messages;
}

void queue_unlink_first(struct queue *queue, struct ring *ring, struct entry *entry)
{
    uint8_t rank = entry->rank;
    uint64_t position = entry->position;

    queue_count(queue, -1, entry->message->body.length);
    if (rank > queue->top_rank || (rank == queue->top_rank && position >= queue->top)) {
        queue->top_rank = rank;
        queue->top = position + 1;
    }
    ring_drop_first(ring);
    if (HARK_UNLIKELY(ring->count == 0))
        ring_trim(ring);
}

/* ---- in ---- */

static bool queue_is_over(const struct queue *queue, uint64_t more_count, uint64_t more_bytes)
{
    return (queue->policy.max_length >= 0 && queue->ready_count + more_count > (uint64_t)queue->policy.max_length) ||
           (queue->policy.max_bytes >= 0 && queue->ready_bytes + more_bytes > (uint64_t)queue->policy.max_bytes);
}

static void queue_drop_head(struct queue *queue)
{
    struct ring *ring;
    struct entry *first, entry;

    while (queue_is_over(queue, 0, 0) && (first = queue_first(queue, &ring)) != NULL) {
        entry = *first;
        queue_unlink_first(queue, ring, first);
        deaths_add(queue, &entry, DEATH_MAXLEN);
    }
}

void queue_trim_returned(struct queue *queue)
{
    if (queue->policy.overflow == QUEUE_DROP_HEAD)
        queue_drop_head(queue);
    queue->came_back = false;
}

void queue_trim(struct queue *queue)
{
    if (HARK_LIKELY(!queue_is_over(queue, 0, 0)) || queue->policy.overflow != QUEUE_DROP_HEAD)
        return;
    if (queue->expiring)
        queue_expire(queue, loop_wall(queue_broker(queue)->loop), false);
    queue_deliver(queue); /* what a consumer can take is not too much */
    queue_drop_head(queue);
}

static enum queue_added queue_refuse(struct queue *queue, const struct queue_addition *addition)
{
    if (queue->policy.overflow == QUEUE_REJECT_PUBLISH_DLX) {
        struct entry entry = {.message = message_hold(addition->message)};

        broker_charge_entry(queue_broker(queue), &entry);
        deaths_add(queue, &entry, DEATH_MAXLEN);
    }
    return QUEUE_REJECTED;
}

static void queue_date(struct queue *queue, const struct queue_addition *addition, struct entry *entry)
{
    entry->expires = addition->expires;
    if (queue->policy.message_ttl >= 0) {
        int64_t end = loop_wall(queue_broker(queue)->loop) + queue->policy.message_ttl;

        if (entry->expires == 0 || end < entry->expires)
            entry->expires = end;
    }
    if (entry->expires != 0)
        queue->expiring = true;
}

enum queue_added queue_add(struct queue *queue, struct queue_addition *addition)
{
    struct broker *broker = queue_broker(queue);
    struct message *message = addition->message;
    struct entry entry = {.shared = addition->shared}, *to;

    if (HARK_UNLIKELY(queue->came_back))
        queue_trim_returned(queue);
    addition->stored = addition->persistent && queue->durable;
    if (HARK_UNLIKELY(queue->policy.overflow != QUEUE_DROP_HEAD && queue_is_over(queue, 1, message->body.length)))
        return queue_refuse(queue, addition);
    if (queue->ranks > 1) {
        uint8_t most = queue->policy.max_priority, priority = message->properties.priority;

        entry.rank = (uint8_t)(most - (priority < most ? priority : most));
    }
    if (HARK_UNLIKELY(addition->expires != 0 || queue->policy.message_ttl >= 0))
        queue_date(queue, addition, &entry);
    entry.position = queue->next_position;
    if (HARK_UNLIKELY(queue_is_paged(queue, entry.rank, entry.position))) {
        entry.message = message_hold(message);
        broker_charge_entry(broker, &entry);
        entry.stored = addition->stored;
        if (entry.stored) {
            struct store_entry row = queue_row(queue, &entry);

            store_add(broker->store, &row, message, &entry.ticket);
        }
        if (queue->ranks > 1 && queue->paged.read != NULL) {
            to = ring_append(&queue->paged.late);
            if (to != NULL)
                *to = entry;
            else
                queue_add_paged(queue, &entry); /* no memory: later than it should be */
        } else {
            queue_add_paged(queue, &entry);
        }
    } else {
        to = ring_append(queue_ring(queue, entry.rank, false));
        if (HARK_UNLIKELY(to == NULL))
            return QUEUE_REJECTED;
        entry.message = message_hold(message);
        broker_charge_entry(broker, &entry);
        if (addition->stored) {
            struct store_entry row = queue_row(queue, &entry);

            entry.stored = true;
            store_add(broker->store, &row, message, &entry.ticket);
        }
        *to = entry;
    }
    queue->next_position++;
    queue_count(queue, 1, message->body.length);
    queue_trim(queue);
    queue_schedule(queue);
    return QUEUE_ADDED;
}

/* ---- out ---- */

void queue_hand_over(struct queue *queue, struct ring *ring, struct entry *first, struct entry *entry)
{
    *entry = *first;
    queue_unlink_first(queue, ring, first);
    queue->unacked_count++;
    queue->references++;
    queue_broker(queue)->unacked_count++;
    queue_broker(queue)->delivered++;
    if (entry->position >= queue->delivered)
        queue->delivered = entry->position + 1;
}

bool queue_take(struct queue *queue, struct entry *entry)
{
    struct entry *first;
    struct ring *ring;

    if (queue->expiring)
        queue_expire(queue, loop_wall(queue_broker(queue)->loop), true);
    first = queue_first(queue, &ring);
    if (first == NULL)
        return false;
    queue_hand_over(queue, ring, first, entry);
    if (queue->expiring) /* what has expired behind it is not to be counted */
        queue_expire(queue, loop_wall(queue_broker(queue)->loop), true);
    queue_schedule(queue); /* for what is left to do: paging, the timer, `delivered` */
    return true;
}

/* ---- settled ---- */

/* It comes back from its channel; the queue may end with it. */
static void queue_returned(struct queue *queue)
{
    queue->unacked_count--;
    queue_broker(queue)->unacked_count--;
    if (queue->unacked_count == 0) {
        queue->top = 0;
        queue->top_rank = 0;
    }
}

void queue_acknowledged(struct queue *queue, struct entry *entry)
{
    queue_forget_entry(queue, entry);
    queue_returned(queue);
    queue_release(queue);
}

void queue_rejected(struct queue *queue, struct entry *entry)
{
    queue_returned(queue);
    deaths_add(queue, entry, DEATH_REJECTED);
    queue_release(queue);
}

static void queue_put_back(struct queue *queue, struct entry *entry)
{
    size_t bytes = entry->message->body.length;

    if (HARK_UNLIKELY(queue_is_paged(queue, entry->rank, entry->position))) {
        queue_add_paged(queue, entry);
    } else if (ring_insert(queue_ring(queue, entry->rank, true), entry) != 0) {
        deaths_add(queue, entry, DEATH_REJECTED); /* no memory: better a dead letter than nothing */
        return;
    }
    queue_count(queue, 1, bytes);
    queue->came_back = true;
    queue_schedule(queue);
}

void queue_requeue(struct queue *queue, struct entry *entry)
{
    queue_returned(queue);
    entry->redelivered = true;
    if (entry->deliveries < UINT16_MAX)
        entry->deliveries++;
    if (queue->deleted)
        queue_drop_entry(queue, entry);
    else if (queue->policy.delivery_limit >= 0 && entry->deliveries > queue->policy.delivery_limit)
        deaths_add(queue, entry, DEATH_DELIVERY_LIMIT);
    else {
        if (entry->stored && queue->policy.delivery_limit >= 0) {
            struct store_entry row = queue_row(queue, entry);

            store_update(queue_broker(queue)->store, &row);
        }
        queue_put_back(queue, entry);
    }
    queue_release(queue);
}

uint64_t queue_purge(struct queue *queue)
{
    uint64_t count = queue->ready_count;

    queue_purge_paged(queue);
    for (unsigned i = 0; i < queue->ring_count; i++) {
        struct ring *ring = &queue->rings[i];

        for (size_t at = 0; at < ring->count; at++)
            if (ring_at(ring, at)->stored)
                queue_forget_row(queue, ring_at(ring, at));
        leavings_take(queue_broker(queue), ring);
    }
    queue_broker(queue)->ready_count -= queue->ready_count;
    queue->ready_count = queue->ready_bytes = 0;
    queue_serve_getters(queue); /* what they wait for will not come */
    return count;
}

/* ---- time ---- */

bool queue_has_expired(const struct queue *queue, const struct ring *ring, const struct entry *entry, int64_t now,
                       bool inclusive)
{
    bool came_back = (ring - queue->rings) % 2 == 0;

    return entry->expires != 0 && (entry->expires < now || (entry->expires == now && (inclusive || came_back)));
}

void queue_expire(struct queue *queue, int64_t now, bool inclusive)
{
    struct entry *first, entry;
    struct ring *ring;

    while ((first = queue_first(queue, &ring)) != NULL && queue_has_expired(queue, ring, first, now, inclusive)) {
        entry = *first;
        queue_unlink_first(queue, ring, first);
        deaths_add(queue, &entry, DEATH_EXPIRED);
    }
}

/* ms until the first message or the queue itself has had its time; -1: neither will. */
static int64_t queue_next_end(struct queue *queue)
{
    struct ring *ring;
    const struct entry *first = queue->expiring ? queue_first(queue, &ring) : NULL;
    int64_t next = -1;

    if (first != NULL && first->expires != 0) {
        next = first->expires - loop_wall(queue_broker(queue)->loop);
        if (next < 0)
            next = 0;
    }
    if (queue->policy.expires >= 0 && queue->consumers == NULL) {
        int64_t left = queue->last_used + queue->policy.expires - loop_now(queue_broker(queue)->loop);

        if (next < 0 || left < next)
            next = left > 0 ? left : 0;
    }
    return next;
}

void queue_set_timer(struct queue *queue)
{
    int64_t ms;
    struct timeval wait;

    if (HARK_LIKELY(!queue->expiring && queue->policy.expires < 0))
        return;
    ms = queue_next_end(queue);
    if (ms < 0) {
        evtimer_del(queue->timer);
        return;
    }
    ms++; /* not a moment too early, or it would be set again for nothing */
    wait = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    evtimer_add(queue->timer, &wait);
}

void queue_tick(evutil_socket_t fd, short what, void *arg)
{
    struct queue *queue = arg;

    (void)fd;
    (void)what;
    if (queue->policy.expires >= 0 && queue->consumers == NULL &&
        loop_now(queue_broker(queue)->loop) - queue->last_used >= queue->policy.expires) {
        queue_delete(queue);
        return;
    }
    queue_schedule(queue);
}

void queue_used(struct queue *queue)
{
    queue->last_used = loop_now(queue_broker(queue)->loop);
    queue_set_timer(queue);
}
