/* SPDX-License-Identifier: MIT */
/* What supervisor.c, child.c and reload.c share. */
#ifndef DAEMON_SUPERVISOR_PRIVATE_H
#define DAEMON_SUPERVISOR_PRIVATE_H

#include "daemon/config.h"
#include "daemon/supervisor.h"
#include "daemon/worker.h"
#include <event2/event.h>

struct dedup;

/* One configuration and the workers that run it: one, or two during a reload. */
struct generation {
    struct generation *next; /* older */
    struct config *config;
    struct child *children; /* config->general.workers of them */
    bool retiring;          /* its workers are told to leave; none is replaced */
    bool proven;            /* all its workers have started once */
    int64_t since;
};

struct child {
    struct supervisor *supervisor;
    struct generation *generation;
    unsigned number;
    pid_t pid; /* 0: none at the moment */
    struct slot *slot;
    int control;            /* our end */
    struct event *readable; /* of it */
    struct event *restart;  /* after a pause */
    unsigned deaths;        /* in a row */
    int64_t started, asked; /* ms; asked: 0, or since when an answer is due */
    uint64_t turns;         /* as last seen */
    bool hung;
};

struct supervisor {
    const struct supervisor_options *options;
    struct event_base *base;
    struct event *signals[5], *tick, *deadline;
    struct generation *generations; /* the newest first */
    struct crashes *crashes;
    struct dedup *dedup;
    size_t dedup_bytes;
    bool ready, stopping;
    int status;
    char said[400]; /* the last STATUS= */
};

int64_t supervisor_now(void);
void supervisor_check(struct supervisor *supervisor); /* after anything has changed: ready? reloaded? over? */

/* ---- child.c ---- */
int child_start(struct child *child) HARK_MUSTCHECK;
void child_died(struct child *child, int status);
/* Asks whether it is well, or kills it when it has not answered for too long. True: it has answered. */
bool child_watch(struct child *child);
void child_signal(const struct child *child, int signal);
void child_close(struct child *child);

/* ---- reload.c ---- */
struct generation *generation_new(struct supervisor *supervisor, struct config *config);
int generation_start(struct generation *generation) HARK_MUSTCHECK;
bool generation_is_over(const struct generation *generation); /* no process left */
void generation_free(struct generation *generation);
void generation_retire(struct generation *generation);
void reload(struct supervisor *supervisor);
void reload_check(struct supervisor *supervisor);

#endif
