/* SPDX-License-Identifier: MIT */
/*
 * A queue: messages in order, consumers that take turns, limits and times to live.
 *
 * Each message has a position, which it keeps: what is requeued goes back to where it was. For each
 * priority (rank 0 is the highest) there are two rings: what came back, and behind it what was never delivered.
 * So thousands that come back one by one, in whatever direction, do not move a long queue about. A persistent message of a durable queue
 * has a row in the store from the moment it is added until it is settled.
 *
 * In memory is the front of the queue. When the broker's memory becomes short, a queue leaves its tail on
 * disk (queue_paging.c): everything from rank and position `paged.from` on is there and only there, and
 * what is added behind that goes there directly. It is read back in pieces when the front runs low.
 *
 * What happens to a queue is done at once; deliveries are made at the end of the loop's turn, in one go.
 */
#ifndef BROKER_QUEUE_H
#define BROKER_QUEUE_H

#include "broker/ring.h"
#include "broker/turns.h"
#include "broker/vhost.h"
#include "wire/reply.h"

struct binding;
struct peer;
struct peer_channel;

#define QUEUE_TIME_MAX 315360000000LL /* ms: the longest time to live, ten years, as in RabbitMQ */

enum queue_overflow { QUEUE_DROP_HEAD, QUEUE_REJECT_PUBLISH, QUEUE_REJECT_PUBLISH_DLX };

/* The arguments of queue.declare that we know, read. */
struct queue_policy {
    int64_t message_ttl, expires;  /* ms; -1: none */
    int64_t max_length, max_bytes; /* -1: none */
    int64_t delivery_limit;        /* -1: none */
    enum queue_overflow overflow;
    bool has_dead_exchange, has_dead_key;
    struct span dead_exchange, dead_key;
    uint8_t max_priority;
    bool single_active;
    bool quorum; /* says x-delivery-count in its deliveries */
};

/* A basic.consume. Owned by its channel. */
struct queue_consumer {
    struct queue *queue; /* NULL: the queue is gone, or it waits for direct replies */
    struct peer_channel *channel;
    struct span tag;
    int64_t priority;
    uint32_t unacked;
    uint16_t prefetch; /* 0: no limit of its own */
    bool no_ack, exclusive;
    bool ready;                         /* stands in queue->turns: could take a message, as far as is known */
    struct queue_consumer *prev, *next; /* queue->consumers */
    struct queue_consumer *ready_prev, *ready_next; /* queue->turns */
    struct turns_level *level;                      /* of its priority; NULL: 0 */
    UT_hash_handle hh;                              /* channel->consumers */
    uint8_t bytes[];
};

/* A basic.get that waits until messages have come from disk. Embedded in its channel. */
struct queue_getter {
    struct queue *queue; /* NULL: none waits */
    bool no_ack;
    struct queue_getter *prev, *next;
};

struct queue {
    struct vhost *vhost;
    uint64_t id; /* the store's */
    struct span name, arguments;
    struct queue_policy policy;
    bool durable, auto_delete, exclusive;
    bool deleted;
    bool consumed;                         /* had a consumer: auto-delete may apply */
    struct peer *owner;                    /* of an exclusive queue */
    struct queue *owner_prev, *owner_next; /* peer->exclusives */
    unsigned references;                   /* itself, and each delivery that is not settled */

    unsigned ranks, ring_count;
    struct ring *rings; /* in the order of delivery, two for each rank: queue_ring() */
    uint64_t next_position;
    uint64_t restored;                 /* positions below it may have been delivered by an earlier process */
    uint64_t ready_count, ready_bytes; /* in memory and paged */
    uint64_t unacked_count;
    uint64_t delivered, delivered_said; /* positions below may have been delivered; so the store knows */
    bool expiring;                      /* some message had an end */
    bool held;                          /* in deaths->held */
    struct queue *held_prev, *held_next;
    bool came_back; /* some messages did, and limits have not been looked at since */
    uint64_t top;   /* above every position ever delivered, of all ranks; see queue_paging.c */
    uint8_t top_rank;
    struct {
        uint64_t count, bytes;
        uint8_t rank; /* everything from here on is on disk only, while count > 0 */
        uint64_t position;
        struct store_read *read;
        uint64_t read_until; /* next_position when it was asked for */
        uint32_t piece;      /* how many were asked for, if nobody takes them; 0: some have stayed */
        struct ring late;    /* with priorities: what came meanwhile and may belong before or behind */
    } paged;

    struct queue_consumer *consumers, *active;
    struct turns turns;
    unsigned consumer_count;
    struct binding *bindings;
    uint64_t stamp; /* of the last routing that chose it */

    struct loop_task run;
    struct event *timer;          /* the next message's end, or the queue's own */
    int64_t last_used;            /* ms of the loop's clock */
    struct queue_getter *getters; /* a list */
    UT_hash_handle hh;            /* vhost->queues */
    uint8_t bytes[];
};

struct queue_options {
    struct span name, arguments;
    bool durable, auto_delete, exclusive;
    struct peer *owner;
};

/* 0; -1 with error 406: an argument that a queue cannot have. The policy's spans point into the arguments. */
int queue_policy_read(const struct queue_options *options, const char *vhost, struct queue_policy *policy,
                      struct reply *error) HARK_MUSTCHECK;
/* 0; -1 with error 406: another queue of that name. */
int queue_equals(const struct queue *queue, const struct queue_options *options, struct reply *error) HARK_MUSTCHECK;

/* Made, entered in its vhost, recorded on disk if durable and `id` is 0 (a new one). NULL: no memory. */
struct queue *queue_new(struct vhost *vhost, const struct queue_options *options, const struct queue_policy *policy,
                        uint64_t id) HARK_MUSTCHECK;
/* Consumers are told (basic.cancel), bindings and messages go, on disk too. */
void queue_delete(struct queue *queue);
void queue_free(struct queue *queue);    /* in memory only: the broker ends */
void queue_release(struct queue *queue); /* one reference less */

/* ---- messages ---- */

enum queue_added { QUEUE_ADDED, QUEUE_REJECTED };

struct queue_addition {
    struct message *message; /* held by the queue as far as it needs it */
    uint64_t shared;         /* of store_new_shared(), if several queues store it; otherwise 0 */
    int64_t expires;         /* ms of CLOCK_REALTIME by the message's own expiration; 0: none */
    bool persistent;
    bool stored; /* out: it waits for the open batch */
};
enum queue_added queue_add(struct queue *queue, struct queue_addition *addition) HARK_MUSTCHECK;

/* The next message, for basic.get: taken out as a delivery is. False: there is none now. */
bool queue_take(struct queue *queue, struct entry *entry);
/* Nothing is ready in memory, but there is on disk: peer_channel_get() is called when it has come. False: there is none there
 * either. */
bool queue_wait(struct queue *queue, struct queue_getter *getter);
void queue_wait_no_more(struct queue_getter *getter);
/* An entry that was delivered comes back: it is done, goes back to its place, or is refused for good. The entry is theirs. */
void queue_acknowledged(struct queue *queue, struct entry *entry);
void queue_requeue(struct queue *queue, struct entry *entry);
void queue_rejected(struct queue *queue, struct entry *entry);
/* What is ready goes. Returns how many. */
uint64_t queue_purge(struct queue *queue);
/* What an earlier process has left. */
struct store_figures;
void queue_restore(struct queue *queue, const struct store_figures *figures);
/* Deliveries are due at the end of this turn. */
void queue_schedule(struct queue *queue);
/* What is due at the end of this turn is done now: somebody asks what is in the queue, or leaves it. */
void queue_catch_up(struct queue *queue);
/* A declare, consume or get: x-expires begins anew. */
void queue_used(struct queue *queue);

/* ---- consumers ---- */

/* -1: no memory. */
int queue_add_consumer(struct queue *queue, struct queue_consumer *consumer) HARK_MUSTCHECK;
void queue_remove_consumer(struct queue_consumer *consumer);
/* It may be able to take more than before. */
void queue_consumer_ready(struct queue_consumer *consumer);

#endif
