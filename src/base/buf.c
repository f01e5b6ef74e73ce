/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_SMALLEST 256
#define BUF_LARGEST (PTRDIFF_MAX / 2) /* twice that is still a size */

/* Moves what is held to the front, so that all free room is behind the end. */
static void buf_compact(struct buf *buf)
{
    size_t length = buf_length(buf);

    if (buf->start == 0)
        return;
    if (buf->data != NULL)
        memmove(buf->data, buf->data + buf->start, length);
    buf->start = 0;
    buf->end = length;
}

uint8_t *buf_grow(struct buf *buf, size_t more)
{
    size_t length = buf_length(buf), capacity = buf->capacity;
    uint8_t *data;

    if (buf->failed)
        return NULL;

    /* Moving is cheaper than growing, but only if what is moved is little: a full buffer that is consumed
     * a few bytes at a time would otherwise be moved each time. */
    if (buf->data != NULL && capacity - length >= more && length <= capacity / 2) {
        buf_compact(buf);
        return buf->data + buf->end;
    }

    if (more > BUF_LARGEST || length > BUF_LARGEST - more)
        goto fail;
    if (capacity < BUF_SMALLEST)
        capacity = BUF_SMALLEST;
    while (capacity < length + more)
        capacity *= 2;
    if (buf->start > 0)
        buf_compact(buf);
    data = realloc(buf->data, capacity);
    if (data == NULL)
        goto fail;
    buf->data = data;
    buf->capacity = capacity;
    return buf->data + buf->end;

fail:
    buf->failed = true;
    return NULL;
}

void buf_free(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_trim(struct buf *buf, size_t keep)
{
    if (buf_length(buf) > 0)
        return;
    buf->start = buf->end = 0;
    if (buf->capacity > keep) {
        free(buf->data);
        buf->data = NULL;
        buf->capacity = 0;
    }
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    uint8_t *to = buf_reserve(buf, 128);
    va_list args;
    int length;

    if (to == NULL)
        return;
    va_start(args, format);
    length = vsnprintf((char *)to, buf->capacity - buf->end, format, args);
    va_end(args);
    if (length < 0) {
        buf->failed = true;
        return;
    }
    if ((size_t)length >= buf->capacity - buf->end) {
        to = buf_reserve(buf, (size_t)length + 1);
        if (to == NULL)
            return;
        va_start(args, format);
        vsnprintf((char *)to, (size_t)length + 1, format, args);
        va_end(args);
    }
    buf->end += (size_t)length;
}
