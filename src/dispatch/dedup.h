/* SPDX-License-Identifier: MIT */
/*
 * Remembers which messages were settled a short while ago, so that a duplicate is acknowledged
 * instead of handled.
 *
 * A table of fixed size over memory that several processes may share: lock-free, and sound when one
 * of them dies at any point. Where a bucket is full the oldest entry makes room, so under pressure
 * a duplicate may get through, but a message is never taken for another one (as far as 64 bits tell
 * them apart).
 *
 * The owner of the memory is the caller; times are of one monotonic clock.
 */
#ifndef DISPATCH_DEDUP_H
#define DISPATCH_DEDUP_H

#include "base/base.h"

struct dedup;

/* Bytes needed for at least `entries` entries. */
size_t dedup_size(size_t entries);
/* Over zeroed memory of dedup_size(entries), aligned to 64. Nothing to close. */
struct dedup *dedup_open(void *memory, size_t entries);

/* Was it added within the last window_ms? */
bool dedup_seen(const struct dedup *dedup, uint64_t hash, int64_t now_ms, int64_t window_ms);
/* Adds it, or renews the time of an entry that is there. */
void dedup_add(struct dedup *dedup, uint64_t hash, int64_t now_ms);

#endif
