/* SPDX-License-Identifier: MIT */
#include "daemon/explain.h"

#include "daemon/routes.h"
#include <hark/listener.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX \
    200 /* listeners told about in all: where all emit to all, the ways are endless \
                      */

/* A message on its way, and those it came from. */
struct story {
    const struct config *config;
    FILE *out;
    const struct story *cause;
    const struct config_listener *teller; /* who emitted it; NULL: the message that was asked about */
    unsigned indent;
    size_t queues, runs;
    size_t *left; /* of RUNS_MAX */
};

static void line(const struct story *story, unsigned more, const char *format, ...) HARK_PRINTF(3, 4);

static void line(const struct story *story, unsigned more, const char *format, ...)
{
    va_list args;

    fprintf(story->out, "%*s", (int)(2 * (story->indent + more)), "");
    va_start(args, format);
    vfprintf(story->out, format, args);
    va_end(args);
    fputc('\n', story->out);
}

static const char *shown(const char *exchange)
{
    return exchange[0] != 0 ? exchange : "\"\"";
}

static void tell(struct story *story, const char *exchange, struct route_key key);

static void tell_emit(const struct story *story, const struct config_listener *listener, struct route_key key)
{
    struct route_emit emit;

    if (route_emit_of(listener, &emit) != 0 || emit.exchange == NULL)
        return;
    for (size_t i = 0; i < emit.count; i++) {
        struct story next = {.config = story->config,
                             .out = story->out,
                             .cause = story,
                             .teller = listener,
                             .indent = story->indent + 3,
                             .left = story->left};
        bool same = emit.keys[i].text == listener->on.items[i];
        struct route_key emitted = same ? key : emit.keys[i];

        line(story, 2, "emits to %s (%s) with %s %s", shown(emit.exchange),
             route_type_name(route_type_of(story->config, emit.exchange)), emitted.pattern ? "a key like" : "the key",
             emitted.text);
        tell(&next, emit.exchange, emitted);
        if (same)
            break; /* each of `on` stands for the event's own key, and that is known */
    }
    route_emit_free(&emit);
}

static bool is_cause(const struct story *story, const struct config_listener *listener)
{
    for (; story != NULL; story = story->cause)
        if (story->teller == listener)
            return true;
    return false;
}

/* to: the exchange that the hop leads to, NULL: the queue. */
static void tell_way(const struct story *story, const struct route_hop *hop, const char *to)
{
    char through[300] = "";

    if (hop->before != NULL)
        tell_way(story, hop->before, hop->exchange);
    if (to != NULL)
        snprintf(through, sizeof(through), "through %s: ", shown(to));
    if (hop->type == ROUTE_DEFAULT)
        line(story, 1, "its name: the default exchange brings each key to the queue of that name");
    else if (hop->binding == NULL)
        line(story, 1, "%sthe alternate exchange of %s, for what nothing else takes", through, hop->exchange);
    else
        line(story, 1, "%sbind = %s%s%s (%s:%d)%s", through, hop->exchange, hop->binding->pattern[0] ? " " : "",
             hop->binding->pattern, hop->where->file, hop->binding->line,
             hop->sure ? "" : ", if what else decides there agrees");
}

static void tell_route(void *arg, const struct route *route)
{
    struct story *story = arg;
    size_t heard = 0;
    bool cut = false;

    story->queues++;
    line(story, 0, "-> queue %s", route->queue->name);
    tell_way(story, route->last, NULL);
    for (size_t i = 0; i < route->queue->listener_count; i++) {
        const struct config_listener *listener = route->queue->listeners[i];
        const char *on = route_heard(listener, route);

        if (on == NULL)
            continue;
        heard++;
        if (*story->left == 0 || --*story->left == 0) {
            cut = true;
            continue;
        }
        line(story, 1, "runs %s (%s:%d, module %s), on = %s", listener->name, listener->where.file,
             listener->where.line, listener->module->name, on);
        if (is_cause(story, listener))
            line(story, 2, "and so on: it has been here before");
        else
            tell_emit(story, listener, route->key);
    }
    if (cut)
        line(story, 1, "... and more");
    story->runs += heard;
    if (heard > 0)
        return;
    if (route->queue->listener_count == 0)
        line(story, 1, "no listener names this queue: it stays there for others");
    else
        line(story, 1, "no listener of this queue hears it: to the dead letters");
}

static void tell(struct story *story, const char *exchange, struct route_key key)
{
    route_find(story->config, exchange, key, tell_route, story);
    if (story->queues == 0 && story->cause != NULL)
        line(story, 0, "no queue here takes it: unless one elsewhere does, it comes back and the event is retried");
    else if (story->queues == 0)
        line(story, 0, "no queue here takes it");
}

/* ---- which exchanges ---- */

struct names {
    const char **items;
    size_t count;
};

static void add_name(struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i], name) == 0)
            return;
    names->items[names->count++] = name;
}

/* Every exchange that something in the file is bound to or that has a section; the default exchange
 * last. */
static int collect(const struct config *config, struct names *names)
{
    size_t most = config->exchange_count + 1;

    for (size_t i = 0; i < config->queue_count; i++)
        most += config->queues[i].bindings.count;
    for (size_t i = 0; i < config->exchange_count; i++)
        most += config->exchanges[i].bindings.count;
    names->items = calloc(most, sizeof(*names->items));
    if (names->items == NULL)
        return -1;
    for (size_t i = 0; i < config->exchange_count; i++) {
        add_name(names, config->exchanges[i].name);
        for (size_t k = 0; k < config->exchanges[i].bindings.count; k++)
            add_name(names, config->exchanges[i].bindings.items[k].exchange);
    }
    for (size_t i = 0; i < config->queue_count; i++)
        for (size_t k = 0; k < config->queues[i].bindings.count; k++)
            add_name(names, config->queues[i].bindings.items[k].exchange);
    add_name(names, "");
    return 0;
}

static void count_route(void *arg, const struct route *route)
{
    size_t *count = arg;

    (void)route;
    ++*count;
}

static size_t explain_one(const struct config *config, const char *exchange, const char *key, FILE *out)
{
    size_t left = RUNS_MAX;
    struct story story = {.config = config, .out = out, .indent = 1, .left = &left};
    const struct config_exchange *section = config_find_exchange(config, exchange);

    fprintf(out, "%s, published to %s (%s%s):\n", key[0] ? key : "An empty key", shown(exchange),
            section && section->internal ? "internal " : "", route_type_name(route_type_of(config, exchange)));
    if (section != NULL && section->internal)
        line(&story, 0, "only other exchanges may publish to it; from them:");
    tell(&story, exchange, (struct route_key){key, false});
    return story.runs;
}

int explain_key(const struct config *config, const char *key, const char *exchange, FILE *out)
{
    struct names names = {0};
    size_t runs = 0, told = 0;
    const char *quiet = " ";

    if (strlen(key) > INI_NAME_MAX) {
        fprintf(out, "A routing key has at most 255 bytes.\n");
        return -1;
    }
    if (collect(config, &names) != 0) {
        fprintf(out, "out of memory\n");
        return -1;
    }
    if (exchange != NULL) {
        runs = explain_one(config, exchange, key, out);
        free(names.items);
        return runs > 0 ? 0 : 1;
    }
    for (size_t i = 0; i < names.count; i++) {
        size_t found = 0;

        route_find(config, names.items[i], (struct route_key){key, false}, count_route, &found);
        if (found == 0)
            continue;
        fputs(told++ > 0 ? "\n" : "", out);
        runs += explain_one(config, names.items[i], key, out);
    }
    if (told < names.count)
        fprintf(out, "%s%s: no queue here takes it when it is published to", told > 0 ? "\n" : "",
                key[0] ? key : "An empty key");
    for (size_t i = 0; i < names.count && told < names.count; i++) {
        size_t found = 0;

        route_find(config, names.items[i], (struct route_key){key, false}, count_route, &found);
        if (found > 0)
            continue;
        fprintf(out, "%s%s", quiet, shown(names.items[i]));
        quiet = ", ";
    }
    fputs(told < names.count ? "\n" : "", out);
    free(names.items);
    return runs > 0 ? 0 : 1;
}
