/* SPDX-License-Identifier: MIT */
/*
 * Method frames: the check, then rabbitmq-c's decoder behind it. The input is a payload: class,
 * method, arguments. What decodes is encoded again and must decode again.
 */
#include "wire/method.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same bytes, but for what the codec makes uniform: bits that no argument has are dropped, true
 * becomes 1. */
static bool same_bytes(struct span before, struct span after)
{
    if (before.length != after.length)
        return false;
    for (size_t i = 0; i < before.length; i++) {
        uint8_t old = before.data[i], new = after.data[i];

        if (old != new && (new & ~old) != 0 && !(old != 0 && new == 1))
            return false;
    }
    return true;
}

static void both_ways(const struct frame *frame, enum method_from from, amqp_pool_t *pool)
{
    struct buf out = {0}, third = {0};
    struct frame again;
    amqp_method_t method;
    struct reply error;

    if (method_decode(frame, from, pool, &method, &error) != 0) {
        if (error.code == 0 || error.text[0] == '\0')
            abort();
        return;
    }
    method_put(&out, frame->channel, method.id, method.decoded);
    if (out.failed || frame_cut(out.data, out.end, UINT32_MAX, &again, &error) != (ssize_t)out.end ||
        !same_bytes(frame->payload, again.payload))
        abort();
    /* Once uniform, it stays as it is. */
    if (method_decode(&again, from, pool, &method, &error) != 0)
        abort();
    method_put(&third, frame->channel, method.id, method.decoded);
    if (!span_equal(buf_span(&out), buf_span(&third)))
        abort();
    buf_free(&out);
    buf_free(&third);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame frame = {.type = FRAME_METHOD, .payload = span_of(data, size)};
    struct method_deliver deliver;
    struct reply error;
    amqp_pool_t pool;

    if (size < 4)
        return 0;
    init_amqp_pool(&pool, 4096);
    for (uint16_t channel = 0; channel < 2; channel++) {
        frame.channel = channel;
        both_ways(&frame, METHOD_FROM_SERVER, &pool);
        recycle_amqp_pool(&pool);
        both_ways(&frame, METHOD_FROM_CLIENT, &pool);
        recycle_amqp_pool(&pool);
    }
    if (get_u32(data) == AMQP_BASIC_DELIVER_METHOD) {
        /* The fast route and the codec agree, also on what is none. */
        amqp_method_t method;
        bool fast = method_get_deliver(frame.payload, &deliver, &error) == 0;

        if (fast != (method_decode(&frame, METHOD_FROM_SERVER, &pool, &method, &error) == 0))
            abort();
        if (fast) {
            const amqp_basic_deliver_t *slow = method.decoded;

            if (slow->delivery_tag != deliver.delivery_tag || slow->redelivered != deliver.redelivered ||
                !span_equal(span_amqp(slow->consumer_tag), deliver.consumer_tag) ||
                !span_equal(span_amqp(slow->routing_key), deliver.routing_key) ||
                !span_equal(span_amqp(slow->exchange), deliver.exchange))
                abort();
        }
    }
    empty_amqp_pool(&pool);
    return 0;
}
