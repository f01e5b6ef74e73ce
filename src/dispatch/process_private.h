/* SPDX-License-Identifier: MIT */
/* What process.c (in the loop) and process_spawn.c (memory, and what a thread does) share. */
#ifndef DISPATCH_PROCESS_PRIVATE_H
#define DISPATCH_PROCESS_PRIVATE_H

#include "dispatch/parts.h"
#include "dispatch/thread.h"

struct hark_process {
    struct helper helper;
    struct thread_job *job;                           /* being spawned */
    void (*group)(void *arg, pid_t pgid, bool alive); /* copies: a thread may outlive the instance */
    void *group_arg;
    struct hark_run run;
    hark_run_done done;
    void *arg;
    char **argv, **env;
    char *directory;
    int child_fds[3]; /* the program's ends */
    int fds[3];       /* ours: stdin, stdout, stderr; -1: closed */
    struct event *events[3], *exited;
    int pidfd;
    pid_t pid;
    struct timer linger;
    struct buf output, line;
    size_t written;
    int spawn_error, exit_status, signal;
    bool over, overflow;
    bool telling, stopped; /* within on_error_line; which killed it */
};

/* NULL-terminated copies; NULL: no memory. */
char **process_strings(const char *const *from);
void process_free(void *process);
void process_close(int *fd);

/* In a thread: starts it, and tells the supervisor of its group at once; the result is in spawn_error and pid. */
void process_spawn(void *process);
/* In a thread: nobody wants it any more. */
void process_orphan(void *process);

void process_kill_group(const struct hark_process *process);
void process_reap(const struct hark_process *process); /* waits for its end */
void process_tell_group(struct hark_process *process, bool alive);

#endif
