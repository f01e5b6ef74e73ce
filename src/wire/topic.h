/* SPDX-License-Identifier: MIT */
/*
 * Topic patterns (AMQP 0-9-1, 3.1.3.3): words separated by dots, `*` is one word, `#` any number,
 * none too. The empty key has no words, so that `#` matches it and `*` does not; what stands
 * between two dots is a word even if it is empty. RabbitMQ does the same.
 *
 * Patterns are compiled into a tree of words; looking a key up costs by the key's words, not by the
 * number of patterns.
 */
#ifndef WIRE_TOPIC_H
#define WIRE_TOPIC_H

#include "base/base.h"
#include "base/span.h"

struct topic_tree;

struct topic_tree *topic_tree_new(void);
void topic_tree_free(struct topic_tree *tree);

/* Adds a pattern with a value of the caller's; the same value may stand behind several patterns. 0,
 * -1: no memory. */
int topic_tree_add(struct topic_tree *tree, struct span pattern, uint32_t value) HARK_MUSTCHECK;
/* Removes one such pair. 0, -1: not there. */
int topic_tree_remove(struct topic_tree *tree, struct span pattern, uint32_t value);

/* The values whose patterns match, each once, ascending; at most `size` are written. Returns how
 * many match. The work is bounded by words times patterns' nodes even for keys and patterns made to
 * be slow. Not reentrant for one tree. */
size_t topic_tree_match(struct topic_tree *tree, struct span key, uint32_t *values, size_t size);

#define TOPIC_WORDS 256 /* a key or pattern, which has at most 255 bytes, has no more */

/* One pattern against one key, without a tree. */
bool topic_matches(struct span pattern, struct span key);
/* True if some key matches both patterns. What comes after TOPIC_WORDS words is not looked at. */
bool topic_overlap(struct span a, struct span b);

#endif
