/* SPDX-License-Identifier: MIT */
/* Generations of workers: a reload starts the new ones, and when these are ready the old ones drain and leave. */
#include "base/log.h"
#include "base/notify.h"
#include "daemon/supervisor_private.h"

#include <signal.h>
#include <stdlib.h>

#define RELOAD_PATIENCE 10000 /* ms that the old workers wait for the new ones to consume: the broker may be away */

struct generation *generation_new(struct supervisor *supervisor, struct config *config)
{
    struct generation *generation = calloc(1, sizeof(*generation));

    if (generation == NULL)
        return NULL;
    generation->children = calloc((size_t)config->general.workers, sizeof(*generation->children));
    if (generation->children == NULL) {
        free(generation);
        return NULL;
    }
    generation->config = config;
    generation->since = supervisor_now();
    for (int64_t i = 0; i < config->general.workers; i++)
        generation->children[i] = (struct child){
            .supervisor = supervisor, .generation = generation, .number = (unsigned)i + 1, .control = -1};
    generation->next = supervisor->generations;
    supervisor->generations = generation;
    return generation;
}

int generation_start(struct generation *generation)
{
    for (int64_t i = 0; i < generation->config->general.workers; i++)
        if (child_start(&generation->children[i]) != 0)
            return -1;
    return 0;
}

bool generation_is_over(const struct generation *generation)
{
    for (int64_t i = 0; i < generation->config->general.workers; i++)
        if (generation->children[i].pid > 0)
            return false;
    return true;
}

void generation_free(struct generation *generation)
{
    for (int64_t i = 0; i < generation->config->general.workers; i++)
        child_close(&generation->children[i]);
    config_free(generation->config);
    free(generation->children);
    free(generation);
}

void generation_retire(struct generation *generation)
{
    generation->retiring = true;
    for (int64_t i = 0; i < generation->config->general.workers; i++) {
        struct child *child = &generation->children[i];

        if (child->restart != NULL)
            evtimer_del(child->restart);
        child_signal(child, SIGTERM);
    }
}

static bool generation_has_reached(const struct generation *generation, enum slot_state state)
{
    for (int64_t i = 0; i < generation->config->general.workers; i++) {
        const struct child *child = &generation->children[i];

        if (child->pid == 0 || child->slot == NULL || atomic_load(&child->slot->state) < (uint32_t)state)
            return false;
    }
    return true;
}

void reload(struct supervisor *supervisor)
{
    struct ini_errors errors = {0};
    struct config *config;
    struct generation *generation;

    if (supervisor->stopping)
        return;
    if (supervisor->generations != NULL && supervisor->generations->next != NULL &&
        !supervisor->generations->next->retiring) {
        log_warning("a reload is under way already: this one is left out");
        return;
    }
    notify_reloading();
    log_notice("reloading %s", supervisor->options->path);
    config = config_read(supervisor->options->path, &errors);
    if (config == NULL) {
        for (size_t i = 0; i < errors.count && i < INI_ERRORS_MAX; i++)
            log_error("%s", errors.lines[i]);
        log_error("%s has %zu mistakes: nothing was changed", supervisor->options->path, errors.count);
        ini_errors_free(&errors);
        notify("READY=1");
        return;
    }
    ini_errors_free(&errors);
    generation = generation_new(supervisor, config);
    if (generation == NULL) {
        log_error("out of memory: nothing was changed");
        config_free(config);
        notify("READY=1");
        return;
    }
    if (generation_start(generation) != 0) {
        log_error("the new workers cannot be started: the old ones go on");
        generation_retire(generation);
        notify("READY=1");
    }
}

/* The new workers take over when all of them consume, or have started and the broker keeps them waiting. */
void reload_check(struct supervisor *supervisor)
{
    struct generation *newest = supervisor->generations;
    bool patient;

    if (newest == NULL)
        return;
    if (!newest->proven && generation_has_reached(newest, SLOT_STARTED))
        newest->proven = true;
    if (newest->retiring || newest->next == NULL || newest->next->retiring || !newest->proven)
        return;
    patient = supervisor_now() - newest->since < RELOAD_PATIENCE;
    if (patient && !generation_has_reached(newest, SLOT_CONSUMING))
        return;
    for (struct generation *old = newest->next; old != NULL; old = old->next)
        if (!old->retiring)
            generation_retire(old);
    if (supervisor->options->log_level < 0)
        log_set_level((enum log_level)newest->config->general.log_level);
    notify("READY=1");
    log_notice("reloaded %s", supervisor->options->path);
}
