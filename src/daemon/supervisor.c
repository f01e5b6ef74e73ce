/* SPDX-License-Identifier: MIT */
#include "daemon/supervisor_private.h"

#include "base/log.h"
#include "base/title.h"
#include "daemon/standalone.h"
#include "dispatch/dedup.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>

int64_t supervisor_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- changes ---- */

struct config *supervisor_read(const struct supervisor_options *options, struct ini_errors *errors)
{
    return options->standalone ? standalone_config(errors) : config_read(options->path, errors);
}

/* The first workers, once there is a broker for them. */
static void supervisor_start(struct supervisor *supervisor)
{
    if (supervisor->stopping || supervisor->current->started || !keeper_serves(supervisor->keeper))
        return;
    if (generation_start(supervisor->current) == 0)
        return;
    supervisor->status = EX_OSERR;
    supervisor_stop(supervisor);
}

void supervisor_check(struct supervisor *supervisor)
{
    supervisor_start(supervisor);
    reload_check(supervisor);
    if (!supervisor->stopping && !supervisor->ready && supervisor->current->proven) {
        supervisor->ready = true;
        status_tell(supervisor, "READY=1");
        log_notice("ready");
    }
    if (supervisor->options->standalone && !supervisor->stopping && !supervisor->greeted &&
        generation_consumes(supervisor->current)) {
        supervisor->greeted = true;
        standalone_greet(supervisor->current->config);
    }
    status_check(supervisor);
    generations_reap(supervisor);
    if (supervisor->reload_again)
        reload(supervisor);
    if (supervisor->stopping && supervisor->generations == NULL && keeper_stop(supervisor->keeper))
        event_base_loopbreak(supervisor->base);
}

void supervisor_stop(struct supervisor *supervisor)
{
    if (supervisor->stopping) {
        log_warning("told to stop a second time: stopping at once");
        for (struct generation *generation = supervisor->generations; generation != NULL; generation = generation->next)
            generation_kill(generation);
        keeper_kill(supervisor->keeper);
        return;
    }
    supervisor->stopping = true;
    supervisor->incoming = NULL;
    reload_socket_refuse(supervisor->reload_socket, "harkd is stopping\n");
    status_tell(supervisor, "STOPPING=1");
    status_extend(supervisor);
    log_notice("draining");
    for (struct generation *generation = supervisor->generations; generation != NULL; generation = generation->next)
        generation_retire(generation);
}

/* ---- events ---- */

static struct child *supervisor_find(struct supervisor *supervisor, pid_t pid)
{
    EACH_CHILD(supervisor, child)
    if (child->pid == pid)
        return child;
    if (supervisor->keeper != NULL && supervisor->keeper->child.pid == pid)
        return &supervisor->keeper->child;
    return NULL;
}

/* Any process, not only our own: where harkd is the first one of a container, orphans are its to
 * reap. */
static void supervisor_reap(struct supervisor *supervisor)
{
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct child *child = supervisor_find(supervisor, pid);

        if (child != NULL)
            child_died(child, status);
    }
}

static void supervisor_arm(struct supervisor *supervisor)
{
    int64_t ms = watch_period(supervisor);
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    if (ms > 0)
        evtimer_add(supervisor->tick, &wait);
    else
        evtimer_del(supervisor->tick);
}

void supervisor_stir(struct supervisor *supervisor)
{
    bool armed = evtimer_pending(supervisor->tick, NULL);

    if (armed && !supervisor->asleep)
        return;
    watch_wake(supervisor);
    supervisor_arm(supervisor);
}

static void supervisor_signal(evutil_socket_t signal, short what, void *arg)
{
    struct supervisor *supervisor = arg;

    (void)what;
    if (signal == SIGCHLD)
        supervisor_reap(supervisor);
    else if (signal == SIGHUP)
        reload(supervisor);
    else
        supervisor_stop(supervisor);
    supervisor_stir(supervisor);
    supervisor_check(supervisor);
}

/* As SIGHUP, but somebody waits for what comes of it. */
static void supervisor_asked(void *arg)
{
    struct supervisor *supervisor = arg;

    reload(supervisor);
    supervisor_stir(supervisor);
    supervisor_check(supervisor);
}

static void supervisor_tick(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *supervisor = arg;

    (void)fd;
    (void)what;
    watch(supervisor);
    status_extend(supervisor);
    supervisor_check(supervisor);
    supervisor_arm(supervisor);
}

static void supervisor_status(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    status_check(arg);
}

/* ---- from start to end ---- */

static int supervisor_open(struct supervisor *supervisor, int64_t dedup_entries)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    void *memory;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    memory = mmap(NULL, dedup_size((size_t)dedup_entries), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -1;
    supervisor->dedup_entries = dedup_entries;
    supervisor->dedup = dedup_open(memory, (size_t)dedup_entries);
    supervisor->crashes = crashes_open();
    supervisor->base = event_base_new();
    if (supervisor->crashes == NULL || supervisor->base == NULL)
        return -1;
    supervisor->tick = evtimer_new(supervisor->base, supervisor_tick, supervisor);
    supervisor->status_timer = evtimer_new(supervisor->base, supervisor_status, supervisor);
    if (supervisor->tick == NULL || supervisor->status_timer == NULL)
        return -1;
    for (size_t i = 0; i < HARK_COUNT(signals); i++) {
        supervisor->signals[i] = evsignal_new(supervisor->base, signals[i], supervisor_signal, supervisor);
        if (supervisor->signals[i] == NULL || event_add(supervisor->signals[i], NULL) != 0)
            return -1;
    }
    supervisor->reload_socket = reload_socket_new(supervisor->base, supervisor_asked, supervisor);
    if (supervisor->reload_socket == NULL)
        log_warning("harkd --reload cannot ask this process, SIGHUP can: %s", strerror(errno));
    return 0;
}

static void supervisor_close(struct supervisor *supervisor)
{
    while (supervisor->generations != NULL) {
        struct generation *generation = supervisor->generations;

        supervisor->generations = generation->next;
        generation_free(generation);
    }
    keeper_close(supervisor->keeper);
    for (size_t i = 0; i < HARK_COUNT(supervisor->signals); i++)
        if (supervisor->signals[i] != NULL)
            event_free(supervisor->signals[i]);
    if (supervisor->tick != NULL)
        event_free(supervisor->tick);
    if (supervisor->status_timer != NULL)
        event_free(supervisor->status_timer);
    reload_socket_free(supervisor->reload_socket);
    buf_free(&supervisor->verdict);
    if (supervisor->base != NULL)
        event_base_free(supervisor->base);
    crashes_close(supervisor->crashes);
    if (supervisor->dedup != NULL)
        munmap(supervisor->dedup, dedup_size((size_t)supervisor->dedup_entries));
}

int supervisor_run(struct config *config, const struct supervisor_options *options)
{
    struct supervisor supervisor = {.options = options};
    const struct config_general *general = &config->general;
    int log = options->log >= 0 ? options->log : general->log;
    int level = options->log_level >= 0 ? options->log_level : general->log_level;

    title_set(NULL, "harkd: supervisor");
    notify_open(&supervisor.notify);
    if (log_start((enum log_format)log, (enum log_level)level) != 0) {
        log_error("the log cannot be opened: %s%s", strerror(errno),
                  log == LOG_FORMAT_JOURNALD ? " (is journald running?)" : "");
        config_free(config);
        return EX_OSERR;
    }
    if (supervisor_open(&supervisor, general->dedup_entries) != 0 ||
        (supervisor.current = generation_new(&supervisor, config)) == NULL) {
        log_error("cannot start: %s", strerror(errno));
        supervisor.status = EX_OSERR;
        if (supervisor.current == NULL)
            config_free(config);
        goto done;
    }
    log_notice("harkd " HARK_VERSION " starts: %s, %s, %lld worker%s", options->path, config->url.shown,
               (long long)general->workers, general->workers == 1 ? "" : "s");
    if (supervisor.notify.watchdog_ms > 0 && general->hang_timeout > 0 &&
        supervisor.notify.watchdog_ms < 2 * general->hang_timeout)
        log_warning(
            "the service manager's watchdog (%lld ms) is shorter than twice hang_timeout (%lld ms): it restarts "
            "all of harkd before a worker that hangs can be replaced",
            (long long)supervisor.notify.watchdog_ms, (long long)general->hang_timeout);
    if (config->url.embedded && (keeper_open(&supervisor, config) != 0 || keeper_start(supervisor.keeper) != 0)) {
        supervisor.status = EX_OSERR;
        supervisor_stop(&supervisor);
    }
    status_extend(&supervisor);
    supervisor_arm(&supervisor);
    supervisor_check(&supervisor);
    if ((supervisor.generations != NULL || !keeper_stop(supervisor.keeper)) && event_base_loop(supervisor.base, 0) < 0)
        supervisor.status = EX_SOFTWARE;
    if (supervisor.status == EX_OK)
        log_notice("stopped");
    else
        log_error("stopped with status %d", supervisor.status);

done:
    supervisor_close(&supervisor);
    log_stop();
    return supervisor.status;
}
