/* SPDX-License-Identifier: MIT */
/*
 * rabbitmq-c as a codec: the one file that includes its header. hark uses only what is pure: the
 * method structs, amqp_decode_method, amqp_encode_method, tables and pools. Never an
 * amqp_connection_state_t: it allocates for every channel number before any check, aborts on misuse
 * and copies every frame.
 *
 * Content properties and header tables are not decoded through it: they are walked and written in
 * place (wire/properties.h, wire/table.h), which keeps what passes through byte for byte and costs
 * no allocation.
 */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#ifdef HAVE_RABBITMQ_C_AMQP_H
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#endif

#include "base/span.h"

static inline struct span span_amqp(amqp_bytes_t bytes)
{
    return span_of(bytes.bytes, bytes.len);
}

/* rabbitmq-c's bytes are not const; it does not write to what it encodes. */
static inline amqp_bytes_t amqp_span(struct span span)
{
    union {
        const uint8_t *in;
        void *out;
    } data = {.in = span.data};

    return (amqp_bytes_t){.len = span.length, .bytes = data.out};
}

#endif
