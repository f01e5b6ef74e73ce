/* SPDX-License-Identifier: MIT */
/* How long to wait before the next attempt: doubling, capped, with jitter so that many clients do
 * not come at once. */
#ifndef CLIENT_BACKOFF_H
#define CLIENT_BACKOFF_H

#include "base/base.h"

/* Milliseconds before attempt `attempt` (0: the first after a failure): between half and the whole
 * of min(max, min * 2^attempt). */
int64_t backoff_ms(unsigned attempt, int64_t min, int64_t max);

#endif
