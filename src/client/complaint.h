/* SPDX-License-Identifier: MIT */
/*
 * What the broker refuses is said once. Whoever retries keeps a complaint per thing that can fail
 * and asks before each line: the same text again within five minutes is not news, however often it
 * is met; another text is.
 *
 * Workers meet the same refusals. What they share of it (struct complaints, in memory that was mapped before they were
 * forked) makes one of them say it.
 */
#ifndef CLIENT_COMPLAINT_H
#define CLIENT_COMPLAINT_H

#include "base/base.h"

struct complaints;

struct complaint {
    uint64_t last; /* hash of the text said last, 0: none */
    int64_t at;
};

/* NULL: no memory. */
struct complaints *complaints_open(void);
void complaints_close(struct complaints *complaints); /* NULL is fine */

/* Never 0. */
uint64_t complaint_hash(const char *text);
/* True if `text` is to be said now; it counts as said then. `now` in ms. `common`: what others say; NULL: it is nobody
 * else's. */
bool complaint_is_news(struct complaint *complaint, struct complaints *common, const char *text, int64_t now);

#endif
