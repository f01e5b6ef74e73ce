/* SPDX-License-Identifier: MIT */
#include "stub.h"

#include <stdio.h>
#include <stdlib.h>

static void stub_window_build(struct stub_window *window, const struct stub *stub, size_t key, struct span tag)
{
    struct buf *out = &window->frames[key];
    char *body = malloc(stub->body);
    size_t method = raw_method(out, window->channel, RAW_DELIVER);

    if (body == NULL) {
        perror("stub");
        exit(1);
    }
    memset(body, 'x', stub->body);
    raw_short(out, tag);
    window->tag_at[key] = buf_length(out);
    buf_put_u64(out, 0);
    buf_put_u8(out, 0);
    raw_short(out, span_str("bench.in"));
    raw_short(out, span_str(bench_keys[key]));
    raw_end(out, method);
    window->id_end[key] = buf_length(out) + RAW_MESSAGE_ID_END;
    raw_content(out, window->channel, stub->persistent, body, stub->body);
    free(body);
}

void stub_window_open(struct stub_window *window, const struct stub *stub, uint16_t channel, struct span tag,
                      uint16_t prefetch)
{
    if (!window->active) { /* tags go on where the channel consumed before */
        window->active = true;
        window->next = window->low = 1;
        window->settled = calloc(STUB_RING, 1);
        if (window->settled == NULL) {
            perror("stub");
            exit(1);
        }
    }
    window->channel = channel;
    window->size = prefetch == 0 ? STUB_RING - 1 : prefetch;
    for (size_t key = 0; key < HARK_COUNT(bench_keys); key++) {
        buf_clear(&window->frames[key]);
        stub_window_build(window, stub, key, tag);
    }
}

void stub_window_close(struct stub_window *window)
{
    free(window->settled);
    for (size_t key = 0; key < HARK_COUNT(bench_keys); key++)
        buf_free(&window->frames[key]);
    *window = (struct stub_window){0};
}

bool stub_window_has_room(const struct stub_window *window)
{
    return window->active && window->unacked < window->size && window->next - window->low < STUB_RING;
}

void stub_window_put(struct stub_window *window, struct buf *out, uint64_t number)
{
    static const char digits[] = "0123456789abcdef";
    size_t key = number % HARK_COUNT(bench_keys), at = buf_length(out);
    uint64_t tag = __builtin_bswap64(window->next);
    uint8_t *id;

    buf_put_span(out, buf_span(&window->frames[key]));
    if (out->failed)
        return;
    memcpy(out->data + out->start + at + window->tag_at[key], &tag, sizeof(tag));
    id = out->data + out->start + at + window->id_end[key];
    for (int digit = 0; digit < 8; digit++, number >>= 4)
        *--id = (uint8_t)digits[number & 15];
    window->settled[window->next++ % STUB_RING] = 0;
    window->unacked++;
}

int64_t stub_window_settle(struct stub_window *window, uint64_t tag, bool multiple)
{
    int64_t count = 0;

    if (multiple && tag == 0)
        tag = window->next - 1;
    if (!window->active || tag >= window->next || tag < window->low || window->settled[tag % STUB_RING])
        return -1;
    if (multiple) {
        for (; window->low <= tag; window->low++)
            count += !window->settled[window->low % STUB_RING];
    } else {
        window->settled[tag % STUB_RING] = 1;
        count = 1;
    }
    while (window->low < window->next && window->settled[window->low % STUB_RING])
        window->low++;
    window->unacked -= (uint32_t)count;
    return count;
}
