/* SPDX-License-Identifier: MIT */
/* A broker in a folder of its own and raw clients on socket pairs, all on one loop, for the tests of the broker. After
 * each turn everything that must be true of a broker is checked. */
#ifndef TESTS_UNIT_BROKER_KIT_H
#define TESTS_UNIT_BROKER_KIT_H

#include "broker/broker_private.h"
#include "broker/peer.h"
#include "broker/queue.h"
#include "wire/method.h"

struct broker_kit {
    struct loop *loop;
    struct broker *broker;
    char folder[64];
    struct broker_options options; /* may be changed before broking_open() */
};

struct raw_client {
    struct broker_kit *kit;
    int fd;
    struct buf in, out;
    amqp_pool_t pool;
    amqp_method_t method;            /* the newest of raw_next() */
    size_t header_bytes, body_bytes; /* of contents, so far */
    unsigned contents;               /* headers of contents, so far */
    bool gone;                       /* the broker has closed */
};

void broking_begin(struct broker_kit *kit);
void broking_open(struct broker_kit *kit);
/* As kill -9 would leave it is not what this does: what was asked of the store is committed. */
void broking_close(struct broker_kit *kit);
void broking_end(struct broker_kit *kit);
void broking_turn(struct broker_kit *kit, bool wait);
/* Until the store has what was asked so far, or a second is over. */
void broking_sync(struct broker_kit *kit);

/* Logged in as guest, channel 1 open. */
void raw_connect(struct broker_kit *kit, struct raw_client *client);
void raw_disconnect(struct raw_client *client); /* just closes */
/* Gathered until raw_flush(). */
void raw_put(struct raw_client *client, uint16_t channel, uint32_t id, const void *decoded);
void raw_put_publish(struct raw_client *client, uint16_t channel, const char *exchange, const char *key,
                     const struct properties *properties, size_t body);
void raw_put_mandatory(struct raw_client *client, uint16_t channel, const char *exchange, const char *key, size_t body);
/* Sends what can be sent now. */
void raw_push(struct raw_client *client);
/* Sends it all, while the broker works. */
void raw_flush(struct raw_client *client);
/* The next method that has come; 0: none within `ms` or the connection is over. Contents are counted only. */
uint32_t raw_next(struct raw_client *client, int64_t ms);
/* Puts, flushes, and waits for that method, which must be the next. */
void raw_call(struct raw_client *client, uint16_t channel, uint32_t id, const void *decoded, uint32_t answer);
void raw_expect(struct raw_client *client, uint32_t id);

void raw_declare(struct raw_client *client, const char *queue, bool durable, const amqp_table_t *arguments);
void raw_consume(struct raw_client *client, const char *queue, const char *tag, bool no_ack);
void raw_ack(struct raw_client *client, uint64_t tag, bool multiple);
struct queue *raw_queue(struct broker_kit *kit, const char *name);

#endif
