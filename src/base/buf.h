/* SPDX-License-Identifier: MIT */
/*
 * A growing buffer of bytes, contiguous, with big-endian puts (AMQP's byte order).
 *
 * Out of memory is not an error that callers handle one by one: the buffer turns `failed` and
 * swallows what follows; whoever sends it looks once. data[start..end) is what it holds.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/base.h"
#include "base/span.h"

struct buf {
    uint8_t *data;
    size_t start, end, capacity;
    bool failed;
};

/* Makes room for `more` bytes behind the end and returns where they go, NULL (and `failed`) without
 * memory. May move the data: pointers into it are void, positions relative to `start` are kept. */
uint8_t *buf_grow(struct buf *buf, size_t more);
void buf_free(struct buf *buf);
/* Gives memory above `keep` bytes of capacity back when the buffer is empty. */
void buf_trim(struct buf *buf, size_t keep);
void buf_printf(struct buf *buf, const char *format, ...) HARK_PRINTF(2, 3);

static inline size_t buf_length(const struct buf *buf)
{
    return buf->end - buf->start;
}

static inline struct span buf_span(const struct buf *buf)
{
    /* NULL + 0 is undefined in C */
    return span_of(buf->data != NULL ? buf->data + buf->start : NULL, buf->end - buf->start);
}

static inline void buf_clear(struct buf *buf)
{
    buf->start = buf->end = 0;
    buf->failed = false;
}

/* Room for `more` bytes without moving the end; NULL when out of memory. */
static inline uint8_t *buf_reserve(struct buf *buf, size_t more)
{
    if (HARK_LIKELY(buf->capacity - buf->end >= more && buf->data != NULL && !buf->failed))
        return buf->data + buf->end;
    return buf_grow(buf, more);
}

static inline void buf_put(struct buf *buf, const void *data, size_t length)
{
    uint8_t *to = buf_reserve(buf, length);

    if (to != NULL && length > 0) {
        memcpy(to, data, length);
        buf->end += length;
    }
}

static inline void buf_put_span(struct buf *buf, struct span span)
{
    buf_put(buf, span.data, span.length);
}

static inline void buf_put_u8(struct buf *buf, uint8_t value)
{
    buf_put(buf, &value, 1);
}

static inline void buf_put_u16(struct buf *buf, uint16_t value)
{
    value = __builtin_bswap16(value);
    buf_put(buf, &value, sizeof(value));
}

static inline void buf_put_u32(struct buf *buf, uint32_t value)
{
    value = __builtin_bswap32(value);
    buf_put(buf, &value, sizeof(value));
}

static inline void buf_put_u64(struct buf *buf, uint64_t value)
{
    value = __builtin_bswap64(value);
    buf_put(buf, &value, sizeof(value));
}

/* A number that was left open at `position` bytes behind the start. */
static inline void buf_set_u32(struct buf *buf, size_t position, uint32_t value)
{
    if (buf->failed)
        return;
    value = __builtin_bswap32(value);
    memcpy(buf->data + buf->start + position, &value, sizeof(value));
}

static inline uint16_t get_u16(const uint8_t *data)
{
    uint16_t value;

    memcpy(&value, data, sizeof(value));
    return __builtin_bswap16(value);
}

static inline uint32_t get_u32(const uint8_t *data)
{
    uint32_t value;

    memcpy(&value, data, sizeof(value));
    return __builtin_bswap32(value);
}

static inline uint64_t get_u64(const uint8_t *data)
{
    uint64_t value;

    memcpy(&value, data, sizeof(value));
    return __builtin_bswap64(value);
}

#endif
