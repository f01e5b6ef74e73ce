/* SPDX-License-Identifier: MIT */
/*
 * Two questions about topic patterns.
 *
 * Is every key that a binding lets through heard? Put a word that no pattern knows in the place of
 * each wildcard of the binding (for # none, one, two ... up to more than any pattern has): only
 * wildcards match it, and a wildcard that does matches every word. So if all of these few keys are
 * heard, all keys are; and one that is not is an example to show.
 *
 * Can a pattern of a listener be reached at all? Yes, if it and some binding of its queue agree on
 * a key.
 */
#include "daemon/check_private.h"
#include "daemon/routes.h"
#include "wire/topic.h"

#include <stdlib.h>
#include <string.h>

#define KEY_MAX 255
#define HASH_MAX 2    /* of so many # all numbers of words are tried, more stand for one word each */
#define REPEAT_MAX 16 /* words tried for a # when there are two of them */

struct hearing {
    struct check *check;
    const struct config_queue *queue;
    struct topic_tree *tree; /* the `on` patterns of all its listeners */
    size_t longest;          /* words in one of them */
    char fresh[KEY_MAX + 2]; /* a word that stands in none */
};

static size_t words(const char *pattern)
{
    size_t count = 1;

    for (; *pattern != 0; pattern++)
        count += *pattern == '.';
    return count;
}

/* A run of x one longer than any in a pattern. */
static void avoid(struct hearing *hearing, const char *pattern)
{
    while (strstr(pattern, hearing->fresh) != NULL && strlen(hearing->fresh) < KEY_MAX)
        strcat(hearing->fresh, "x");
}

static int hearing_init(struct hearing *hearing)
{
    strcpy(hearing->fresh, "x");
    hearing->tree = topic_tree_new();
    if (hearing->tree == NULL)
        return -1;
    for (size_t i = 0; i < hearing->queue->listener_count; i++) {
        const struct config_listener *listener = hearing->queue->listeners[i];

        for (size_t k = 0; k < listener->on.count; k++) {
            const char *pattern = listener->on.items[k];

            if (topic_tree_add(hearing->tree, span_str(pattern), 0) != 0)
                return -1;
            if (words(pattern) > hearing->longest)
                hearing->longest = words(pattern);
            avoid(hearing, pattern);
        }
    }
    return 0;
}

/* The binding's pattern with fresh words in it: repeat[n] for the n-th #. False: longer than a key
 * can be. */
static bool make_key(const struct hearing *hearing, const char *pattern, const size_t *repeat, char *key)
{
    size_t used = 0, hashes = 0;

    for (const char *word = pattern;; word++) {
        size_t length = strcspn(word, "."), times = 1;
        bool hash = length == 1 && *word == '#', star = length == 1 && *word == '*';
        const char *text = hash || star ? hearing->fresh : word;
        size_t text_length = hash || star ? strlen(text) : length;

        if (hash) {
            times = hashes < HASH_MAX ? repeat[hashes] : 1;
            hashes++;
        }
        for (; times > 0; times--) {
            if (used + text_length + 1 > KEY_MAX)
                return false;
            memcpy(key + used, text, text_length);
            used += text_length;
            key[used++] = '.';
        }
        word += length;
        if (*word == 0)
            break;
    }
    key[used > 0 ? used - 1 : 0] = 0;
    return true;
}

static bool heard(const struct hearing *hearing, const char *key)
{
    uint32_t value;

    return topic_tree_match(hearing->tree, span_str(key), &value, 1) > 0;
}

/* One word first: that makes the example that people understand best. */
static size_t nth_repeat(size_t n)
{
    return n == 0 ? 1 : n == 1 ? 0 : n;
}

/* True and a key that the pattern lets through and nobody hears. */
static bool find_unheard(const struct hearing *hearing, const char *pattern, char *key)
{
    size_t most = hearing->longest + 2, hashes = 0, repeat[HASH_MAX] = {1, 1};

    for (const char *word = pattern; word != NULL; word = strchr(word, '.')) {
        word += *word == '.';
        hashes += word[0] == '#' && (word[1] == '.' || word[1] == 0);
    }
    if (hashes > 1 && most > REPEAT_MAX)
        most = REPEAT_MAX;
    for (size_t i = 0; i < (hashes > 0 ? most : 1); i++) {
        for (size_t k = 0; k < (hashes > 1 ? most : 1); k++) {
            repeat[0] = nth_repeat(i);
            repeat[1] = nth_repeat(k);
            if (make_key(hearing, pattern, repeat, key) && !heard(hearing, key))
                return true;
        }
    }
    return false;
}

void check_queue_keys(struct check *check, const struct config_queue *queue)
{
    struct hearing hearing = {.check = check, .queue = queue};
    char key[KEY_MAX + 1];

    if (hearing_init(&hearing) != 0)
        check->no_memory = true;
    for (size_t i = 0; i < queue->bindings.count && !check->no_memory; i++) {
        const struct config_binding *binding = &queue->bindings.items[i];
        enum route_type type = route_type_of(check->config, binding->exchange);
        bool any_key = type == ROUTE_FANOUT || type == ROUTE_HEADERS || type == ROUTE_PLUGIN;
        bool found;

        if (type == ROUTE_UNKNOWN && binding->pattern[0] == 0)
            continue; /* direct or fanout: who knows */
        if (type == ROUTE_DIRECT) {
            found = !heard(&hearing, binding->pattern);
            snprintf(key, sizeof(key), "%s", binding->pattern);
        } else {
            found = find_unheard(&hearing, any_key ? "#" : binding->pattern, key);
        }
        if (found && (strcmp(key, binding->pattern) == 0 || type == ROUTE_DIRECT))
            check_warn(check, &queue->where, binding->line,
                       "bind = %s %s: no listener of this queue hears that key: its messages go to the dead letters",
                       binding->exchange, binding->pattern);
        else if (found)
            check_warn(check, &queue->where, binding->line,
                       "bind = %s%s%s: lets keys through that no listener of this queue hears, such as \"%s\": such "
                       "messages go to the dead letters",
                       binding->exchange, binding->pattern[0] ? " " : "", binding->pattern, key);
    }
    topic_tree_free(hearing.tree);
}

/* ---- the other way round ---- */

/* An internal exchange gets only what others pass on. */
static bool fed(const struct config *config, const char *exchange, struct route_key on, unsigned depth)
{
    const struct config_exchange *section = config_find_exchange(config, exchange);

    if (section == NULL || !section->internal || section->declare != CONFIG_DECLARE_YES || depth > 16)
        return true;
    for (size_t i = 0; i < section->bindings.count; i++) {
        const struct config_binding *binding = &section->bindings.items[i];

        if (route_passes(route_type_of(config, binding->exchange), binding->pattern, on) != 0 &&
            fed(config, binding->exchange, on, depth + 1))
            return true;
    }
    return false;
}

static bool reachable(const struct config *config, const struct config_queue *queue, struct route_key on)
{
    if (queue->declare != CONFIG_DECLARE_YES || strcmp(queue->name, config->general.dead_letter_queue) == 0)
        return true; /* others bind it, or harkd does */
    if (topic_matches(span_str(on.text), span_str(queue->name)))
        return true; /* through the default exchange */
    for (size_t i = 0; i < queue->bindings.count; i++) {
        const struct config_binding *binding = &queue->bindings.items[i];

        if (route_passes(route_type_of(config, binding->exchange), binding->pattern, on) != 0 &&
            fed(config, binding->exchange, on, 0))
            return true;
    }
    return false;
}

void check_listener_keys(struct check *check, const struct config_listener *listener)
{
    int line = config_line(&listener->where, "on");
    size_t dead = 0;

    for (size_t i = 0; i < listener->on.count; i++) {
        struct route_key on = {listener->on.items[i], true};
        bool found = false;

        for (size_t k = 0; k < listener->queue_count; k++)
            found |= reachable(check->config, listener->queues[k], on);
        if (found)
            continue;
        dead++;
        check_warn(check, &listener->where, line, "on = %s: no binding of its queue%s %s%s lets such a key through",
                   on.text, listener->queue_count > 1 ? "s" : "", listener->queues[0]->name,
                   listener->queue_count > 1 ? " ..." : "");
    }
    if (dead > 1 && dead == listener->on.count)
        check_warn(check, &listener->where, line, "it can never run: none of its patterns can be reached");
}
