/* SPDX-License-Identifier: MIT */
#include "daemon/check.h"

#include "base/log.h"
#include "base/settings.h"
#include "daemon/check_private.h"
#include "daemon/routes.h"
#include <stdarg.h>
#include <errno.h>
#include <hark/listener.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RABBITMQ_CHANNEL_MAX 2047 /* its default */

static void say(struct check *check, enum log_level level, const struct config_where *where, int line,
                const char *format, va_list args) HARK_PRINTF(5, 0);

static void say(struct check *check, enum log_level level, const struct config_where *where, int line,
                const char *format, va_list args)
{
    static const char *const kinds[] = {
        [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "note"};
    const char *prefix = log_prefix(fileno(check->out), level), *kind = kinds[level];
    char text[2048];

    vsnprintf(text, sizeof(text), format, args);
    for (char *c = text; *c != 0; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    if (line == 0)
        line = where->line;
    if (line > 0)
        fprintf(check->out, "%s%s:%d: %s %s: %s\n", prefix, where->file, line, where->label, kind, text);
    else
        fprintf(check->out, "%s%s: %s %s: %s\n", prefix, where->file, where->label, kind, text);
}

void check_error(struct check *check, const struct config_where *where, int line, const char *format, ...)
{
    va_list args;

    check->errors++;
    va_start(args, format);
    say(check, LOG_LEVEL_ERROR, where, line, format, args);
    va_end(args);
}

void check_warn(struct check *check, const struct config_where *where, int line, const char *format, ...)
{
    va_list args;

    check->warnings++;
    va_start(args, format);
    say(check, LOG_LEVEL_WARNING, where, line, format, args);
    va_end(args);
}

void check_note(struct check *check, const struct config_where *where, int line, const char *format, ...)
{
    va_list args;

    check->notes++;
    va_start(args, format);
    say(check, LOG_LEVEL_NOTICE, where, line, format, args);
    va_end(args);
}

/* What only the service can see is said, not guessed at. */
static void check_elsewhere(struct check *check)
{
    for (size_t i = 0; i < check->config->elsewhere_count; i++) {
        const struct config_elsewhere *file = &check->config->elsewhere[i];

        check_note(check, &file->where, file->line,
                   "%s = %s: not checked: outside of the service its credentials (LoadCredential=) are not there",
                   file->key, file->path);
    }
}

/* ---- [hark] ---- */

/* Dead letters must arrive: what no queue takes comes back, and its event is never done. */
static void check_dead_letters(struct check *check, const struct config_where *where)
{
    const struct config *config = check->config;
    const char *exchange = config->general.dead_letter;
    enum route_type type = route_type_of(config, exchange);
    size_t bound = 0;

    if (config->general.dead_letter_queue[0] != 0) {
        if (type != ROUTE_TOPIC && type != ROUTE_FANOUT)
            check_warn(
                check, where, config_line(where, "dead_letter"),
                "dead_letter = %s: a %s; dead letters keep their keys, which reach the queue %s through a topic or "
                "fanout exchange only",
                exchange, route_type_name(type), config->general.dead_letter_queue);
        return;
    }
    for (size_t i = 0; i < config->queue_count; i++)
        for (size_t k = 0; k < config->queues[i].bindings.count; k++)
            bound += strcmp(config->queues[i].bindings.items[k].exchange, exchange) == 0;
    if (bound == 0)
        check_warn(
            check, where, config_line(where, "dead_letter_queue"),
            "dead_letter_queue is empty, and no queue here is bound to %s: unless one is elsewhere, dead letters come "
            "back and their events are never done",
            exchange);
}

/* How RabbitMQ is reached. */
static void check_connection(struct check *check, const struct config_where *where)
{
    const struct config *config = check->config;
    const struct config_general *general = &config->general;

    if (general->auth == CONFIG_AUTH_PLAIN && general->password_file == NULL && config->url.password[0] == 0)
        check_warn(check, where, config_line(where, "url"),
                   "no password for the user %s: RabbitMQ refuses an empty one; set password_file", config->url.user);
    if (!config->url.tls && (general->tls_ca || general->tls_certificate || general->tls_server_name))
        check_warn(check, where, config_line(where, "url"), "keys about TLS have no effect: url is not amqps://");
    if (config->url.tls && !general->tls_verify)
        check_warn(check, where, config_line(where, "tls_verify"),
                   "tls_verify = no: whoever answers at that address is trusted");
}

/* A worker takes a channel for each queue: a queue whose name or rights are wrong would close it for the others,
 * too. */
static void check_channels(struct check *check, const struct config_where *general)
{
    const struct config *config = check->config;
    bool embedded = config->url.embedded;
    const struct config_where *where = embedded && config->broker.where.line > 0 ? &config->broker.where : general;
    size_t most = embedded ? (size_t)config->broker.channel_max : RABBITMQ_CHANNEL_MAX, consumed = 0;

    for (size_t i = 0; i < config->queue_count; i++)
        consumed += config->queues[i].listener_count > 0;
    if (consumed > most && embedded)
        check_warn(check, where, config_line(where, "channel_max"),
                   "channel_max = %zu: a worker needs a channel for each of the %zu queues that listeners name; the "
                   "rest are never consumed",
                   most, consumed);
    else if (consumed > most)
        check_warn(check, where, 0,
                   "listeners name %zu queues, and a worker needs a channel for each: RabbitMQ allows %zu on a "
                   "connection unless its channel_max says otherwise, and the rest are never consumed",
                   consumed, most);
}

static void check_general(struct check *check)
{
    const struct config *config = check->config;
    const struct config_general *general = &config->general;
    struct config_where where = {.file = config->path, .label = "[hark]"};

    for (size_t i = 0; i < config->ini->section_count; i++) {
        const struct ini_section *section = &config->ini->sections[i];

        if (strcmp(section->label, "[hark]") == 0)
            where = (struct config_where){section->file, section->line, section->label, section};
    }
    if (config->url.embedded)
        check_broker(check, &where);
    else
        check_connection(check, &where);
    if (!general->confirm)
        check_note(check, &where, config_line(&where, "confirm"),
                   "confirm = no: messages that listeners emit can be lost");
    check_channels(check, &where);
    check_dead_letters(check, &where);
    if (config->listener_count == 0)
        check_note(check, &where, 0, "there is no [listener NAME]: nothing will be consumed%s",
                   config->url.embedded ? "; the broker serves its clients" : "");
}

/* ---- names ---- */

/* An exchange that is named and not in the file. */
static void check_exchange_name(struct check *check, const struct config_where *where, int line, const char *what,
                                const char *name)
{
    const struct config *config = check->config;
    const char **names, *nearest = NULL;

    if (config_exchange_builtin(name) || config_find_exchange(config, name) != NULL ||
        strcmp(name, config->general.dead_letter) == 0)
        return;
    names = calloc(config->exchange_count + 1, sizeof(*names));
    for (size_t i = 0; names != NULL && i < config->exchange_count; i++)
        names[i] = config->exchanges[i].name;
    if (names != NULL)
        nearest = settings_nearest_word(names, config->exchange_count, name);
    free(names);
    if (nearest != NULL)
        check_warn(check, where, line, "%s: there is no section [exchange %s]; did you mean \"%s\"?", what, name,
                   nearest);
    else
        check_warn(
            check, where, line,
            "%s: there is no section [exchange %s]: it must exist already; with a section it is declared, or with "
            "`declare = no` known",
            what, name);
}

static void check_bindings(struct check *check, const struct config_where *where,
                           const struct config_bindings *bindings)
{
    char what[300];

    for (size_t i = 0; i < bindings->count; i++) {
        snprintf(what, sizeof(what), "bind = %s%s%s", bindings->items[i].exchange,
                 bindings->items[i].pattern[0] ? " " : "", bindings->items[i].pattern);
        check_exchange_name(check, where, bindings->items[i].line, what, bindings->items[i].exchange);
    }
}

static void check_argument_exchange(struct check *check, const struct config_where *where,
                                    const struct config_arguments *arguments, const char *name)
{
    char key[100];

    for (size_t i = 0; i < arguments->count; i++) {
        const struct config_argument *argument = &arguments->items[i];

        if (strcmp(argument->name, name) != 0 || argument->kind != 'S')
            continue;
        snprintf(key, sizeof(key), "argument.%s", name);
        check_exchange_name(check, where, config_line(where, key), key, argument->string);
    }
}

static bool reserved(const char *name)
{
    return strncmp(name, "hark.retry.", 11) == 0;
}

static void check_exchange(struct check *check, const struct config_exchange *exchange)
{
    if (reserved(exchange->name))
        check_error(check, &exchange->where, 0, "names that begin with hark.retry. are harkd's own");
    if (strcmp(exchange->name, check->config->general.dead_letter) == 0 && exchange->internal)
        check_error(check, &exchange->where, config_line(&exchange->where, "internal"),
                    "it takes the dead letters, and nobody may publish to an internal exchange");
    check_bindings(check, &exchange->where, &exchange->bindings);
    check_argument_exchange(check, &exchange->where, &exchange->arguments, "alternate-exchange");
}

static void check_queue(struct check *check, const struct config_queue *queue)
{
    if (reserved(queue->name))
        check_error(check, &queue->where, 0, "names that begin with hark.retry. are harkd's own");
    check_bindings(check, &queue->where, &queue->bindings);
    check_argument_exchange(check, &queue->where, &queue->arguments, "x-dead-letter-exchange");
    if (queue->listener_count == 0)
        check_note(check, &queue->where, 0, "no listener names it: it is declared and not consumed");
    else
        check_queue_keys(check, queue);
}

/* ---- [listener] ---- */

/* `user.sig*` is a plain word to AMQP. */
static void check_wildcards(struct check *check, const struct config_where *where, int line, const char *pattern)
{
    for (const char *word = pattern;; word++) {
        size_t length = strcspn(word, ".");

        if (length > 1 && (memchr(word, '*', length) != NULL || memchr(word, '#', length) != NULL)) {
            check_warn(check, where, line,
                       "%s: * and # are wildcards as whole words only; here they stand for themselves", pattern);
            return;
        }
        word += length;
        if (*word == 0)
            return;
    }
}

static void count_route(void *arg, const struct route *route)
{
    size_t *count = arg;

    (void)route;
    ++*count;
}

static void check_emit(struct check *check, const struct config_listener *listener)
{
    const struct config_exchange *exchange;
    struct route_emit emit;
    int line = config_line(&listener->where, "emit");

    if (route_emit_of(listener, &emit) != 0) {
        check->no_memory = true;
        return;
    }
    if (emit.exchange == NULL) {
        if (route_emit_missing(listener))
            check_warn(check, &listener->where, 0, "neither emit nor exchange is set: what it emits has nowhere to go");
        return;
    }
    check_exchange_name(check, &listener->where, line, "emit", emit.exchange);
    exchange = config_find_exchange(check->config, emit.exchange);
    if (exchange != NULL && exchange->internal)
        check_error(check, &listener->where, line, "emit: the exchange %s is internal: nobody may publish to it",
                    exchange->name);
    for (size_t i = 0; i < emit.count; i++) {
        size_t count = 0;

        route_find(check->config, emit.exchange, emit.keys[i], count_route, &count);
        if (count > 0)
            continue;
        if (emit.exchange[0] == 0)
            check_warn(check, &listener->where, line,
                       "emit: there is no section [queue %s]; what no queue takes comes back, "
                       "and its event is retried",
                       emit.keys[i].text);
        else
            check_warn(
                check, &listener->where, line,
                "emit: no queue here is bound to %s for the key %s; unless one is elsewhere, the message comes back "
                "and its event is retried",
                emit.exchange, emit.keys[i].text);
    }
    route_emit_free(&emit);
}

/* A program that may come later is no error. A relative name is left alone: it begins in the module's `directory`. */
static void check_program(struct check *check, const struct config_listener *listener)
{
    const struct hark_setting *row = listener->module ? listener->module->settings : NULL;

    for (; row != NULL && row->type != HARK_END; row++) {
        const struct hark_list *words;

        if (row->type != HARK_LIST || strcmp(row->name, "command") != 0)
            continue;
        words = (const void *)((const char *)listener->settings + row->offset);
        if (words->count > 0 && words->items[0][0] == '/' && access(words->items[0], X_OK) != 0)
            check_warn(check, &listener->where, config_line(&listener->where, "command"),
                       "command = %s: %s; until it can be run its events are retried", words->items[0],
                       strerror(errno));
        return;
    }
}

static void check_on(struct check *check, const struct config_listener *listener)
{
    int line = config_line(&listener->where, "on");

    for (size_t i = 0; i < listener->on.count; i++) {
        const char *pattern = listener->on.items[i];

        check_wildcards(check, &listener->where, line, pattern);
        if (strchr(pattern, ',') != NULL)
            check_warn(check, &listener->where, line,
                       "on = %s: one pattern with a comma in it; did you mean several? they are separated by blanks",
                       pattern);
    }
}

static void check_listener(struct check *check, const struct config_listener *listener)
{
    check_on(check, listener);
    check_program(check, listener);
    check_listener_keys(check, listener);
    check_emit(check, listener);
}

/* ---- all ---- */

static void print_count(FILE *out, const char *between, size_t count, const char *what)
{
    fprintf(out, "%s%zu %s%s", between, count, what, count == 1 ? "" : "s");
}

int check_config(const struct config *config, FILE *out)
{
    struct check check = {.config = config, .out = out};

    check_general(&check);
    check_elsewhere(&check);
    for (size_t i = 0; i < config->exchange_count; i++)
        check_exchange(&check, &config->exchanges[i]);
    for (size_t i = 0; i < config->queue_count; i++)
        check_queue(&check, &config->queues[i]);
    for (size_t i = 0; i < config->listener_count; i++)
        check_listener(&check, &config->listeners[i]);
    check_cycles(&check);
    if (check.no_memory) {
        fprintf(out, "%s: out of memory\n", config->path);
        return -1;
    }
    print_count(out, "", config->exchange_count, "exchange");
    print_count(out, ", ", config->queue_count, "queue");
    print_count(out, ", ", config->listener_count, "listener");
    print_count(out, ": ", check.errors, "error");
    print_count(out, ", ", check.warnings, "warning");
    print_count(out, ", ", check.notes, "note");
    fputc('\n', out);
    return check.errors > 0 ? -1 : 0;
}
