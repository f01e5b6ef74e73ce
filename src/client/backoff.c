/* SPDX-License-Identifier: MIT */
#include "client/backoff.h"

#include <event2/util.h>

int64_t backoff_ms(unsigned attempt, int64_t min, int64_t max)
{
    int64_t whole = min;
    uint32_t random;

    while (attempt-- > 0 && whole < max)
        whole *= 2;
    if (whole > max)
        whole = max;
    evutil_secure_rng_get_bytes(&random, sizeof(random));
    return whole / 2 + (int64_t)(random % (uint64_t)(whole / 2 + 1));
}
