/* SPDX-License-Identifier: MIT */
/* Sections into their structs: [hark], [exchange], [queue]; the others have files of their own. */
#include "base/settings.h"
#include "daemon/config_private.h"
#include "daemon/ways.h"
#include "net/tls.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ERROR_SIZE 1024

const struct ini_entry *config_entry(const struct config_reader *reader, const char *key)
{
    for (size_t i = 0; i < reader->section->count; i++)
        if (strcmp(reader->section->entries[i].key, key) == 0)
            return &reader->section->entries[i];
    return NULL;
}

void config_complain(struct config_reader *reader, const char *key, const char *format, ...)
{
    const struct ini_entry *entry = key ? config_entry(reader, key) : NULL;
    char text[ERROR_SIZE];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ini_error(reader->errors, reader->where.file, entry ? entry->line : reader->where.line, reader->where.label, "%s",
              text);
}

static void start(struct config_reader *reader, const struct ini_section *section)
{
    reader->section = section;
    reader->where = (struct config_where){.file = section->file,
                                          .line = section->line,
                                          .label = section->label,
                                          .section = section->line > 0 ? section : NULL};
}

/* Which other kind of section has this key, as it is written there; NULL: none. */
static const char *section_with(const char *key)
{
    static const struct {
        const struct hark_setting *table;
        const char *section;
    } kinds[] = {
        {config_general_table, "[hark]"},     {config_listener_table, "[listener NAME]"},
        {config_queue_table, "[queue NAME]"}, {config_exchange_table, "[exchange NAME]"},
        {config_broker_table, "[broker]"},    {config_user_table, "[user NAME]"},
    };

    for (size_t i = 0; i < HARK_COUNT(kinds); i++)
        for (const struct hark_setting *row = kinds[i].table; row->type != HARK_END; row++)
            if (row->type != HARK_MAP && strcmp(row->name, key) == 0)
                return kinds[i].section;
    return NULL;
}

static void complain_unknown(struct config_reader *reader, const struct ini_entry *entry,
                             const struct hark_setting *const *tables)
{
    const char *nearest = settings_nearest(tables, entry->key), *dot = strchr(entry->key, '.');
    const struct config_where *where = &reader->where;
    const char *elsewhere = section_with(entry->key);

    if (nearest == NULL)
        ini_error(reader->errors, where->file, entry->line, where->label, "unknown key \"%s\"%s%s", entry->key,
                  elsewhere ? "; it is one of " : "", elsewhere ? elsewhere : "");
    else
        ini_error(reader->errors, where->file, entry->line, where->label, "unknown key \"%s\"; did you mean \"%s%s\"?",
                  entry->key, nearest, nearest[strlen(nearest) - 1] == '.' && dot ? dot + 1 : "");
}

bool config_fill(struct config_reader *reader, const struct hark_setting *const *tables, void *const *into)
{
    const struct ini_section *section = reader->section;
    struct settings settings[2];
    size_t before = reader->errors->count;
    char error[ERROR_SIZE];

    for (size_t i = 0; tables[i] != NULL; i++)
        settings_init(&settings[i], tables[i], into[i]);
    for (size_t i = 0; i < section->count; i++) {
        const struct ini_entry *entry = &section->entries[i];
        size_t at = 0;

        while (tables[at] != NULL && settings_find(tables[at], entry->key) == NULL)
            at++;
        if (tables[at] == NULL)
            complain_unknown(reader, entry, tables);
        else if (settings_set(&settings[at], entry->key, entry->value, entry->quoted, entry->line, error,
                              sizeof(error)) != 0)
            ini_error(reader->errors, reader->where.file, entry->line, reader->where.label, "%s", error);
    }
    for (size_t i = 0; tables[i] != NULL; i++)
        if (settings_finish(&settings[i], error, sizeof(error)) != 0 && !reader->partial)
            config_complain(reader, NULL, "%s", error);
    return reader->errors->count == before && !reader->partial;
}

void config_check_name(struct config_reader *reader, const char *example)
{
    if (reader->section->name[0] == 0)
        config_complain(reader, NULL, "the section needs a name, as in %s", example);
}

/* ---- [hark] ---- */

void config_secret(struct config_reader *reader, const char *key, const char *path, char **secret)
{
    char error[ERROR_SIZE];

    if (path == NULL || config_elsewhere(reader, key, path, true))
        return;
    config_forget(*secret);
    *secret = config_read_secret(path, error, sizeof(error));
    if (*secret == NULL)
        config_complain(reader, key, "%s = %s: %s", key, path, error);
}

static void check_tls(struct config_reader *reader)
{
    const struct config_general *general = &reader->config->general;
    struct tls_options options = {.ca = general->tls_ca,
                                  .certificate = general->tls_certificate,
                                  .key = general->tls_key,
                                  .key_password = reader->config->tls_key_password,
                                  .verify = general->tls_verify};
    struct tls_context *context;
    char error[ERROR_SIZE];
    bool elsewhere;

    if (reader->config->url.embedded)
        return; /* over a socket of our own, where the workers are known */
    if (general->auth == CONFIG_AUTH_EXTERNAL && !reader->config->url.tls)
        config_complain(reader, "auth", "auth = external: needs TLS, an amqps:// url");
    else if (general->auth == CONFIG_AUTH_EXTERNAL && general->tls_certificate == NULL)
        config_complain(reader, "auth", "auth = external: needs tls_certificate");
    if (general->tls_key != NULL && general->tls_certificate == NULL)
        config_complain(reader, "tls_key", "tls_key: needs tls_certificate");
    /* With no file named there is nothing to be wrong, and the system's certificates take long to
     * load. */
    if (!reader->config->url.tls || (general->tls_ca == NULL && general->tls_certificate == NULL))
        return;
    elsewhere = config_elsewhere(reader, "tls_ca", general->tls_ca, false);
    elsewhere |= config_elsewhere(reader, "tls_certificate", general->tls_certificate, false);
    elsewhere |= config_elsewhere(reader, "tls_key", general->tls_key, false);
    if (elsewhere || (general->tls_key_password_file != NULL && options.key_password == NULL))
        return;
    context = tls_context_new(&options, error, sizeof(error));
    if (context == NULL)
        config_complain(reader, general->tls_certificate ? "tls_certificate" : "tls_ca", "%s", error);
    tls_context_free(context);
}

static void read_general(struct config_reader *reader)
{
    struct config *config = reader->config;
    struct config_general *general = &config->general;
    const struct hark_setting *const tables[] = {config_general_table, NULL};
    void *const into[] = {general};
    char error[ERROR_SIZE];

    if (!config_fill(reader, tables, into))
        return;
    if (config_url_parse(general->url, &config->url, error, sizeof(error)) != 0)
        config_complain(reader, "url", "url: %s", error);
    config_secret(reader, "password_file", general->password_file, &config->url.password);
    config_secret(reader, "tls_key_password_file", general->tls_key_password_file, &config->tls_key_password);
    check_tls(reader);
    if (general->reconnect_min > general->reconnect_max)
        config_complain(reader, config_entry(reader, "reconnect_min") ? "reconnect_min" : "reconnect_max",
                        "reconnect_min is longer than reconnect_max");
    if (general->workers == 0)
        general->workers = sysconf(_SC_NPROCESSORS_ONLN) > 0 ? sysconf(_SC_NPROCESSORS_ONLN) : 1;
    if (general->workers > CONFIG_WORKERS_MAX)
        general->workers = CONFIG_WORKERS_MAX;
    if (general->dead_letter[0] == 0 || strlen(general->dead_letter) > INI_NAME_MAX)
        config_complain(reader, "dead_letter", "dead_letter: expected the name of an exchange, of at most 255 bytes");
    if (general->dead_letter_queue == NULL)
        general->dead_letter_queue = strdup(general->dead_letter);
    if (general->dead_letter_queue == NULL)
        config_complain(reader, NULL, "out of memory");
    else if (strlen(general->dead_letter_queue) > INI_NAME_MAX)
        config_complain(reader, "dead_letter_queue", "dead_letter_queue: a name has at most 255 bytes");
}

/* ---- [exchange] and [queue] ---- */

/* A key of hark's own stands for an argument: both at once would contradict each other. */
static void refuse_argument(struct config_reader *reader, const char *key, const char *instead)
{
    if (config_entry(reader, key) != NULL)
        config_complain(reader, key, "%s: set by the key \"%s\"", key, instead);
}

static void read_exchange(struct config_reader *reader, struct config_exchange *exchange)
{
    const struct hark_setting *const tables[] = {config_exchange_table, NULL};
    void *const into[] = {exchange};
    static const char *const types[] = {"direct", "fanout", "topic", "headers"};
    bool known = false;

    exchange->where = reader->where;
    exchange->name = reader->section->name;
    config_check_name(reader, "[exchange events]");
    config_bindings_read(reader, &exchange->bindings);
    if (!config_fill(reader, tables, into))
        return;
    if (config_arguments_make(&exchange->raw_argument, NULL, &exchange->arguments) != 0)
        config_complain(reader, NULL, "out of memory");
    for (size_t i = 0; i < HARK_COUNT(types); i++)
        known |= strcmp(types[i], exchange->type) == 0;
    if (!known && strncmp(exchange->type, "x-", 2) != 0) {
        const char *nearest = settings_nearest_word(types, HARK_COUNT(types), exchange->type);

        config_complain(
            reader, "type", "type = %.60s: expected direct, fanout, topic, headers or a plugin's x-...%s%s%s",
            exchange->type, nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    }
    if (strncmp(exchange->name, "amq.", 4) == 0 && exchange->declare == CONFIG_DECLARE_YES)
        config_complain(reader, NULL,
                        "names that begin with \"amq.\" are the broker's own: set declare = passive or no");
}

static void read_queue(struct config_reader *reader, struct config_queue *queue)
{
    static char type_name[] = "x-queue-type", priority_name[] = "x-priority";
    static char types[][8] = {"classic", "quorum", "stream"};
    const struct hark_setting *const tables[] = {config_queue_table, NULL};
    void *const into[] = {queue};
    struct config_argument type = {.name = type_name, .kind = 'S'}, priority = {.name = priority_name, .kind = 'l'};
    char error[ERROR_SIZE];

    queue->where = reader->where;
    queue->name = reader->section->name;
    config_check_name(reader, "[queue signups]");
    config_bindings_read(reader, &queue->bindings);
    refuse_argument(reader, "argument.x-queue-type", "type");
    refuse_argument(reader, "consume_argument.x-priority", "priority");
    if (!config_fill(reader, tables, into))
        return;
    if (queue->raw_priority != NULL &&
        settings_parse_integer(queue->raw_priority, &priority.integer, error, sizeof(error)) != 0)
        config_complain(reader, "priority", "priority = %.60s: %s", queue->raw_priority, error);
    type.string = types[queue->type];
    if (config_arguments_make(&queue->raw_bind_argument, NULL, &queue->bind_arguments) != 0 ||
        config_arguments_make(&queue->raw_argument, queue->type != CONFIG_QUEUE_CLASSIC ? &type : NULL,
                              &queue->arguments) != 0 ||
        config_arguments_make(&queue->raw_consume_argument, queue->raw_priority != NULL ? &priority : NULL,
                              &queue->consume_arguments) != 0)
        config_complain(reader, NULL, "out of memory");
    if (queue->type != CONFIG_QUEUE_CLASSIC && (!queue->durable || queue->exclusive || queue->auto_delete))
        config_complain(reader, "type", "type = %s: such queues are always durable, never exclusive, never auto_delete",
                        types[queue->type]);
    if (queue->exclusive && reader->config->general.workers > 1)
        config_complain(reader, "exclusive",
                        "exclusive = yes: the queue belongs to one connection, so workers must be 1");
}

/* ---- all ---- */

static void check_kind(struct config_reader *reader)
{
    static const char *const kinds[] = {"hark", "broker", "exchange", "queue", "listener", "user"};
    const char *kind = reader->section->kind, *nearest = settings_nearest_word(kinds, HARK_COUNT(kinds), kind);

    for (size_t i = 0; i < HARK_COUNT(kinds); i++)
        if (strcmp(kinds[i], kind) == 0 && (i > 1 || reader->section->name[0] == 0))
            return;
    if (strcmp(kind, "hark") == 0 || strcmp(kind, "broker") == 0)
        config_complain(reader, NULL, "the section [%s] has no name", kind);
    else if (nearest != NULL)
        config_complain(reader, NULL, "unknown section; did you mean [%s%s%s]?", nearest,
                        reader->section->name[0] ? " " : "", reader->section->name);
    else
        config_complain(
            reader, NULL,
            "unknown section; there are [hark], [broker], [exchange NAME], [queue NAME], [listener NAME] and [user NAME]");
}

void config_read_sections(struct config_reader *reader)
{
    struct config *config = reader->config;
    const struct ini *ini = config->ini;
    static char hark[] = "hark", label[] = "[hark]", no_name[] = "";
    static char broker_kind[] = "broker", broker_label[] = "[broker]";
    struct ini_section none = {.kind = hark, .name = no_name, .label = label, .file = config->path};
    struct ini_section no_broker = {.kind = broker_kind, .name = no_name, .label = broker_label, .file = config->path};
    const struct ini_section *general = &none, *broker = &no_broker;

    for (size_t i = 0; i < ini->section_count; i++) {
        start(reader, &ini->sections[i]);
        check_kind(reader);
        if (strcmp(ini->sections[i].label, label) == 0)
            general = &ini->sections[i];
        if (strcmp(ini->sections[i].label, broker_label) == 0)
            broker = &ini->sections[i];
    }
    start(reader, general);
    read_general(reader);
    start(reader, broker);
    config_read_broker(reader);
    for (size_t i = 0; i < ini->section_count; i++) {
        start(reader, &ini->sections[i]);
        if (strcmp(reader->section->kind, "exchange") == 0)
            read_exchange(reader, &config->exchanges[config->exchange_count++]);
        else if (strcmp(reader->section->kind, "queue") == 0)
            read_queue(reader, &config->queues[config->queue_count++]);
        else if (strcmp(reader->section->kind, "user") == 0)
            config_read_user(reader, &config->users[config->user_count++]);
    }
    config_sort_names(config);
    for (size_t i = 0; i < ini->section_count; i++) {
        start(reader, &ini->sections[i]);
        if (strcmp(reader->section->kind, "listener") == 0)
            config_read_listener(reader, &config->listeners[config->listener_count++]);
    }
    if (reader->errors->count > 0)
        return; /* what is only half read is not looked at */
    config->ways = ways_new(config);
    if (config->ways == NULL || config_list_listeners(config) != 0)
        config_complain(reader, NULL, "out of memory");
    /* Nothing to declare and nothing to consume: the broker alone. */
    if (config->url.embedded && config->exchange_count + config->queue_count + config->listener_count == 0)
        config->general.workers = 0;
}
