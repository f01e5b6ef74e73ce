/* SPDX-License-Identifier: MIT */
/*
 * Which messages have brought workers down, and how often: a bounded table in memory that the
 * supervisor and all workers share. The supervisor counts; a worker asks before it calls a
 * listener, and dead-letters the message that has reached `crash_limit`. A full bucket forgets its
 * oldest entry: counting starts again, nothing is lost.
 */
#ifndef DAEMON_CRASHES_H
#define DAEMON_CRASHES_H

#include "base/base.h"

struct crashes;

struct crashes *crashes_open(void) HARK_MUSTCHECK; /* before the first fork; NULL with errno */
void crashes_close(struct crashes *crashes);

/* The supervisor, after a death in a call: the new count. */
unsigned crashes_add(struct crashes *crashes, uint64_t identity, int64_t now_ms);
/* How many workers this message has brought down. Cheap while nothing has crashed. */
unsigned crashes_count(const struct crashes *crashes, uint64_t identity);
/* The worker, once the message is safe among the dead letters: replayed, it gets its chances again.
 */
void crashes_forget(struct crashes *crashes, uint64_t identity);

#endif
