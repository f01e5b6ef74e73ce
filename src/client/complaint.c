/* SPDX-License-Identifier: MIT */
#include "client/complaint.h"

#define COMPLAINT_REPEAT_MS (5 * 60 * 1000)

uint64_t complaint_hash(const char *text)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * 1099511628211u;
    return hash != 0 ? hash : 1;
}

bool complaint_is_news(struct complaint *complaint, const char *text, int64_t now)
{
    uint64_t hash = complaint_hash(text);

    if (hash == complaint->last && now - complaint->at < COMPLAINT_REPEAT_MS)
        return false;
    complaint->last = hash;
    complaint->at = now;
    return true;
}
