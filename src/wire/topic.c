/* SPDX-License-Identifier: MIT */
#include "wire/topic_private.h"

#include <stdlib.h>

/* ---- edges ---- */

static int edges_grow(struct topic_tree *tree)
{
    struct topic_edge *old = tree->edges;
    size_t old_size = tree->edge_size, size = old_size == 0 ? 32 : 2 * old_size;
    struct topic_edge *edges = malloc(size * sizeof(*edges));

    if (edges == NULL)
        return -1;
    for (size_t i = 0; i < size; i++)
        edges[i].to = NOWHERE;
    tree->edges = edges;
    tree->edge_size = size;
    for (size_t i = 0; i < old_size; i++) {
        size_t at;

        if (old[i].to == NOWHERE)
            continue;
        at = topic_edge_home(tree, old[i].from, old[i].hash);
        while (edges[at].to != NOWHERE)
            at = (at + 1) & (size - 1);
        edges[at] = old[i];
    }
    free(old);
    return 0;
}

/* Frees a place and moves those behind it up that would not be found any more. */
static void edge_remove(struct topic_tree *tree, size_t at)
{
    size_t mask = tree->edge_size - 1, next = at;

    tree->edges[at].to = NOWHERE;
    tree->edge_count--;
    for (;;) {
        struct topic_edge *edge = &tree->edges[next = (next + 1) & mask];

        if (edge->to == NOWHERE)
            return;
        if (((next - topic_edge_home(tree, edge->from, edge->hash)) & mask) < ((next - at) & mask))
            continue;
        tree->edges[at] = *edge;
        edge->to = NOWHERE;
        at = next;
    }
}

/* ---- nodes ---- */

static int nodes_grow(struct topic_tree *tree)
{
    uint32_t capacity = tree->node_capacity == 0 ? 16 : 2 * tree->node_capacity;
    struct topic_node *nodes;
    uint32_t *set;

    if (capacity > NOWHERE / 2)
        return -1;
    nodes = realloc(tree->nodes, capacity * sizeof(*nodes));
    if (nodes == NULL)
        return -1;
    tree->nodes = nodes;
    set = realloc(tree->set, capacity * sizeof(*set));
    if (set == NULL)
        return -1;
    tree->set = set;
    set = realloc(tree->next, capacity * sizeof(*set));
    if (set == NULL)
        return -1;
    tree->next = set;
    tree->node_capacity = capacity;
    return 0;
}

static uint32_t node_new(struct topic_tree *tree, uint32_t parent)
{
    uint32_t node = tree->free_nodes;

    if (node != NOWHERE) {
        tree->free_nodes = tree->nodes[node].parent;
    } else {
        if (tree->node_count == tree->node_capacity && nodes_grow(tree) != 0)
            return NOWHERE;
        node = tree->node_count++;
    }
    tree->nodes[node] = (struct topic_node){.star = NOWHERE, .hash = NOWHERE, .parent = parent};
    return node;
}

static void node_free(struct topic_tree *tree, uint32_t node)
{
    free(tree->nodes[node].values);
    free(tree->nodes[node].word);
    tree->nodes[node] = (struct topic_node){.parent = tree->free_nodes};
    tree->free_nodes = node;
}

/* Gives back what leads to no pattern any more, from the end of a branch on. */
static void node_prune(struct topic_tree *tree, uint32_t node)
{
    while (node != 0) {
        struct topic_node *leaf = &tree->nodes[node], *parent = &tree->nodes[leaf->parent];
        uint32_t next = leaf->parent;

        if (leaf->value_count > 0 || leaf->literals > 0 || leaf->star != NOWHERE || leaf->hash != NOWHERE)
            return;
        if (leaf->word != NULL) {
            struct span word = span_of(leaf->word, leaf->word_length);

            edge_remove(tree, topic_edge(tree, next, word, topic_hash(tree, word)));
            parent->literals--;
        } else if (leaf->is_hash) {
            parent->hash = NOWHERE;
        } else {
            parent->star = NOWHERE;
        }
        node_free(tree, node);
        node = next;
    }
}

static uint32_t literal_new(struct topic_tree *tree, uint32_t from, struct span word)
{
    uint64_t hash = topic_hash(tree, word);
    uint32_t node;
    uint8_t *copy;

    if (2 * (tree->edge_count + 1) > tree->edge_size && edges_grow(tree) != 0)
        return NOWHERE;
    copy = malloc(word.length + 1); /* an empty word, too, is one */
    if (copy == NULL)
        return NOWHERE;
    node = node_new(tree, from);
    if (node == NOWHERE) {
        free(copy);
        return NOWHERE;
    }
    memcpy(copy, word.data, word.length);
    tree->edges[topic_edge(tree, from, word, hash)] = (struct topic_edge){.hash = hash, .from = from, .to = node};
    tree->edge_count++;
    tree->nodes[node].word = copy;
    tree->nodes[node].word_length = (uint32_t)word.length;
    tree->nodes[from].literals++;
    return node;
}

/* The child that a pattern's word leads to; NOWHERE: none. */
static uint32_t node_child(const struct topic_tree *tree, uint32_t from, struct span word)
{
    if (span_is(word, "*"))
        return tree->nodes[from].star;
    if (span_is(word, "#"))
        return tree->nodes[from].hash;
    return tree->edges[topic_edge(tree, from, word, topic_hash(tree, word))].to;
}

static uint32_t node_child_new(struct topic_tree *tree, uint32_t from, struct span word)
{
    bool is_hash = span_is(word, "#");
    uint32_t node;

    if (!is_hash && !span_is(word, "*"))
        return literal_new(tree, from, word);
    node = node_new(tree, from);
    if (node == NOWHERE)
        return NOWHERE;
    tree->nodes[node].is_hash = is_hash;
    *(is_hash ? &tree->nodes[from].hash : &tree->nodes[from].star) = node;
    return node;
}

/* ---- the tree ---- */

struct topic_tree *topic_tree_new(void)
{
    struct topic_tree *tree = calloc(1, sizeof(*tree));

    if (tree == NULL)
        return NULL;
    tree->free_nodes = NOWHERE;
    tree->version = 1;
    tree->seed = (uintptr_t)tree * 0x9e3779b97f4a7c15u;
    if (edges_grow(tree) == 0 && node_new(tree, NOWHERE) == 0)
        return tree;
    topic_tree_free(tree);
    return NULL;
}

void topic_tree_free(struct topic_tree *tree)
{
    if (tree == NULL)
        return;
    for (uint32_t i = 0; i < tree->node_count; i++) {
        free(tree->nodes[i].values);
        free(tree->nodes[i].word);
    }
    free(tree->nodes);
    free(tree->edges);
    free(tree->set);
    free(tree->next);
    free(tree->found);
    free(tree->cache);
    free(tree);
}

/* Room for one more value at the node, and for it among all that a key may find. */
static int values_grow(struct topic_tree *tree, struct topic_node *node)
{
    uint32_t *values;

    if ((node->value_count & (node->value_count - 1)) == 0) { /* 0, 1, 2, 4 ...: full */
        values = realloc(node->values, (node->value_count == 0 ? 1 : 2 * (size_t)node->value_count) * sizeof(*values));
        if (values == NULL)
            return -1;
        node->values = values;
    }
    if ((tree->value_count & (tree->value_count - 1)) == 0) {
        values = realloc(tree->found, (tree->value_count == 0 ? 1 : 2 * tree->value_count) * sizeof(*values));
        if (values == NULL)
            return -1;
        tree->found = values;
    }
    return 0;
}

/* The first place whose value is not smaller. */
static uint32_t value_place(const struct topic_node *node, uint32_t value)
{
    uint32_t low = 0, high = node->value_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (node->values[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int topic_tree_add(struct topic_tree *tree, struct span pattern, uint32_t value)
{
    struct topic_words words = topic_words(pattern);
    struct topic_node *node;
    struct span word;
    uint32_t at = 0, place;

    while (topic_word(&words, &word)) {
        uint32_t child = node_child(tree, at, word);

        if (child == NOWHERE)
            child = node_child_new(tree, at, word);
        if (child == NOWHERE) {
            node_prune(tree, at);
            return -1;
        }
        at = child;
    }
    node = &tree->nodes[at];
    if (values_grow(tree, node) != 0) {
        node_prune(tree, at);
        return -1;
    }
    place = value_place(node, value);
    memmove(&node->values[place + 1], &node->values[place], (node->value_count - place) * sizeof(value));
    node->values[place] = value;
    node->value_count++;
    tree->value_count++;
    tree->version++;
    return 0;
}

int topic_tree_remove(struct topic_tree *tree, struct span pattern, uint32_t value)
{
    struct topic_words words = topic_words(pattern);
    struct topic_node *node;
    struct span word;
    uint32_t at = 0, place;

    while (topic_word(&words, &word)) {
        at = node_child(tree, at, word);
        if (at == NOWHERE)
            return -1;
    }
    node = &tree->nodes[at];
    place = value_place(node, value);
    if (place == node->value_count || node->values[place] != value)
        return -1;
    node->value_count--;
    memmove(&node->values[place], &node->values[place + 1], (node->value_count - place) * sizeof(value));
    tree->value_count--;
    tree->version++;
    node_prune(tree, at);
    return 0;
}
