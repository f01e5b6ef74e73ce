/* SPDX-License-Identifier: MIT */
/*
 * Work that would block, done in a short-lived thread of its own; the answer comes from the loop. The one place in
 * dispatch/ that knows threads.
 */
#ifndef DISPATCH_THREAD_H
#define DISPATCH_THREAD_H

#include "base/base.h"
#include <event2/event.h>

struct thread_job;

/* In the thread. Touches nothing but what `data` points to. */
typedef void (*thread_work)(void *data);
/* In the loop, once the work is done; or, if nobody waits any more (thread_abandon), `orphan` in the thread instead. */
typedef void (*thread_done)(void *data);

/* NULL: no thread to be had. */
struct thread_job *thread_start(struct event_base *base, thread_work work, thread_done done, thread_done orphan,
                                void *data) HARK_MUSTCHECK;
void thread_abandon(struct thread_job *job);

/* Work that nobody waits for. -1: no thread to be had. */
int thread_detach(thread_work work, void *data) HARK_MUSTCHECK;

#endif
