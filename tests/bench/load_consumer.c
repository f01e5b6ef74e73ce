/* SPDX-License-Identifier: MIT */
#include "load.h"

#include <errno.h>

/* What a basic.deliver's arguments begin with: the consumer tag that basic.consume chose. */
#define CONSUMER_TAG_SIZE sizeof(LOAD_TAG)
#define CONSUME_NO_ACK 2

void load_consumer_open(struct load_consumer *consumer, const struct load_options *options)
{
    struct load_line *line = &consumer->line;
    struct load_frame frame;
    size_t method;

    consumer->options = options;
    load_line_open(line, options->port, false);
    if (options->prefetch > 0) {
        method = raw_method(&line->out, LOAD_CHANNEL, RAW_QOS);
        buf_put_u32(&line->out, 0);
        buf_put_u16(&line->out, (uint16_t)options->prefetch);
        buf_put_u8(&line->out, 0);
        raw_end(&line->out, method);
        load_line_call(line, RAW_QOS_OK, &frame);
    }
    method = raw_method(&line->out, LOAD_CHANNEL, RAW_CONSUME);
    buf_put_u16(&line->out, 0);
    raw_short(&line->out, span_str(options->queue));
    raw_short(&line->out, span_str(LOAD_TAG));
    buf_put_u8(&line->out, options->every == 0 ? CONSUME_NO_ACK : 0);
    buf_put_u32(&line->out, 0);
    raw_end(&line->out, method);
    load_line_call(line, RAW_CONSUME_OK, &frame);
}

static void consumer_acknowledge(struct load_consumer *consumer)
{
    struct buf *out = &consumer->line.out;
    size_t method = raw_method(out, LOAD_CHANNEL, RAW_ACK);

    buf_put_u64(out, consumer->delivered);
    buf_put_u8(out, 1);
    raw_end(out, method);
    consumer->acked = consumer->delivered;
}

static void consumer_whole(struct load_consumer *consumer)
{
    uint64_t every = consumer->options->every;

    consumer->delivered++;
    if (every > 0 &&
        (consumer->delivered - consumer->acked >= every || consumer->delivered == consumer->options->messages))
        consumer_acknowledge(consumer);
}

/* Called for three frames a message: each is looked at once. */
static void consumer_frame(struct load_consumer *consumer, struct load_frame *frame)
{
    size_t length;

    switch (frame->type) {
    case RAW_METHOD:
        raw_take(&frame->args, CONSUMER_TAG_SIZE);
        if (frame->id != RAW_DELIVER || consumer->body_left > 0)
            load_die("the consumer got something else than a message");
        if (raw_take_u64(&frame->args) != consumer->delivered + 1)
            load_die("a delivery tag out of step");
        return;
    case RAW_HEADER:
        raw_take(&frame->args, 4);
        consumer->body_left = raw_take_u64(&frame->args);
        if (consumer->body_left != consumer->options->body)
            load_die("a message of another size");
        if (consumer->body_left == 0)
            consumer_whole(consumer);
        return;
    case RAW_BODY:
        length = frame->length - RAW_OVERHEAD;
        if (length > consumer->body_left)
            load_die("more body than announced");
        if (consumer->message != NULL && consumer->body_left == consumer->options->body)
            consumer->message(consumer, frame->args.at, length);
        consumer->body_left -= length;
        if (consumer->body_left == 0)
            consumer_whole(consumer);
        return;
    default:
        return;
    }
}

void load_consumer_read(struct load_consumer *consumer)
{
    struct load_frame frame;

    load_line_read(&consumer->line);
    while (load_line_next(&consumer->line, &frame))
        consumer_frame(consumer, &frame);
    load_line_flush(&consumer->line);
}

bool load_consumer_done(const struct load_consumer *consumer)
{
    return consumer->delivered == consumer->options->messages && buf_length(&consumer->line.out) == 0;
}

void load_consumer_close(struct load_consumer *consumer)
{
    load_line_close(&consumer->line);
}
