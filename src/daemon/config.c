/* SPDX-License-Identifier: MIT */
#include "daemon/config.h"

#include "base/settings.h"
#include "daemon/config_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ERROR_SIZE 1024

const char *config_where(const struct config_where *where, char *to, size_t size)
{
    snprintf(to, size, "%s:%d: %s", where->file, where->line, where->label);
    return to;
}

const struct hark_module *config_find_module(const char *name)
{
    for (const struct hark_module *const *module = hark_modules; *module != NULL; module++)
        if (strcmp((*module)->name, name) == 0)
            return *module;
    return NULL;
}

/* ---- a section into its struct ---- */

struct reader {
    struct config *config;
    struct ini_errors *errors;
    char error[ERROR_SIZE];
};

static void fail(struct reader *reader, const struct config_where *where, int line, const char *text)
{
    ini_error(reader->errors, where->file, line > 0 ? line : where->line, where->label, "%s", text);
}

/* tables[0] fills into[0], tables[1] (if there is one) into[1]. False: there were errors. */
static bool read_section(struct reader *reader, const struct ini_section *section, const struct config_where *where,
                         const struct hark_setting *const *tables, void *const *into)
{
    struct settings settings[2];
    size_t before = reader->errors->count;

    for (size_t i = 0; tables[i] != NULL; i++)
        settings_init(&settings[i], tables[i], into[i]);
    for (size_t i = 0; i < section->count; i++) {
        const struct ini_entry *entry = &section->entries[i];
        size_t at = 0;

        while (tables[at] != NULL && settings_find(tables[at], entry->key) == NULL)
            at++;
        if (tables[at] == NULL) {
            const char *nearest = settings_nearest(tables, entry->key);

            snprintf(reader->error, ERROR_SIZE, nearest != NULL ? "unknown key \"%s\"; did you mean \"%s\"?" : "unknown key \"%s\"",
                     entry->key, nearest);
            fail(reader, where, entry->line, reader->error);
        } else if (settings_set(&settings[at], entry->key, entry->value, entry->quoted, entry->line, reader->error,
                                ERROR_SIZE) != 0) {
            fail(reader, where, entry->line, reader->error);
        }
    }
    for (size_t i = 0; tables[i] != NULL; i++) {
        if (settings_finish(&settings[i], reader->error, ERROR_SIZE) != 0)
            fail(reader, where, 0, reader->error);
    }
    return reader->errors->count == before;
}

static struct config_where where_of(const struct ini_section *section)
{
    return (struct config_where){.file = section->file, .line = section->line, .label = section->label};
}

/* ---- [hark] ---- */

static void read_general(struct reader *reader, const struct ini_section *section)
{
    static struct ini_section none = {.kind = NULL};
    struct config *config = reader->config;
    struct config_general *general = &config->general;
    const struct hark_setting *tables[] = {config_general_table, NULL};
    void *into[] = {general};
    struct config_where where = {.file = config->path, .line = 0, .label = "[hark]"};

    if (section != NULL)
        where = where_of(section);
    if (!read_section(reader, section != NULL ? section : &none, &where, tables, into))
        return;
    if (config_url_parse(general->url, &config->url, reader->error, ERROR_SIZE) != 0) {
        char text[ERROR_SIZE + 16];

        snprintf(text, sizeof(text), "url: %s", reader->error);
        fail(reader, &where, 0, text);
    } else if (general->password_file != NULL) {
        free(config->url.password);
        config->url.password = config_read_secret(general->password_file, reader->error, ERROR_SIZE);
        if (config->url.password == NULL)
            fail(reader, &where, 0, reader->error);
    }
    if (general->tls_key_password_file != NULL) {
        config->tls_key_password = config_read_secret(general->tls_key_password_file, reader->error, ERROR_SIZE);
        if (config->tls_key_password == NULL)
            fail(reader, &where, 0, reader->error);
    }
    if (general->auth == CONFIG_AUTH_EXTERNAL && general->tls_certificate == NULL)
        fail(reader, &where, 0, "auth = external needs tls_certificate");
    if (general->reconnect_min > general->reconnect_max)
        fail(reader, &where, 0, "reconnect_min is longer than reconnect_max");
    if (general->workers == 0)
        general->workers = sysconf(_SC_NPROCESSORS_ONLN) > 0 ? sysconf(_SC_NPROCESSORS_ONLN) : 1;
    if (general->dead_letter_queue == NULL)
        general->dead_letter_queue = strdup(general->dead_letter);
    if (general->dead_letter[0] == '\0' || strlen(general->dead_letter) > 255)
        fail(reader, &where, 0, "dead_letter must name an exchange, of at most 255 bytes");
}

/* ---- [exchange] and [queue] ---- */

static void check_name(struct reader *reader, const struct config_where *where, const char *name)
{
    if (name[0] == '\0')
        fail(reader, where, 0, "the section needs a name, as in [queue signups]");
}

static void read_exchange(struct reader *reader, const struct ini_section *section, struct config_exchange *exchange)
{
    const struct hark_setting *tables[] = {config_exchange_table, NULL};
    void *into[] = {exchange};

    exchange->where = where_of(section);
    exchange->name = section->name;
    check_name(reader, &exchange->where, exchange->name);
    if (!read_section(reader, section, &exchange->where, tables, into))
        return;
    if (config_bindings_parse(&exchange->raw_bind, &exchange->bindings, reader->error, ERROR_SIZE) != 0)
        fail(reader, &exchange->where, 0, reader->error);
    if (config_arguments_make(&exchange->raw_argument, NULL, &exchange->arguments) != 0)
        fail(reader, &exchange->where, 0, "out of memory");
    if (strncmp(exchange->name, "amq.", 4) == 0 && exchange->declare == CONFIG_DECLARE_YES)
        fail(reader, &exchange->where, 0, "names that begin with amq. are the broker's: set declare = no or passive");
}

static void read_queue(struct reader *reader, const struct ini_section *section, struct config_queue *queue)
{
    static char type_name[] = "x-queue-type", priority_name[] = "x-priority";
    static char type_words[][8] = {"classic", "quorum", "stream"};
    const struct hark_setting *tables[] = {config_queue_table, NULL};
    void *into[] = {queue};
    struct config_argument type = {.name = type_name, .kind = 'S'}, priority = {.name = priority_name, .kind = 'l'};

    queue->where = where_of(section);
    queue->name = section->name;
    check_name(reader, &queue->where, queue->name);
    if (!read_section(reader, section, &queue->where, tables, into))
        return;
    if (config_bindings_parse(&queue->raw_bind, &queue->bindings, reader->error, ERROR_SIZE) != 0)
        fail(reader, &queue->where, 0, reader->error);
    if (queue->raw_priority != NULL &&
        settings_parse_integer(queue->raw_priority, &priority.integer, reader->error, ERROR_SIZE) != 0)
        fail(reader, &queue->where, 0, reader->error);
    type.string = type_words[queue->type];
    if (config_arguments_make(&queue->raw_bind_argument, NULL, &queue->bind_arguments) != 0 ||
        config_arguments_make(&queue->raw_argument, queue->type != CONFIG_QUEUE_CLASSIC ? &type : NULL,
                              &queue->arguments) != 0 ||
        config_arguments_make(&queue->raw_consume_argument, queue->raw_priority != NULL ? &priority : NULL,
                              &queue->consume_arguments) != 0)
        fail(reader, &queue->where, 0, "out of memory");
    if (queue->type != CONFIG_QUEUE_CLASSIC && (!queue->durable || queue->exclusive))
        fail(reader, &queue->where, 0, "quorum queues and streams are always durable and never exclusive");
    if (queue->exclusive && reader->config->general.workers > 1)
        fail(reader, &queue->where, 0, "an exclusive queue belongs to one connection: set workers = 1");
}

/* ---- [listener] ---- */

static void read_emit(struct reader *reader, struct config_listener *listener)
{
    struct hark_list words = {0};

    if (listener->raw_emit == NULL)
        return;
    if (settings_parse_words(listener->raw_emit, &words, reader->error, ERROR_SIZE) != 0) {
        fail(reader, &listener->where, 0, reader->error);
        return;
    }
    if (words.count == 1 || words.count == 2) {
        listener->emit_exchange = words.items[0];
        listener->emit_key = words.count == 2 ? words.items[1] : NULL;
    } else {
        fail(reader, &listener->where, 0, "emit: expected EXCHANGE or EXCHANGE ROUTING-KEY");
        for (size_t i = 0; i < words.count; i++)
            free(words.items[i]);
    }
    free(words.items);
    if ((listener->emit_exchange != NULL && strlen(listener->emit_exchange) > 255) ||
        (listener->emit_key != NULL && strlen(listener->emit_key) > 255))
        fail(reader, &listener->where, 0, "emit: names have at most 255 bytes");
}

static void read_queues(struct reader *reader, struct config_listener *listener)
{
    struct config *config = reader->config;

    listener->queues = calloc(listener->raw_queue.count + 1, sizeof(*listener->queues));
    if (listener->queues == NULL)
        return;
    for (size_t i = 0; i < listener->raw_queue.count; i++) {
        const char *name = listener->raw_queue.items[i];
        struct config_queue *queue = config_find_queue(config, name);

        if (queue == NULL) {
            const char **names = calloc(config->queue_count + 1, sizeof(*names)), *nearest = NULL;

            for (size_t k = 0; names != NULL && k < config->queue_count; k++)
                names[k] = config->queues[k].name;
            if (names != NULL)
                nearest = settings_nearest_word(names, config->queue_count, name);
            free(names);
            snprintf(reader->error, ERROR_SIZE,
                     nearest != NULL ? "there is no section [queue %s]; did you mean \"%s\"?" : "there is no section [queue %s]", name,
                     nearest);
            fail(reader, &listener->where, 0, reader->error);
            continue;
        }
        listener->queues[listener->queue_count++] = queue;
        queue->listener_count++;
    }
    if (listener->raw_queue.count == 0)
        fail(reader, &listener->where, 0, "queue: expected at least one name");
}

static const struct ini_entry *find_entry(const struct ini_section *section, const char *key)
{
    for (size_t i = 0; i < section->count; i++)
        if (strcmp(section->entries[i].key, key) == 0)
            return &section->entries[i];
    return NULL;
}

static const struct hark_module *read_module(struct reader *reader, const struct ini_section *section,
                                             const struct config_where *where)
{
    const struct ini_entry *entry = find_entry(section, "module");
    const struct hark_module *module;
    const char *names[256], *nearest;
    size_t count = 0, length = 0;

    if (entry == NULL)
        return NULL; /* the table says that it is required */
    module = config_find_module(entry->value);
    if (module != NULL)
        return module;
    for (; hark_modules[count] != NULL && count < HARK_COUNT(names); count++)
        names[count] = hark_modules[count]->name;
    nearest = settings_nearest_word(names, count, entry->value);
    length = (size_t)snprintf(reader->error, ERROR_SIZE, "there is no module \"%s\" in this harkd%s%s%s; it has", entry->value,
                              nearest != NULL ? "; did you mean \"" : "", nearest != NULL ? nearest : "",
                              nearest != NULL ? "\"?" : "");
    for (size_t i = 0; i < count && length < ERROR_SIZE; i++)
        length += (size_t)snprintf(reader->error + length, ERROR_SIZE - length, "%s %s", i > 0 ? "," : "", names[i]);
    fail(reader, where, entry->line, reader->error);
    return NULL;
}

static void read_listener(struct reader *reader, const struct ini_section *section, struct config_listener *listener)
{
    const struct hark_setting *tables[3] = {config_listener_table, NULL, NULL};
    void *into[2] = {listener, NULL};
    bool sound;

    listener->where = where_of(section);
    listener->name = section->name;
    check_name(reader, &listener->where, listener->name);
    listener->module = read_module(reader, section, &listener->where);
    if (listener->module == NULL && find_entry(section, "module") != NULL)
        return; /* its keys cannot be judged */
    if (listener->module != NULL && listener->module->settings != NULL) {
        listener->settings = calloc(1, listener->module->settings_size);
        if (listener->settings == NULL)
            return;
        tables[1] = listener->module->settings;
        into[1] = listener->settings;
    }
    sound = read_section(reader, section, &listener->where, tables, into);
    for (size_t i = 0; i < listener->on.count; i++) {
        if (strlen(listener->on.items[i]) > 255)
            fail(reader, &listener->where, 0, "on: a pattern has at most 255 bytes");
    }
    if (listener->on.count == 0)
        fail(reader, &listener->where, 0, "on: expected at least one pattern; # is every key");
    read_queues(reader, listener);
    read_emit(reader, listener);
    if (sound && listener->module != NULL && listener->module->check != NULL) {
        char why[ERROR_SIZE] = "";

        if (listener->module->check(listener->settings, why, sizeof(why)) != 0)
            fail(reader, &listener->where, 0, why);
    }
}

/* ---- the whole ---- */

static size_t count_kind(const struct ini *ini, const char *kind)
{
    size_t count = 0;

    for (size_t i = 0; i < ini->section_count; i++)
        count += strcmp(ini->sections[i].kind, kind) == 0;
    return count;
}

static void check_kinds(struct reader *reader)
{
    static const char *const kinds[] = {"hark", "exchange", "queue", "listener"};
    const struct ini *ini = reader->config->ini;

    for (size_t i = 0; i < ini->section_count; i++) {
        const struct ini_section *section = &ini->sections[i];
        const char *nearest = settings_nearest_word(kinds, HARK_COUNT(kinds), section->kind);
        struct config_where where = where_of(section);
        bool known = false;

        for (size_t k = 0; k < HARK_COUNT(kinds); k++)
            known |= strcmp(kinds[k], section->kind) == 0;
        if (known)
            continue;
        snprintf(reader->error, ERROR_SIZE,
                 nearest != NULL ? "unknown kind of section; did you mean [%s ...]?"
                                 : "unknown kind of section; there are [hark], [exchange NAME], [queue NAME], [listener NAME]",
                 nearest);
        fail(reader, &where, 0, reader->error);
    }
}

static void read_all(struct reader *reader)
{
    struct config *config = reader->config;
    const struct ini *ini = config->ini;
    const struct ini_section *general = NULL;

    config->exchanges = calloc(count_kind(ini, "exchange") + 1, sizeof(*config->exchanges));
    config->queues = calloc(count_kind(ini, "queue") + 1, sizeof(*config->queues));
    config->listeners = calloc(count_kind(ini, "listener") + 1, sizeof(*config->listeners));
    if (config->exchanges == NULL || config->queues == NULL || config->listeners == NULL) {
        ini_error(reader->errors, config->path, 0, NULL, "out of memory");
        return;
    }
    check_kinds(reader);
    for (size_t i = 0; i < ini->section_count; i++)
        if (strcmp(ini->sections[i].kind, "hark") == 0)
            general = &ini->sections[i];
    read_general(reader, general);
    for (size_t i = 0; i < ini->section_count; i++) {
        if (strcmp(ini->sections[i].kind, "exchange") == 0)
            read_exchange(reader, &ini->sections[i], &config->exchanges[config->exchange_count++]);
        else if (strcmp(ini->sections[i].kind, "queue") == 0)
            read_queue(reader, &ini->sections[i], &config->queues[config->queue_count++]);
    }
    for (size_t i = 0; i < ini->section_count; i++)
        if (strcmp(ini->sections[i].kind, "listener") == 0)
            read_listener(reader, &ini->sections[i], &config->listeners[config->listener_count++]);
}

static struct config *config_make(const char *path, struct ini *ini, struct ini_errors *errors)
{
    struct config *config = calloc(1, sizeof(*config));
    struct reader reader = {.config = config, .errors = errors};

    if (config == NULL || ini == NULL) {
        ini_error(errors, path, 0, NULL, "out of memory");
        ini_free(ini);
        free(config);
        return NULL;
    }
    config->ini = ini;
    config->path = strdup(path);
    if (config->path != NULL && errors->count == 0)
        read_all(&reader);
    if (config->path != NULL && errors->count == 0)
        return config;
    config_free(config);
    return NULL;
}

struct config *config_read(const char *path, struct ini_errors *errors)
{
    return config_make(path, ini_read(path, errors), errors);
}

struct config *config_parse(const char *name, const char *text, size_t length, struct ini_errors *errors)
{
    return config_make(name, ini_parse(name, text, length, errors), errors);
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
    free(config->exchanges);
    free(config->queues);
    free(config->listeners);
    settings_free(config_general_table, &config->general);
    config_url_free(&config->url);
    if (config->tls_key_password != NULL)
        explicit_bzero(config->tls_key_password, strlen(config->tls_key_password));
    free(config->tls_key_password);
    ini_free(config->ini);
    free(config->path);
    free(config);
}

struct config_exchange *config_find_exchange(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->exchange_count; i++)
        if (strcmp(config->exchanges[i].name, name) == 0)
            return &config->exchanges[i];
    return NULL;
}

struct config_queue *config_find_queue(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->queue_count; i++)
        if (strcmp(config->queues[i].name, name) == 0)
            return &config->queues[i];
    return NULL;
}

bool config_exchange_builtin(const char *name)
{
    return name[0] == '\0' || strncmp(name, "amq.", 4) == 0;
}
