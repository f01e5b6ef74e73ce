/* SPDX-License-Identifier: MIT */
/*
 * The loop, one turn at a time. A turn is: run libevent once; run what was deferred during it (acknowledgements to
 * batch); write what it produced, one gathered write per dirty link; free what it closed. So "the call-back
 * freed me" cannot happen: closing is legal anywhere, freeing happens here only.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "base/base.h"
#include <event2/event.h>

struct loop;
struct loop_list;

/* A call at the end of this turn; embedded in its owner, zeroed, `run` set. Deferring it twice runs it once. */
struct loop_task {
    struct loop_task *next, **at; /* `at` is what points to it, in a list of the loop's */
    void (*run)(struct loop_task *task);
    struct loop_list *queued; /* NULL: nowhere */
};

/* Also ignores SIGPIPE for the whole process: OpenSSL and pipes to children cannot be asked for MSG_NOSIGNAL. */
struct loop *loop_new(void);
void loop_free(struct loop *loop); /* after everything on it was closed; ends what lingers, reaps */
struct event_base *loop_base(struct loop *loop);

/* Turns until loop_stop() (returns 0) or an error of libevent (-1). */
int loop_run(struct loop *loop) HARK_MUSTCHECK;
/* One turn; waits for events only if `wait`. For tests. */
int loop_turn(struct loop *loop, bool wait) HARK_MUSTCHECK;
void loop_stop(struct loop *loop);

/* Before the flush of this turn; what a deferred task defers runs in the same turn too. */
void loop_defer(struct loop *loop, struct loop_task *task);
void loop_flush_later(struct loop *loop, struct loop_task *task); /* for links: the flush itself */
void loop_reap_later(struct loop *loop, struct loop_task *task);  /* after the flush: frees its owner */
/* By loop_free(), unless cancelled before: for what outlives its owner for a while, as a link that is still flushing. */
void loop_at_end(struct loop *loop, struct loop_task *task);
void loop_task_cancel(struct loop_task *task); /* wherever it is queued, however long the list */

/* Milliseconds of CLOCK_MONOTONIC, read once per turn: at the first question after the turn has stopped waiting. */
int64_t loop_now(struct loop *loop);
/* The same of CLOCK_REALTIME, for what counts in the world's time: within a turn no time passes. */
int64_t loop_wall(struct loop *loop);

/* Asks that the next turn begin no sooner than so many microseconds from now (at most 5,000): a backlog is plain and
 * larger batches cost the broker less. Forgotten after one turn. */
void loop_gather(struct loop *loop, unsigned microseconds);

#endif
