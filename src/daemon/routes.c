/* SPDX-License-Identifier: MIT */
#include "daemon/routes.h"

#include "daemon/ways.h"
#include "wire/topic.h"
#include <hark/listener.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *word;
    const char *name;
} types[] = {
    [ROUTE_DEFAULT] = {"", "default exchange"},
    [ROUTE_DIRECT] = {"direct", "direct exchange"},
    [ROUTE_FANOUT] = {"fanout", "fanout exchange"},
    [ROUTE_TOPIC] = {"topic", "topic exchange"},
    [ROUTE_HEADERS] = {"headers", "headers exchange"},
    [ROUTE_PLUGIN] = {"", "exchange of a plugin"},
    [ROUTE_UNKNOWN] = {"", "exchange that is not in the file"},
};

const char *route_type_name(enum route_type type)
{
    return types[type].name;
}

static enum route_type type_of_word(const char *word, enum route_type otherwise)
{
    for (enum route_type type = ROUTE_DIRECT; type <= ROUTE_HEADERS; type++)
        if (strcmp(types[type].word, word) == 0)
            return type;
    return otherwise;
}

static const char *argument(const struct config_exchange *exchange, const char *name)
{
    for (size_t i = 0; exchange != NULL && i < exchange->arguments.count; i++)
        if (strcmp(exchange->arguments.items[i].name, name) == 0 && exchange->arguments.items[i].kind == 'S')
            return exchange->arguments.items[i].string;
    return NULL;
}

enum route_type route_type_of(const struct config *config, const char *exchange)
{
    const struct config_exchange *section = config_find_exchange(config, exchange);
    const char *delayed = argument(section, "x-delayed-type");

    if (exchange[0] == 0)
        return ROUTE_DEFAULT;
    if (section != NULL && strcmp(section->type, "x-delayed-message") == 0 && delayed != NULL)
        return type_of_word(delayed, ROUTE_PLUGIN);
    if (section != NULL)
        return type_of_word(section->type, ROUTE_PLUGIN);
    if (strcmp(exchange, config->general.dead_letter) == 0)
        return ROUTE_TOPIC;
    if (strcmp(exchange, "amq.match") == 0)
        return ROUTE_HEADERS;
    if (strncmp(exchange, "amq.rabbitmq.", 13) == 0)
        return ROUTE_TOPIC;
    return config_exchange_builtin(exchange) ? type_of_word(exchange + 4, ROUTE_UNKNOWN) : ROUTE_UNKNOWN;
}

static bool topic_meets(const char *binding, struct route_key key)
{
    return key.pattern ? topic_overlap(span_str(binding), span_str(key.text))
                       : topic_matches(span_str(binding), span_str(key.text));
}

/* A plain name against the key. */
static bool name_meets(const char *name, struct route_key key)
{
    return key.pattern ? topic_matches(span_str(key.text), span_str(name)) : strcmp(name, key.text) == 0;
}

int route_passes(enum route_type type, const char *binding, struct route_key key)
{
    switch (type) {
    case ROUTE_DEFAULT:
    case ROUTE_DIRECT:
        return name_meets(binding, key) ? 2 : 0;
    case ROUTE_FANOUT:
        return 2;
    case ROUTE_TOPIC:
        return topic_meets(binding, key) ? 2 : 0;
    case ROUTE_HEADERS:
    case ROUTE_PLUGIN:
        return 1;
    case ROUTE_UNKNOWN:
        break;
    }
    /* With an empty pattern it is a fanout exchange, most likely. */
    return binding[0] == 0 || topic_meets(binding, key) ? 1 : 0;
}

struct search {
    const struct config *config;
    struct route_key key;
    bool literal; /* the key is one, not a pattern for several */
    route_found found;
    void *arg;
};

static void follow(const struct search *search, const char *exchange, const struct route_hop *before, bool sure);

/* The default exchange: every queue by its name. */
static void follow_default(const struct search *search, const struct route_hop *before, bool sure)
{
    const struct config *config = search->config;
    const struct config_queue *only = search->literal ? config_find_queue(config, search->key.text) : NULL;
    size_t from = only != NULL ? (size_t)(only - config->queues) : 0;
    size_t to = only != NULL ? from + 1 : search->literal ? 0 : config->queue_count;

    for (size_t i = from; i < to; i++) {
        const struct config_queue *queue = &config->queues[i];
        struct route_hop hop = {.before = before, .exchange = "", .where = &queue->where, .sure = sure};
        struct route route = {.key = search->key, .queue = queue, .last = &hop};

        if (name_meets(queue->name, search->key))
            search->found(search->arg, &route);
    }
}

static void follow_way(const struct search *search, const struct way *way, struct route_hop *hop)
{
    struct route route = {.key = search->key, .queue = way->queue, .last = hop};

    hop->where = way->queue != NULL ? &way->queue->where : &way->exchange->where;
    hop->binding = way->binding;
    if (way->queue != NULL)
        search->found(search->arg, &route);
    else
        follow(search, way->exchange->name, hop, hop->sure);
}

static void follow(const struct search *search, const char *exchange, const struct route_hop *before, bool sure)
{
    const struct config *config = search->config;
    const char *alternate = argument(config_find_exchange(config, exchange), "alternate-exchange");
    struct route_hop hop = {.before = before, .exchange = exchange, .type = route_type_of(config, exchange)};
    bool by_key = search->literal && (hop.type == ROUTE_DIRECT || hop.type == ROUTE_TOPIC || hop.type == ROUTE_UNKNOWN);
    const struct way *way, *last = NULL;
    struct ways_cursor cursor;

    for (const struct route_hop *above = before; above != NULL; above = above->before)
        if (strcmp(above->exchange, exchange) == 0)
            return;
    if (hop.type == ROUTE_DEFAULT) {
        follow_default(search, before, sure);
        return;
    }
    cursor = ways_from(config->ways, exchange, by_key ? search->key.text : NULL);
    while ((way = ways_next(&cursor)) != NULL) {
        int passes;

        /* Of one message a destination gets one copy; different keys may take different ways. */
        if (last != NULL && !search->key.pattern && way->queue == last->queue && way->exchange == last->exchange)
            continue;
        passes = route_passes(hop.type, way->binding->pattern, search->key);
        if (passes == 0)
            continue;
        last = way;
        hop.sure = sure && passes == 2;
        follow_way(search, way, &hop);
    }
    if (alternate != NULL && (last == NULL || search->key.pattern)) {
        hop.where = NULL;
        hop.binding = NULL;
        hop.sure = sure && last == NULL;
        follow(search, alternate, &hop, hop.sure);
    }
}

void route_find(const struct config *config, const char *exchange, struct route_key key, route_found found, void *arg)
{
    struct search search = {.config = config, .key = key, .found = found, .arg = arg};

    search.literal = !key.pattern || strpbrk(key.text, "*#") == NULL;
    follow(&search, exchange, NULL, true);
}

/* ---- what a listener emits ---- */

static const struct hark_setting *module_row(const struct config_listener *listener, const char *name)
{
    const struct hark_setting *row = listener->module ? listener->module->settings : NULL;

    for (; row != NULL && row->type != HARK_END; row++)
        if (row->type == HARK_STRING && strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

static const char *module_setting(const struct config_listener *listener, const char *name)
{
    const struct hark_setting *row = module_row(listener, name);

    return row ? *(char *const *)(const void *)((const char *)listener->settings + row->offset) : NULL;
}

bool route_emit_missing(const struct config_listener *listener)
{
    return module_row(listener, "exchange") != NULL && module_setting(listener, "exchange") == NULL &&
           listener->emit_exchange == NULL;
}

/* Words with something in braces can become anything. */
static char *pattern_of(const char *key)
{
    char *pattern = malloc(strlen(key) + 2), *to = pattern;

    if (pattern == NULL)
        return NULL;
    for (const char *word = key;; word++) {
        size_t length = strcspn(word, ".");

        if (memchr(word, '{', length) != NULL) {
            /* A dot may stand inside the braces: {header.name}. */
            const char *close = strchr(word, '}');

            if (close != NULL)
                length = (size_t)(close - word) + strcspn(close, ".");
            *to++ = '#';
        } else {
            memcpy(to, word, length);
            to += length;
        }
        word += length;
        if (*word == 0)
            break;
        *to++ = '.';
    }
    *to = 0;
    return pattern;
}

int route_emit_of(const struct config_listener *listener, struct route_emit *emit)
{
    const char *exchange = module_setting(listener, "exchange"), *key = module_setting(listener, "routing_key");

    *emit = (struct route_emit){0};
    if (exchange == NULL)
        exchange = listener->emit_exchange;
    if (exchange == NULL || strchr(exchange, '{') != NULL)
        return 0;
    if (key == NULL)
        key = listener->emit_key;
    emit->count = key != NULL ? 1 : listener->on.count;
    emit->keys = calloc(emit->count + 1, sizeof(*emit->keys));
    if (emit->keys == NULL)
        return -1;
    emit->exchange = exchange;
    if (key == NULL) {
        for (size_t i = 0; i < emit->count; i++)
            emit->keys[i] = (struct route_key){listener->on.items[i], true};
    } else if (strchr(key, '{') == NULL) {
        emit->keys[0] = (struct route_key){key, false};
    } else {
        emit->own = pattern_of(key);
        if (emit->own == NULL) {
            route_emit_free(emit);
            return -1;
        }
        emit->keys[0] = (struct route_key){emit->own, true};
    }
    return 0;
}

void route_emit_free(struct route_emit *emit)
{
    free(emit->keys);
    free(emit->own);
    *emit = (struct route_emit){0};
}

const char *route_heard(const struct config_listener *listener, const struct route *route)
{
    for (size_t i = 0; i < listener->on.count; i++) {
        struct route_key on = {listener->on.items[i], true};
        bool heard = topic_meets(on.text, route->key);

        for (const struct route_hop *hop = route->last; heard && hop != NULL; hop = hop->before)
            if (hop->binding != NULL)
                heard = route_passes(hop->type, hop->binding->pattern, on) != 0;
        if (heard && route->last->type == ROUTE_DEFAULT)
            heard = name_meets(route->queue->name, on);
        if (heard)
            return on.text;
    }
    return NULL;
}
