/* SPDX-License-Identifier: MIT */
#include "daemon/crashes.h"

#include <stdatomic.h>
#include <sys/mman.h>

#define BUCKETS 128
#define WAYS 8

struct crashes {
    _Atomic uint64_t any; /* number of crashes ever counted: 0 spares the look-up */
    struct {
        _Atomic uint64_t identity;
        _Atomic uint32_t count; /* 0: free */
        _Atomic int64_t at;
    } entries[BUCKETS][WAYS];
};

struct crashes *crashes_open(void)
{
    struct crashes *crashes = mmap(NULL, sizeof(*crashes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return crashes == MAP_FAILED ? NULL : crashes;
}

void crashes_close(struct crashes *crashes)
{
    if (crashes != NULL)
        munmap(crashes, sizeof(*crashes));
}

/* The way that holds the identity, or -1. */
static int find(const struct crashes *crashes, uint64_t identity)
{
    size_t bucket = identity % BUCKETS;

    for (int way = 0; way < WAYS; way++)
        if (crashes->entries[bucket][way].identity == identity && crashes->entries[bucket][way].count > 0)
            return way;
    return -1;
}

unsigned crashes_add(struct crashes *crashes, uint64_t identity, int64_t now_ms)
{
    size_t bucket = identity % BUCKETS;
    int way = find(crashes, identity);

    if (way < 0) {
        way = 0;
        for (int other = 0; other < WAYS && crashes->entries[bucket][way].count > 0; other++)
            if (crashes->entries[bucket][other].count == 0 ||
                crashes->entries[bucket][other].at < crashes->entries[bucket][way].at)
                way = other;
        /* Only the supervisor adds; a reader between these stores sees a free entry. */
        crashes->entries[bucket][way].count = 0;
        crashes->entries[bucket][way].identity = identity;
    }
    crashes->entries[bucket][way].at = now_ms;
    crashes->any++;
    return ++crashes->entries[bucket][way].count;
}

unsigned crashes_count(const struct crashes *crashes, uint64_t identity)
{
    int way;

    if (HARK_LIKELY(atomic_load_explicit(&crashes->any, memory_order_relaxed) == 0))
        return 0;
    way = find(crashes, identity);
    return way < 0 ? 0 : crashes->entries[identity % BUCKETS][way].count;
}

void crashes_forget(struct crashes *crashes, uint64_t identity)
{
    int way = find(crashes, identity);

    if (way >= 0)
        crashes->entries[identity % BUCKETS][way].count = 0;
}
