/* SPDX-License-Identifier: MIT */
#include "client/unacked.h"

#include "wire/method.h"

#include <stdlib.h>

#define UNACKED_FIRST 64

void unacked_init(struct unacked *unacked)
{
    *unacked = (struct unacked){.spare = UNACKED_NONE, .first = UNACKED_NONE, .last = UNACKED_NONE};
}

void unacked_free(struct unacked *unacked)
{
    free(unacked->slots);
    free(unacked->settled);
    unacked_init(unacked);
}

static int unacked_grow(struct unacked *unacked)
{
    uint32_t size = unacked->size == 0 ? UNACKED_FIRST : 2 * unacked->size;
    struct unacked_slot *slots = realloc(unacked->slots, size * sizeof(*slots));
    uint32_t *settled;

    if (slots == NULL)
        return -1;
    unacked->slots = slots;
    settled = realloc(unacked->settled, size * sizeof(*settled));
    if (settled == NULL)
        return -1;
    unacked->settled = settled;
    for (uint32_t slot = size; slot > unacked->size; slot--) {
        slots[slot - 1] = (struct unacked_slot){.next = unacked->spare};
        unacked->spare = slot - 1;
    }
    unacked->size = size;
    return 0;
}

uint32_t unacked_add(struct unacked *unacked, uint64_t tag)
{
    uint32_t slot;

    if (unacked->spare == UNACKED_NONE && unacked_grow(unacked) != 0)
        return UNACKED_NONE;
    slot = unacked->spare;
    unacked->spare = unacked->slots[slot].next;
    unacked->slots[slot] = (struct unacked_slot){
        .tag = tag, .previous = unacked->last, .next = UNACKED_NONE, .used = true};
    if (unacked->last != UNACKED_NONE)
        unacked->slots[unacked->last].next = slot;
    else
        unacked->first = slot;
    unacked->last = slot;
    unacked->count++;
    return slot;
}

bool unacked_holds(const struct unacked *unacked, uint32_t slot, uint64_t tag)
{
    return slot < unacked->size && unacked->slots[slot].used && unacked->slots[slot].tag == tag &&
           !unacked->slots[slot].settled && !unacked->slots[slot].postponed;
}

void unacked_settle(struct unacked *unacked, uint32_t slot)
{
    unacked->slots[slot].settled = true;
    unacked->settled[unacked->settled_count++] = slot;
}

void unacked_postpone(struct unacked *unacked, uint32_t slot)
{
    unacked->slots[slot].postponed = true;
}

void unacked_drop(struct unacked *unacked, uint32_t at)
{
    struct unacked_slot *slot = &unacked->slots[at];

    if (slot->previous != UNACKED_NONE)
        unacked->slots[slot->previous].next = slot->next;
    else
        unacked->first = slot->next;
    if (slot->next != UNACKED_NONE)
        unacked->slots[slot->next].previous = slot->previous;
    else
        unacked->last = slot->previous;
    *slot = (struct unacked_slot){.next = unacked->spare};
    unacked->spare = at;
    unacked->count--;
}

void unacked_clear(struct unacked *unacked)
{
    while (unacked->first != UNACKED_NONE)
        unacked_drop(unacked, unacked->first);
    unacked->settled_count = 0;
}

void unacked_put(struct unacked *unacked, struct buf *out, uint16_t channel)
{
    uint64_t tag = 0;
    uint32_t front = 0;

    for (; unacked->first != UNACKED_NONE && unacked->slots[unacked->first].settled; front++) {
        tag = unacked->slots[unacked->first].tag;
        unacked_drop(unacked, unacked->first);
    }
    if (front > 0)
        method_put_ack(out, channel, tag, front > 1);
    for (uint32_t i = 0; front < unacked->settled_count && i < unacked->settled_count; i++) {
        uint32_t slot = unacked->settled[i];

        if (!unacked->slots[slot].settled)
            continue; /* was of the front */
        method_put_ack(out, channel, unacked->slots[slot].tag, false);
        unacked_drop(unacked, slot);
    }
    unacked->settled_count = 0;
}

void unacked_put_back(struct unacked *unacked, struct buf *out, uint16_t channel)
{
    amqp_basic_reject_t reject = {.requeue = 1};
    uint32_t next;

    for (uint32_t slot = unacked->first; slot != UNACKED_NONE; slot = next) {
        next = unacked->slots[slot].next;
        if (!unacked->slots[slot].postponed)
            continue;
        reject.delivery_tag = unacked->slots[slot].tag;
        method_put(out, channel, AMQP_BASIC_REJECT_METHOD, &reject);
        unacked_drop(unacked, slot);
    }
}
