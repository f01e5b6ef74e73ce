/* SPDX-License-Identifier: MIT */
/* Topic patterns: the tree agrees with matching one pattern at a time. Input: lines of patterns,
 * the last line is the key. */
#include "wire/topic.h"

#include <stdlib.h>
#include <string.h>

#define FUZZ_PATTERNS 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct topic_tree *tree = topic_tree_new();
    struct span patterns[FUZZ_PATTERNS], key = {0};
    uint32_t values[FUZZ_PATTERNS], count = 0;
    size_t found, at = 0;

    if (tree == NULL || size > 4096) {
        topic_tree_free(tree);
        return 0;
    }
    for (;;) {
        const uint8_t *end = size > at ? memchr(data + at, '\n', size - at) : NULL;

        key = span_of(data + at, end != NULL ? (size_t)(end - data) - at : size - at);
        if (key.length > 255)
            key.length = 255;
        if (end == NULL || count == FUZZ_PATTERNS)
            break;
        patterns[count] = key;
        if (topic_tree_add(tree, key, count) != 0)
            abort();
        count++;
        at = (size_t)(end - data) + 1;
    }
    found = topic_tree_match(tree, key, values, FUZZ_PATTERNS);
    for (uint32_t i = 0, next = 0; i < count; i++) {
        bool in_tree = next < found && values[next] == i;

        if (in_tree != topic_matches(patterns[i], key))
            abort();
        next += in_tree;
        /* Two patterns that match one key overlap. */
        for (uint32_t k = 0; k < count && in_tree; k++)
            if (topic_matches(patterns[k], key) && !topic_overlap(patterns[k], patterns[i]))
                abort();
    }
    /* Asked again, it gives the same answer; and without its patterns, none. */
    if (topic_tree_match(tree, key, values, FUZZ_PATTERNS) != found)
        abort();
    for (uint32_t i = 0; i < count; i++)
        if (topic_tree_remove(tree, patterns[i], i) != 0 || topic_tree_remove(tree, patterns[i], i) == 0)
            abort();
    if (topic_tree_match(tree, key, values, FUZZ_PATTERNS) != 0)
        abort();
    topic_tree_free(tree);
    return 0;
}
