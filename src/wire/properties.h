/* SPDX-License-Identifier: MIT */
/*
 * The properties of class basic (AMQP 0-9-1, 1.8.1 and 4.2.6.1), as views into the bytes they came
 * in.
 */
#ifndef WIRE_PROPERTIES_H
#define WIRE_PROPERTIES_H

#include "base/buf.h"
#include "wire/reply.h"

/* In wire order; the flag of the first is bit 15. cluster_id is the name that 0-9-1 reserved. */
enum property_flag {
    PROPERTY_CONTENT_TYPE = 1 << 15,
    PROPERTY_CONTENT_ENCODING = 1 << 14,
    PROPERTY_HEADERS = 1 << 13,
    PROPERTY_DELIVERY_MODE = 1 << 12,
    PROPERTY_PRIORITY = 1 << 11,
    PROPERTY_CORRELATION_ID = 1 << 10,
    PROPERTY_REPLY_TO = 1 << 9,
    PROPERTY_EXPIRATION = 1 << 8,
    PROPERTY_MESSAGE_ID = 1 << 7,
    PROPERTY_TIMESTAMP = 1 << 6,
    PROPERTY_TYPE = 1 << 5,
    PROPERTY_USER_ID = 1 << 4,
    PROPERTY_APP_ID = 1 << 3,
    PROPERTY_CLUSTER_ID = 1 << 2,
};

#define PROPERTIES_TABLE_DEPTH 16

struct properties {
    uint16_t flags; /* which of these are set */
    uint8_t delivery_mode, priority;
    uint64_t timestamp;
    struct span headers; /* a table's content, checked */
    struct span content_type, content_encoding, correlation_id, reply_to, expiration, message_id, type, user_id, app_id,
        cluster_id;
};

/* Reads flags and values (the header frame's payload from its 13th byte on). 0; -1 with error
 * (502): cut short, trailing bytes, unknown flags, a second flag word, a bad or too deep header
 * table; *properties is not to be used then. What is not set is empty or 0. */
int properties_parse(struct span bytes, struct properties *properties, struct reply *error) HARK_MUSTCHECK;

/* The same of bytes that properties_parse() has found sound: nothing is checked again. */
void properties_view(struct span bytes, struct properties *properties);

/* Writes flags and values. Strings over 255 bytes turn the buffer `failed`. */
void properties_put(struct buf *out, const struct properties *properties);

#endif
