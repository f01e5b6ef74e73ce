/* SPDX-License-Identifier: MIT */
#include "wire/topic.h"

#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define NOWHERE UINT32_MAX
#define TOPIC_WORDS 256 /* a key of 255 bytes has no more */

/* A place in the tree: what patterns that lead here are for, and the two children that are not words. Children by word are
 * in the tree's edge table. */
struct topic_node {
    uint32_t star, hash; /* children by * and #, NOWHERE: none */
    bool is_hash;        /* reached by #: stays when a word is read */
    uint64_t mark;       /* the step in which it was last put into the set */
    uint32_t *values;
    uint32_t value_count;
};

struct topic_edge {
    uint32_t from, to; /* to NOWHERE: free */
    uint32_t word, word_length; /* in `words` */
    uint64_t hash;
};

struct topic_tree {
    struct topic_node *nodes;
    uint32_t node_count, node_capacity;
    struct topic_edge *edges; /* open addressing, a power of two */
    size_t edge_count, edge_size;
    char *words;
    size_t words_length, words_capacity;
    uint32_t *set, *next; /* room for all nodes */
    uint64_t mark;
};

/* The next word of a key or pattern; false at its end. An empty key is one empty word, as for RabbitMQ. */
static bool topic_word(struct span *rest, bool *more, struct span *word)
{
    const uint8_t *dot;

    if (!*more)
        return false;
    dot = rest->length > 0 ? memchr(rest->data, '.', rest->length) : NULL;
    *word = *rest;
    *more = dot != NULL;
    if (dot != NULL) {
        word->length = (size_t)(dot - rest->data);
        rest->data = dot + 1;
        rest->length -= word->length + 1;
    }
    return true;
}

/* ---- edges ---- */

static uint64_t edge_hash(uint32_t from, struct span word)
{
    return XXH3_64bits_withSeed(word.data, word.length, from);
}

static size_t edge_slot(const struct topic_tree *tree, uint32_t from, struct span word, uint64_t hash)
{
    size_t mask = tree->edge_size - 1, at = (size_t)hash & mask;

    for (;; at = (at + 1) & mask) {
        const struct topic_edge *edge = &tree->edges[at];

        if (edge->to == NOWHERE ||
            (edge->hash == hash && edge->from == from && edge->word_length == word.length &&
             (word.length == 0 || memcmp(tree->words + edge->word, word.data, word.length) == 0)))
            return at;
    }
}

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
        size_t at = (size_t)old[i].hash & (size - 1);

        if (old[i].to == NOWHERE)
            continue;
        while (edges[at].to != NOWHERE)
            at = (at + 1) & (size - 1);
        edges[at] = old[i];
    }
    free(old);
    return 0;
}

static int words_add(struct topic_tree *tree, struct span word, uint32_t *at)
{
    if (tree->words_capacity - tree->words_length < word.length) {
        size_t capacity = 2 * tree->words_capacity + word.length + 256;
        char *words = realloc(tree->words, capacity);

        if (words == NULL)
            return -1;
        tree->words = words;
        tree->words_capacity = capacity;
    }
    if (word.length > 0)
        memcpy(tree->words + tree->words_length, word.data, word.length);
    *at = (uint32_t)tree->words_length;
    tree->words_length += word.length;
    return 0;
}

/* ---- nodes ---- */

static uint32_t node_new(struct topic_tree *tree, bool is_hash)
{
    if (tree->node_count == tree->node_capacity) {
        uint32_t capacity = tree->node_capacity == 0 ? 16 : 2 * tree->node_capacity;
        struct topic_node *nodes = realloc(tree->nodes, capacity * sizeof(*nodes));
        uint32_t *set, *next;

        if (nodes == NULL)
            return NOWHERE;
        tree->nodes = nodes;
        set = realloc(tree->set, capacity * sizeof(*set));
        if (set == NULL)
            return NOWHERE;
        tree->set = set;
        next = realloc(tree->next, capacity * sizeof(*next));
        if (next == NULL)
            return NOWHERE;
        tree->next = next;
        tree->node_capacity = capacity;
    }
    tree->nodes[tree->node_count] = (struct topic_node){.star = NOWHERE, .hash = NOWHERE, .is_hash = is_hash};
    return tree->node_count++;
}

/* The child that a pattern's word leads to; made if `make`. NOWHERE: none, or no memory. */
static uint32_t node_child(struct topic_tree *tree, uint32_t from, struct span word, bool make)
{
    uint64_t hash;
    uint32_t to, text;
    size_t at;

    if (span_is(word, "*") || span_is(word, "#")) {
        bool is_hash = word.data[0] == '#';

        to = is_hash ? tree->nodes[from].hash : tree->nodes[from].star;
        if (to != NOWHERE || !make)
            return to;
        to = node_new(tree, is_hash);
        if (to != NOWHERE && is_hash)
            tree->nodes[from].hash = to;
        else if (to != NOWHERE)
            tree->nodes[from].star = to;
        return to;
    }
    hash = edge_hash(from, word);
    at = edge_slot(tree, from, word, hash);
    if (tree->edges[at].to != NOWHERE || !make)
        return tree->edges[at].to;
    if (2 * (tree->edge_count + 1) > tree->edge_size) {
        if (edges_grow(tree) != 0)
            return NOWHERE;
        at = edge_slot(tree, from, word, hash);
    }
    if (words_add(tree, word, &text) != 0)
        return NOWHERE;
    to = node_new(tree, false);
    if (to == NOWHERE)
        return NOWHERE;
    tree->edges[at] = (struct topic_edge){
        .from = from, .to = to, .word = text, .word_length = (uint32_t)word.length, .hash = hash};
    tree->edge_count++;
    return to;
}

static uint32_t node_of(struct topic_tree *tree, struct span pattern, bool make)
{
    struct span rest = pattern, word;
    bool more = true;
    uint32_t node = 0;

    while (node != NOWHERE && topic_word(&rest, &more, &word))
        node = node_child(tree, node, word, make);
    return node;
}

/* ---- the tree ---- */

struct topic_tree *topic_tree_new(void)
{
    struct topic_tree *tree = calloc(1, sizeof(*tree));

    if (tree == NULL)
        return NULL;
    if (edges_grow(tree) == 0 && node_new(tree, false) == 0)
        return tree;
    topic_tree_free(tree);
    return NULL;
}

void topic_tree_free(struct topic_tree *tree)
{
    if (tree == NULL)
        return;
    for (uint32_t i = 0; i < tree->node_count; i++)
        free(tree->nodes[i].values);
    free(tree->nodes);
    free(tree->edges);
    free(tree->words);
    free(tree->set);
    free(tree->next);
    free(tree);
}

int topic_tree_add(struct topic_tree *tree, struct span pattern, uint32_t value)
{
    uint32_t at = node_of(tree, pattern, true);
    struct topic_node *node;
    uint32_t *values;

    if (at == NOWHERE)
        return -1;
    node = &tree->nodes[at];
    values = realloc(node->values, (node->value_count + 1) * sizeof(*values));
    if (values == NULL)
        return -1;
    node->values = values;
    values[node->value_count++] = value;
    return 0;
}

int topic_tree_remove(struct topic_tree *tree, struct span pattern, uint32_t value)
{
    uint32_t at = node_of(tree, pattern, false);
    struct topic_node *node;

    if (at == NOWHERE)
        return -1;
    node = &tree->nodes[at];
    for (uint32_t i = 0; i < node->value_count; i++) {
        if (node->values[i] == value) {
            node->values[i] = node->values[--node->value_count];
            return 0;
        }
    }
    return -1;
}

/* Into the set of this step, once, and with it what # matching no word at all leads to. */
static uint32_t set_put(struct topic_tree *tree, uint32_t *set, uint32_t count, uint32_t node)
{
    while (node != NOWHERE && tree->nodes[node].mark != tree->mark) {
        tree->nodes[node].mark = tree->mark;
        set[count++] = node;
        node = tree->nodes[node].hash;
    }
    return count;
}

/* Ascending, each once. The lists are short, and nearly in order. */
static size_t values_put(uint32_t *values, size_t count, size_t size, uint32_t value)
{
    size_t at = count < size ? count : size;

    while (at > 0 && values[at - 1] >= value) {
        if (values[at - 1] == value)
            return count;
        at--;
    }
    if (at < size) {
        size_t moved = (count < size ? count : size - 1) - at;

        memmove(&values[at + 1], &values[at], moved * sizeof(*values));
        values[at] = value;
    }
    return count + 1;
}

size_t topic_tree_match(struct topic_tree *tree, struct span key, uint32_t *values, size_t size)
{
    struct span rest = key, word;
    bool more = true;
    uint32_t *set = tree->set, *next = tree->next, *swap;
    uint32_t count, next_count;
    size_t found = 0;

    tree->mark++;
    count = set_put(tree, set, 0, 0);
    while (count > 0 && topic_word(&rest, &more, &word)) {
        tree->mark++;
        next_count = 0;
        for (uint32_t i = 0; i < count; i++) {
            const struct topic_node *node = &tree->nodes[set[i]];

            if (node->is_hash)
                next_count = set_put(tree, next, next_count, set[i]);
            next_count = set_put(tree, next, next_count, node->star);
            next_count = set_put(tree, next, next_count,
                                 tree->edges[edge_slot(tree, set[i], word, edge_hash(set[i], word))].to);
        }
        swap = set;
        set = next;
        next = swap;
        count = next_count;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct topic_node *node = &tree->nodes[set[i]];

        for (uint32_t k = 0; k < node->value_count; k++)
            found = values_put(values, found, size, node->values[k]);
    }
    return found;
}

/* ---- patterns on their own ---- */

static size_t topic_split(struct span text, struct span *words)
{
    struct span rest = text;
    bool more = true;
    size_t count = 0;

    while (count < TOPIC_WORDS && topic_word(&rest, &more, &words[count]))
        count++;
    return count;
}

enum topic_question { TOPIC_MATCHES, TOPIC_OVERLAP, TOPIC_COVERS };

/* Can word b stand where pattern word a does? For TOPIC_MATCHES, b is plain. */
static bool topic_meets(enum topic_question question, struct span a, struct span b)
{
    if (question != TOPIC_MATCHES && span_is(b, "*"))
        return question == TOPIC_OVERLAP || span_is(a, "*");
    return span_is(a, "*") || span_equal(a, b);
}

/* row[j]: does the rest of a from i on answer the question with the rest of b from j on? Filled from the end. */
static bool topic_ask(enum topic_question question, struct span a, struct span b)
{
    struct span left[TOPIC_WORDS], right[TOPIC_WORDS];
    size_t m = topic_split(a, left), n = topic_split(b, right);
    bool rows[2][TOPIC_WORDS + 1];

    for (size_t i = m + 1; i-- > 0;) {
        bool *row = rows[i & 1];
        const bool *below = rows[(i + 1) & 1];

        for (size_t j = n + 1; j-- > 0;) {
            bool b_is_hash = question != TOPIC_MATCHES && j < n && span_is(right[j], "#");

            if (i == m && j == n)
                row[j] = true;
            else if (i < m && span_is(left[i], "#"))
                row[j] = below[j] || (j < n && row[j + 1]);
            else if (b_is_hash && question == TOPIC_OVERLAP)
                row[j] = row[j + 1] || (i < m && below[j]);
            else
                row[j] = i < m && j < n && !b_is_hash && topic_meets(question, left[i], right[j]) && below[j + 1];
        }
    }
    return rows[0][0];
}

bool topic_matches(struct span pattern, struct span key)
{
    return topic_ask(TOPIC_MATCHES, pattern, key);
}

bool topic_overlap(struct span a, struct span b)
{
    return topic_ask(TOPIC_OVERLAP, a, b);
}

bool topic_covers(struct span wide, struct span narrow)
{
    return topic_ask(TOPIC_COVERS, wide, narrow);
}
