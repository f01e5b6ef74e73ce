/* SPDX-License-Identifier: MIT */
/* One process, a worker's or the broker's, from the supervisor's side: its start, and what is done
 * and said when it ends. */
#include "daemon/supervisor_private.h"

#include "base/log.h"
#include "base/title.h"
#include "daemon/embedded.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define RESTART_MIN 100 /* ms; the first restart is at once */
#define RESTART_MAX 10000
#define HEALTHY_MS 60000 /* having lived so long, a worker's next death is its first again */

const struct config *child_config(const struct child *child)
{
    const struct supervisor *supervisor = child->supervisor;

    if (child->generation != NULL)
        return child->generation->config;
    return supervisor->incoming != NULL ? supervisor->incoming->config : supervisor->current->config;
}

static void child_forget_events(struct child *child)
{
    if (child->readable != NULL)
        event_free(child->readable);
    if (child->restart != NULL)
        event_free(child->restart);
    child->readable = child->restart = NULL;
}

void child_close(struct child *child)
{
    child_forget_events(child);
    if (child->control >= 0)
        close(child->control);
    slot_close(child->slot);
    child->control = -1;
    child->slot = NULL;
}

bool child_has_reached(const struct child *child, enum slot_state state)
{
    return child->slot != NULL && atomic_load(&child->slot->state) >= (uint32_t)state;
}

void child_signal(const struct child *child, int signal)
{
    if (child->pid > 0)
        kill(child->pid, signal);
}

/* ---- in the new process ---- */

/* The supervisor is gone. A process whose loop turns hears of that from its control socket, drains
 * and leaves; one that hangs has nobody left to end it but the kernel's clock. */
static unsigned child_patience; /* seconds */

static void child_orphaned(int signal)
{
    (void)signal;
    alarm(child_patience);
}

/* Nothing of the supervisor's stays: its events (whose epoll and signal sockets are shared until
 * event_reinit), the other processes' sockets. */
static void child_leave_supervisor(struct child *child)
{
    struct supervisor *supervisor = child->supervisor;

    event_reinit(supervisor->base);
    for (size_t i = 0; i < HARK_COUNT(supervisor->signals); i++)
        event_free(supervisor->signals[i]);
    event_free(supervisor->tick);
    event_free(supervisor->status_timer);
    reload_socket_free(supervisor->reload_socket);
    for (struct generation *generation = supervisor->generations; generation != NULL; generation = generation->next) {
        if (generation->timer != NULL)
            event_free(generation->timer);
        if (generation->opening != NULL)
            event_free(generation->opening);
    }
    EACH_CHILD(supervisor, other)
    {
        child_forget_events(other);
        if (other->control >= 0)
            close(other->control);
    }
    if (supervisor->keeper != NULL) {
        child_forget_events(&supervisor->keeper->child);
        if (supervisor->keeper->child.control >= 0)
            close(supervisor->keeper->child.control);
        keeper_after_fork(supervisor->keeper, child->generation == NULL);
    }
    event_base_free(supervisor->base);
}

/* What ps and the log call it. */
static void child_name(const struct child *child)
{
    char text[64], name[32];

    if (child->generation == NULL) {
        title_set("harkd-broker", "harkd: broker");
        snprintf(text, sizeof(text), "broker");
    } else {
        snprintf(name, sizeof(name), "harkd-worker%u", child->number);
        snprintf(text, sizeof(text), "harkd: worker %u", child->number);
        title_set(name, text);
        snprintf(text, sizeof(text), "worker[%u]", child->number);
    }
    if (child->supervisor->options->log_level < 0)
        log_set_level((enum log_level)child_config(child)->general.log_level);
    if (log_after_fork(text) != 0)
        _exit(EX_OSERR);
}

/* Then signals are as daemon/worker.h and daemon/embedded.h promise. */
static void child_become(struct child *child, pid_t parent)
{
    static const int ignored[] = {SIGINT, SIGHUP, SIGUSR1, SIGPIPE};
    bool broker = child->generation == NULL;
    const struct config *config = child_config(child);
    int64_t patience = config->general.drain_timeout + MARGIN_MS;
    sigset_t none;

    child_leave_supervisor(child);
    signal(SIGTERM, broker ? SIG_IGN : SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    for (size_t i = 0; i < HARK_COUNT(ignored); i++)
        signal(ignored[i], SIG_IGN);
    if (broker) /* it waits for the workers first */
        patience += config->broker.drain_timeout + MARGIN_MS;
    child_patience = (unsigned)(patience / 1000);
    signal(SIGUSR2, child_orphaned);
    prctl(PR_SET_PDEATHSIG, SIGUSR2);
    if (getppid() != parent)
        _exit(EX_OSERR);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    child_name(child);
}

static int child_be_broker(const struct child *child, int control)
{
    const struct supervisor *supervisor = child->supervisor;
    struct embedded_start start = {
        .config = child_config(child),
        .options = supervisor->options,
        .sockets = &supervisor->keeper->sockets,
        .slot = child->slot,
        .control = control,
        .workers = supervisor->keeper->workers[0],
    };

    return embedded_run(&start);
}

static int child_be_worker(const struct child *child, int control)
{
    const struct supervisor *supervisor = child->supervisor;
    struct worker_start start = {
        .number = child->number,
        .config = child_config(child),
        .slot = child->slot,
        .crashes = supervisor->crashes,
        .complaints = child->generation->complaints,
        .dedup = supervisor->dedup,
        .control = control,
    };

    return worker_run(&start);
}

static _Noreturn void child_run(struct child *child, int control)
{
    int status;

    child->slot->control = control;
    status = child->generation == NULL ? child_be_broker(child, control) : child_be_worker(child, control);
    log_stop();
    exit(status);
}

/* ---- in the supervisor ---- */

static void child_readable(evutil_socket_t fd, short what, void *arg)
{
    struct child *child = arg;
    char bytes[64];
    ssize_t got = read(fd, bytes, sizeof(bytes));

    (void)what;
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        event_del(child->readable); /* it ended; SIGCHLD says how */
    else
        supervisor_check(child->supervisor);
    supervisor_stir(child->supervisor);
}

void child_restart(struct child *child)
{
    int64_t pause = 0;
    struct timeval wait;

    if (supervisor_now() - child->started > HEALTHY_MS)
        child->deaths = 0;
    if (child->deaths > 0)
        pause = (int64_t)RESTART_MIN << (child->deaths - 1 < 7 ? child->deaths - 1 : 7);
    if (pause > RESTART_MAX)
        pause = RESTART_MAX;
    child->deaths++;
    if (pause > 0)
        log_warning("%s: starts again in %lld ms", child->name, (long long)pause);
    wait = (struct timeval){.tv_sec = pause / 1000, .tv_usec = pause % 1000 * 1000};
    evtimer_add(child->restart, &wait);
}

static void child_again(evutil_socket_t fd, short what, void *arg)
{
    struct child *child = arg;

    (void)fd;
    (void)what;
    if (child_start(child) != 0)
        child_restart(child);
    supervisor_stir(child->supervisor);
}

static int child_fork(struct child *child, int control)
{
    pid_t parent = getpid();
    sigset_t all, before;

    /* Until the child has made itself its own, a signal to it would run the supervisor's handlers,
     * which write to the supervisor's sockets. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    child->pid = fork();
    if (child->pid == 0) {
        child_become(child, parent);
        child_run(child, control);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (child->pid > 0)
        return 0;
    child->pid = 0;
    return -1;
}

int child_start(struct child *child)
{
    struct supervisor *supervisor = child->supervisor;
    int ends[2] = {-1, -1}, saved;

    if (child->readable != NULL)
        event_free(child->readable);
    child->readable = NULL;
    if (child->control >= 0)
        close(child->control);
    child->control = -1;
    slot_close(child->slot);
    child->slot = slot_open();
    if (child->restart == NULL)
        child->restart = evtimer_new(supervisor->base, child_again, child);
    if (child->slot == NULL || child->restart == NULL ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
        goto fail;
    child->control = ends[0];
    child->readable = event_new(supervisor->base, ends[0], EV_READ | EV_PERSIST, child_readable, child);
    if (child->readable == NULL || event_add(child->readable, NULL) != 0)
        goto fail;
    child->hang_timeout = child_config(child)->general.hang_timeout;
    child->started = child->lived = supervisor_now();
    child->turns = child->consuming = 0;
    child->asked = 0;
    child->hung = child->unwell = false;
    if (child_fork(child, ends[1]) != 0)
        goto fail;
    close(ends[1]);
    log_info("%s: started pid %d", child->name, (int)child->pid);
    return 0;

fail:
    saved = errno;
    log_error("%s: cannot be started: %s", child->name, strerror(saved));
    if (ends[1] >= 0)
        close(ends[1]);
    return -1;
}

/* Names what the worker was doing, and counts it against the message. */
static void child_blame(const struct child *child, int signal, int status)
{
    struct log_field fields[8] = {{0}};
    char how[96], where[5 * SLOT_TEXT_MAX], number[12], pid[12], name[12];
    struct slot_note note;
    unsigned count;

    snprintf(number, sizeof(number), "%u", child->number);
    snprintf(pid, sizeof(pid), "%d", (int)child->pid);
    snprintf(name, sizeof(name), "%d", signal);
    fields[0] = (struct log_field){"worker", span_str(number)};
    fields[1] = (struct log_field){"worker_pid", span_str(pid)};
    fields[2] = (struct log_field){"signal", span_str(name)};
    snprintf(how, sizeof(how), "died by signal %d (%s)%s", signal, strsignal(signal),
             child->hung ? " after its loop had stood still" : "");
    if (signal == 0)
        snprintf(how, sizeof(how), "left with status %d", status);
    if (!slot_read_note(child->slot, &note)) {
        log_at(LOG_LEVEL_ERROR, fields, "worker %u: %s, pid %d, in no listener", child->number, how, (int)child->pid);
        return;
    }
    fields[3] = (struct log_field){"listener", span_of(note.listener, note.listener_length)};
    if (note.queue_length == 0) { /* opening, closing, a timer: no message is concerned */
        log_at(LOG_LEVEL_ERROR, fields, "worker %u: %s, pid %d, in listener \"%.*s\"", child->number, how,
               (int)child->pid, note.listener_length, note.listener);
        return;
    }
    fields[4] = (struct log_field){"queue", span_of(note.queue, note.queue_length)};
    fields[5] = (struct log_field){"routing_key", span_of(note.key, note.key_length)};
    fields[6] = (struct log_field){"message_id", span_of(note.id, note.id_length)};
    snprintf(where, sizeof(where), "listener \"%.*s\", queue \"%.*s\", key \"%.*s\", message id \"%.*s\"",
             note.listener_length, note.listener, note.queue_length, note.queue, note.key_length, note.key,
             note.id_length, note.id);
    count = crashes_add(child->supervisor->crashes, note.identity, supervisor_now());
    log_at(LOG_LEVEL_ERROR, fields,
           "worker %u: %s, pid %d, in %s: this message has brought down %u worker%s, crash_limit is %lld",
           child->number, how, (int)child->pid, where, count, count == 1 ? "" : "s",
           (long long)child->generation->config->general.crash_limit);
}

void child_died(struct child *child, int status)
{
    struct generation *generation = child->generation;
    bool told = generation != NULL && generation->retiring;

    if (generation == NULL) {
        keeper_died(child->supervisor->keeper, status);
        return;
    }
    if (WIFSIGNALED(status) && told && (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGKILL))
        log_info("worker %u: pid %d was ended by signal %d", child->number, (int)child->pid, WTERMSIG(status));
    else if (WIFSIGNALED(status))
        child_blame(child, WTERMSIG(status), 0);
    else if (child_has_reached(child, SLOT_STARTED) && atomic_load(&child->slot->depth) > 0)
        child_blame(child, 0, WEXITSTATUS(status)); /* a listener called exit() */
    else if (WEXITSTATUS(status) != 0 || !told)
        log_error("worker %u: pid %d ended with status %d", child->number, (int)child->pid, WEXITSTATUS(status));
    else
        log_info("worker %u: pid %d left", child->number, (int)child->pid);
    if (slot_kill_groups(child->slot) > 0)
        log_warning("worker %u: killed the programs that it left behind", child->number);
    status_remember(child);
    child->pid = 0;
    if (told)
        return;
    if (!generation->proven && !child_has_reached(child, SLOT_STARTED))
        generation_fail(generation, status);
    else
        child_restart(child);
}
