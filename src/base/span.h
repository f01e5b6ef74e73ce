/* SPDX-License-Identifier: MIT */
/* A view of bytes that somebody else owns. */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *data;
    size_t length;
};

static inline struct span span_of(const void *data, size_t length)
{
    return (struct span){.data = data, .length = length};
}

static inline struct span span_str(const char *text)
{
    return (struct span){.data = (const uint8_t *)text, .length = text ? strlen(text) : 0};
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

static inline bool span_is(struct span a, const char *text)
{
    return span_equal(a, span_str(text));
}

#endif
