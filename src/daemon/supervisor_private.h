/* SPDX-License-Identifier: MIT */
/* What supervisor.c, child.c, keeper.c, reload.c, status.c and watch.c share. */
#ifndef DAEMON_SUPERVISOR_PRIVATE_H
#define DAEMON_SUPERVISOR_PRIVATE_H

#include "base/buf.h"
#include "base/notify.h"
#include "daemon/config.h"
#include "daemon/reload_socket.h"
#include "daemon/sockets.h"
#include "daemon/supervisor.h"
#include "daemon/worker.h"
#include <event2/event.h>

struct dedup;

/* One worker, from the supervisor's side; from the first start to the end of its generation,
 * through all its deaths. Or the broker, which has no generation and lives as long as harkd. */
struct child {
    struct supervisor *supervisor;
    struct generation *generation; /* NULL: the broker */
    unsigned number;               /* of the worker */
    char name[16];                 /* "worker 1", "broker" */
    pid_t pid;                     /* 0: none at the moment */
    struct slot *slot;             /* kept after its death until the next start */
    int control;                   /* our end; -1: none */
    struct event *readable;        /* of it */
    struct event *restart;         /* after a pause */
    unsigned deaths;               /* in a row */
    int64_t started;               /* ms */
    int64_t hang_timeout;          /* ms; 0: never */
    /* What the watch has seen. */
    uint64_t turns, consuming;
    int64_t lived; /* ms: when the consumers last showed a sign of life */
    int64_t asked; /* ms: since when an answer is due, 0: none is */
    bool hung, unwell;
};

/* One configuration and the workers that run it. */
struct generation {
    struct generation *next; /* older */
    struct supervisor *supervisor;
    struct config *config;
    struct complaints *complaints; /* of its workers: what an earlier one has said is no reason to be silent now */
    struct child *children;
    size_t count;
    bool started;          /* its workers have been forked: not before the broker knows what they need */
    bool proven;           /* all its workers have started once */
    bool retiring;         /* its workers are told to leave; none is replaced */
    struct event *timer;   /* incoming: how long to wait for the broker; retiring: when its workers
                            are killed */
    struct event *opening; /* until its listeners are open */
    int64_t began;         /* ms: when its workers were forked */
};

/* The embedded broker. */
struct keeper {
    struct child child;
    struct sockets sockets;
    int workers[2];        /* a pipe whose writing end each worker holds: the broker outlives them */
    struct event *timer;   /* when it is killed, having been told to leave */
    uint64_t reloads;      /* how often it has been told to read its configuration, in its present life */
    uint64_t refusals;     /* how often it could not apply all of it, before the last reload */
    int64_t drain_timeout; /* ms */
    uint64_t work;         /* what its process had done when status.c last looked */
    bool leaving;
};

struct supervisor {
    const struct supervisor_options *options;
    struct keeper *keeper; /* NULL: there is no embedded broker */
    struct notify notify;
    struct event_base *base;
    struct event *signals[4], *tick, *status_timer;
    struct generation *generations;      /* all of them, the newest first */
    struct generation *current;          /* does the work */
    struct generation *incoming;         /* is to replace it, or NULL */
    bool reload_again;                   /* SIGHUP came while a reload was under way */
    struct reload_socket *reload_socket; /* NULL: nobody can ask */
    struct buf verdict;                  /* what the reload under way has said */
    char refused[200];                   /* the last reload's first complaint; "": it went well */
    struct crashes *crashes;
    struct dedup *dedup;
    int64_t dedup_entries;
    bool ready, greeted, stopping;
    bool asleep;     /* nothing to watch until a worker stirs */
    int64_t watched; /* ms: when the watch last looked */
    int status;
    uint64_t past[8];   /* the figures of workers that have ended */
    char said[700];     /* the last STATUS= */
    int64_t said_at;    /* ms: when; 0: nothing yet */
    const char *untold; /* "READY=1" or the like, which the manager has not taken; NULL: it has all */
};

#define EACH_CHILD(of, each) \
    for (struct generation *of_ = (of)->generations; of_ != NULL; of_ = of_->next) \
        for (struct child *each = of_->children; each < of_->children + of_->count; each++)

int64_t supervisor_now(void);
/* After anything has changed: ready? reloaded? over? */
void supervisor_check(struct supervisor *supervisor);
/* Something stirs in a worker, or is asked of the supervisor: it looks often again. */
void supervisor_stir(struct supervisor *supervisor);
/* Ends it all; the second time at once. */
void supervisor_stop(struct supervisor *supervisor);

/* ---- child.c ---- */
#define MARGIN_MS 5000 /* what a process gets beyond its drain_timeout before it is killed */

/* The configuration that it has or, for the broker, would have if it started now. */
const struct config *child_config(const struct child *child);
/* Pauses before the next start; the first death costs none. */
void child_restart(struct child *child);
int child_start(struct child *child) HARK_MUSTCHECK;
void child_died(struct child *child, int status); /* as waitpid() says */
void child_signal(const struct child *child, int signal);
bool child_has_reached(const struct child *child, enum slot_state state); /* in its present life, or when it died */
void child_close(struct child *child);

/* ---- keeper.c: the embedded broker ---- */
/* Opens its sockets and makes what it needs. -1 after a line in the log. */
int keeper_open(struct supervisor *supervisor, const struct config *config) HARK_MUSTCHECK;
int keeper_start(struct keeper *keeper) HARK_MUSTCHECK;
/* In the new process: the broker's, or a worker's. */
void keeper_after_fork(struct keeper *keeper, bool broker);
void keeper_died(struct keeper *keeper, int status);
/* The workers may start: it accepts connections, and has done what it was told. True without a broker. */
bool keeper_serves(const struct keeper *keeper);
/* It could not apply all of what it was told last. */
bool keeper_refuses(const struct keeper *keeper);
/* A new configuration is checked: it reads it, too. */
void keeper_reload(struct keeper *keeper);
/* The workers are gone; true if it is, too. */
bool keeper_stop(struct keeper *keeper);
void keeper_kill(struct keeper *keeper);
void keeper_close(struct keeper *keeper);

/* ---- watch.c ---- */
/* Looks at all workers, asks those that stand still, kills those that do not answer, and feeds the
 * watchdog. */
void watch(struct supervisor *supervisor);
int64_t watch_period(const struct supervisor *supervisor); /* ms to the next look; 0: never */
void watch_wake(struct supervisor *supervisor);            /* something stirs: looks often again */

/* ---- status.c ---- */
/* "READY=1" or the like, and the status of that moment with it. */
void status_tell(struct supervisor *supervisor, const char *state);
void status_check(struct supervisor *supervisor);  /* STATUS=, if it has changed: soon */
void status_remember(const struct child *child);   /* its figures, before its slot goes */
void status_extend(struct supervisor *supervisor); /* when something that takes its time begins, and at each look */

/* ---- reload.c ---- */
struct generation *generation_new(struct supervisor *supervisor, struct config *config);
int generation_start(struct generation *generation) HARK_MUSTCHECK;
bool generation_consumes(const struct generation *generation); /* all its workers do */
void generation_retire(struct generation *generation);
void generation_kill(struct generation *generation);
/* A worker of a generation that is not proven has ended: the generation is given up. */
void generation_fail(struct generation *generation, int status);
void generation_free(struct generation *generation);
void generations_reap(struct supervisor *supervisor); /* frees those that are over */
void reload(struct supervisor *supervisor);
void reload_check(struct supervisor *supervisor);

#endif
