/* SPDX-License-Identifier: MIT */
/* Content assembly from a stream of frames: never more memory than allowed, and what is whole is
 * consistent. */
#include "wire/content.h"
#include "wire/table.h"

#include <stdlib.h>

#define FUZZ_MAX_SIZE 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void whole(const struct content *content, struct message *message)
{
    struct table_entry entry;
    struct properties properties, again;
    struct buf out = {0};
    struct reply error;
    size_t cursor = 0;

    if (message->body.length > FUZZ_MAX_SIZE || (content->oversized && message->body.length != 0))
        abort();
    message_properties(message, &properties);
    while (table_next(properties.headers, &cursor, &entry))
        if (entry.whole.data < message->bytes)
            abort();
    properties_put(&out, &properties);
    if (out.failed || properties_parse(buf_span(&out), &again, &error) != 0 || again.flags != properties.flags ||
        again.flags != message->properties.flags || !span_equal(again.message_id, message_id(message)))
        abort();
    buf_free(&out);
    message_drop(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct content content = {.state = CONTENT_IDLE};
    struct frame frame;
    struct reply error;
    size_t at = 0;

    if (content_begin(&content, span_str("exchange"), span_str("key"), &error) != 0)
        abort();
    while (at < size) {
        ssize_t used = frame_cut(data + at, size - at, FRAME_UNTUNED_MAX, &frame, &error);
        struct message *message = NULL;
        int result;

        if (used <= 0)
            break;
        at += (size_t)used;
        if (frame.type != FRAME_HEADER && frame.type != FRAME_BODY)
            continue;
        result = content_frame(&content, &frame, FUZZ_MAX_SIZE, &message, &error);
        if (result < 0)
            break;
        if (result > 0) {
            whole(&content, message);
            if (content_begin(&content, span_str("exchange"), span_str("key"), &error) != 0)
                abort();
        }
    }
    content_reset(&content);
    return 0;
}
