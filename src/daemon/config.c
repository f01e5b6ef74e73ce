/* SPDX-License-Identifier: MIT */
#include "daemon/config.h"

#include "base/settings.h"
#include "daemon/config_private.h"
#include "daemon/ways.h"
#include <stdlib.h>
#include <string.h>

const char *config_where(const struct config_where *where, char *to, size_t size)
{
    if (where->line > 0)
        snprintf(to, size, "%s:%d: %s", where->file, where->line, where->label);
    else
        snprintf(to, size, "%s: %s", where->file, where->label);
    return to;
}

int config_line(const struct config_where *where, const char *key)
{
    const struct ini_section *section = where->section;

    for (size_t i = 0; section != NULL && i < section->count; i++)
        if (strcmp(section->entries[i].key, key) == 0)
            return section->entries[i].line;
    return 0;
}

/* Room for all sections, since pointers to them are kept. */
static int make_room(struct config *config, const char *path)
{
    size_t exchanges = 0, queues = 0, listeners = 0, users = 0;

    for (size_t i = 0; i < config->ini->section_count; i++) {
        const char *kind = config->ini->sections[i].kind;

        exchanges += strcmp(kind, "exchange") == 0;
        queues += strcmp(kind, "queue") == 0;
        listeners += strcmp(kind, "listener") == 0;
        users += strcmp(kind, "user") == 0;
    }
    config->path = strdup(path);
    config->exchanges = calloc(exchanges + 1, sizeof(*config->exchanges));
    config->queues = calloc(queues + 1, sizeof(*config->queues));
    config->listeners = calloc(listeners + 1, sizeof(*config->listeners));
    config->users = calloc(users + 1, sizeof(*config->users));
    config->exchanges_by_name = calloc(exchanges + 1, sizeof(*config->exchanges_by_name));
    config->queues_by_name = calloc(queues + 1, sizeof(*config->queues_by_name));
    return config->path && config->exchanges && config->queues && config->listeners && config->users &&
                   config->exchanges_by_name && config->queues_by_name
               ? 0
               : -1;
}

/* Takes the ini over. */
static struct config *make(const char *path, struct ini *ini, struct ini_errors *errors, bool looking)
{
    struct config *config = calloc(1, sizeof(*config));
    struct config_reader reader = {
        .config = config, .errors = errors, .looking = looking, .partial = errors->count > 0};

    if (config == NULL || ini == NULL) {
        ini_error(errors, path, 0, NULL, "out of memory");
        ini_free(ini);
        free(config);
        return NULL;
    }
    config->ini = ini;
    if (make_room(config, path) != 0)
        ini_error(errors, path, 0, NULL, "out of memory");
    else if (ini->file_count > 0)
        config_read_sections(&reader);
    if (errors->count == 0)
        return config;
    config_free(config);
    return NULL;
}

struct config *config_read(const char *path, struct ini_errors *errors)
{
    return make(path, ini_read(path, errors), errors, false);
}

struct config *config_look(const char *path, struct ini_errors *errors)
{
    bool outside = config_elsewhere_begin();
    struct config *config = make(path, ini_read(path, errors), errors, outside);

    if (outside)
        config_elsewhere_end();
    return config;
}

struct config *config_parse(const char *name, const char *text, size_t length, struct ini_errors *errors)
{
    return make(name, ini_parse(name, text, length, errors), errors, false);
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    for (size_t i = 0; i < config->exchange_count; i++) {
        config_bindings_free(&config->exchanges[i].bindings);
        config_arguments_free(&config->exchanges[i].arguments);
        settings_free(config_exchange_table, &config->exchanges[i]);
    }
    for (size_t i = 0; i < config->queue_count; i++) {
        config_bindings_free(&config->queues[i].bindings);
        config_arguments_free(&config->queues[i].bind_arguments);
        config_arguments_free(&config->queues[i].arguments);
        config_arguments_free(&config->queues[i].consume_arguments);
        free(config->queues[i].listeners);
        settings_free(config_queue_table, &config->queues[i]);
    }
    for (size_t i = 0; i < config->listener_count; i++) {
        struct config_listener *listener = &config->listeners[i];

        free(listener->queues);
        free(listener->emit_exchange);
        free(listener->emit_key);
        if (listener->settings != NULL)
            settings_free(listener->module->settings, listener->settings);
        free(listener->settings);
        settings_free(config_listener_table, listener);
    }
    for (size_t i = 0; i < config->user_count; i++)
        config_user_free(&config->users[i]);
    config_broker_free(&config->broker);
    free(config->elsewhere);
    free(config->users);
    ways_free(config->ways);
    free(config->exchanges_by_name);
    free(config->queues_by_name);
    free(config->exchanges);
    free(config->queues);
    free(config->listeners);
    settings_free(config_general_table, &config->general);
    config_url_free(&config->url);
    config_forget(config->tls_key_password);
    ini_free(config->ini);
    free(config->path);
    free(config);
}

static int compare_exchanges(const void *a, const void *b)
{
    return strcmp((*(struct config_exchange *const *)a)->name, (*(struct config_exchange *const *)b)->name);
}

static int compare_queues(const void *a, const void *b)
{
    return strcmp((*(struct config_queue *const *)a)->name, (*(struct config_queue *const *)b)->name);
}

void config_sort_names(struct config *config)
{
    for (size_t i = 0; i < config->exchange_count; i++)
        config->exchanges_by_name[i] = &config->exchanges[i];
    for (size_t i = 0; i < config->queue_count; i++)
        config->queues_by_name[i] = &config->queues[i];
    qsort(config->exchanges_by_name, config->exchange_count, sizeof(*config->exchanges_by_name), compare_exchanges);
    qsort(config->queues_by_name, config->queue_count, sizeof(*config->queues_by_name), compare_queues);
}

struct config_exchange *config_find_exchange(const struct config *config, const char *name)
{
    const struct config_exchange wanted = {.name = name}, *key = &wanted;
    struct config_exchange **found = bsearch(&key, config->exchanges_by_name, config->exchange_count,
                                             sizeof(*config->exchanges_by_name), compare_exchanges);

    return found != NULL ? *found : NULL;
}

struct config_queue *config_find_queue(const struct config *config, const char *name)
{
    const struct config_queue wanted = {.name = name}, *key = &wanted;
    struct config_queue **found = bsearch(&key, config->queues_by_name, config->queue_count,
                                          sizeof(*config->queues_by_name), compare_queues);

    return found != NULL ? *found : NULL;
}

bool config_exchange_builtin(const char *name)
{
    return name[0] == '\0' || strncmp(name, "amq.", 4) == 0;
}
