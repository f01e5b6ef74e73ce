/* SPDX-License-Identifier: MIT */
#include "broker/ring.h"

#include <stdlib.h>
#include <string.h>

#define RING_FIRST 16

/* To another size, a power of two that holds them all; they begin at 0 then. */
static int ring_resize(struct ring *ring, size_t size)
{
    struct entry *entries = malloc(size * sizeof(*entries));

    if (entries == NULL)
        return -1;
    for (size_t i = 0; i < ring->count; i++)
        entries[i] = *ring_at(ring, i);
    free(ring->entries);
    ring->entries = entries;
    ring->mask = size - 1;
    ring->head = 0;
    return 0;
}

/* To twice the size, where it is: the pages of a large one are moved (mremap), not copied. Those that were wrapped
 * around to the beginning now have room behind the others. */
static int ring_double(struct ring *ring)
{
    size_t size = ring->mask + 1, head = ring->head & ring->mask;
    struct entry *entries = realloc(ring->entries, 2 * size * sizeof(*entries));

    if (entries == NULL)
        return -1;
    memcpy(entries + size, entries, head * sizeof(*entries));
    ring->entries = entries;
    ring->mask = 2 * size - 1;
    ring->head = head;
    return 0;
}

static int ring_room(struct ring *ring)
{
    if (HARK_LIKELY(ring->entries != NULL && ring->count <= ring->mask))
        return 0;
    return ring->entries == NULL ? ring_resize(ring, RING_FIRST) : ring_double(ring);
}

struct entry *ring_append(struct ring *ring)
{
    return ring_room(ring) == 0 ? ring_at(ring, ring->count++) : NULL;
}

int ring_insert(struct ring *ring, const struct entry *entry)
{
    size_t low = 0, high = ring->count;

    if (ring_room(ring) != 0)
        return -1;
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (ring_at(ring, middle)->position < entry->position)
            low = middle + 1;
        else
            high = middle;
    }
    ring->count++;
    if (low < ring->count / 2) { /* the shorter side moves */
        ring->head--;
        for (size_t i = 0; i < low; i++)
            *ring_at(ring, i) = *ring_at(ring, i + 1);
    } else {
        for (size_t i = ring->count - 1; i > low; i--)
            *ring_at(ring, i) = *ring_at(ring, i - 1);
    }
    *ring_at(ring, low) = *entry;
    return 0;
}

void ring_trim(struct ring *ring)
{
    size_t size = ring->mask + 1;

    if (ring->entries == NULL || size <= 1024 || ring->count > size / 8)
        return;
    while (size > 64 && ring->count <= size / 4)
        size /= 2;
    if (ring_resize(ring, size) != 0)
        return; /* then it stays large */
}

void ring_free(struct ring *ring)
{
    free(ring->entries);
    *ring = (struct ring){0};
}
