/* SPDX-License-Identifier: MIT */
#include "wire/content.h"

#define CLASS_BASIC 60
#define HEADER_FIXED 12 /* class, weight, body size */

void content_reset(struct content *content)
{
    message_drop(content->message);
    content->message = NULL;
    content->state = CONTENT_IDLE;
}

int content_begin(struct content *content, struct span exchange, struct span routing_key, struct reply *error)
{
    if (HARK_UNLIKELY(content->state != CONTENT_IDLE)) {
        content_reset(content);
        return reply_set(error, REPLY_UNEXPECTED_FRAME, 0, "a method with content inside another's content");
    }
    if (HARK_UNLIKELY(exchange.length > UINT8_MAX || routing_key.length > UINT8_MAX))
        return reply_set(error, REPLY_SYNTAX_ERROR, 0, "a name over 255 bytes");
    if (exchange.length > 0)
        memcpy(content->names, exchange.data, exchange.length);
    if (routing_key.length > 0)
        memcpy(content->names + exchange.length, routing_key.data, routing_key.length);
    content->exchange_length = exchange.length;
    content->key_length = routing_key.length;
    content->size = content->filled = 0;
    content->oversized = false;
    content->state = CONTENT_HEADER;
    return 0;
}

/* The message leaves; the content is ready for the next. */
static int content_finish(struct content *content, struct message **message)
{
    *message = content->message;
    content->message = NULL;
    content->state = CONTENT_IDLE;
    return 1;
}

static int content_header(struct content *content, struct span payload, uint64_t max_size, struct message **message,
                          struct reply *error)
{
    const uint8_t *data = payload.data;

    if (HARK_UNLIKELY(payload.length < HEADER_FIXED + 2))
        return reply_set(error, REPLY_SYNTAX_ERROR, 0, "a content header of %zu bytes", payload.length);
    if (HARK_UNLIKELY(get_u16(data) != CLASS_BASIC))
        return reply_set(error, REPLY_UNEXPECTED_FRAME, 0, "a content header of class %u, expected basic",
                         get_u16(data));
    if (HARK_UNLIKELY(get_u16(data + 2) != 0))
        return reply_set(error, REPLY_UNEXPECTED_FRAME, 0, "a content header with weight %u", get_u16(data + 2));
    content->size = get_u64(data + 4);
    content->oversized = content->size > max_size || content->size > SIZE_MAX;
    content->message = message_new(span_of(content->names, content->exchange_length),
                                   span_of(content->names + content->exchange_length, content->key_length),
                                   span_of(data + HEADER_FIXED, payload.length - HEADER_FIXED),
                                   content->oversized ? 0 : (size_t)content->size, error);
    if (content->message == NULL)
        return -1;
    if (content->size == 0)
        return content_finish(content, message);
    content->state = CONTENT_BODY;
    return 0;
}

static int content_body(struct content *content, struct span payload, struct message **message, struct reply *error)
{
    if (HARK_UNLIKELY(payload.length > content->size - content->filled))
        return reply_set(error, REPLY_FRAME_ERROR, 0, "a body of more than the announced %llu bytes",
                         (unsigned long long)content->size);
    if (HARK_LIKELY(!content->oversized && payload.length > 0))
        memcpy(message_body_bytes(content->message) + content->filled, payload.data, payload.length);
    content->filled += payload.length;
    return content->filled == content->size ? content_finish(content, message) : 0;
}

int content_frame(struct content *content, const struct frame *frame, uint64_t max_size, struct message **message,
                  struct reply *error)
{
    int result;

    if (content->state == CONTENT_HEADER && frame->type == FRAME_HEADER)
        result = content_header(content, frame->payload, max_size, message, error);
    else if (content->state == CONTENT_BODY && frame->type == FRAME_BODY)
        result = content_body(content, frame->payload, message, error);
    else
        result = reply_set(error, REPLY_UNEXPECTED_FRAME, 0, "a frame of type %u, expected a %s", frame->type,
                           content->state == CONTENT_IDLE     ? "method"
                           : content->state == CONTENT_HEADER ? "content header"
                                                              : "content body");
    if (HARK_UNLIKELY(result < 0))
        content_reset(content);
    return result;
}

static uint8_t *content_put_head(uint8_t *to, enum frame_type type, uint16_t channel, size_t size)
{
    uint32_t length = __builtin_bswap32((uint32_t)size);

    *to++ = (uint8_t)type;
    *to++ = (uint8_t)(channel >> 8);
    *to++ = (uint8_t)channel;
    memcpy(to, &length, sizeof(length));
    return to + sizeof(length);
}

static uint8_t *content_put_properties(uint8_t *to, uint16_t channel, struct span raw_properties, uint64_t body_size)
{
    uint64_t size = __builtin_bswap64(body_size);

    to = content_put_head(to, FRAME_HEADER, channel, HEADER_FIXED + raw_properties.length);
    *to++ = 0;
    *to++ = CLASS_BASIC;
    *to++ = 0;
    *to++ = 0;
    memcpy(to, &size, sizeof(size));
    to += sizeof(size);
    if (raw_properties.length > 0)
        memcpy(to, raw_properties.data, raw_properties.length);
    to += raw_properties.length;
    *to++ = FRAME_END;
    return to;
}

static uint8_t *content_put_parts(uint8_t *to, uint16_t channel, size_t most, struct span body)
{
    while (body.length > 0) {
        size_t part = body.length < most ? body.length : most;

        to = content_put_head(to, FRAME_BODY, channel, part);
        memcpy(to, body.data, part);
        to += part;
        *to++ = FRAME_END;
        body = span_of(body.data + part, body.length - part);
    }
    return to;
}

/* Room for a header frame (properties given) and the body's frames. NULL: the buffer has failed. */
static uint8_t *content_room(struct buf *out, uint32_t frame_max, const struct span *raw_properties, size_t length)
{
    size_t most = frame_max - FRAME_OVERHEAD, size;

    if (HARK_UNLIKELY(frame_max < FRAME_MIN_MAX ||
                      (raw_properties != NULL && !content_header_fits(frame_max, *raw_properties)))) {
        out->failed = true;
        return NULL;
    }
    size = (length + most - 1) / most * FRAME_OVERHEAD + length;
    if (raw_properties != NULL)
        size += FRAME_OVERHEAD + HEADER_FIXED + raw_properties->length;
    return buf_reserve(out, size);
}

void content_put(struct buf *out, uint16_t channel, uint32_t frame_max, struct span raw_properties, struct span body)
{
    uint8_t *start = content_room(out, frame_max, &raw_properties, body.length), *to = start;

    if (start == NULL)
        return;
    to = content_put_properties(to, channel, raw_properties, body.length);
    to = content_put_parts(to, channel, frame_max - FRAME_OVERHEAD, body);
    out->end += (size_t)(to - start);
}

void content_put_header(struct buf *out, uint16_t channel, uint32_t frame_max, struct span raw_properties,
                        uint64_t size)
{
    uint8_t *start = content_room(out, frame_max, &raw_properties, 0);

    if (start != NULL)
        out->end += (size_t)(content_put_properties(start, channel, raw_properties, size) - start);
}

void content_put_body(struct buf *out, uint16_t channel, uint32_t frame_max, struct span part)
{
    uint8_t *start = content_room(out, frame_max, NULL, part.length);

    if (start != NULL)
        out->end += (size_t)(content_put_parts(start, channel, frame_max - FRAME_OVERHEAD, part) - start);
}
