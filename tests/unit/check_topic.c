/* SPDX-License-Identifier: MIT */
/* Topic patterns: as RabbitMQ matches them, in a tree and one by one, through any order of adding
 * and removing. */
#include "wire/topic.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

#define PATTERNS_MAX 400

static struct topic_tree *tree;
static uint32_t values[PATTERNS_MAX];

static void setup(void)
{
    tree = topic_tree_new();
    ck_assert_ptr_nonnull(tree);
}

static void teardown(void)
{
    topic_tree_free(tree);
}

static void add(const char *pattern, uint32_t value)
{
    ck_assert_int_eq(topic_tree_add(tree, span_str(pattern), value), 0);
}

static size_t match(const char *key)
{
    return topic_tree_match(tree, span_str(key), values, HARK_COUNT(values));
}

/* What RabbitMQ 3.10 routes, seen from outside: of these patterns, bound to a topic exchange, those
 * that match. */
static const char *const patterns[] = {"",    "#",    "*",     "*.*",   ".",   "a.",    "a",
                                       "a.#", "#.a",  "a.*",   "*.#",   "#.*", "..",    "#.",
                                       ".#",  "a..b", "a.*.b", "a.#.b", "#.#", "*.#.*", "#.#.*"};
static const struct {
    const char *key, *matching[HARK_COUNT(patterns)];
} observed[] = {
    {"", {"", "#", "#.#"}},
    {"a", {"#", "*", "a", "a.#", "#.a", "*.#", "#.*", "#.#", "#.#.*"}},
    {".", {"#", "*.*", ".", "*.#", "#.*", "#.", ".#", "#.#", "*.#.*", "#.#.*"}},
    {"a.", {"#", "*.*", "a.", "a.#", "a.*", "*.#", "#.*", "#.", "#.#", "*.#.*", "#.#.*"}},
    {".a", {"#", "*.*", "#.a", "*.#", "#.*", ".#", "#.#", "*.#.*", "#.#.*"}},
    {"..", {"#", "*.#", "#.*", "..", "#.", ".#", "#.#", "*.#.*", "#.#.*"}},
    {"a.b", {"#", "*.*", "a.#", "a.*", "*.#", "#.*", "a.#.b", "#.#", "*.#.*", "#.#.*"}},
    {"a..b", {"#", "a.#", "*.#", "#.*", "a..b", "a.*.b", "a.#.b", "#.#", "*.#.*", "#.#.*"}},
    {"a.a", {"#", "*.*", "a.#", "#.a", "a.*", "*.#", "#.*", "#.#", "*.#.*", "#.#.*"}},
    {"b.a", {"#", "*.*", "#.a", "*.#", "#.*", "#.#", "*.#.*", "#.#.*"}},
};

static bool is_observed(size_t key, const char *pattern)
{
    for (const char *const *at = observed[key].matching; *at != NULL; at++)
        if (strcmp(*at, pattern) == 0)
            return true;
    return false;
}

START_TEST(test_as_rabbitmq)
{
    for (uint32_t i = 0; i < HARK_COUNT(patterns); i++)
        add(patterns[i], i);
    for (size_t k = 0; k < HARK_COUNT(observed); k++) {
        for (int twice = 0; twice < 2; twice++) { /* the second time it comes from the cache */
            size_t found = match(observed[k].key), next = 0;

            for (uint32_t i = 0; i < HARK_COUNT(patterns); i++) {
                bool expected = is_observed(k, patterns[i]), in_tree = next < found && values[next] == i;

                ck_assert_msg(in_tree == expected, "tree: \"%s\" against \"%s\"", patterns[i], observed[k].key);
                ck_assert_msg(topic_matches(span_str(patterns[i]), span_str(observed[k].key)) == expected,
                              "alone: \"%s\" against \"%s\"", patterns[i], observed[k].key);
                next += in_tree;
            }
            ck_assert_uint_eq(next, found);
        }
    }
}
END_TEST

START_TEST(test_values)
{
    add("a.b", 7);
    add("a.*", 3);
    add("#", 7);
    add("a.b", 1);
    add("a.b", 7);
    ck_assert_uint_eq(match("a.b"), 3);
    ck_assert_uint_eq(values[0], 1);
    ck_assert_uint_eq(values[1], 3);
    ck_assert_uint_eq(values[2], 7);
    values[1] = 99;
    ck_assert_uint_eq(topic_tree_match(tree, span_str("a.b"), values, 1), 3);
    ck_assert_uint_eq(values[0], 1);
    ck_assert_uint_eq(values[1], 99);
    ck_assert_uint_eq(topic_tree_match(tree, span_str("a.b"), NULL, 0), 3);
    /* 7 was added twice to a.b, and is behind # */
    ck_assert_int_eq(topic_tree_remove(tree, span_str("a.b"), 7), 0);
    ck_assert_int_eq(topic_tree_remove(tree, span_str("#"), 7), 0);
    ck_assert_uint_eq(match("a.b"), 3);
    ck_assert_int_eq(topic_tree_remove(tree, span_str("a.b"), 7), 0);
    ck_assert_uint_eq(match("a.b"), 2);
    ck_assert_int_eq(topic_tree_remove(tree, span_str("a.b"), 7), -1);
    ck_assert_int_eq(topic_tree_remove(tree, span_str("a"), 1), -1);
    ck_assert_int_eq(topic_tree_remove(tree, span_str("a.b.c"), 1), -1);
    ck_assert_int_eq(topic_tree_remove(tree, span_str("a.#"), 3), -1);
}
END_TEST

START_TEST(test_many_values_for_one_key)
{
    for (uint32_t i = 0; i < 300; i++)
        add(i % 3 == 0 ? "#" : i % 3 == 1 ? "a.*" : "*.b", (i * 7) % 300);
    ck_assert_uint_eq(match("a.b"), 300);
    for (uint32_t i = 0; i < 300; i++)
        ck_assert_uint_eq(values[i], i);
}
END_TEST

START_TEST(test_change_is_seen)
{
    add("a.b", 1);
    ck_assert_uint_eq(match("a.b"), 1);
    add("a.#", 2);
    ck_assert_uint_eq(match("a.b"), 2);
    ck_assert_int_eq(topic_tree_remove(tree, span_str("a.b"), 1), 0);
    ck_assert_uint_eq(match("a.b"), 1);
    ck_assert_uint_eq(values[0], 2);
}
END_TEST

START_TEST(test_long_key)
{
    char key[256];

    memset(key, 'k', 255);
    key[255] = 0;
    add("*", 1);
    add(key, 2);
    ck_assert_uint_eq(match(key), 2);
    ck_assert_uint_eq(match(key), 2);
    key[254] = 'x';
    ck_assert_uint_eq(match(key), 1);
    for (int i = 1; i < 255; i += 2)
        key[i] = '.';
    ck_assert_uint_eq(match(key), 0);
    add("#", 3);
    ck_assert_uint_eq(match(key), 1);
}
END_TEST

/* Out of `a b c * #` and the empty word; patterns and keys that have much in common. */
static void random_pattern(char *to, bool is_key)
{
    static const char *const words[] = {"a", "b", "c", "", "*", "#"};
    int count = rand() % 6;

    *to = 0;
    for (int i = 0; i < count; i++) {
        strcat(to, words[rand() % (is_key ? 4 : 6)]);
        if (i + 1 < count)
            strcat(to, ".");
    }
}

/* The definition, without any cleverness. NULL: no words left. */
static bool matches_slowly(const char *pattern, const char *key)
{
    size_t length, key_length;
    const char *rest, *key_rest;

    if (pattern == NULL)
        return key == NULL;
    length = strcspn(pattern, ".");
    rest = pattern[length] == '.' ? pattern + length + 1 : NULL;
    if (length == 1 && *pattern == '#' && matches_slowly(rest, key))
        return true;
    if (key == NULL)
        return false;
    key_length = strcspn(key, ".");
    key_rest = key[key_length] == '.' ? key + key_length + 1 : NULL;
    if (length == 1 && *pattern == '#')
        return matches_slowly(pattern, key_rest);
    if (length == 1 && *pattern == '*')
        return matches_slowly(rest, key_rest);
    return length == key_length && memcmp(pattern, key, length) == 0 && matches_slowly(rest, key_rest);
}

static bool slowly(const char *pattern, const char *key)
{
    return matches_slowly(*pattern ? pattern : NULL, *key ? key : NULL);
}

START_TEST(test_coming_and_going)
{
    static char present[PATTERNS_MAX][24];
    bool there[PATTERNS_MAX] = {false};
    char key[24];

    srand(1);
    for (int round = 0; round < 6000; round++) {
        uint32_t i = (uint32_t)rand() % (round < 4000 ? PATTERNS_MAX : 10);
        size_t found, next = 0;

        if (there[i]) {
            ck_assert_int_eq(topic_tree_remove(tree, span_str(present[i]), i), 0);
        } else {
            random_pattern(present[i], false);
            add(present[i], i);
        }
        there[i] = !there[i];
        if (round % 10 != 0)
            continue;
        random_pattern(key, true);
        found = match(key);
        for (i = 0; i < PATTERNS_MAX; i++) {
            bool in_tree = next < found && values[next] == i;

            ck_assert_msg(in_tree == (there[i] && slowly(present[i], key)), "\"%s\" against \"%s\"", present[i], key);
            next += in_tree;
        }
    }
}
END_TEST

START_TEST(test_alone)
{
    char pattern[24], key[24];

    srand(2);
    for (int round = 0; round < 20000; round++) {
        random_pattern(pattern, false);
        random_pattern(key, true);
        ck_assert_msg(topic_matches(span_str(pattern), span_str(key)) == slowly(pattern, key), "\"%s\" against \"%s\"",
                      pattern, key);
    }
}
END_TEST

/* Every key of up to five words out of those that the patterns have, and one that they do not. */
static bool overlap_slowly(const char *a, const char *b)
{
    static const char *const words[] = {"a", "b", "x"};

    for (int count = 0; count <= 5; count++) {
        int all = 1;

        for (int i = 0; i < count; i++)
            all *= 3;
        for (int n = 0; n < all; n++) {
            char key[24] = "";

            for (int i = 0, rest = n; i < count; i++, rest /= 3) {
                strcat(key, words[rest % 3]);
                if (i + 1 < count)
                    strcat(key, ".");
            }
            if (topic_matches(span_str(a), span_str(key)) && topic_matches(span_str(b), span_str(key)))
                return true;
        }
    }
    return false;
}

START_TEST(test_overlap)
{
    static const char *const some[] = {"",      "#",     "*",     "a",     "b",     "a.#",     "#.a",   "a.*",
                                       "*.b",   "a.b",   "*.*",   "a.#.b", "*.#",   "#.*",     "#.a.#", "*.a.*",
                                       "a.*.b", "#.b.a", "a.a.a", "#.*.#", "b.#.b", "*.*.*.a", "b.b",   "#.a.*.b"};

    for (size_t i = 0; i < HARK_COUNT(some); i++)
        for (size_t k = 0; k < HARK_COUNT(some); k++)
            ck_assert_msg(topic_overlap(span_str(some[i]), span_str(some[k])) == overlap_slowly(some[i], some[k]),
                          "\"%s\" and \"%s\"", some[i], some[k]);
}
END_TEST

/* Patterns made to be slow: without the marks this would take longer than anybody waits. */
START_TEST(test_made_to_be_slow)
{
    char pattern[256] = "", key[256] = "";

    for (int i = 0; i < 63; i++) {
        strcat(pattern, "#.a.");
        strcat(key, "a.a.");
    }
    strcat(pattern, "b");
    strcat(key, "c");
    add(pattern, 1);
    add("#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.c", 2);
    ck_assert_uint_eq(match(key), 1);
    ck_assert_uint_eq(values[0], 2);
    ck_assert(!topic_matches(span_str(pattern), span_str(key)));
    ck_assert(!topic_overlap(span_str(pattern), span_str(key)));
    ck_assert(topic_overlap(span_str(pattern), span_str("#.b")));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("topic");
    TCase *tests = tcase_create("topic");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_as_rabbitmq);
    tcase_add_test(tests, test_values);
    tcase_add_test(tests, test_many_values_for_one_key);
    tcase_add_test(tests, test_change_is_seen);
    tcase_add_test(tests, test_long_key);
    tcase_add_test(tests, test_coming_and_going);
    tcase_add_test(tests, test_alone);
    tcase_add_test(tests, test_overlap);
    tcase_add_test(tests, test_made_to_be_slow);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
