/* SPDX-License-Identifier: MIT */
#include "dispatch/dedup.h"

#include <stdatomic.h>

#define WAYS 8

/* The hashes fill one cache line, so a look-up that finds nothing touches one. */
struct bucket {
    _Atomic uint64_t hash[WAYS]; /* 0: free */
    _Atomic int64_t time[WAYS];  /* 0: not yet written, as good as free */
};

struct dedup {
    uint64_t count; /* of buckets, a power of two */
    uint64_t unused[7];
    struct bucket buckets[];
};

static uint64_t bucket_count(size_t entries)
{
    uint64_t count = 1;

    while (count * WAYS < entries)
        count *= 2;
    return count;
}

size_t dedup_size(size_t entries)
{
    return sizeof(struct dedup) + bucket_count(entries) * sizeof(struct bucket);
}

struct dedup *dedup_open(void *memory, size_t entries)
{
    struct dedup *dedup = memory;

    dedup->count = bucket_count(entries);
    return dedup;
}

/* Hashes come from outside and may be weak in some bits: spread them (the finaliser of SplitMix64).
 */
static uint64_t spread(uint64_t hash)
{
    hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ hash >> 27) * 0x94d049bb133111ebu;
    return hash ^ hash >> 31;
}

static uint64_t bucket_index(const struct dedup *dedup, uint64_t hash)
{
    return spread(hash) & (dedup->count - 1);
}

bool dedup_seen(const struct dedup *dedup, uint64_t hash, int64_t now_ms, int64_t window_ms)
{
    const struct bucket *bucket = &dedup->buckets[bucket_index(dedup, hash)];

    hash += hash == 0;
    for (int way = 0; way < WAYS; way++) {
        int64_t time;

        if (atomic_load_explicit(&bucket->hash[way], memory_order_acquire) != hash)
            continue;
        time = atomic_load_explicit(&bucket->time[way], memory_order_acquire);
        /* Replaced meanwhile: then the time is another entry's. */
        if (atomic_load_explicit(&bucket->hash[way], memory_order_relaxed) == hash && time != 0 &&
            now_ms - time <= window_ms)
            return true;
    }
    return false;
}

void dedup_add(struct dedup *dedup, uint64_t hash, int64_t now_ms)
{
    struct bucket *bucket = &dedup->buckets[bucket_index(dedup, hash)];

    hash += hash == 0;
    now_ms += now_ms == 0;
    /* Another process may take the way that we chose; each such loss is its success, so a few
     * rounds are enough, and to give up is no worse than to be replaced. */
    for (int round = 0; round < 2 * WAYS; round++) {
        uint64_t known = 0;
        int64_t oldest = INT64_MAX;
        int victim = 0;

        for (int way = 0; way < WAYS; way++) {
            uint64_t here = atomic_load_explicit(&bucket->hash[way], memory_order_acquire);
            int64_t time = here == 0 ? INT64_MIN : atomic_load_explicit(&bucket->time[way], memory_order_relaxed);

            if (here == hash) {
                atomic_store_explicit(&bucket->time[way], now_ms, memory_order_release);
                return;
            }
            if (time < oldest) {
                oldest = time;
                known = here;
                victim = way;
            }
        }
        /* Whoever dies between these two leaves our hash with an older entry's time, or with none:
         * it expires too early, which costs a duplicate at worst. */
        if (atomic_compare_exchange_strong(&bucket->hash[victim], &known, hash)) {
            atomic_store_explicit(&bucket->time[victim], now_ms, memory_order_release);
            return;
        }
    }
}
