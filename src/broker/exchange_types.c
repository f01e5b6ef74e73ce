/* SPDX-License-Identifier: MIT */
/* Which bindings a message chooses: one ops table for each type of exchange. */
#include "broker/exchange.h"

#include "wire/table.h"

#include <stdlib.h>
#include <utlist.h>

/* ---- direct: a hash by key ---- */

struct direct_key {
    struct binding *first; /* a list; the hash's key is the first's */
    UT_hash_handle hh;
};

static struct direct_key *direct_find(struct exchange *exchange, struct span key)
{
    struct direct_key *found;

    HASH_FIND(hh, exchange->index.direct, key.data, key.length, found);
    return found;
}

static int direct_add(struct exchange *exchange, struct binding *binding)
{
    struct direct_key *key = direct_find(exchange, binding->key);

    if (key == NULL) {
        key = calloc(1, sizeof(*key));
        if (key == NULL)
            return -1;
        DL_APPEND2(key->first, binding, same_prev, same_next);
        HASH_ADD_KEYPTR(hh, exchange->index.direct, binding->key.data, binding->key.length, key);
        if (key->hh.tbl != NULL)
            return 0;
        free(key);
        return -1;
    }
    DL_APPEND2(key->first, binding, same_prev, same_next);
    return 0;
}

static void direct_remove(struct exchange *exchange, struct binding *binding)
{
    struct direct_key *key = direct_find(exchange, binding->key);
    bool keyed = key->first == binding;

    if (keyed)
        HASH_DELETE(hh, exchange->index.direct, key);
    DL_DELETE2(key->first, binding, same_prev, same_next);
    if (!keyed)
        return;
    if (key->first == NULL) {
        free(key);
        return;
    }
    /* The hash's key has to be one that stays. */
    HASH_ADD_KEYPTR(hh, exchange->index.direct, key->first->key.data, key->first->key.length, key);
    if (key->hh.tbl == NULL)
        free(key); /* an entry back into a table that has just shrunk: only an empty table allocates */
}

static void direct_choose(struct exchange *exchange, const struct message *message, struct span key,
                          exchange_chosen chosen, void *arg)
{
    struct direct_key *found = direct_find(exchange, key);

    (void)message;
    for (struct binding *binding = found != NULL ? found->first : NULL; binding != NULL; binding = binding->same_next)
        chosen(arg, binding);
}

static void direct_free(struct exchange *exchange)
{
    struct direct_key *key, *next;

    HASH_ITER (hh, exchange->index.direct, key, next) {
        HASH_DELETE(hh, exchange->index.direct, key);
        free(key);
    }
}

/* ---- fanout ---- */

static void fanout_choose(struct exchange *exchange, const struct message *message, struct span key,
                          exchange_chosen chosen, void *arg)
{
    (void)message;
    (void)key;
    for (struct binding *binding = exchange->bindings; binding != NULL; binding = binding->next)
        chosen(arg, binding);
}

/* ---- topic: a tree of words; its values are numbers, which an array turns into bindings ---- */

#define TOPIC_FIRST 16
#define TOPIC_NO_SPARE UINT32_MAX

static int topic_grow(struct exchange *exchange)
{
    uint32_t size = exchange->index.topic.size == 0 ? TOPIC_FIRST : exchange->index.topic.size * 2;
    struct binding **numbered = realloc(exchange->index.topic.numbered, size * sizeof(struct binding *));
    uint32_t *matched;

    if (numbered == NULL)
        return -1;
    exchange->index.topic.numbered = numbered;
    matched = realloc(exchange->index.topic.matched, size * sizeof(*matched));
    if (matched == NULL)
        return -1;
    exchange->index.topic.matched = matched;
    for (uint32_t i = exchange->index.topic.size; i < size; i++)
        numbered[i] = NULL;
    exchange->index.topic.size = size;
    return 0;
}

static int topic_add(struct exchange *exchange, struct binding *binding)
{
    uint32_t number = exchange->index.topic.spare;

    if (exchange->index.topic.tree == NULL && (exchange->index.topic.tree = topic_tree_new()) == NULL)
        return -1;
    while (number < exchange->index.topic.size && exchange->index.topic.numbered[number] != NULL)
        number++;
    if (number >= exchange->index.topic.size && topic_grow(exchange) != 0)
        return -1;
    if (topic_tree_add(exchange->index.topic.tree, binding->key, number) != 0)
        return -1;
    exchange->index.topic.numbered[number] = binding;
    exchange->index.topic.spare = number + 1; /* all below are taken */
    binding->number = number;
    return 0;
}

static void topic_remove(struct exchange *exchange, struct binding *binding)
{
    topic_tree_remove(exchange->index.topic.tree, binding->key, binding->number);
    exchange->index.topic.numbered[binding->number] = NULL;
    if (binding->number < exchange->index.topic.spare)
        exchange->index.topic.spare = binding->number;
}

static void topic_choose(struct exchange *exchange, const struct message *message, struct span key,
                         exchange_chosen chosen, void *arg)
{
    size_t count;

    (void)message;
    if (exchange->index.topic.tree == NULL)
        return;
    count = topic_tree_match(exchange->index.topic.tree, key, exchange->index.topic.matched,
                             exchange->index.topic.size);
    for (size_t i = 0; i < count; i++)
        chosen(arg, exchange->index.topic.numbered[exchange->index.topic.matched[i]]);
}

static void topic_free(struct exchange *exchange)
{
    if (exchange->index.topic.tree != NULL)
        topic_tree_free(exchange->index.topic.tree);
    free(exchange->index.topic.numbered);
    free(exchange->index.topic.matched);
}

/* ---- headers ---- */

static bool headers_is(struct span name, const char *prefix)
{
    size_t length = strlen(prefix);

    return name.length >= length && memcmp(name.data, prefix, length) == 0;
}

static bool headers_equal(const struct table_entry *wanted, const struct table_entry *given)
{
    int64_t a, b;

    if (wanted->kind == 'V') /* a void argument: the header is there, whatever it is */
        return true;
    if (wanted->kind == 't' || given->kind == 't')
        return wanted->kind == given->kind && (wanted->value.data[0] != 0) == (given->value.data[0] != 0);
    if (table_integer(wanted, &a))
        return table_integer(given, &b) && a == b;
    return wanted->kind == given->kind && span_equal(wanted->value, given->value);
}

/* A message's headers: in order of their names if they are many, so that each is found quickly. */
struct headers {
    struct span table;
    struct table_entry *sorted; /* NULL: few, or no memory */
    size_t count;
};

#define HEADERS_FEW 16

static int headers_compare(const void *a, const void *b)
{
    const struct table_entry *left = a, *right = b;
    size_t least = left->name.length < right->name.length ? left->name.length : right->name.length;
    int order = least > 0 ? memcmp(left->name.data, right->name.data, least) : 0;

    if (order == 0)
        order = (left->name.length > right->name.length) - (left->name.length < right->name.length);
    if (order == 0) /* the first of a name is the one that counts */
        order = (left->whole.data > right->whole.data) - (left->whole.data < right->whole.data);
    return order;
}

static void headers_sort(struct headers *headers, struct span table)
{
    struct table_entry entry;
    size_t cursor = 0, count = 0;

    *headers = (struct headers){.table = table};
    while (table_next(table, &cursor, &entry))
        count++;
    if (HARK_LIKELY(count <= HEADERS_FEW))
        return;
    headers->sorted = malloc(count * sizeof(*headers->sorted));
    if (headers->sorted == NULL)
        return;
    for (cursor = 0; table_next(table, &cursor, &entry);)
        headers->sorted[headers->count++] = entry;
    qsort(headers->sorted, headers->count, sizeof(*headers->sorted), headers_compare);
}

static bool headers_find(const struct headers *headers, struct span name, struct table_entry *entry)
{
    struct table_entry wanted = {.name = name}; /* before all that have it */
    size_t low = 0, high = headers->count;

    if (HARK_LIKELY(headers->sorted == NULL))
        return table_find(headers->table, name, entry);
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (headers_compare(&headers->sorted[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == headers->count || !span_equal(headers->sorted[low].name, name))
        return false;
    *entry = headers->sorted[low];
    return true;
}

/* x-match: all, any: arguments that begin with x- do not count; all-with-x, any-with-x: they do, but for x-match. */
static bool headers_match(struct span arguments, const struct headers *headers)
{
    struct table_entry wanted, given;
    bool all = true, with_x = false;
    size_t cursor = 0;

    if (table_find(arguments, span_str("x-match"), &wanted) && wanted.kind == 'S') {
        all = headers_is(wanted.value, "all");
        with_x = span_is(wanted.value, "all-with-x") || span_is(wanted.value, "any-with-x");
    }
    while (table_next(arguments, &cursor, &wanted)) {
        bool equal;

        if (span_is(wanted.name, "x-match") || (!with_x && headers_is(wanted.name, "x-")))
            continue;
        equal = headers_find(headers, wanted.name, &given) && headers_equal(&wanted, &given);
        if (equal != all)
            return !all;
    }
    return all;
}

static void headers_choose(struct exchange *exchange, const struct message *message, struct span key,
                           exchange_chosen chosen, void *arg)
{
    struct headers headers;

    (void)key;
    if (exchange->bindings == NULL)
        return;
    headers_sort(&headers, message->properties.headers);
    for (struct binding *binding = exchange->bindings; binding != NULL; binding = binding->next)
        if (headers_match(binding->arguments, &headers))
            chosen(arg, binding);
    free(headers.sorted);
}

static int headers_check(struct span arguments, struct reply *error)
{
    struct table_entry entry;

    if (!table_find(arguments, span_str("x-match"), &entry))
        return 0;
    if (entry.kind != 'S')
        return reply_set(error, REPLY_PRECONDITION_FAILED, 0, "Invalid x-match field type; expected longstr");
    if (span_is(entry.value, "all") || span_is(entry.value, "any") || span_is(entry.value, "all-with-x") ||
        span_is(entry.value, "any-with-x"))
        return 0;
    return reply_set(error, REPLY_PRECONDITION_FAILED, 0,
                     "Invalid x-match field value <<\"%.*s\">>; expected all, any, all-with-x, or any-with-x",
                     (int)(entry.value.length < 80 ? entry.value.length : 80), (const char *)entry.value.data);
}

static const struct exchange_type exchange_types[] = {
    {.name = "direct", .add = direct_add, .remove = direct_remove, .choose = direct_choose, .free = direct_free},
    {.name = "fanout", .keyless = true, .choose = fanout_choose},
    {.name = "topic", .add = topic_add, .remove = topic_remove, .choose = topic_choose, .free = topic_free},
    {.name = "headers", .keyless = true, .choose = headers_choose, .check = headers_check},
};

const struct exchange_type *exchange_type_find(struct span name)
{
    for (size_t i = 0; i < HARK_COUNT(exchange_types); i++)
        if (span_is(name, exchange_types[i].name))
            return &exchange_types[i];
    return NULL;
}
