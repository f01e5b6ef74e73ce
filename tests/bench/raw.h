/* SPDX-License-Identifier: MIT */
/*
 * As much AMQP 0-9-1 as the bench programs write and read by themselves.
 *
 * On purpose not src/wire: the stub and the latency probe measure and judge harkd, so they share no codec with it.
 */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include "base/buf.h"

#include <sys/resource.h>
#include <time.h>

#define RAW_HEAD 7
#define RAW_OVERHEAD 8
#define RAW_FRAME_END 0xCE

enum raw_type { RAW_METHOD = 1, RAW_HEADER = 2, RAW_BODY = 3, RAW_HEARTBEAT = 8 };

#define RAW_ID(class, method) ((uint32_t)(class) << 16 | (uint32_t)(method))
enum raw_method_id {
    RAW_START = RAW_ID(10, 10),
    RAW_START_OK = RAW_ID(10, 11),
    RAW_TUNE = RAW_ID(10, 30),
    RAW_TUNE_OK = RAW_ID(10, 31),
    RAW_OPEN = RAW_ID(10, 40),
    RAW_OPEN_OK = RAW_ID(10, 41),
    RAW_CLOSE = RAW_ID(10, 50),
    RAW_CLOSE_OK = RAW_ID(10, 51),
    RAW_CHANNEL_OPEN = RAW_ID(20, 10),
    RAW_CHANNEL_OPEN_OK = RAW_ID(20, 11),
    RAW_CHANNEL_CLOSE = RAW_ID(20, 40),
    RAW_CHANNEL_CLOSE_OK = RAW_ID(20, 41),
    RAW_EXCHANGE_DECLARE = RAW_ID(40, 10),
    RAW_EXCHANGE_DECLARE_OK = RAW_ID(40, 11),
    RAW_EXCHANGE_BIND = RAW_ID(40, 30),
    RAW_QUEUE_DECLARE = RAW_ID(50, 10),
    RAW_QUEUE_DECLARE_OK = RAW_ID(50, 11),
    RAW_QUEUE_BIND = RAW_ID(50, 20),
    RAW_QUEUE_BIND_OK = RAW_ID(50, 21),
    RAW_QUEUE_DELETE = RAW_ID(50, 40),
    RAW_QUEUE_DELETE_OK = RAW_ID(50, 41),
    RAW_QOS = RAW_ID(60, 10),
    RAW_QOS_OK = RAW_ID(60, 11),
    RAW_CONSUME = RAW_ID(60, 20),
    RAW_CONSUME_OK = RAW_ID(60, 21),
    RAW_CANCEL = RAW_ID(60, 30),
    RAW_CANCEL_OK = RAW_ID(60, 31),
    RAW_PUBLISH = RAW_ID(60, 40),
    RAW_RETURN = RAW_ID(60, 50),
    RAW_DELIVER = RAW_ID(60, 60),
    RAW_ACK = RAW_ID(60, 80),
    RAW_REJECT = RAW_ID(60, 90),
    RAW_NACK = RAW_ID(60, 120),
    RAW_CONFIRM_SELECT = RAW_ID(85, 10),
    RAW_CONFIRM_SELECT_OK = RAW_ID(85, 11),
};

/* Puts a frame's head; returns where it stands, for raw_end, which fills in the size. */
static inline size_t raw_begin(struct buf *out, enum raw_type type, uint16_t channel)
{
    size_t position = buf_length(out);

    buf_put_u8(out, type);
    buf_put_u16(out, channel);
    buf_put_u32(out, 0);
    return position;
}

static inline void raw_end(struct buf *out, size_t position)
{
    buf_set_u32(out, position + 3, (uint32_t)(buf_length(out) - position - RAW_HEAD));
    buf_put_u8(out, RAW_FRAME_END);
}

static inline size_t raw_method(struct buf *out, uint16_t channel, uint32_t id)
{
    size_t position = raw_begin(out, RAW_METHOD, channel);

    buf_put_u32(out, id);
    return position;
}

static inline void raw_short(struct buf *out, struct span text)
{
    buf_put_u8(out, (uint8_t)text.length);
    buf_put(out, text.data, text.length);
}

static inline void raw_long(struct buf *out, struct span text)
{
    buf_put_u32(out, (uint32_t)text.length);
    buf_put_span(out, text);
}

#define RAW_MESSAGE_ID "5d1c9a7e-0b7f-4c86-9d35-2f4d00000000" /* the last eight digits are the message's number */
#define RAW_CONTENT_TYPE "application/json"

/* Header and body frame of a message as a typical client sends it: content_type, delivery_mode, message_id. */
static inline void raw_content(struct buf *out, uint16_t channel, bool persistent, const void *body, size_t length)
{
    size_t header = raw_begin(out, RAW_HEADER, channel), frame;

    buf_put_u16(out, 60);
    buf_put_u16(out, 0);
    buf_put_u64(out, length);
    buf_put_u16(out, 0x8000 | 0x1000 | 0x0080);
    raw_short(out, span_str(RAW_CONTENT_TYPE));
    buf_put_u8(out, persistent ? 2 : 1);
    raw_short(out, span_str(RAW_MESSAGE_ID));
    raw_end(out, header);
    if (length == 0)
        return;
    frame = raw_begin(out, RAW_BODY, channel);
    buf_put(out, body, length);
    raw_end(out, frame);
}

/* Where in a frame that was put with raw_content the message_id ends, counted from its header frame. */
#define RAW_MESSAGE_ID_END (RAW_HEAD + 14 + sizeof(RAW_CONTENT_TYPE) + 1 + sizeof(RAW_MESSAGE_ID))

/* The whole length of the frame that starts at data, 0 if it is not whole yet. */
static inline size_t raw_frame_length(const uint8_t *data, size_t length)
{
    size_t whole;

    if (length < RAW_HEAD)
        return 0;
    whole = (size_t)get_u32(data + 3) + RAW_OVERHEAD;
    return whole <= length ? whole : 0;
}

/* Reads a method's arguments one after the other; past the end everything is 0 and `bad` is set. */
struct raw_reader {
    const uint8_t *at, *end;
    bool bad;
};

static inline const uint8_t *raw_take(struct raw_reader *reader, size_t length)
{
    const uint8_t *at = reader->at;

    if ((size_t)(reader->end - at) < length) {
        reader->bad = true;
        return NULL;
    }
    reader->at += length;
    return at;
}

static inline uint8_t raw_take_u8(struct raw_reader *reader)
{
    const uint8_t *at = raw_take(reader, 1);

    return at ? *at : 0;
}

static inline uint16_t raw_take_u16(struct raw_reader *reader)
{
    const uint8_t *at = raw_take(reader, 2);

    return at ? get_u16(at) : 0;
}

static inline uint32_t raw_take_u32(struct raw_reader *reader)
{
    const uint8_t *at = raw_take(reader, 4);

    return at ? get_u32(at) : 0;
}

static inline uint64_t raw_take_u64(struct raw_reader *reader)
{
    const uint8_t *at = raw_take(reader, 8);

    return at ? get_u64(at) : 0;
}

static inline struct span raw_take_short(struct raw_reader *reader)
{
    size_t length = raw_take_u8(reader);
    const uint8_t *at = raw_take(reader, length);

    return span_of(at, at ? length : 0);
}

/* The clock that Python's time.monotonic_ns() reads. */
static inline int64_t bench_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* User and system time of this process, in nanoseconds. */
static inline int64_t bench_cpu(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The five routing keys of the job. */
static const char *const bench_keys[] = {"order.created", "order.paid", "order.shipped", "user.signed-up", "user.left"};
#define BENCH_BODY 200

#endif
