/* SPDX-License-Identifier: MIT */
#include "client/complaint.h"

#include <stdatomic.h>
#include <sys/mman.h>

#define COMPLAINT_REPEAT_MS (5 * 60 * 1000)
#define COMPLAINTS 512

/* By the hash's lowest bits: most of a hash, and when it was said, in one word, so that of several who come at once
 * one is the first. Two texts of one place are said more often than they would have to be. */
struct complaints {
    _Atomic uint64_t said[COMPLAINTS];
};

#define SECONDS_BITS 24
#define SECONDS_MASK (((uint64_t)1 << SECONDS_BITS) - 1)

struct complaints *complaints_open(void)
{
    void *memory = mmap(NULL, sizeof(struct complaints), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory != MAP_FAILED ? memory : NULL;
}

void complaints_close(struct complaints *complaints)
{
    if (complaints != NULL)
        munmap(complaints, sizeof(*complaints));
}

uint64_t complaint_hash(const char *text)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * 1099511628211u;
    return hash != 0 ? hash : 1;
}

static bool complaints_is_news(struct complaints *complaints, uint64_t hash, int64_t now)
{
    _Atomic uint64_t *place = &complaints->said[hash % COMPLAINTS];
    uint64_t seconds = (uint64_t)(now / 1000), said = atomic_load(place);
    uint64_t mine = (hash & ~SECONDS_MASK) | (seconds & SECONDS_MASK);
    const uint64_t period = COMPLAINT_REPEAT_MS / 1000;

    do {
        /* Perhaps somewhat ahead of us: each loop looks at the clock when it turns. */
        if ((said & ~SECONDS_MASK) == (hash & ~SECONDS_MASK) && ((seconds - said + period) & SECONDS_MASK) < 2 * period)
            return false;
    } while (!atomic_compare_exchange_weak(place, &said, mine));
    return true;
}

bool complaint_is_news(struct complaint *complaint, struct complaints *common, const char *text, int64_t now)
{
    uint64_t hash = complaint_hash(text);

    if (hash == complaint->last && now - complaint->at < COMPLAINT_REPEAT_MS)
        return false;
    complaint->last = hash;
    complaint->at = now;
    return common == NULL || complaints_is_news(common, hash, now);
}
