/* SPDX-License-Identifier: MIT */
#include "client/complaint.h"

#define COMPLAINT_REPEAT_MS (5 * 60 * 1000)

bool complaint_is_news(struct complaint *complaint, const char *text, int64_t now)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * 1099511628211u;
    if (hash == complaint->last && now - complaint->at < COMPLAINT_REPEAT_MS)
        return false;
    complaint->last = hash;
    complaint->at = now;
    return true;
}
