/* SPDX-License-Identifier: MIT */
/*
 * The process of the embedded broker, from just after the fork to its end. Called by the supervisor in the child;
 * everything in `start` belongs to the supervisor's half of the program and outlives the call. Signals are as
 * daemon/worker.h says, but for SIGTERM, which is ignored: one that goes to the whole process group must not take the broker
 * from workers that still drain.
 *
 * What it does:
 *  - opens the store and recovers, then accepts connections: slot_set_state(SLOT_STARTED).
 *  - counts slot_turn() and slot_consumers_live() every turn of its loop, and keeps the slot's figures.
 *  - watches `control`: "?" asks "are you well?", and the turn is the answer. "r" tells it to read its configuration
 *    again: limits, users, virtual hosts and certificates are applied; then it counts that in the slot's `reloads`, as also
 *    when it could not, which it logs. "s": it stops within `drain_timeout` of [broker] and returns. End of file means that the supervisor is gone: it leaves as soon as the last worker
 *    has, which shows as the end of file of `workers`.
 */
#ifndef DAEMON_EMBEDDED_H
#define DAEMON_EMBEDDED_H

#include "daemon/config.h"
#include "daemon/slot.h"
#include "daemon/sockets.h"
#include "daemon/supervisor.h"

struct embedded_start {
    const struct config *config;
    const struct supervisor_options *options; /* where to read the configuration again */
    const struct sockets *sockets;            /* the descriptors are the broker's */
    struct slot *slot;
    int control; /* also in slot->control; non-blocking, close-on-exec */
    int workers; /* nothing is written to it */
};

/* Exit status of the process. 0: stopped as told. EX_CONFIG: it cannot do what it is configured to. EX_OSERR: the store
 * cannot be opened. */
int embedded_run(const struct embedded_start *start) HARK_MUSTCHECK;

#endif
