/* SPDX-License-Identifier: MIT */
/* The methods that come with each message, read and written by hand: the codec's route costs an
 * allocation and an indirect call for each. */
#include "wire/method.h"

int method_get_deliver(struct span payload, struct method_deliver *deliver, struct reply *error)
{
    const uint8_t *at = payload.data, *end;
    size_t length;

    /* The fixed part and three empty names are 4 + 1 + 8 + 1 + 1 + 1 bytes; each name takes more of
     * what is left. */
    if (HARK_UNLIKELY(payload.length < 16 || get_u32(at) != AMQP_BASIC_DELIVER_METHOD))
        goto malformed;
    end = at + payload.length;
    at += 4;
    length = *at++;
    if (HARK_UNLIKELY((size_t)(end - at) < length + 11))
        goto malformed;
    deliver->consumer_tag = span_of(at, length);
    at += length;
    deliver->delivery_tag = get_u64(at);
    deliver->redelivered = at[8] & 1;
    at += 9;
    length = *at++;
    if (HARK_UNLIKELY((size_t)(end - at) < length + 1))
        goto malformed;
    deliver->exchange = span_of(at, length);
    at += length;
    length = *at++;
    if (HARK_UNLIKELY((size_t)(end - at) != length))
        goto malformed;
    deliver->routing_key = span_of(at, length);
    return 0;

malformed:
    return reply_set(error, REPLY_SYNTAX_ERROR, AMQP_BASIC_DELIVER_METHOD,
                     "the arguments of basic.deliver are malformed");
}

/* Frame head, class and method; returns what follows. */
static inline uint8_t *method_put_head(uint8_t *to, uint16_t channel, uint32_t size, uint32_t id)
{
    size = __builtin_bswap32(size);
    id = __builtin_bswap32(id);
    to[0] = FRAME_METHOD;
    to[1] = (uint8_t)(channel >> 8);
    to[2] = (uint8_t)channel;
    memcpy(to + 3, &size, sizeof(size));
    memcpy(to + 7, &id, sizeof(id));
    return to + 11;
}

static inline uint8_t *method_put_name(uint8_t *to, struct span name)
{
    *to++ = (uint8_t)name.length;
    if (name.length > 0)
        memcpy(to, name.data, name.length);
    return to + name.length;
}

void method_put_publish(struct buf *out, uint16_t channel, struct span exchange, struct span routing_key,
                        bool mandatory)
{
    size_t size = 4 + 2 + 1 + exchange.length + 1 + routing_key.length + 1;
    uint8_t *to;

    if (HARK_UNLIKELY(exchange.length > UINT8_MAX || routing_key.length > UINT8_MAX)) {
        out->failed = true;
        return;
    }
    to = buf_reserve(out, FRAME_OVERHEAD + size);
    if (to == NULL)
        return;
    to = method_put_head(to, channel, (uint32_t)size, AMQP_BASIC_PUBLISH_METHOD);
    *to++ = 0; /* ticket */
    *to++ = 0;
    to = method_put_name(to, exchange);
    to = method_put_name(to, routing_key);
    *to++ = mandatory;
    *to = FRAME_END;
    out->end += FRAME_OVERHEAD + size;
}

void method_put_ack(struct buf *out, uint16_t channel, uint64_t delivery_tag, bool multiple)
{
    uint8_t *to = buf_reserve(out, FRAME_OVERHEAD + 13);

    if (to == NULL)
        return;
    delivery_tag = __builtin_bswap64(delivery_tag);
    to = method_put_head(to, channel, 13, AMQP_BASIC_ACK_METHOD);
    memcpy(to, &delivery_tag, sizeof(delivery_tag));
    to[8] = multiple;
    to[9] = FRAME_END;
    out->end += FRAME_OVERHEAD + 13;
}

int method_get_publish(struct span payload, struct method_publish *publish, struct reply *error)
{
    const uint8_t *at = payload.data, *end = at + payload.length;
    size_t length;

    /* The fixed part and two empty names are 4 + 2 + 1 + 1 + 1 bytes. */
    if (HARK_UNLIKELY(payload.length < 9))
        goto malformed;
    at += 6; /* class, method, ticket */
    length = *at++;
    if (HARK_UNLIKELY((size_t)(end - at) < length + 2))
        goto malformed;
    publish->exchange = span_of(at, length);
    at += length;
    length = *at++;
    if (HARK_UNLIKELY((size_t)(end - at) != length + 1))
        goto malformed;
    publish->routing_key = span_of(at, length);
    publish->mandatory = at[length] & 1;
    publish->immediate = at[length] & 2;
    return 0;

malformed:
    return reply_set(error, REPLY_SYNTAX_ERROR, AMQP_BASIC_PUBLISH_METHOD,
                     "the arguments of basic.publish are malformed");
}

int method_get_settle(struct span payload, uint64_t *delivery_tag, uint8_t *bits, struct reply *error)
{
    if (HARK_UNLIKELY(payload.length != 13))
        return reply_set(error, REPLY_SYNTAX_ERROR, payload.length >= 4 ? get_u32(payload.data) : 0,
                         "the arguments of an acknowledgement are malformed");
    *delivery_tag = get_u64(payload.data + 4);
    *bits = payload.data[12];
    return 0;
}

void method_put_deliver(struct buf *out, uint16_t channel, const struct method_deliver *deliver)
{
    uint64_t tag = __builtin_bswap64(deliver->delivery_tag);
    size_t size = 4 + 1 + deliver->consumer_tag.length + 9 + 1 + deliver->exchange.length + 1 +
                  deliver->routing_key.length;
    uint8_t *to;

    if (HARK_UNLIKELY(deliver->consumer_tag.length > UINT8_MAX || deliver->exchange.length > UINT8_MAX ||
                      deliver->routing_key.length > UINT8_MAX)) {
        out->failed = true;
        return;
    }
    to = buf_reserve(out, FRAME_OVERHEAD + size);
    if (to == NULL)
        return;
    to = method_put_head(to, channel, (uint32_t)size, AMQP_BASIC_DELIVER_METHOD);
    to = method_put_name(to, deliver->consumer_tag);
    memcpy(to, &tag, sizeof(tag));
    to += sizeof(tag);
    *to++ = deliver->redelivered;
    to = method_put_name(to, deliver->exchange);
    to = method_put_name(to, deliver->routing_key);
    *to = FRAME_END;
    out->end += FRAME_OVERHEAD + size;
}
