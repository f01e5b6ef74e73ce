/* SPDX-License-Identifier: MIT */
/*
 * Method frames: the check, then rabbitmq-c's decoder behind it. The input is a payload: class, method, arguments. What decodes is
 * encoded again and must decode again.
 */
#include "wire/method.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void both_ways(const struct frame *frame, enum method_from from, amqp_pool_t *pool)
{
    struct buf out = {0};
    struct frame again;
    amqp_method_t method, second;
    struct reply error;

    if (method_decode(frame, from, pool, &method, &error) != 0) {
        if (error.code == 0 || error.text[0] == '\0')
            abort();
        return;
    }
    method_put(&out, frame->channel, method.id, method.decoded);
    if (!out.failed) {
        struct span bytes = buf_span(&out);
        ssize_t used = frame_cut(bytes.data, bytes.length, UINT32_MAX, &again, &error);

        if (used != (ssize_t)bytes.length || method_decode(&again, from, pool, &second, &error) != 0 ||
            second.id != method.id)
            abort();
    }
    buf_free(&out);
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
    if (get_u32(data) == AMQP_BASIC_DELIVER_METHOD && method_get_deliver(frame.payload, &deliver, &error) == 0) {
        /* The fast route and the codec agree. */
        amqp_method_t method;

        frame.channel = 1;
        if (method_decode(&frame, METHOD_FROM_SERVER, &pool, &method, &error) == 0) {
            const amqp_basic_deliver_t *slow = method.decoded;

            if (slow->delivery_tag != deliver.delivery_tag ||
                !span_equal(span_amqp(slow->routing_key), deliver.routing_key) ||
                !span_equal(span_amqp(slow->exchange), deliver.exchange))
                abort();
        }
    }
    empty_amqp_pool(&pool);
    return 0;
}
