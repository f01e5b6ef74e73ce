/* SPDX-License-Identifier: MIT */
#include "daemon/supervisor.h"

#include "base/log.h"
#include "base/notify.h"
#include "base/title.h"
#include "daemon/supervisor_private.h"
#include "dispatch/dedup.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>

#define TICK_MS 10000 /* how often to look at the workers when nothing asks for more */
#define MARGIN_MS 5000 /* what a worker gets beyond drain_timeout before it is killed */

int64_t supervisor_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#define EACH_CHILD(supervisor, child) \
    for (struct generation *generation_ = (supervisor)->generations; generation_ != NULL; generation_ = generation_->next) \
        for (struct child *child = generation_->children; \
             child < generation_->children + generation_->config->general.workers; child++)

/* ---- what the service manager sees ---- */

static void supervisor_say_status(struct supervisor *supervisor)
{
    uint64_t consumed = 0, emitted = 0, retried = 0, dead = 0, in_hand = 0, connected = 0, ready = 0, consumers = 0;
    unsigned workers = 0, blocked = 0;
    char text[sizeof(supervisor->said)];

    if (!notify_wanted())
        return;
    EACH_CHILD(supervisor, child) {
        struct slot_figures *figures = child->slot != NULL ? &child->slot->figures : NULL;

        if (child->pid == 0 || figures == NULL)
            continue;
        workers++;
        consumed += figures->consumed;
        emitted += figures->emitted;
        retried += figures->retried;
        dead += figures->dead_lettered;
        in_hand += figures->in_hand;
        connected += figures->connected != 0 && figures->publishing != 0;
        blocked += figures->blocked != 0;
        ready += figures->consumers_ready;
        consumers += figures->consumers;
    }
    snprintf(text, sizeof(text),
             "%u workers, %llu connected%s, %llu of %llu consumers; %llu consumed, %llu emitted, %llu retried, %llu dead, "
             "%llu in hand",
             workers, (unsigned long long)connected, blocked > 0 ? " (blocked)" : "", (unsigned long long)ready,
             (unsigned long long)consumers, (unsigned long long)consumed, (unsigned long long)emitted,
             (unsigned long long)retried, (unsigned long long)dead, (unsigned long long)in_hand);
    if (strcmp(text, supervisor->said) == 0)
        return;
    memcpy(supervisor->said, text, sizeof(text));
    notify("STATUS=%s", text);
}

/* ---- changes ---- */

static void supervisor_reap_generations(struct supervisor *supervisor)
{
    struct generation **at = &supervisor->generations;

    while (*at != NULL) {
        struct generation *generation = *at;

        if (!generation->retiring || !generation_is_over(generation)) {
            at = &generation->next;
            continue;
        }
        *at = generation->next;
        generation_free(generation);
    }
}

void supervisor_check(struct supervisor *supervisor)
{
    bool over = true;

    reload_check(supervisor);
    if (!supervisor->stopping && !supervisor->ready && supervisor->generations->proven) {
        supervisor->ready = true;
        notify("READY=1");
        log_notice("ready");
    }
    supervisor_say_status(supervisor);
    EACH_CHILD(supervisor, child)
        over &= child->pid == 0;
    if (supervisor->stopping && over)
        event_base_loopbreak(supervisor->base);
}

static void supervisor_stop(struct supervisor *supervisor)
{
    int64_t limit = supervisor->generations->config->general.drain_timeout + MARGIN_MS;
    struct timeval wait = {.tv_sec = limit / 1000, .tv_usec = limit % 1000 * 1000};

    if (supervisor->stopping) {
        log_warning("told to stop a second time: stopping at once");
        EACH_CHILD(supervisor, child)
            child_signal(child, SIGKILL);
        return;
    }
    supervisor->stopping = true;
    notify("STOPPING=1\nSTATUS=draining");
    log_notice("draining");
    for (struct generation *generation = supervisor->generations; generation != NULL; generation = generation->next)
        generation_retire(generation);
    evtimer_add(supervisor->deadline, &wait);
    supervisor_check(supervisor);
}

/* ---- events ---- */

static void supervisor_reap(struct supervisor *supervisor)
{
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        EACH_CHILD(supervisor, child) {
            if (child->pid == pid) {
                child_died(child, status);
                break;
            }
        }
    }
    supervisor_reap_generations(supervisor);
    supervisor_check(supervisor);
}

static void supervisor_signal(evutil_socket_t signal, short what, void *arg)
{
    struct supervisor *supervisor = arg;

    (void)what;
    switch (signal) {
    case SIGCHLD:
        supervisor_reap(supervisor);
        return;
    case SIGHUP:
        reload(supervisor);
        supervisor_check(supervisor);
        return;
    default:
        supervisor_stop(supervisor);
    }
}

static void supervisor_out_of_time(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *supervisor = arg;

    (void)fd;
    (void)what;
    log_error("workers have not left in time: killed; what they had in hand goes back to its queues");
    EACH_CHILD(supervisor, child)
        child_signal(child, SIGKILL);
}

static void supervisor_arm(struct supervisor *supervisor)
{
    int64_t ms = TICK_MS, watchdog = notify_watchdog(), hang = supervisor->generations->config->general.hang_timeout;
    struct timeval wait;

    if (watchdog > 0 && watchdog / 3 < ms)
        ms = watchdog / 3;
    if (hang > 0 && hang / 3 < ms)
        ms = hang / 3;
    if (ms < 50)
        ms = 50;
    if (supervisor->generations->next != NULL && ms > 1000)
        ms = 1000; /* a reload waits for an end */
    wait = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    evtimer_add(supervisor->tick, &wait);
}

static void supervisor_tick(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *supervisor = arg;
    bool well = true;

    (void)fd;
    (void)what;
    EACH_CHILD(supervisor, child)
        well &= child_watch(child);
    if (well && notify_watchdog() > 0)
        notify("WATCHDOG=1");
    supervisor_check(supervisor);
    supervisor_arm(supervisor);
}

static int supervisor_open(struct supervisor *supervisor, int64_t dedup_entries)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    void *memory;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    supervisor->dedup_bytes = dedup_size((size_t)dedup_entries);
    memory = mmap(NULL, supervisor->dedup_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -1;
    supervisor->dedup = dedup_open(memory, (size_t)dedup_entries);
    supervisor->crashes = crashes_open();
    supervisor->base = event_base_new();
    if (supervisor->crashes == NULL || supervisor->base == NULL)
        return -1;
    supervisor->tick = evtimer_new(supervisor->base, supervisor_tick, supervisor);
    supervisor->deadline = evtimer_new(supervisor->base, supervisor_out_of_time, supervisor);
    if (supervisor->tick == NULL || supervisor->deadline == NULL)
        return -1;
    for (size_t i = 0; i < HARK_COUNT(signals); i++) {
        supervisor->signals[i] = evsignal_new(supervisor->base, signals[i], supervisor_signal, supervisor);
        if (supervisor->signals[i] == NULL || event_add(supervisor->signals[i], NULL) != 0)
            return -1;
    }
    return 0;
}

static void supervisor_close(struct supervisor *supervisor)
{
    while (supervisor->generations != NULL) {
        struct generation *generation = supervisor->generations;

        supervisor->generations = generation->next;
        generation_free(generation);
    }
    for (size_t i = 0; i < HARK_COUNT(supervisor->signals); i++)
        if (supervisor->signals[i] != NULL)
            event_free(supervisor->signals[i]);
    if (supervisor->tick != NULL)
        event_free(supervisor->tick);
    if (supervisor->deadline != NULL)
        event_free(supervisor->deadline);
    if (supervisor->base != NULL)
        event_base_free(supervisor->base);
    if (supervisor->crashes != NULL)
        crashes_close(supervisor->crashes);
    if (supervisor->dedup != NULL)
        munmap(supervisor->dedup, supervisor->dedup_bytes);
}

int supervisor_run(struct config *config, const struct supervisor_options *options)
{
    struct supervisor supervisor = {.options = options};
    const struct config_general *general = &config->general;
    int log = options->log >= 0 ? options->log : general->log;
    int level = options->log_level >= 0 ? options->log_level : general->log_level;

    title_set("harkd: supervisor");
    if (log_start((enum log_format)log, (enum log_level)level) != 0) {
        config_free(config);
        return EX_OSERR;
    }
    if (supervisor_open(&supervisor, general->dedup_entries) != 0 || generation_new(&supervisor, config) == NULL) {
        log_error("out of memory");
        supervisor.status = EX_OSERR;
        if (supervisor.generations == NULL)
            config_free(config);
        goto done;
    }
    log_notice("harkd " HARK_VERSION " starts: %s, %s, %lld workers", options->path, config->url.shown,
               (long long)general->workers);
    if (generation_start(supervisor.generations) != 0) {
        supervisor.status = EX_OSERR;
        supervisor_stop(&supervisor);
    }
    supervisor_arm(&supervisor);
    supervisor_check(&supervisor);
    if (event_base_loop(supervisor.base, 0) < 0)
        supervisor.status = EX_SOFTWARE;
    if (supervisor.status == 0)
        log_notice("stopped");

done:
    supervisor_close(&supervisor);
    log_flush(2000);
    log_stop();
    return supervisor.status;
}
