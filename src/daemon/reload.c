/* SPDX-License-Identifier: MIT */
/* Generations of workers: a reload starts the new ones, and when these are ready the old ones drain
 * and leave. */
#include "daemon/supervisor_private.h"

#include "base/log.h"
#include "client/complaint.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

#define RELOAD_PATIENCE 10000 /* ms that the old workers wait for the new ones to consume: the broker may be away */
#define SLOW_OPEN_MIN 1000    /* ms before a line says that listeners are still being opened */
#define RETIRING_MAX 2        /* generations that may drain when another one is started */

/* ---- generations ---- */

static void generation_set_timer(struct generation *generation, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    evtimer_add(generation->timer, &wait);
}

static void generation_give_up(struct generation *generation);

/* Its listeners take their time to open. Where a hang is watched for, that ends it; otherwise a reload must not wait
 * for ever. */
static void generation_opening(evutil_socket_t fd, short what, void *arg)
{
    struct generation *generation = arg;
    const struct config_general *general = &generation->config->general;
    int64_t took = supervisor_now() - generation->began;
    struct timeval wait;

    (void)fd;
    (void)what;
    if (generation->proven || generation->retiring)
        return;
    for (size_t i = 0; i < generation->count; i++) {
        const struct child *child = &generation->children[i];
        struct slot_note note;

        if (child->pid != 0 && !child_has_reached(child, SLOT_STARTED) && slot_read_note(child->slot, &note))
            log_warning("%s: pid %d: listener \"%.*s\" is still being opened after %lld ms", child->name,
                        (int)child->pid, note.listener_length, note.listener, (long long)took);
    }
    if (generation != generation->supervisor->incoming || general->hang_timeout > 0)
        return;
    if (took >= general->drain_timeout) {
        generation_give_up(generation);
        return;
    }
    took = general->drain_timeout - took;
    wait = (struct timeval){.tv_sec = took / 1000, .tv_usec = (took % 1000 + 1) * 1000};
    evtimer_add(generation->opening, &wait);
}

static void generation_timer(evutil_socket_t fd, short what, void *arg)
{
    struct generation *generation = arg;

    (void)fd;
    (void)what;
    if (generation->retiring) {
        log_error("workers have not left in time: killed; what they had in hand goes back to its queues");
        generation_kill(generation);
    }
    supervisor_check(generation->supervisor);
}

struct generation *generation_new(struct supervisor *supervisor, struct config *config)
{
    struct generation *generation = calloc(1, sizeof(*generation));
    size_t count = (size_t)config->general.workers;

    if (generation == NULL)
        return NULL;
    generation->children = calloc(count + 1, sizeof(*generation->children));
    generation->timer = evtimer_new(supervisor->base, generation_timer, generation);
    generation->opening = evtimer_new(supervisor->base, generation_opening, generation);
    if (generation->children == NULL || generation->timer == NULL || generation->opening == NULL) {
        if (generation->timer != NULL)
            event_free(generation->timer);
        if (generation->opening != NULL)
            event_free(generation->opening);
        free(generation->children);
        free(generation);
        return NULL;
    }
    generation->complaints = complaints_open();
    generation->count = count;
    for (size_t i = 0; i < count; i++) {
        struct child *child = &generation->children[i];

        *child = (struct child){
            .supervisor = supervisor, .generation = generation, .number = (unsigned)i + 1, .control = -1};
        snprintf(child->name, sizeof(child->name), "worker %u", child->number);
    }
    generation->supervisor = supervisor;
    generation->config = config;
    generation->next = supervisor->generations;
    supervisor->generations = generation;
    return generation;
}

int generation_start(struct generation *generation)
{
    int64_t slow = generation->config->general.slow_call;
    struct timeval wait;

    if (slow < SLOW_OPEN_MIN)
        slow = SLOW_OPEN_MIN;
    wait = (struct timeval){.tv_sec = slow / 1000, .tv_usec = slow % 1000 * 1000};
    generation->started = true;
    generation->began = supervisor_now();
    evtimer_add(generation->opening, &wait);
    for (size_t i = 0; i < generation->count; i++)
        if (child_start(&generation->children[i]) != 0)
            return -1;
    return 0;
}

void generation_retire(struct generation *generation)
{
    if (generation->retiring)
        return;
    generation->retiring = true;
    generation_set_timer(generation, generation->config->general.drain_timeout + MARGIN_MS);
    for (size_t i = 0; i < generation->count; i++) {
        if (generation->children[i].restart != NULL)
            evtimer_del(generation->children[i].restart);
        child_signal(&generation->children[i], SIGTERM);
    }
}

void generation_kill(struct generation *generation)
{
    for (size_t i = 0; i < generation->count; i++)
        child_signal(&generation->children[i], SIGKILL);
}

void generation_free(struct generation *generation)
{
    for (size_t i = 0; i < generation->count; i++)
        child_close(&generation->children[i]);
    event_free(generation->timer);
    event_free(generation->opening);
    config_free(generation->config);
    complaints_close(generation->complaints);
    free(generation->children);
    free(generation);
}

void generations_reap(struct supervisor *supervisor)
{
    struct generation **at = &supervisor->generations;

    while (*at != NULL) {
        struct generation *generation = *at;
        bool over = generation->retiring;

        for (size_t i = 0; i < generation->count; i++)
            over &= generation->children[i].pid == 0;
        if (!over) {
            at = &generation->next;
            continue;
        }
        *at = generation->next;
        if (supervisor->current == generation)
            supervisor->current = NULL;
        generation_free(generation);
    }
}

static bool generation_has_reached(const struct generation *generation, enum slot_state state)
{
    if (!generation->started)
        return false;
    for (size_t i = 0; i < generation->count; i++)
        if (generation->children[i].pid == 0 || !child_has_reached(&generation->children[i], state))
            return false;
    return true;
}

bool generation_consumes(const struct generation *generation)
{
    return generation_has_reached(generation, SLOT_CONSUMING);
}

static bool generation_is_connected(const struct generation *generation)
{
    for (size_t i = 0; i < generation->count; i++)
        if (generation->children[i].pid != 0 && atomic_load(&generation->children[i].slot->figures.connected) != 0)
            return true;
    return false;
}

/* ---- reload ---- */

/* Into the log, and into the answer to whoever asked. */
static void reload_say(struct supervisor *supervisor, enum log_level level, const char *format, ...) HARK_PRINTF(3, 4);

static void reload_say(struct supervisor *supervisor, enum log_level level, const char *format, ...)
{
    char text[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_at(level, NULL, "%s", text);
    if (level == LOG_LEVEL_ERROR && supervisor->refused[0] == 0)
        log_escape(supervisor->refused, sizeof(supervisor->refused), span_str(text));
    buf_printf(&supervisor->verdict, "%s\n", text);
}

/* However it ended: well, if nothing was said with LOG_LEVEL_ERROR. The service manager is told first, so that it
 * knows of the end before it hears of that of `harkd --reload`. */
static void reload_over(struct supervisor *supervisor)
{
    supervisor->incoming = NULL;
    status_tell(supervisor, "READY=1");
    reload_socket_answer(supervisor->reload_socket, supervisor->refused[0] == 0, buf_span(&supervisor->verdict));
    buf_clear(&supervisor->verdict);
    buf_trim(&supervisor->verdict, 0);
    if (supervisor->reload_again)
        reload(supervisor);
}

void generation_fail(struct generation *generation, int status)
{
    struct supervisor *supervisor = generation->supervisor;

    if (generation != supervisor->incoming) {
        log_error("cannot start");
        /* EX_CONFIG: a listener could not be opened; it has said why. */
        supervisor->status = WIFEXITED(status) && WEXITSTATUS(status) == EX_CONFIG ? 1 : EX_SOFTWARE;
        supervisor_stop(supervisor);
        return;
    }
    reload_say(supervisor, LOG_LEVEL_ERROR,
               "the new configuration does not start, and its workers have logged why: the old one goes on");
    generation_retire(generation);
    reload_over(supervisor);
}

static void generation_give_up(struct generation *generation)
{
    struct supervisor *supervisor = generation->supervisor;

    reload_say(supervisor, LOG_LEVEL_ERROR,
               "the new configuration does not start within drain_timeout: the old one goes on");
    generation_retire(generation);
    generation_kill(generation); /* they have nothing in hand, and do not hear anything else */
    reload_over(supervisor);
}

static struct config *reload_read(struct supervisor *supervisor)
{
    struct ini_errors errors = {0};
    struct config *config = supervisor_read(supervisor->options, &errors);

    if (config == NULL) {
        for (size_t i = 0; i < errors.count && i < INI_ERRORS_MAX; i++)
            reload_say(supervisor, LOG_LEVEL_ERROR, "%s", errors.lines[i]);
        reload_say(supervisor, LOG_LEVEL_ERROR, "%s has %zu mistake%s: nothing was changed", supervisor->options->path,
                   errors.count, errors.count == 1 ? "" : "s");
    }
    ini_errors_free(&errors);
    return config;
}

/* What a process cannot change while it runs. */
static void reload_warn(struct supervisor *supervisor, const struct config *config)
{
    if (config->general.dedup_entries != supervisor->dedup_entries)
        reload_say(supervisor, LOG_LEVEL_WARNING,
                   "a changed dedup_entries takes effect at the next restart, not at a reload");
    if (config->url.embedded && !sockets_same(config, supervisor->current->config))
        reload_say(supervisor, LOG_LEVEL_WARNING,
                   "a changed listen, listen_tls or data takes effect at the next restart, not at a reload");
    if (supervisor->options->log < 0 && config->general.log != supervisor->current->config->general.log)
        reload_say(supervisor, LOG_LEVEL_WARNING, "a changed log takes effect at the next restart, not at a reload");
}

/* The broker stays where it is, and so does the workers' socket. */
static int reload_keep_data(struct config *config, const struct config *current)
{
    char *data = strdup(current->broker.data), *path = strdup(current->url.hosts[0].path);

    if (data == NULL || path == NULL) {
        free(data);
        free(path);
        return -1;
    }
    free(config->broker.data);
    free(config->url.hosts[0].path);
    config->broker.data = data;
    config->url.hosts[0].path = path;
    return 0;
}

/* A configuration that can take the place of the current one, or NULL after a line in the log. */
static struct config *reload_config(struct supervisor *supervisor)
{
    const struct config *current = supervisor->current->config;
    struct config *config = reload_read(supervisor);

    if (config == NULL)
        return NULL;
    if (config->url.embedded != current->url.embedded) {
        reload_say(supervisor, LOG_LEVEL_ERROR,
                   "url: the embedded broker comes and goes with a restart, not with a reload: nothing was changed");
        config_free(config);
        return NULL;
    }
    reload_warn(supervisor, config);
    if (config->url.embedded && reload_keep_data(config, current) != 0) {
        reload_say(supervisor, LOG_LEVEL_ERROR, "out of memory: nothing was changed");
        config_free(config);
        return NULL;
    }
    return config;
}

/* The new workers start when the broker has read its part, or does not answer. */
static void reload_start(struct supervisor *supervisor)
{
    struct generation *incoming = supervisor->incoming;

    if (!keeper_serves(supervisor->keeper) && evtimer_pending(incoming->timer, NULL))
        return;
    if (generation_start(incoming) != 0) {
        reload_say(supervisor, LOG_LEVEL_ERROR, "the new workers cannot be started: the old ones go on");
        generation_retire(incoming);
        reload_over(supervisor);
    }
}

/* Why this is no time for a reload; NULL: it is. */
static const char *reload_obstacle(const struct supervisor *supervisor)
{
    size_t retiring = 0;

    if (!supervisor->ready)
        return "the workers are still starting";
    if (supervisor->incoming != NULL)
        return "a reload is under way";
    for (const struct generation *generation = supervisor->generations; generation != NULL;
         generation = generation->next)
        retiring += generation->retiring;
    return retiring >= RETIRING_MAX ? "the workers of earlier reloads are still draining" : NULL;
}

/* However often it is asked for meanwhile, there is one after that. */
void reload(struct supervisor *supervisor)
{
    const char *obstacle = reload_obstacle(supervisor);
    struct config *config;

    if (supervisor->stopping)
        return;
    if (obstacle != NULL) {
        if (!supervisor->reload_again)
            log_notice("%s: the file is read again after that", obstacle);
        supervisor->reload_again = true;
        status_extend(supervisor);
        return;
    }
    supervisor->reload_again = false;
    supervisor->refused[0] = 0;
    supervisor->untold = NULL; /* READY=1 comes at the end */
    reload_socket_begin(supervisor->reload_socket);
    notify_reloading(&supervisor->notify);
    log_notice("reloading %s", supervisor->options->path);
    config = reload_config(supervisor);
    if (config == NULL) {
        reload_over(supervisor);
        return;
    }
    supervisor->incoming = generation_new(supervisor, config);
    if (supervisor->incoming == NULL) {
        reload_say(supervisor, LOG_LEVEL_ERROR, "out of memory: nothing was changed");
        config_free(config);
        reload_over(supervisor);
        return;
    }
    status_extend(supervisor);
    generation_set_timer(supervisor->incoming, RELOAD_PATIENCE);
    keeper_reload(supervisor->keeper);
    reload_start(supervisor);
}

/* The new workers take over when all of them consume, or have started and the broker keeps them
 * waiting. */
void reload_check(struct supervisor *supervisor)
{
    struct generation *incoming = supervisor->incoming, *current = supervisor->current;

    if (supervisor->stopping)
        return;
    if (!current->proven)
        current->proven = generation_has_reached(current, SLOT_STARTED);
    if (incoming != NULL && !incoming->started) {
        reload_start(supervisor);
        incoming = supervisor->incoming;
    }
    if (incoming == NULL)
        return;
    if (!incoming->proven)
        incoming->proven = generation_has_reached(incoming, SLOT_STARTED);
    if (!incoming->proven)
        return;
    if (!generation_consumes(incoming) && generation_is_connected(current) && evtimer_pending(incoming->timer, NULL))
        return;
    evtimer_del(incoming->timer);
    supervisor->current = incoming;
    generation_retire(current);
    if (supervisor->options->log_level < 0)
        log_set_level((enum log_level)incoming->config->general.log_level);
    if (!keeper_serves(supervisor->keeper))
        reload_say(supervisor, LOG_LEVEL_ERROR,
                   "broker: it has not read the new configuration yet; the workers have taken over");
    else if (keeper_refuses(supervisor->keeper))
        reload_say(supervisor, LOG_LEVEL_ERROR,
                   "broker: not all of the new configuration could be applied, and it has logged what; the workers "
                   "have taken over");
    if (!generation_consumes(incoming))
        reload_say(supervisor, LOG_LEVEL_WARNING,
                   "the new workers do not consume from all queues yet, and have logged what they wait for");
    reload_say(supervisor, LOG_LEVEL_NOTICE, "reloaded %s", supervisor->options->path);
    reload_over(supervisor);
}
