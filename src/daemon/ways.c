/* SPDX-License-Identifier: MIT */
#include "daemon/ways.h"

#include <stdlib.h>
#include <string.h>

struct ways {
    size_t count;
    struct way *items;
    const struct way **by_order;   /* by exchange and order */
    const struct way **by_pattern; /* by exchange: the open ones by order, then the others by pattern and order */
};

static int compare_orders(const struct way *a, const struct way *b)
{
    return a->order < b->order ? -1 : a->order > b->order;
}

static int compare_by_order(const void *a, const void *b)
{
    const struct way *one = *(const struct way *const *)a, *two = *(const struct way *const *)b;
    int result = strcmp(one->binding->exchange, two->binding->exchange);

    return result != 0 ? result : compare_orders(one, two);
}

static int compare_by_pattern(const void *a, const void *b)
{
    const struct way *one = *(const struct way *const *)a, *two = *(const struct way *const *)b;
    int result = strcmp(one->binding->exchange, two->binding->exchange);

    if (result == 0 && one->open != two->open)
        return one->open ? -1 : 1;
    if (result == 0 && !one->open)
        result = strcmp(one->binding->pattern, two->binding->pattern);
    return result != 0 ? result : compare_orders(one, two);
}

static void ways_add(struct ways *ways, const struct config_bindings *bindings, const struct config_queue *queue,
                     const struct config_exchange *exchange)
{
    for (size_t i = 0; i < bindings->count; i++) {
        const struct config_binding *binding = &bindings->items[i];
        struct way *way = &ways->items[ways->count];

        *way = (struct way){.binding = binding, .queue = queue, .exchange = exchange, .order = ways->count};
        way->open = binding->pattern[0] == '\0' || strpbrk(binding->pattern, "*#") != NULL;
        ways->by_order[ways->count] = ways->by_pattern[ways->count] = way;
        ways->count++;
    }
}

struct ways *ways_new(const struct config *config)
{
    struct ways *ways = calloc(1, sizeof(*ways));
    size_t count = 0;

    if (ways == NULL)
        return NULL;
    for (size_t i = 0; i < config->queue_count; i++)
        count += config->queues[i].bindings.count;
    for (size_t i = 0; i < config->exchange_count; i++)
        count += config->exchanges[i].bindings.count;
    ways->items = calloc(count + 1, sizeof(*ways->items));
    ways->by_order = calloc(count + 1, sizeof(*ways->by_order));
    ways->by_pattern = calloc(count + 1, sizeof(*ways->by_pattern));
    if (ways->items == NULL || ways->by_order == NULL || ways->by_pattern == NULL) {
        ways_free(ways);
        return NULL;
    }
    for (size_t i = 0; i < config->queue_count; i++)
        ways_add(ways, &config->queues[i].bindings, &config->queues[i], NULL);
    for (size_t i = 0; i < config->exchange_count; i++)
        ways_add(ways, &config->exchanges[i].bindings, NULL, &config->exchanges[i]);
    qsort(ways->by_order, count, sizeof(*ways->by_order), compare_by_order);
    qsort(ways->by_pattern, count, sizeof(*ways->by_pattern), compare_by_pattern);
    return ways;
}

void ways_free(struct ways *ways)
{
    if (ways == NULL)
        return;
    free(ways->items);
    free(ways->by_order);
    free(ways->by_pattern);
    free(ways);
}

/* The first of a sorted row that does not come before `wanted`. */
static const struct way *const *ways_bound(const struct ways *ways, const struct way **row, const struct way *wanted,
                                           int (*compare)(const void *a, const void *b))
{
    size_t low = 0, high = ways->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare(&row[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return row + low;
}

struct ways_cursor ways_from(const struct ways *ways, const char *exchange, const char *key)
{
    char from[INI_NAME_MAX + 1], pattern[INI_NAME_MAX + 1] = "";
    struct config_binding binding = {.exchange = from, .pattern = pattern};
    struct way first = {.binding = &binding, .open = true}, last = {.binding = &binding, .open = true};
    struct ways_cursor cursor = {0};

    snprintf(from, sizeof(from), "%s", exchange);
    last.order = SIZE_MAX;
    if (key == NULL) {
        cursor.at[0] = ways_bound(ways, ways->by_order, &first, compare_by_order);
        cursor.end[0] = ways_bound(ways, ways->by_order, &last, compare_by_order);
        return cursor;
    }
    snprintf(pattern, sizeof(pattern), "%s", key);
    cursor.at[0] = ways_bound(ways, ways->by_pattern, &first, compare_by_pattern);
    cursor.end[0] = ways_bound(ways, ways->by_pattern, &last, compare_by_pattern);
    first.open = last.open = false;
    cursor.at[1] = ways_bound(ways, ways->by_pattern, &first, compare_by_pattern);
    cursor.end[1] = ways_bound(ways, ways->by_pattern, &last, compare_by_pattern);
    return cursor;
}

const struct way *ways_next(struct ways_cursor *cursor)
{
    bool one = cursor->at[0] != cursor->end[0], two = cursor->at[1] != cursor->end[1];

    if (one && two)
        one = (*cursor->at[0])->order < (*cursor->at[1])->order;
    if (one)
        return *cursor->at[0]++;
    return two ? *cursor->at[1]++ : NULL;
}
