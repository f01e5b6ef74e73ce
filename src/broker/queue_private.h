/* SPDX-License-Identifier: MIT */
/* What the files queue_*.c share. */
#ifndef BROKER_QUEUE_PRIVATE_H
#define BROKER_QUEUE_PRIVATE_H

#include "broker/broker_private.h"
#include "broker/queue.h"

static inline struct broker *queue_broker(const struct queue *queue)
{
    return queue->vhost->broker;
}

/* True if key (rank, position) is at or behind what is only on disk. */
static inline bool queue_is_paged(const struct queue *queue, uint8_t rank, uint64_t position)
{
    if (HARK_LIKELY(queue->paged.count == 0))
        return false;
    return rank > queue->paged.rank || (rank == queue->paged.rank && position >= queue->paged.position);
}

/* What came back, or what was never delivered: of one rank, all positions of the first are below all of the second. */
static inline struct ring *queue_ring(const struct queue *queue, uint8_t rank, bool came_back)
{
    return &queue->rings[2U * rank + !came_back];
}

/* An entry as the store knows it. */
struct store_entry queue_row(const struct queue *queue, const struct entry *entry);
/* The first ready entry in memory; NULL if there is none, or what is on disk comes first. */
struct entry *queue_first(struct queue *queue, struct ring **ring);
/* Takes the first out of its ring; it counts no longer as ready. */
void queue_unlink_first(struct queue *queue, struct ring *ring, struct entry *entry);
/* The same as a delivery: it counts as unacknowledged and holds a reference to the queue. */
void queue_hand_over(struct queue *queue, struct ring *ring, struct entry *first, struct entry *entry);
/* The single active consumer: the first of the highest priority when there was none. NULL: nobody consumes. */
struct queue_consumer *queue_elect(struct queue *queue);
/* To consumers, as long as there are messages and somebody who can take one. */
void queue_deliver(struct queue *queue);
/* Its row in the store goes, memory is given back, the message is dropped. */
void queue_forget_entry(struct queue *queue, struct entry *entry);
/* Memory only. */
void queue_drop_entry(struct queue *queue, struct entry *entry);

/* Some came back together: what is too much with them goes before anybody is served, as in RabbitMQ. */
void queue_trim_returned(struct queue *queue);
/* Over the limits: the front goes. */
void queue_trim(struct queue *queue);
/* Whether a message of that ring has had its time: at `now` too if `inclusive`, or if it was delivered before. (One without
 * any time is for a consumer that waits for it.) */
bool queue_has_expired(const struct queue *queue, const struct ring *ring, const struct entry *entry, int64_t now,
                       bool inclusive);
/* The first ones that have. What stands behind one that has not stays, in RabbitMQ too, also with a lower priority. */
void queue_expire(struct queue *queue, int64_t now, bool inclusive);
void queue_set_timer(struct queue *queue);
void queue_tick(evutil_socket_t fd, short what, void *arg);

/* Leaves what is behind the first `keep` messages on disk, or with stored_only as far as it is there
 * already; at most so many. How many. */
uint64_t queue_page_out(struct queue *queue, uint64_t keep, bool stored_only, uint64_t most);
/* Adds a message to what is on disk. */
void queue_add_paged(struct queue *queue, const struct entry *entry);
/* Reads the next piece if the front runs low. */
void queue_page_in(struct queue *queue);
void queue_purge_paged(struct queue *queue);
/* Messages have come. */
void queue_serve_getters(struct queue *queue);

#endif
