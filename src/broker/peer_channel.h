/* SPDX-License-Identifier: MIT */
/*
 * One channel of a connection, the server's side: content being assembled, deliveries not yet settled, consumers,
 * confirms, a transaction.
 *
 * The handlers of a class of methods are in class_*.c. They return 0, or -1 with an error: a soft one closes this
 * channel, a hard one the connection.
 */
#ifndef BROKER_PEER_CHANNEL_H
#define BROKER_PEER_CHANNEL_H

#include "broker/peer.h"
#include "broker/queue.h"
#include "wire/content.h"
#include "wire/method.h"

struct exchange;

/* A delivery that is not settled. */
struct outstanding {
    uint64_t tag;
    struct queue *queue;             /* NULL: settled */
    struct queue_consumer *consumer; /* NULL: basic.get, or it is gone */
    bool counted;                    /* in the channel's `unacked`: not for basic.get */
    bool asked;                      /* a transaction not yet committed settles it */
    struct entry entry;
};

/* In the order of their tags; settled ones in the middle leave a hole, which goes when there are many. */
struct outstandings {
    struct outstanding *items;
    size_t start, end, capacity, count;
    uint64_t asked_to; /* everything up to this tag is `asked` or settled */
};

/* Confirms up to `last` (from where the one before ends) wait for the same batch. */
struct confirm {
    uint64_t last, batch;
    bool nack;
};

struct transaction; /* class_tx.c */

struct peer_channel {
    struct peer *peer;
    uint16_t number;
    bool closing; /* channel.close sent: only its answer counts */
    bool broken;  /* there was no memory for a delivery: the connection ends with this turn */

    struct content content;
    size_t gathered; /* bytes of it, as the broker counts them */
    struct method_publish_flags {
        bool mandatory, immediate;
    } publishing;
    /* The exchange published to last, and what has been found out about it. */
    struct exchange *exchange;
    uint64_t exchange_generation, users_generation;

    struct queue_consumer *consumers; /* a hash by tag */
    uint64_t last_tag;
    struct outstandings outstanding;
    uint32_t unacked;                    /* of consumers: what the channel's own prefetch counts */
    uint16_t prefetch, channel_prefetch; /* of consumers to come; of all together. 0: no limit */
    struct queue_consumer *served;       /* the last one: at a limit of all together, the next in line is behind it */
    struct queue_getter getter;
    struct span last_queue; /* declared last on this channel */
    uint8_t last_queue_bytes[256];

    bool confirming;
    uint64_t published;       /* number of the last publish in confirm mode */
    uint64_t confirmed;       /* number of the last one confirmed to the client */
    struct confirm *confirms; /* a line: [first, first + count) */
    size_t confirm_first, confirm_count, confirm_capacity;
    bool in_confirming; /* in broker->confirming */
    struct peer_channel *confirm_prev, *confirm_next;

    struct transaction *transaction;       /* NULL: none */
    struct queue_consumer *reply_consumer; /* direct reply-to */
    char reply_token[64];
    UT_hash_handle hh; /* broker->replies */
};

struct peer_channel *peer_channel_open(struct peer *peer, uint16_t number) HARK_MUSTCHECK;
/* Everything of it ends: consumers, deliveries go back. */
void peer_channel_free(struct peer_channel *channel);
/* A frame for it. */
void peer_channel_frame(struct peer_channel *channel, const struct frame *frame);
/* Acts on an error that a handler has found. */
void peer_channel_fail(struct peer_channel *channel, const struct reply *error);
/* Answers with a method, unless no_wait. */
void peer_channel_answer(struct peer_channel *channel, bool no_wait, uint32_t id, const void *decoded);
/* A message for the client, behind a method: header and body. */
void peer_channel_put_content(struct peer_channel *channel, struct span raw_properties, struct span body);
/* The same for an entry of a queue, which may say in a header how often it has come back. */
void peer_channel_put_entry(struct peer_channel *channel, const struct queue *queue, const struct entry *entry);

/* ---- what the queues call ---- */

bool peer_channel_may_deliver(struct queue_consumer *consumer);
/* Takes the entry; a no_ack consumer's is settled with it. */
void peer_channel_deliver(struct queue_consumer *consumer, struct entry *entry);
/* The queue is gone: the consumer ends, the client is told. */
void peer_channel_cancelled(struct queue_consumer *consumer);
/* What a waiting basic.get has waited for is there, or the queue is gone. */
void peer_channel_get(struct queue_getter *getter, struct queue *queue);
/* The client can be sent more: consumers of all its queues, in turns. */
void peer_channel_wake(struct peer_channel *channel);

/* ---- deliveries (outstanding.c) ---- */

/* NULL: no memory. */
struct outstanding *outstanding_add(struct outstandings *outstandings, uint64_t tag) HARK_MUSTCHECK;
/* NULL: unknown, or settled. */
struct outstanding *outstanding_find(struct outstandings *outstandings, uint64_t tag);
/* It is settled; the caller has taken what it needs. */
void outstanding_remove(struct outstandings *outstandings, struct outstanding *outstanding);
/* The oldest; NULL: none. */
struct outstanding *outstanding_first(struct outstandings *outstandings);
/* In a transaction: marks it, or with `multiple` all up to it (tag 0: all), as what is to be settled. Returns the tag meant;
 * UINT64_MAX: unknown, or asked for already. */
uint64_t outstanding_ask(struct peer_channel *channel, uint64_t tag, bool multiple);
/* Takes that back. Settled ones do not matter. */
void outstanding_ask_not(struct outstandings *outstandings, uint64_t tag, bool multiple);

enum settlement { SETTLE_ACK, SETTLE_REQUEUE, SETTLE_REJECT };
/* 0; -1 with error 406: unknown delivery tag. tag 0 with multiple: all. */
int settle_deliveries(struct peer_channel *channel, uint64_t tag, bool multiple, enum settlement settlement,
                      struct reply *error) HARK_MUSTCHECK;
/* All up to the tag, whether it is there or not. */
void settle_up_to(struct peer_channel *channel, uint64_t tag, enum settlement settlement);
/* basic.recover: what no transaction is to settle goes back. */
void settle_recover(struct peer_channel *channel);

/* ---- confirms (confirms.c) ---- */

/* The next number, waiting for the batch (0: safe now). */
void confirms_add(struct peer_channel *channel, uint64_t batch, bool nack);
/* Sends those that are due. */
void confirms_send(struct peer_channel *channel);

/* ---- handlers: one file per class ---- */

typedef int (*class_handler)(struct peer_channel *channel, const amqp_method_t *method, struct reply *error);
int class_exchange(struct peer_channel *channel, const amqp_method_t *method, struct reply *error) HARK_MUSTCHECK;
int class_queue(struct peer_channel *channel, const amqp_method_t *method, struct reply *error) HARK_MUSTCHECK;
int class_basic(struct peer_channel *channel, const amqp_method_t *method, struct reply *error) HARK_MUSTCHECK;
int class_tx(struct peer_channel *channel, const amqp_method_t *method, struct reply *error) HARK_MUSTCHECK;
/* A whole message has come (class_publish.c). The message becomes theirs. */
int class_publish_begin(struct peer_channel *channel, struct span payload, struct reply *error) HARK_MUSTCHECK;
int class_publish(struct peer_channel *channel, struct message *message, struct reply *error) HARK_MUSTCHECK;
/* Into queues, with return and confirm; also what a transaction has kept. */
int class_publish_now(struct peer_channel *channel, struct exchange *exchange, struct message *message, bool mandatory,
                      uint64_t *batch, struct reply *error) HARK_MUSTCHECK;
/* Ends one consumer; `consumer` is freed. */
void class_basic_end_consumer(struct queue_consumer *consumer);
/* Delivers the queue's next message as basic.get-ok. False: there is none. */
bool class_basic_get(struct peer_channel *channel, struct queue *queue, bool no_ack);

/* A transaction keeps publishes and settlements until it is committed (class_tx.c). 0; -1 with error. */
int transaction_add_publish(struct peer_channel *channel, struct exchange *exchange, struct message *message,
                            bool mandatory, struct reply *error) HARK_MUSTCHECK;
int transaction_add_settle(struct peer_channel *channel, uint64_t tag, bool multiple, enum settlement settlement,
                           struct reply *error) HARK_MUSTCHECK;
uint64_t transaction_bytes(const struct peer_channel *channel);
void transaction_free(struct peer_channel *channel);

#endif
