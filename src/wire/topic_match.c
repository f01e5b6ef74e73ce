/* SPDX-License-Identifier: MIT */
/*
 * Looking a key up: all patterns at once, as a set of places in the tree that moves with each word
 * of the key. A place stands in the set once, however many ways lead there, so `#.#.#` costs no
 * more than its nodes.
 *
 * Few keys make up most of the traffic: a small table, thrown away whenever a pattern comes or
 * goes, has the answers for those seen last.
 */
#include "wire/topic_private.h"

#include <stdlib.h>

/* Into the set of this step, once, and with it what # matching no word at all leads to. */
static inline uint32_t set_put(struct topic_tree *tree, uint32_t *set, uint32_t count, uint32_t node)
{
    while (node != NOWHERE && tree->nodes[node].mark != tree->mark) {
        tree->nodes[node].mark = tree->mark;
        set[count++] = node;
        node = tree->nodes[node].hash;
    }
    return count;
}

/* One word on. */
static uint32_t set_step(struct topic_tree *tree, const uint32_t *set, uint32_t count, uint32_t *next, struct span word)
{
    uint64_t hash = topic_hash(tree, word);
    uint32_t next_count = 0;

    tree->mark++;
    for (uint32_t i = 0; i < count; i++) {
        const struct topic_node *node = &tree->nodes[set[i]];

        if (node->is_hash)
            next_count = set_put(tree, next, next_count, set[i]);
        next_count = set_put(tree, next, next_count, node->star);
        if (node->literals > 0)
            next_count = set_put(tree, next, next_count, tree->edges[topic_edge(tree, set[i], word, hash)].to);
    }
    return next_count;
}

static int values_compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

/* Ascending, each once. */
static size_t values_unique(uint32_t *values, size_t count)
{
    size_t kept = 0;

    for (size_t i = 1; i < count; i++) {
        if (values[i - 1] > values[i]) {
            qsort(values, count, sizeof(*values), values_compare);
            break;
        }
    }
    for (size_t i = 0; i < count; i++)
        if (i == 0 || values[i] != values[kept - 1])
            values[kept++] = values[i];
    return kept;
}

/* All that match, in tree->found. */
static size_t tree_find(struct topic_tree *tree, struct span key)
{
    struct topic_words words = topic_words(key);
    uint32_t *set = tree->set, *next = tree->next, *swap;
    struct span word;
    uint32_t count;
    size_t found = 0;

    tree->mark++;
    count = set_put(tree, set, 0, 0);
    while (count > 0 && topic_word(&words, &word)) {
        count = set_step(tree, set, count, next, word);
        swap = set;
        set = next;
        next = swap;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct topic_node *node = &tree->nodes[set[i]];

        for (uint32_t k = 0; k < node->value_count; k++)
            tree->found[found++] = node->values[k];
    }
    return found > 1 ? values_unique(tree->found, found) : found;
}

static size_t values_give(const uint32_t *found, size_t count, uint32_t *values, size_t size)
{
    size_t given = count < size ? count : size;

    for (size_t i = 0; i < given; i++)
        values[i] = found[i];
    return count;
}

size_t topic_tree_match(struct topic_tree *tree, struct span key, uint32_t *values, size_t size)
{
    struct topic_cached *cached;
    size_t count;

    if (tree->cache == NULL)
        tree->cache = calloc(CACHE_SIZE, sizeof(*tree->cache));
    if (tree->cache == NULL || key.length > CACHE_KEY) {
        count = tree_find(tree, key);
        return values_give(tree->found, count, values, size);
    }
    cached = &tree->cache[topic_hash(tree, key) % CACHE_SIZE];
    if (cached->version == tree->version && span_equal(span_of(cached->key, cached->length), key))
        return values_give(cached->values, cached->count, values, size);
    count = tree_find(tree, key);
    if (count <= CACHE_VALUES) {
        cached->version = tree->version;
        cached->count = (uint8_t)count;
        cached->length = (uint8_t)key.length;
        if (key.length > 0)
            memcpy(cached->key, key.data, key.length);
        values_give(tree->found, count, cached->values, CACHE_VALUES);
    }
    return values_give(tree->found, count, values, size);
}
