/* SPDX-License-Identifier: MIT */
#include "stub.h"

#include <stdio.h>
#include <stdlib.h>

static void stub_peer_break(struct stub_peer *peer, const char *why, uint32_t id)
{
    if (!peer->broken)
        fprintf(stderr, "stub: %s (method %u.%u)\n", why, id >> 16, id & 0xFFFF);
    peer->broken = true;
}

/* A method without arguments that matter. */
static void stub_peer_answer(struct stub_peer *peer, uint16_t channel, uint32_t id)
{
    raw_end(&peer->out, raw_method(&peer->out, channel, id));
}

static void stub_put_flag(struct buf *out, const char *name)
{
    raw_short(out, span_str(name));
    buf_put_u8(out, 't');
    buf_put_u8(out, 1);
}

static void stub_peer_start(struct stub_peer *peer)
{
    static const char *const capabilities[] = {
        "publisher_confirms", "exchange_exchange_bindings",   "basic.nack",       "consumer_cancel_notify",
        "connection.blocked", "authentication_failure_close", "per_consumer_qos", "consumer_priorities",
    };
    struct buf *out = &peer->out;
    size_t method = raw_method(out, 0, RAW_START), table, inner;

    buf_put_u8(out, 0);
    buf_put_u8(out, 9);
    table = buf_length(out);
    buf_put_u32(out, 0);
    raw_short(out, span_str("capabilities"));
    buf_put_u8(out, 'F');
    inner = buf_length(out);
    buf_put_u32(out, 0);
    for (size_t i = 0; i < HARK_COUNT(capabilities); i++)
        stub_put_flag(out, capabilities[i]);
    buf_set_u32(out, inner, (uint32_t)(buf_length(out) - inner - 4));
    raw_short(out, span_str("product"));
    buf_put_u8(out, 'S');
    raw_long(out, span_str("hark bench stub"));
    buf_set_u32(out, table, (uint32_t)(buf_length(out) - table - 4));
    raw_long(out, span_str("PLAIN AMQPLAIN EXTERNAL"));
    raw_long(out, span_str("en_US"));
    raw_end(out, method);
}

static void stub_peer_connection(struct stub_peer *peer, uint32_t id, struct raw_reader *args)
{
    struct buf *out = &peer->out;
    size_t method;

    switch (id) {
    case RAW_START_OK:
        method = raw_method(out, 0, RAW_TUNE);
        buf_put_u16(out, STUB_CHANNELS - 1);
        buf_put_u32(out, 131072);
        buf_put_u16(out, 60);
        raw_end(out, method);
        return;
    case RAW_TUNE_OK:
        raw_take(args, 6);
        peer->heartbeat = raw_take_u16(args);
        if (peer->heartbeat > 0)
            peer->beat_at = bench_now() + peer->heartbeat * INT64_C(500000000);
        return;
    case RAW_OPEN:
        method = raw_method(out, 0, RAW_OPEN_OK);
        raw_short(out, span_str(""));
        raw_end(out, method);
        return;
    case RAW_CLOSE:
        stub_peer_answer(peer, 0, RAW_CLOSE_OK);
        peer->closing = true;
        return;
    case RAW_CLOSE_OK:
        peer->closing = true;
        return;
    default:
        stub_peer_break(peer, "unknown method of class connection", id);
    }
}

static void stub_channel_free(struct stub_peer *peer, uint16_t number)
{
    struct stub_channel *channel = peer->channels[number];

    if (channel == NULL)
        return;
    peer->stub->delivered -= channel->window.unacked; /* back into the queue */
    stub_window_close(&channel->window);
    free(channel);
    peer->channels[number] = NULL;
}

static void stub_peer_channel_open(struct stub_peer *peer, uint16_t number)
{
    size_t method;

    stub_channel_free(peer, number);
    peer->channels[number] = calloc(1, sizeof(struct stub_channel));
    if (peer->channels[number] == NULL) {
        stub_peer_break(peer, "out of memory", RAW_CHANNEL_OPEN);
        return;
    }
    if (number > peer->highest)
        peer->highest = number;
    method = raw_method(&peer->out, number, RAW_CHANNEL_OPEN_OK);
    raw_long(&peer->out, span_str(""));
    raw_end(&peer->out, method);
}

/* basic.ack, basic.nack and basic.reject. */
static void stub_peer_settle(struct stub_peer *peer, uint16_t number, uint32_t id, struct raw_reader *args)
{
    struct stub *stub = peer->stub;
    uint64_t tag = raw_take_u64(args);
    bool multiple = id != RAW_REJECT && (raw_take_u8(args) & 1);
    int64_t count = stub_window_settle(&peer->channels[number]->window, tag, multiple);

    if (count < 0) {
        stub_peer_break(peer, "acknowledgement of an unknown delivery tag", id);
        return;
    }
    if (stub->first_ack == 0)
        stub->first_ack = bench_now();
    stub->acked += (uint64_t)count;
    if (id != RAW_ACK)
        stub->rejected += (uint64_t)count;
}

static void stub_peer_consume(struct stub_peer *peer, uint16_t number, struct raw_reader *args)
{
    struct stub_channel *channel = peer->channels[number];
    struct buf *out = &peer->out;
    char generated[32];
    struct span tag;
    uint8_t bits;

    raw_take(args, 2);
    raw_take_short(args);
    tag = raw_take_short(args);
    bits = raw_take_u8(args);
    if (tag.length == 0) {
        snprintf(generated, sizeof(generated), "amq.ctag-stub.%u", ++peer->generated);
        tag = span_str(generated);
    }
    if (!(bits & 8)) {
        size_t method = raw_method(out, number, RAW_CONSUME_OK);

        raw_short(out, tag);
        raw_end(out, method);
    }
    stub_window_open(&channel->window, peer->stub, number, tag, channel->prefetch);
}

static void stub_peer_cancel(struct stub_peer *peer, uint16_t number, struct raw_reader *args)
{
    struct buf *out = &peer->out;
    struct span tag = raw_take_short(args);

    peer->channels[number]->window.size = 0; /* what is in hand may still be acknowledged */
    if (!(raw_take_u8(args) & 1)) {
        size_t method = raw_method(out, number, RAW_CANCEL_OK);

        raw_short(out, tag);
        raw_end(out, method);
    }
}

static void stub_peer_queue_declare(struct stub_peer *peer, uint16_t number, struct raw_reader *args)
{
    struct buf *out = &peer->out;
    char generated[32];
    struct span name;
    size_t method;

    raw_take(args, 2);
    name = raw_take_short(args);
    if (raw_take_u8(args) & 16)
        return;
    if (name.length == 0) {
        snprintf(generated, sizeof(generated), "amq.gen-stub.%u", ++peer->generated);
        name = span_str(generated);
    }
    method = raw_method(out, number, RAW_QUEUE_DECLARE_OK);
    raw_short(out, name);
    buf_put_u32(out, (uint32_t)peer->stub->published); /* whoever polls for it learns that all was taken */
    buf_put_u32(out, 0);
    raw_end(out, method);
}

static void stub_peer_queue_delete(struct stub_peer *peer, uint16_t number)
{
    size_t method = raw_method(&peer->out, number, RAW_QUEUE_DELETE_OK);

    buf_put_u32(&peer->out, 0);
    raw_end(&peer->out, method);
}

/* Declares and binds: `strings` short strings behind the reserved word, then bits, one of them nowait. */
static void stub_peer_agree(struct stub_peer *peer, uint16_t number, uint32_t id, struct raw_reader *args,
                            unsigned strings, uint8_t nowait)
{
    raw_take(args, 2);
    while (strings-- > 0)
        raw_take_short(args);
    if (!(raw_take_u8(args) & nowait))
        stub_peer_answer(peer, number, id + 1);
}

static void stub_peer_method(struct stub_peer *peer, uint16_t number, uint32_t id, struct raw_reader *args)
{
    struct stub_channel *channel = peer->channels[number];

    switch (id) {
    case RAW_PUBLISH:
        channel->published++;
        if (peer->stub->published++ == 0)
            peer->stub->first_publish = bench_now();
        return;
    case RAW_ACK:
    case RAW_NACK:
    case RAW_REJECT:
        stub_peer_settle(peer, number, id, args);
        return;
    case RAW_CHANNEL_CLOSE:
        stub_peer_answer(peer, number, RAW_CHANNEL_CLOSE_OK);
        stub_channel_free(peer, number);
        return;
    case RAW_EXCHANGE_DECLARE:
        stub_peer_agree(peer, number, id, args, 2, 16);
        return;
    case RAW_EXCHANGE_BIND:
    case RAW_QUEUE_BIND:
        stub_peer_agree(peer, number, id, args, 3, 1);
        return;
    case RAW_QUEUE_DECLARE:
        stub_peer_queue_declare(peer, number, args);
        return;
    case RAW_QUEUE_DELETE:
        stub_peer_queue_delete(peer, number);
        return;
    case RAW_QOS:
        raw_take(args, 4);
        channel->prefetch = raw_take_u16(args);
        stub_peer_answer(peer, number, id + 1);
        return;
    case RAW_CONSUME:
        stub_peer_consume(peer, number, args);
        return;
    case RAW_CANCEL:
        stub_peer_cancel(peer, number, args);
        return;
    case RAW_CONFIRM_SELECT:
        channel->confirming = true;
        channel->confirmed = channel->published;
        if (!(raw_take_u8(args) & 1))
            stub_peer_answer(peer, number, id + 1);
        return;
    default:
        stub_peer_break(peer, "the stub does not know this method", id);
    }
}

static void stub_peer_frame(struct stub_peer *peer, const uint8_t *data, size_t length)
{
    struct raw_reader args = {.at = data + RAW_HEAD, .end = data + length - 1};
    uint16_t number = get_u16(data + 1);
    uint32_t id;

    if (data[length - 1] != RAW_FRAME_END || number >= STUB_CHANNELS) {
        stub_peer_break(peer, "a frame that is none", 0);
        return;
    }
    switch (data[0]) {
    case RAW_METHOD:
        id = raw_take_u32(&args);
        if (number == 0)
            stub_peer_connection(peer, id, &args);
        else if (id == RAW_CHANNEL_OPEN)
            stub_peer_channel_open(peer, number);
        else if (id != RAW_CHANNEL_CLOSE_OK && peer->channels[number] == NULL)
            stub_peer_break(peer, "channel is not open", id);
        else
            stub_peer_method(peer, number, id, &args);
        if (args.bad)
            stub_peer_break(peer, "arguments are cut short", id);
        return;
    case RAW_HEADER:
        raw_take(&args, 4);
        peer->stub->body_bytes += raw_take_u64(&args);
        return;
    case RAW_BODY:
    case RAW_HEARTBEAT:
        return;
    default:
        stub_peer_break(peer, "unknown frame type", data[0]);
    }
}

static void stub_peer_confirm(struct stub_peer *peer)
{
    for (uint16_t number = 1; number <= peer->highest; number++) {
        struct stub_channel *channel = peer->channels[number];
        size_t method;

        if (channel == NULL || !channel->confirming || channel->confirmed == channel->published)
            continue;
        method = raw_method(&peer->out, number, RAW_ACK);
        buf_put_u64(&peer->out, channel->published);
        buf_put_u8(&peer->out, channel->published - channel->confirmed > 1);
        raw_end(&peer->out, method);
        channel->confirmed = channel->published;
    }
}

void stub_peer_input(struct stub_peer *peer)
{
    struct buf *in = &peer->in;

    if (!peer->greeted && buf_length(in) >= 8) {
        if (memcmp(in->data + in->start, "AMQP\0\0\11\1", 8) != 0) {
            stub_peer_break(peer, "no AMQP 0-9-1 header", 0);
            return;
        }
        peer->greeted = true;
        in->start += 8;
        stub_peer_start(peer);
    }
    while (peer->greeted && !peer->broken && !peer->closing) {
        const uint8_t *data = in->data + in->start;
        size_t length = raw_frame_length(data, buf_length(in));

        if (length == 0)
            break;
        stub_peer_frame(peer, data, length);
        in->start += length;
    }
    if (buf_length(in) == 0)
        buf_clear(in);
    stub_peer_confirm(peer);
}

bool stub_peer_deliver(struct stub_peer *peer)
{
    struct stub *stub = peer->stub;
    bool any = false;

    if (peer->closing || stub->delivered == stub->messages)
        return false;
    for (uint16_t number = 1; number <= peer->highest; number++) {
        struct stub_window *window = peer->channels[number] ? &peer->channels[number]->window : NULL;

        while (window != NULL && stub->delivered < stub->messages && stub_window_has_room(window) &&
               buf_length(&peer->out) < STUB_OUT_MAX) {
            stub_window_put(window, &peer->out, stub->delivered++);
            any = true;
        }
    }
    if (any && stub->started == 0) {
        stub->started = bench_now();
        stub->cpu_started = bench_cpu();
    }
    return any;
}

void stub_peer_free(struct stub_peer *peer)
{
    for (uint16_t number = 1; number <= peer->highest; number++)
        stub_channel_free(peer, number);
    buf_free(&peer->in);
    buf_free(&peer->out);
    free(peer);
}
