/* SPDX-License-Identifier: MIT */
/* [listener NAME]: the common keys, and those of its module. */
#include "base/settings.h"
#include "daemon/config_private.h"

#include <stdlib.h>
#include <string.h>

#define ERROR_SIZE 1024

const struct hark_module *config_find_module(const char *name)
{
    for (const struct hark_module *const *module = hark_modules; *module != NULL; module++)
        if (strcmp((*module)->name, name) == 0)
            return *module;
    return NULL;
}

static void complain_no_module(struct config_reader *reader, const char *name)
{
    const char *names[64], *nearest;
    size_t count = 0, used = 0;
    char list[ERROR_SIZE / 2] = "none";

    for (; hark_modules[count] != NULL && count < HARK_COUNT(names); count++) {
        names[count] = hark_modules[count]->name;
        if (used < sizeof(list))
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", count > 0 ? ", " : "", names[count]);
    }
    nearest = settings_nearest_word(names, count, name);
    if (nearest != NULL)
        config_complain(reader, "module", "module = %.60s: there is no such module; did you mean \"%s\"?", name,
                        nearest);
    else
        config_complain(reader, "module", "module = %.60s: there is no such module; this harkd has %s", name, list);
}

static const struct hark_module *read_module(struct config_reader *reader)
{
    const struct ini_entry *entry = config_entry(reader, "module");
    const struct hark_module *module = entry ? config_find_module(entry->value) : NULL;

    if (entry == NULL)
        return NULL; /* that it is missing says the table */
    if (module == NULL) {
        complain_no_module(reader, entry->value);
        return NULL;
    }
    if (module->api != HARK_API) {
        config_complain(reader, "module", "module = %s: it was made for API %d, this is %d", module->name, module->api,
                        HARK_API);
        return NULL;
    }
    for (const struct hark_setting *row = module->settings; row != NULL && row->type != HARK_END; row++) {
        if (settings_find(config_listener_table, row->name) != NULL) {
            config_complain(reader, "module", "module = %s: its key \"%s\" is one that every listener has",
                            module->name, row->name);
            return NULL;
        }
    }
    return module;
}

static void read_emit(struct config_reader *reader, struct config_listener *listener)
{
    const struct ini_entry *entry = config_entry(reader, "emit");
    struct hark_list words = {0};
    char error[ERROR_SIZE];

    if (entry == NULL)
        return;
    if (config_words(entry, &words, error, sizeof(error)) != 0)
        config_complain(reader, "emit", "emit = %.60s: %s", entry->value, error);
    else if (words.count < 1 || words.count > 2)
        config_complain(reader, "emit",
                        "emit = %.60s: expected EXCHANGE or EXCHANGE ROUTING-KEY; \"\" is the default "
                        "exchange",
                        entry->value);
    else if (strlen(words.items[0]) > INI_NAME_MAX || (words.count == 2 && strlen(words.items[1]) > INI_NAME_MAX))
        config_complain(reader, "emit", "emit: exchange and routing key have at most 255 bytes each");
    else {
        listener->emit_exchange = words.items[0];
        listener->emit_key = words.count == 2 ? words.items[1] : NULL;
        words.count = 0; /* taken over */
    }
    config_words_free(&words);
}

static void complain_no_queue(struct config_reader *reader, const char *name)
{
    const struct config *config = reader->config;
    const char **names = calloc(config->queue_count + 1, sizeof(*names)), *nearest = NULL;

    for (size_t i = 0; names != NULL && i < config->queue_count; i++)
        names[i] = config->queues[i].name;
    if (names != NULL)
        nearest = settings_nearest_word(names, config->queue_count, name);
    free(names);
    if (nearest != NULL)
        config_complain(reader, "queue", "queue = %.60s: there is no section [queue %.60s]; did you mean \"%s\"?", name,
                        name, nearest);
    else
        config_complain(reader, "queue", "queue = %.60s: there is no section [queue %.60s]", name, name);
}

static void read_queues(struct config_reader *reader, struct config_listener *listener)
{
    listener->queues = calloc(listener->raw_queue.count + 1, sizeof(*listener->queues));
    if (listener->queues == NULL) {
        config_complain(reader, NULL, "out of memory");
        return;
    }
    for (size_t i = 0; i < listener->raw_queue.count; i++) {
        const char *name = listener->raw_queue.items[i];
        struct config_queue *queue = config_find_queue(reader->config, name);
        bool twice = false;

        if (queue == NULL) {
            if (!reader->partial)
                complain_no_queue(reader, name);
            continue;
        }
        for (size_t k = 0; k < listener->queue_count; k++)
            twice |= listener->queues[k] == queue;
        if (twice) {
            config_complain(reader, "queue", "queue: \"%s\" is named twice", name);
            continue;
        }
        listener->queues[listener->queue_count++] = queue;
        queue->listener_count++;
    }
}

static void check_patterns(struct config_reader *reader, const struct hark_list *on)
{
    for (size_t i = 0; i < on->count; i++) {
        size_t length = strlen(on->items[i]);

        if (length > INI_NAME_MAX)
            config_complain(reader, "on", "on: a pattern has at most 255 bytes");
        else if (length > 0 && on->items[i][length - 1] == ',')
            config_complain(reader, "on", "on = %s: patterns are separated by blanks, without commas", on->items[i]);
    }
    if (on->count == 0 && !reader->partial)
        config_complain(reader, "on", "on = : expected at least one pattern; # is every key");
}

int config_list_listeners(struct config *config)
{
    for (size_t i = 0; i < config->queue_count; i++) {
        struct config_queue *queue = &config->queues[i];

        queue->listeners = calloc(queue->listener_count + 1, sizeof(*queue->listeners));
        if (queue->listeners == NULL)
            return -1;
        queue->listener_count = 0;
    }
    for (size_t i = 0; i < config->listener_count; i++)
        for (size_t k = 0; k < config->listeners[i].queue_count; k++) {
            struct config_queue *queue = config->listeners[i].queues[k];

            queue->listeners[queue->listener_count++] = &config->listeners[i];
        }
    return 0;
}

/* What a module says of its settings. When it begins with a key, it is about that key's line. */
static void complain_module(struct config_reader *reader, const char *why)
{
    size_t length = strcspn(why, " :");
    char key[ERROR_SIZE];

    snprintf(key, sizeof(key), "%.*s", (int)length, why);
    config_complain(reader, length > 0 ? key : NULL, "%s", why);
}

void config_read_listener(struct config_reader *reader, struct config_listener *listener)
{
    const struct hark_setting *tables[] = {config_listener_table, NULL, NULL};
    void *into[] = {listener, NULL};
    const struct hark_module *module;
    bool sound;

    listener->where = reader->where;
    listener->name = reader->section->name;
    config_check_name(reader, "[listener welcome-mail]");
    module = read_module(reader);
    if (module == NULL && config_entry(reader, "module") != NULL)
        return; /* which keys it may have is not known */
    listener->module = module;
    if (module != NULL && module->settings != NULL) {
        listener->settings = calloc(1, module->settings_size);
        if (listener->settings == NULL) {
            config_complain(reader, NULL, "out of memory");
            return;
        }
        tables[1] = module->settings;
        into[1] = listener->settings;
    }
    sound = config_fill(reader, tables, into);
    read_queues(reader, listener);
    check_patterns(reader, &listener->on);
    read_emit(reader, listener);
    if (sound && module != NULL && module->check != NULL) {
        char why[ERROR_SIZE] = "";

        if (module->check(listener->settings, why, sizeof(why)) != 0)
            complain_module(reader, why);
    }
}
