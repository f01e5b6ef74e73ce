/* SPDX-License-Identifier: MIT */
/* Who consumes from a queue, and in which order they take turns. */
#include "broker/peer_channel.h"
#include "broker/queue_private.h"

#include <utlist.h>

void queue_consumer_ready(struct queue_consumer *consumer)
{
    struct queue *queue = consumer->queue;

    if (queue == NULL)
        return;
    queue_schedule(queue);
    if (!consumer->ready)
        turns_put(&queue->turns, consumer);
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

int queue_add_consumer(struct queue *queue, struct queue_consumer *consumer)
{
    if (turns_join(&queue->turns, consumer) != 0)
        return -1;
    consumer->queue = queue;
    DL_APPEND(queue->consumers, consumer);
    queue->consumer_count++;
    queue->consumed = true;
    queue_broker(queue)->consumer_count++;
    queue_used(queue);
    queue_consumer_ready(consumer);
    return 0;
}

void queue_remove_consumer(struct queue_consumer *consumer)
{
    struct queue *queue = consumer->queue;

    if (queue == NULL)
        return;
    turns_leave(&queue->turns, consumer);
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
