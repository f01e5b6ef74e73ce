/* SPDX-License-Identifier: MIT */
/*
 * Purging a queue: at once in the figures, in the rows step by step. What is to go is noted as
 * ranges of positions with an end, so that what is added later stays; they are part of the database
 * until the last row is gone.
 */
#include "broker/store_private.h"

/* A row with a large body that is not in memory costs a read of the disk: then it is the time that counts. */
#define STEP_MS 20

struct store_budget {
    size_t rows;
    int64_t until;
};

static bool store_budget_spend(struct store_budget *budget)
{
    if (budget->rows % 64 == 1 && store_clock() > budget->until)
        budget->rows = 0;
    if (budget->rows == 0)
        return false;
    budget->rows--;
    return true;
}

/* The ranks of which the queue has rows, from `rank` on: as ranges up to `bound`. */
static int store_purge_ranges(struct store_db *db, struct store_env *env, struct store_queue *queue, uint8_t rank,
                              uint64_t position, uint64_t bound)
{
    uint64_t to;
    int code = 0;

    for (unsigned next = rank; next <= UINT8_MAX && code == 0;) {
        struct store_range range = {.rank = (uint8_t)next, .from = next == rank ? position : 0, .to = bound};
        struct store_scan scan;

        code = store_scan_begin(env, &scan, queue, queue->now.figures.queue, range.rank, range.from);
        store_scan_end(&scan);
        if (code != 0 || scan.end)
            return code;
        if (scan.rank != range.rank) {
            range.rank = scan.rank;
            range.from = 0;
        }
        if (!store_queue_gone(queue, range.rank, range.from, &to) || to < bound)
            code = store_queue_add_range(db, queue, range);
        next = range.rank + 1U;
    }
    return code;
}

/* Adds the row to *sum and goes on to the next. */
static int store_purge_count(struct store_scan *scan, struct store_figures *sum)
{
    struct store_row_value row;

    if (store_row_parse(scan->value, &row) != 0)
        row.bytes = 0;
    sum->count++;
    sum->bytes += row.bytes;
    return store_scan_next(scan);
}

static bool store_purge_reached(const struct store_scan *scan, uint8_t rank, uint64_t position)
{
    return scan->end || scan->rank > rank || (scan->rank == rank && scan->position >= position);
}

/* Counts what stays and what goes side by side, until one of them is at its end: that costs no more than twice the
 * smaller part, and mostly one of the two is small. */
static int store_purge_figures(struct store_db *db, struct store_queue *queue, uint8_t rank, uint64_t position)
{
    struct store_figures *figures = &queue->now.figures, stays = {0}, goes = {0};
    struct store_scan before = {0}, after = {0};
    int code;

    code = store_scan_begin(&db->durable, &before, queue, figures->queue, 0, 0);
    if (code == 0)
        code = store_scan_begin(&db->durable, &after, queue, figures->queue, rank, position);
    while (code == 0 && !after.end && !store_purge_reached(&before, rank, position)) {
        code = store_purge_count(&before, &stays);
        if (code == 0)
            code = store_purge_count(&after, &goes);
    }
    if (code == 0 && store_purge_reached(&before, rank, position)) {
        figures->count = stays.count;
        figures->bytes = stays.bytes;
    } else if (code == 0) {
        figures->count -= goes.count < figures->count ? goes.count : figures->count;
        figures->bytes -= goes.bytes < figures->bytes ? goes.bytes : figures->bytes;
    }
    store_scan_end(&before);
    store_scan_end(&after);
    return code;
}

int store_purge_mark(struct store_db *db, uint64_t id, uint8_t rank, uint64_t position)
{
    struct store_queue *queue = store_queue_find(db, id);
    uint64_t bound;
    int code;

    if (queue == NULL)
        return 0;
    code = store_queue_touch(db, queue);
    if (code == 0 && store_env_is_there(&db->transient))
        code = store_env_begin(db, &db->transient);
    if (code == 0)
        code = store_purge_figures(db, queue, rank, position);
    if (code != 0)
        return code;
    bound = queue->now.figures.next_position;
    if (bound < queue->next_transient)
        bound = queue->next_transient;
    code = store_purge_ranges(db, &db->durable, queue, rank, position, bound);
    if (code == 0)
        code = store_purge_ranges(db, &db->transient, queue, rank, position, bound);
    return code;
}

int store_purge_drop(struct store_db *db, uint64_t id)
{
    struct store_queue *queue = store_queue_find(db, id);
    int code = queue != NULL ? store_purge_mark(db, id, 0, 0) : 0;

    if (queue != NULL && code == 0) {
        queue->now.known = false;
        queue->now.dropped = true;
    }
    return code;
}

/* Takes rows of the range out of one environment. *done: everything before that position is gone. */
static int store_purge_rows(struct store_env *env, uint64_t queue, const struct store_range *range,
                            struct store_budget *budget, uint64_t *done)
{
    struct store_scan scan;
    int code;

    *done = range->to;
    if (env->txn == NULL)
        return 0;
    code = store_scan_begin(env, &scan, NULL, queue, range->rank, range->from);
    while (code == 0 && !scan.end && scan.rank == range->rank && scan.position < range->to) {
        struct store_row_value row;

        if (!store_budget_spend(budget)) {
            *done = scan.position;
            break;
        }
        if (store_row_parse(scan.value, &row) != 0)
            row.shared = 0; /* it goes anyway */
        if (row.shared != 0)
            code = store_share_change(env, row.shared, -1, NULL);
        if (code == 0)
            code = mdb_cursor_del(scan.cursor, 0);
        if (code == 0)
            code = store_scan_next(&scan); /* after a deletion: the one that has moved up */
    }
    store_scan_end(&scan);
    return code;
}

static int store_purge_queue(struct store_db *db, struct store_queue *queue, struct store_budget *budget)
{
    int code = store_queue_touch(db, queue);

    while (code == 0 && queue->now.range_count > 0 && budget->rows > 0) {
        struct store_range *range = &queue->now.ranges[queue->now.range_count - 1];
        uint64_t durable, transient, id = queue->now.figures.queue;

        code = store_purge_rows(&db->durable, id, range, budget, &durable);
        if (code == 0)
            code = store_purge_rows(&db->transient, id, range, budget, &transient);
        if (code != 0)
            break;
        queue->ranges_changed = true;
        range->from = durable < transient ? durable : transient;
        if (range->from >= range->to)
            queue->now.range_count--;
    }
    return code;
}

int store_purge_step(struct store_db *db, size_t rows)
{
    struct store_budget budget = {rows, store_clock() + STEP_MS};
    struct store_queue *queue, *next;
    int code = 0;

    if (store_env_is_there(&db->transient))
        code = store_env_begin(db, &db->transient);
    HASH_ITER (hh, db->queues, queue, next) {
        if (budget.rows == 0 || code != 0)
            return code;
        if (queue->now.range_count > 0)
            code = store_purge_queue(db, queue, &budget);
    }
    if (budget.rows > 0 && code == 0)
        db->purging = false;
    return code;
}
