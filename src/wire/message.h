/* SPDX-License-Identifier: MIT */
/*
 * A message as received: exchange, routing key, properties, body; immutable once whole, counted
 * references, one allocation. Exchange and routing key have a 0 byte behind them.
 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include "wire/properties.h"

/* What is asked of every message. The rest is read again when it is wanted, message_properties():
 * a broker holds millions of messages, and what it costs to hold one is above all its size. */
struct message_brief {
    uint32_t id_at; /* message_id, in the raw properties */
    uint8_t id_length;
    uint8_t delivery_mode, priority;
    uint16_t flags;      /* which properties are set */
    struct span headers; /* a table's content, checked */
};

struct message {
    uint32_t references;
    uint32_t entries; /* the broker's: in how many queues it is, in memory */
    struct message_brief properties;
    struct span exchange, routing_key;
    struct span raw_properties; /* as they came: flags and values */
    struct span body;
    uint8_t bytes[]; /* all that the spans point to */
};

/* A copy of everything but the body, for which body_size bytes are set aside (not touched, so that
 * a lie about the size costs address space only): the caller fills them through message_body_bytes.
 * One reference. NULL with error: no memory (506), properties that do not parse (502). */
struct message *message_new(struct span exchange, struct span routing_key, struct span raw_properties, size_t body_size,
                            struct reply *error) HARK_MUSTCHECK;
/* All properties, as views into the message. */
void message_properties(const struct message *message, struct properties *properties);
/* Its property message_id, empty if it has none. */
static inline struct span message_id(const struct message *message)
{
    return span_of(message->raw_properties.data + message->properties.id_at, message->properties.id_length);
}
/* The body's body.length bytes, for whoever made the message to fill in before anybody else sees
 * it. */
uint8_t *message_body_bytes(struct message *message);
struct message *message_hold(struct message *message);
void message_drop(struct message *message); /* NULL is fine */

#endif
