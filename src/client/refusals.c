/* SPDX-License-Identifier: MIT */
#include "client/refusals.h"

#include <stdio.h>

void refusals_add(struct refusals *refusals, struct span exchange, struct span key, const struct reply *error,
                  int64_t now)
{
    struct refusal *refusal = &refusals->items[0];

    if ((error->code != REPLY_NOT_FOUND && error->code != REPLY_ACCESS_REFUSED) || exchange.length > 255 ||
        key.length > 255)
        return;
    if (refusals->used < REFUSALS_MAX) {
        refusal = &refusals->items[refusals->used++];
    } else {
        for (size_t i = 1; i < REFUSALS_MAX; i++)
            if (refusals->items[i].until < refusal->until)
                refusal = &refusals->items[i];
    }
    refusal->until = now + REFUSALS_MS;
    refusal->code = error->code;
    refusal->exchange_length = (uint8_t)exchange.length;
    refusal->key_length = (uint8_t)key.length;
    if (exchange.length > 0)
        memcpy(refusal->exchange, exchange.data, exchange.length);
    if (key.length > 0)
        memcpy(refusal->key, key.data, key.length);
    snprintf(refusal->text, sizeof(refusal->text), "%s", error->text);
}

const char *refusals_find(struct refusals *refusals, struct span exchange, struct span key, int64_t now)
{
    const char *text = NULL;
    size_t kept = 0;

    for (size_t i = 0; i < refusals->used; i++) {
        const struct refusal *refusal = &refusals->items[i];

        if (refusal->until <= now)
            continue;
        if (kept != i)
            refusals->items[kept] = *refusal;
        refusal = &refusals->items[kept++];
        if (span_equal(exchange, span_of(refusal->exchange, refusal->exchange_length)) &&
            (refusal->code == REPLY_NOT_FOUND || span_equal(key, span_of(refusal->key, refusal->key_length))))
            text = refusal->text;
    }
    refusals->used = kept;
    return text;
}
