/* SPDX-License-Identifier: MIT */
/*
 * Content: a method that carries content, its header frame, and body frames until the announced
 * size is there (AMQP 0-9-1, 2.3.5.2). One assembler per channel, used by both roles; and the other
 * way round, content_put.
 */
#ifndef WIRE_CONTENT_H
#define WIRE_CONTENT_H

#include "wire/frame.h"
#include "wire/message.h"

enum content_state { CONTENT_IDLE, CONTENT_HEADER, CONTENT_BODY };

struct content {
    enum content_state state;
    size_t exchange_length, key_length; /* of what content_begin copied into `names` */
    uint64_t size;                      /* body size as announced */
    uint64_t filled;                    /* body bytes that have come, kept or skipped */
    struct message *message;            /* in CONTENT_BODY: the one being filled; with an empty body when oversized */
    bool oversized;                     /* valid until the next content_begin */
    uint8_t names[512];
};

/* After a method with content: its exchange and routing key. -1 with error (505) if another content
 * is unfinished. */
int content_begin(struct content *content, struct span exchange, struct span routing_key,
                  struct reply *error) HARK_MUSTCHECK;

/*
 * A header or body frame. 1: the message is whole, *message is the caller's reference (when it was
 * larger than max_size, `oversized` is set, *message has an empty body and content->size says how
 * large it was); 0: more is to come; -1 with error: not expected now (505), wrong class or
 * malformed (502), more body than announced (501), no memory (506). After an error the content is
 * forgotten.
 */
int content_frame(struct content *content, const struct frame *frame, uint64_t max_size, struct message **message,
                  struct reply *error) HARK_MUSTCHECK;

/* Forgets an unfinished content (the channel closed). */
void content_reset(struct content *content);

/* True if a method other than content may come now. */
static inline bool content_is_idle(const struct content *content)
{
    return content->state == CONTENT_IDLE;
}

/* False: the header frame, which cannot be split, would be larger than frame_max. */
static inline bool content_header_fits(uint32_t frame_max, struct span raw_properties)
{
    return raw_properties.length + 12 + FRAME_OVERHEAD <= frame_max;
}

/* Puts only the header frame, for a body that comes later with content_put_body, in as many parts as it likes. */
void content_put_header(struct buf *out, uint16_t channel, uint32_t frame_max, struct span raw_properties,
                        uint64_t size);
void content_put_body(struct buf *out, uint16_t channel, uint32_t frame_max, struct span part);
/* Puts a header frame for class basic with already encoded properties, and the body in frames of at
 * most frame_max. Whoever lets properties from outside through asks content_header_fits first: here
 * it turns the buffer `failed`. */
void content_put(struct buf *out, uint16_t channel, uint32_t frame_max, struct span raw_properties, struct span body);

#endif
