/* SPDX-License-Identifier: MIT */
/* The frame cutter: whole, and byte by byte, the same bytes give the same frames and the same
 * error. */
#include "wire/frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0;

    while (at < size) {
        struct frame whole, part;
        struct reply error, again;
        ssize_t used = frame_cut(data + at, size - at, FRAME_UNTUNED_MAX, &whole, &error);
        size_t most = used > 0 ? (size_t)used : size - at;

        if (used > (ssize_t)(size - at) || used > FRAME_UNTUNED_MAX)
            abort();
        for (size_t length = most > 600 ? most - 600 : 0; length < most; length++) {
            ssize_t early = frame_cut(data + at, length, FRAME_UNTUNED_MAX, &part, &again);

            if (early > 0 || (early < 0 && used >= 0))
                abort(); /* a part of a frame is no frame, and no error */
        }
        if (used <= 0)
            break;
        if (whole.payload.data != data + at + FRAME_HEAD || whole.payload.length + FRAME_OVERHEAD != (size_t)used)
            abort();
        at += (size_t)used;
    }
    return 0;
}
