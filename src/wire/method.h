/* SPDX-License-Identifier: MIT */
/*
 * Methods: checked, then decoded and encoded by rabbitmq-c's codec.
 *
 * The check comes first because the decoder trusts its input too much: it follows nested tables
 * without a limit. A table here knows every method of AMQP 0-9-1 and RabbitMQ's extensions, with
 * its arguments as a signature
 * ("b" octet, "s" short, "l" long, "L" longlong, "." bit, "S" short string, "X" long string, "T"
 * table), who may send it, whether it belongs to channel 0, and whether content follows. The role
 * is data, not an #ifdef.
 */
#ifndef WIRE_METHOD_H
#define WIRE_METHOD_H

#include "base/buf.h"
#include "wire/codec.h"
#include "wire/frame.h"

enum method_from { METHOD_FROM_CLIENT = 1, METHOD_FROM_SERVER = 2, METHOD_FROM_BOTH = 3 };

struct method_info {
    uint32_t id;      /* class << 16 | method, as rabbitmq-c's AMQP_*_METHOD */
    const char *name; /* "basic.deliver" */
    const char *signature;
    enum method_from from;
    bool connection; /* channel 0 only; otherwise any channel but 0 */
    bool content;    /* a content header follows */
    uint16_t table;  /* where the codec's struct has its amqp_table_t, METHOD_NO_TABLE if it has none */
};

#define METHOD_NO_TABLE UINT16_MAX

#define METHOD_TABLE_DEPTH 16 /* tables and arrays within tables */

const struct method_info *method_find(uint32_t id); /* NULL: unknown */
const char *method_name(uint32_t id);               /* "unknown method" */
/* All of them in the order of their numbers: the first after NULL, NULL after the last. */
const struct method_info *method_next(const struct method_info *info);

/* Decodes a method frame's payload into the pool's memory. 0; -1 with error: unknown method (540),
 * sent by the wrong side or on the wrong kind of channel (503), malformed, trailing bytes or too
 * deep (502), no memory (506). `from` is who sent it. The decoded struct lives until the pool is
 * recycled and points into the frame. */
int method_decode(const struct frame *frame, enum method_from from, amqp_pool_t *pool, amqp_method_t *method,
                  struct reply *error) HARK_MUSTCHECK;

/* Puts one whole method frame. A failure (a name over 255 bytes, a table nested too deep, more than
 * FRAME_LIMIT, no memory) is the buffer's `failed`. */
void method_put(struct buf *out, uint16_t channel, uint32_t id, const void *decoded);

/* The methods of the hot path, written and read without the codec's generic route. deliver: 0, or
 * -1 with error. */
struct method_deliver {
    struct span consumer_tag, exchange, routing_key;
    uint64_t delivery_tag;
    bool redelivered;
};
int method_get_deliver(struct span payload, struct method_deliver *deliver, struct reply *error) HARK_MUSTCHECK;
void method_put_publish(struct buf *out, uint16_t channel, struct span exchange, struct span routing_key,
                        bool mandatory);
void method_put_ack(struct buf *out, uint16_t channel, uint64_t delivery_tag, bool multiple);

/* The same from the server's side. */
struct method_publish {
    struct span exchange, routing_key;
    bool mandatory, immediate;
};
int method_get_publish(struct span payload, struct method_publish *publish, struct reply *error) HARK_MUSTCHECK;
/* basic.ack, basic.nack and basic.reject, whose bits are: multiple; multiple, requeue; requeue. */
int method_get_settle(struct span payload, uint64_t *delivery_tag, uint8_t *bits, struct reply *error) HARK_MUSTCHECK;
void method_put_deliver(struct buf *out, uint16_t channel, const struct method_deliver *deliver);

#endif
