/* SPDX-License-Identifier: MIT */
/* One worker process, from the supervisor's side: its start, its death, and whether it still moves. */
#include "base/log.h"
#include "base/title.h"
#include "daemon/supervisor_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#define RESTART_MIN 100 /* ms; the first restart is at once */
#define RESTART_MAX 10000
#define HEALTHY_MS 60000 /* having lived so long, a worker's next death is its first again */

void child_close(struct child *child)
{
    if (child->readable != NULL)
        event_free(child->readable);
    if (child->restart != NULL)
        event_free(child->restart);
    if (child->control >= 0)
        close(child->control);
    slot_close(child->slot);
    child->readable = child->restart = NULL;
    child->control = -1;
    child->slot = NULL;
}

/* In the child: nothing of the supervisor's stays open, signals are as a program expects them. */
static void child_become(struct supervisor *supervisor, unsigned number, pid_t parent)
{
    static const int defaults[] = {SIGTERM, SIGCHLD};
    static const int ignored[] = {SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE};
    sigset_t none;
    char who[32];

    snprintf(who, sizeof(who), "worker[%u]", number);
    event_reinit(supervisor->base);
    for (size_t i = 0; i < HARK_COUNT(supervisor->signals); i++)
        if (supervisor->signals[i] != NULL)
            event_free(supervisor->signals[i]);
    event_free(supervisor->tick);
    event_free(supervisor->deadline);
    for (struct generation *generation = supervisor->generations; generation != NULL; generation = generation->next) {
        for (int64_t i = 0; i < generation->config->general.workers; i++) {
            struct child *other = &generation->children[i];

            if (other->readable != NULL)
                event_free(other->readable);
            if (other->restart != NULL)
                event_free(other->restart);
            if (other->control >= 0)
                close(other->control);
        }
    }
    event_base_free(supervisor->base);
    for (size_t i = 0; i < HARK_COUNT(defaults); i++)
        signal(defaults[i], SIG_DFL);
    for (size_t i = 0; i < HARK_COUNT(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    title_set("harkd: worker %u", number);
    if (log_after_fork(who) != 0 || getppid() != parent)
        _exit(EX_OSERR);
}

static void child_run(struct child *child, int control)
{
    struct supervisor *supervisor = child->supervisor;
    struct worker_start start = {
        .number = child->number,
        .config = child->generation->config,
        .slot = child->slot,
        .crashes = supervisor->crashes,
        .dedup = supervisor->dedup,
        .control = control,
    };
    int status;

    child->slot->control = control;
    status = worker_run(&start);
    log_flush(1000);
    log_stop();
    exit(status);
}

static void child_readable(evutil_socket_t fd, short what, void *arg)
{
    struct child *child = arg;
    char bytes[64];

    (void)what;
    if (read(fd, bytes, sizeof(bytes)) == 0)
        event_del(child->readable); /* it ended; SIGCHLD says how */
    supervisor_check(child->supervisor);
}

static void child_again(evutil_socket_t fd, short what, void *arg)
{
    struct child *child = arg;

    (void)fd;
    (void)what;
    if (child_start(child) != 0)
        child_died(child, -1);
}

int child_start(struct child *child)
{
    struct supervisor *supervisor = child->supervisor;
    pid_t parent = getpid();
    int ends[2] = {-1, -1};

    child_close(child);
    child->slot = slot_open();
    child->restart = evtimer_new(supervisor->base, child_again, child);
    if (child->slot == NULL || child->restart == NULL ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
        goto fail;
    child->control = ends[0];
    child->readable = event_new(supervisor->base, ends[0], EV_READ | EV_PERSIST, child_readable, child);
    if (child->readable == NULL || event_add(child->readable, NULL) != 0)
        goto fail;
    child->asked = 0;
    child->turns = 0;
    child->hung = false;
    child->started = supervisor_now();
    child->pid = fork();
    if (child->pid == 0) {
        child_become(supervisor, child->number, parent);
        child_run(child, ends[1]);
    }
    if (child->pid < 0) {
        child->pid = 0;
        goto fail;
    }
    close(ends[1]);
    log_info("worker %u: started, pid %d", child->number, (int)child->pid);
    return 0;

fail:
    log_error("worker %u: cannot be started: %s", child->number, strerror(errno));
    if (ends[1] >= 0)
        close(ends[1]);
    return -1;
}

/* Names what the worker was doing, and counts it against the message. */
static void child_blame(struct child *child, const char *how)
{
    struct slot_note note;
    unsigned count = 0;

    if (child->slot == NULL || !slot_read_note(child->slot, &note)) {
        log_error("worker %u: pid %d %s", child->number, (int)child->pid, how);
        return;
    }
    if (note.queue_length > 0)
        count = crashes_add(child->supervisor->crashes, note.identity, supervisor_now());
    if (count == 0) {
        log_error("worker %u: pid %d %s in listener \"%.*s\"", child->number, (int)child->pid, how, note.listener_length,
                  note.listener);
        return;
    }
    log_error("worker %u: pid %d %s in listener \"%.*s\", queue \"%.*s\", key \"%.*s\", message id \"%.*s\": the %u. worker "
              "that this message brought down, of crash_limit %lld",
              child->number, (int)child->pid, how, note.listener_length, note.listener, note.queue_length, note.queue,
              note.key_length, note.key, note.id_length, note.id, count,
              (long long)child->generation->config->general.crash_limit);
}

/* status: of waitpid, or -1: it could not even be started. */
void child_died(struct child *child, int status)
{
    struct supervisor *supervisor = child->supervisor;
    bool told = child->generation->retiring || supervisor->stopping;
    int64_t pause = 0;
    struct timeval wait;
    char how[80];

    if (status == -1) {
        pause = RESTART_MIN;
    } else if (WIFSIGNALED(status)) {
        snprintf(how, sizeof(how), "died by signal %d (%s)%s", WTERMSIG(status), strsignal(WTERMSIG(status)),
                 child->hung ? " after its loop stood still" : "");
        child_blame(child, how);
    } else if (WEXITSTATUS(status) != 0 || !told) {
        log_error("worker %u: pid %d ended with status %d", child->number, (int)child->pid, WEXITSTATUS(status));
    } else {
        log_info("worker %u: pid %d left", child->number, (int)child->pid);
    }
    if (child->slot != NULL && slot_kill_groups(child->slot) > 0)
        log_warning("worker %u: killed the programs that it left behind", child->number);
    child->pid = 0;
    if (told) {
        child_close(child);
        return;
    }
    if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == EX_CONFIG && !child->generation->proven) {
        supervisor->status = 1;
        if (!supervisor->ready) {
            supervisor->stopping = true;
            return;
        }
        log_error("the new configuration does not start: the old one goes on");
        generation_retire(child->generation);
        return;
    }
    if (supervisor_now() - child->started > HEALTHY_MS)
        child->deaths = 0;
    if (child->deaths > 0)
        pause = (int64_t)RESTART_MIN << (child->deaths - 1 < 7 ? child->deaths - 1 : 7);
    if (pause > RESTART_MAX)
        pause = RESTART_MAX;
    child->deaths++;
    if (pause > 0)
        log_warning("worker %u: starts again in %lld ms", child->number, (long long)pause);
    wait = (struct timeval){.tv_sec = pause / 1000, .tv_usec = pause % 1000 * 1000};
    if (child->restart == NULL)
        child->restart = evtimer_new(supervisor->base, child_again, child);
    if (child->restart != NULL)
        evtimer_add(child->restart, &wait);
}

void child_signal(const struct child *child, int signal)
{
    if (child->pid > 0)
        kill(child->pid, signal);
}

bool child_watch(struct child *child)
{
    int64_t limit = child->generation->config->general.hang_timeout, now = supervisor_now();
    uint64_t turns;

    if (child->pid == 0 || child->slot == NULL)
        return true; /* its restart is on a timer */
    turns = atomic_load(&child->slot->turns);
    if (turns != child->turns) {
        child->turns = turns;
        child->asked = 0;
        return true;
    }
    if (child->asked == 0) {
        child->asked = now;
        (void)!write(child->control, "?", 1);
        return true;
    }
    if (limit > 0 && now - child->asked >= limit && !child->hung) {
        child->hung = true;
        log_error("worker %u: pid %d has stood still for %lld ms: killed", child->number, (int)child->pid,
                  (long long)(now - child->asked));
        child_signal(child, SIGABRT);
    } else if (child->hung) {
        child_signal(child, SIGKILL);
    }
    return false;
}
