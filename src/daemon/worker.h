/* SPDX-License-Identifier: MIT */
/*
 * A worker process, from just after the fork to its end. Called by the supervisor in the child;
 * everything in `start` belongs to the supervisor's half of the program and outlives the call.
 *
 * What the supervisor has done: closed what is its own, set the process title, called
 * log_after_fork("worker[N]"), unblocked all signals and set them to their defaults, ignored
 * SIGINT, SIGHUP, SIGUSR1 and SIGPIPE (programs that the worker starts must get the defaults back),
 * and asked to be sent SIGUSR2 when the supervisor dies, which sets the kernel's alarm.
 *
 * What the worker does:
 *  - opens its listeners, then slot_set_state(SLOT_STARTED); once all consumers are subscribed,
 * SLOT_CONSUMING.
 *  - counts slot_turn() every turn of its loop, and keeps the slot's figures.
 *  - watches `control`: a byte that arrives asks "are you well?", the answer is the turn itself and
 *    slot_consumers_live() if the consumers are; end of file means the supervisor is gone: the same
 * as SIGTERM. It is asked only when neither counter has moved for a while, so an idle worker is
 * woken rarely or never.
 *  - SIGTERM: SLOT_DRAINING, drains within `drain_timeout` and returns. (The supervisor kills it a
 * little later.)
 */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include "base/base.h"
#include "daemon/crashes.h"
#include "daemon/slot.h"

struct complaints;
struct config;
struct dedup;

struct worker_start {
    unsigned number; /* from 1 */
    const struct config *config;
    struct slot *slot;
    struct crashes *crashes;
    struct complaints *complaints; /* of all workers of its generation; NULL: each says its own */
    struct dedup *dedup;
    int control; /* also in slot->control; non-blocking, close-on-exec */
};

/* Exit status of the process. 0: drained. EX_CONFIG: could not start (a listener's open() failed,
 * which is logged). Anything else: it gave up, and will be started anew after a pause. */
int worker_run(const struct worker_start *start) HARK_MUSTCHECK;

#endif
