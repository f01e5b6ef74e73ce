/* SPDX-License-Identifier: MIT */
/* Who consumes from a queue, and in which order they take turns. */
#include "broker/peer_channel.h"
#include "broker/queue_private.h"

#include <utlist.h>

void queue_consumer_ready(struct queue_consumer *consumer)
{
    struct queue *queue = consumer->queue;
    struct queue_consumer *at;

    if (queue == NULL)
        return;
    queue_schedule(queue);
    if (consumer->ready)
        return;
    consumer->ready = true;
    if (HARK_LIKELY(queue->ready == NULL || queue->ready->ready_prev->priority >= consumer->priority)) {
        DL_APPEND2(queue->ready, consumer, ready_prev, ready_next);
        return;
    }
    for (at = queue->ready; at->priority >= consumer->priority; at = at->ready_next)
        ;
    DL_PREPEND_ELEM2(queue->ready, at, consumer, ready_prev, ready_next);
}

struct queue_consumer *queue_elect(struct queue *queue)
{
    struct queue_consumer *best = queue->active;

    if (HARK_LIKELY(best != NULL))
        return best;
    best = queue->consumers;
    for (struct queue_consumer *at = best; at != NULL; at = at->next)
        if (at->priority > best->priority)
            best = at;
    queue->active = best;
    return best;
}

void queue_add_consumer(struct queue *queue, struct queue_consumer *consumer)
{
    consumer->queue = queue;
    DL_APPEND(queue->consumers, consumer);
    queue->consumer_count++;
    queue->consumed = true;
    queue_broker(queue)->consumer_count++;
    queue_used(queue);
    queue_consumer_ready(consumer);
}

void queue_remove_consumer(struct queue_consumer *consumer)
{
    struct queue *queue = consumer->queue;

    if (queue == NULL)
        return;
    if (consumer->ready)
        DL_DELETE2(queue->ready, consumer, ready_prev, ready_next);
    consumer->ready = false;
    DL_DELETE(queue->consumers, consumer);
    consumer->queue = NULL;
    queue->consumer_count--;
    queue_broker(queue)->consumer_count--;
    if (queue->active == consumer) {
        queue->active = NULL; /* the next one is elected with the turn's end: it may be about to leave too */
        queue_schedule(queue);
    }
    queue_used(queue);
    if (queue->auto_delete && queue->consumers == NULL && !queue->deleted)
        queue_delete(queue);
}

/* ---- basic.get that waits for the disk ---- */

bool queue_wait(struct queue *queue, struct queue_getter *getter)
{
    if (queue->paged.count == 0)
        return false;
    getter->queue = queue;
    DL_APPEND(queue->getters, getter);
    queue_page_in(queue);
    return true;
}

void queue_wait_no_more(struct queue_getter *getter)
{
    if (getter->queue == NULL)
        return;
    DL_DELETE(getter->queue->getters, getter);
    getter->queue = NULL;
}

void queue_serve_getters(struct queue *queue)
{
    struct queue_getter *waiting = queue->getters, *getter;

    queue->getters = NULL; /* who has to wait again stands in a new list */
    while ((getter = waiting) != NULL) {
        DL_DELETE(waiting, getter);
        getter->queue = NULL;
        peer_channel_get(getter, queue);
    }
}
