/* SPDX-License-Identifier: MIT */
/*
 * A message as received: exchange, routing key, properties, body; immutable once whole, counted
 * references, one allocation. Exchange and routing key have a 0 byte behind them.
 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include "wire/properties.h"

struct message {
    uint32_t references;
    struct span exchange, routing_key;
    struct span raw_properties;   /* as they came: flags and values */
    struct properties properties; /* views into the same memory */
    struct span body;
    uint8_t bytes[]; /* all that the spans point to */
};

/* A copy of everything but the body, for which body_size bytes are set aside (not touched, so that
 * a lie about the size costs address space only): the caller fills them through message_body_bytes.
 * One reference. NULL with error: no memory (506), properties that do not parse (502). */
struct message *message_new(struct span exchange, struct span routing_key,
                            struct span raw_properties, size_t body_size,
                            struct reply *error) HARK_MUSTCHECK;
/* The body's body.length bytes, for whoever made the message to fill in before anybody else sees
 * it. */
uint8_t *message_body_bytes(struct message *message);
struct message *message_hold(struct message *message);
void message_drop(struct message *message); /* NULL is fine */

#endif
