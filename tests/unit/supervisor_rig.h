/* SPDX-License-Identifier: MIT */
/*
 * For tests of the supervisor: one in a process of its own, with a folder for its files, a service
 * manager's socket, and workers that do what a test wants instead of working. How they behave is
 * the name of the first listener in their configuration:
 *
 *     well      starts, answers, leaves when told        refuses    ends with EX_CONFIG at once
 *     slow      never consumes                            breaks     crashes before it has started
 *     stubborn  does not leave                            crashes    crashes in a call, the first only
 *     deaf      its consumers never show a sign of life   falls      all of them do
 *     hangs     the first of them hangs in a call
 *     stuck     never opens its listener
 *     dozes     the same, when it has not been asked for a while
 *     misses    well, but loses its connection to a broker that hangs
 *
 * A program that uses it has a worker_run() that calls rig_worker(), and an embedded_run() that calls
 * rig_embedded(): they take the place of the real ones.
 */
#ifndef TESTS_SUPERVISOR_RIG_H
#define TESTS_SUPERVISOR_RIG_H

#include "daemon/embedded.h"
#include "daemon/worker.h"

#define PATIENCE_MS 15000

extern char rig_text[1 << 18]; /* what was last read or heard */
extern pid_t rig_supervisor;
extern int rig_manager; /* the service manager's socket */

/* A `harkd --reload` that waits. */
struct rig_asker {
    pid_t pid;
    int output;
};

int rig_worker(const struct worker_start *start) HARK_MUSTCHECK;

/* Likewise the broker, by its first virtual host:
 *
 *     well      serves after a while, reads again when told, leaves when told or with the last worker
 *     refuses   ends with EX_CONFIG at once               locked     with EX_OSERR
 *     halves    cannot apply all that it reads again
 *     dozes     hangs when it has not been asked for a while, the first of them
 *     opens     takes 1.5 s to open its store             stands     never opens it, and does nothing for it
 */
int rig_embedded(const struct embedded_start *start) HARK_MUSTCHECK;

/* `general`: lines for [hark], and more sections. Its folder is the
 * current one. way NULL: neither exchange nor queue nor listener. */
void rig_start(const char *way, const char *general, const char *watchdog_usec);
void rig_write_ini(const char *way, const char *general);
int rig_ask_reload(void); /* harkd --reload: its exit status; what it printed is in rig_text */
void rig_begin_ask(struct rig_asker *asker);
int rig_end_ask(struct rig_asker *asker);
int rig_wait_end(void); /* its exit status, 1000 + signal if it was killed */
void rig_clean_up(void);
void rig_stop(void); /* SIGTERM, ends well, cleans up */

/* Files are "log" and "trace" (what the workers say they do). */
const char *rig_content(const char *name);
unsigned rig_count(const char *in, const char *what);
void rig_wait(const char *name, const char *what, unsigned times);
bool rig_has(const char *name);     /* there is such a file */
pid_t rig_traced(const char *line); /* the number behind that text in the trace */
void rig_wait_gone(pid_t pid);

/* Waits for a message to the service manager that has `what` in it; those before it are forgotten.
 */
void rig_heard(const char *what);

#endif
