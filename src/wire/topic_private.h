/* SPDX-License-Identifier: MIT */
/* What topic.c (the tree) and topic_match.c (looking keys up in it) share; nobody else includes it.
 */
#ifndef WIRE_TOPIC_PRIVATE_H
#define WIRE_TOPIC_PRIVATE_H

#include "wire/topic.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define NOWHERE UINT32_MAX
#define CACHE_SIZE 128
#define CACHE_KEY 94
#define CACHE_VALUES 5

/* A place in the tree: the words from the root to here are a pattern's beginning. Children by word
 * are in the tree's edge table; node 0 is the root, which is never given back. */
struct topic_node {
    uint64_t mark;        /* the step in which it was last put into the set */
    uint32_t star, hash;  /* children by * and #, NOWHERE: none */
    uint32_t literals;    /* children by word */
    uint32_t value_count; /* ascending; one that was added twice stands twice */
    uint32_t *values;
    uint8_t *word; /* a literal's own; NULL: the root, * or # */
    uint32_t word_length;
    uint32_t parent; /* of a node that is free: the next one that is */
    bool is_hash;    /* reached by #: stays when a word is read */
};

struct topic_edge {
    uint64_t hash;
    uint32_t from, to; /* to NOWHERE: free */
};

/* A key's whole answer, while `version` is the tree's. 128 bytes. */
struct topic_cached {
    uint64_t version;
    uint32_t values[CACHE_VALUES];
    uint8_t count, length;
    uint8_t key[CACHE_KEY];
};

struct topic_tree {
    struct topic_node *nodes;
    uint32_t node_count, node_capacity;
    uint32_t free_nodes;      /* a list, NOWHERE: empty */
    struct topic_edge *edges; /* open addressing, linear, a power of two, at most half full */
    size_t edge_count, edge_size;
    uint64_t seed; /* so that strangers cannot choose words that collide */
    uint64_t mark;
    uint64_t version; /* changes with the patterns; never 0 */
    size_t value_count;
    uint32_t *set, *next;       /* room for all nodes */
    uint32_t *found;            /* room for all values */
    struct topic_cached *cache; /* NULL until the first key, and without memory */
};

/* The words of a key or pattern. An empty text has none; "a." has two, of which one is empty: as
 * RabbitMQ does. */
struct topic_words {
    struct span rest;
    bool more;
};

static inline struct topic_words topic_words(struct span text)
{
    return (struct topic_words){.rest = text, .more = text.length > 0};
}

static inline bool topic_word(struct topic_words *words, struct span *word)
{
    const uint8_t *at = words->rest.data, *end;

    if (!words->more)
        return false;
    end = at + words->rest.length;
    while (at < end && *at != '.') /* words are too short for memchr to pay */
        at++;
    *word = span_of(words->rest.data, (size_t)(at - words->rest.data));
    words->more = at < end;
    if (words->more)
        at++;
    words->rest = span_of(at, (size_t)(end - at));
    return true;
}

static inline uint64_t topic_hash(const struct topic_tree *tree, struct span word)
{
    return XXH3_64bits_withSeed(word.data, word.length, tree->seed);
}

static inline size_t topic_edge_home(const struct topic_tree *tree, uint32_t from, uint64_t hash)
{
    return (size_t)((hash ^ from * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu >> 32) & (tree->edge_size - 1);
}

/* Where the edge from `from` by a word of this hash stands, or the free place where it would. */
static inline size_t topic_edge(const struct topic_tree *tree, uint32_t from, struct span word, uint64_t hash)
{
    for (size_t at = topic_edge_home(tree, from, hash);; at = (at + 1) & (tree->edge_size - 1)) {
        const struct topic_edge *edge = &tree->edges[at];

        if (edge->to == NOWHERE)
            return at;
        if (edge->hash == hash && edge->from == from) {
            const struct topic_node *node = &tree->nodes[edge->to];

            if (span_equal(span_of(node->word, node->word_length), word))
                return at;
        }
    }
}

#endif
