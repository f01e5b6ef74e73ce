/* SPDX-License-Identifier: MIT */
/*
 * What is known of each queue: its figures, and the ranges of rows that a purge has taken out of
 * them but not yet off the disk. Both change within a transaction and go back to what they were if
 * it fails.
 *
 * On disk: figures, queue 8 -> count, bytes, next position, delivered (8 each);
 * purges, queue 8 -> ranges of rank 1, from 8, to 8.
 */
#include "broker/store_private.h"

#include <errno.h>
#include <stdlib.h>

#define FIGURES_SIZE 32
#define RANGE_SIZE 17

struct store_queue *store_queue_find(struct store_db *db, uint64_t id)
{
    struct store_queue *queue = db->latest;

    if (queue != NULL && queue->now.figures.queue == id)
        return queue;
    HASH_FIND(hh, db->queues, &id, sizeof(id), queue);
    if (queue != NULL)
        db->latest = queue;
    return queue;
}

struct store_queue *store_queue_make(struct store_db *db, uint64_t id)
{
    struct store_queue *queue = store_queue_find(db, id);

    if (queue != NULL)
        return queue;
    queue = calloc(1, sizeof(*queue));
    if (queue == NULL)
        return NULL;
    queue->now.figures.queue = id;
    HASH_ADD(hh, db->queues, now.figures.queue, sizeof(id), queue);
    if (queue->hh.tbl == NULL) { /* no memory in uthash */
        free(queue);
        return NULL;
    }
    return queue;
}

static void store_queue_remove(struct store_db *db, struct store_queue *queue)
{
    HASH_DEL(db->queues, queue);
    if (db->latest == queue)
        db->latest = NULL;
    free(queue->now.ranges);
    free(queue->before.ranges);
    free(queue);
}

int store_queue_touch(struct store_db *db, struct store_queue *queue)
{
    struct store_range *ranges = NULL;
    size_t size = queue->now.range_count * sizeof(*ranges);
    int code;

    if (queue->touched)
        return 0;
    code = store_env_begin(db, &db->durable);
    if (code != 0)
        return code;
    if (size > 0) {
        ranges = malloc(size);
        if (ranges == NULL)
            return ENOMEM;
        memcpy(ranges, queue->now.ranges, size);
    }
    queue->before = queue->now;
    queue->before.ranges = ranges;
    queue->touched = true;
    queue->next_touched = db->touched;
    db->touched = queue;
    return 0;
}

bool store_queue_gone(const struct store_queue *queue, uint8_t rank, uint64_t position, uint64_t *to)
{
    for (size_t i = 0; i < queue->now.range_count; i++) {
        const struct store_range *range = &queue->now.ranges[i];

        if (range->rank == rank && position >= range->from && position < range->to) {
            *to = range->to;
            return true;
        }
    }
    return false;
}

int store_queue_add_range(struct store_db *db, struct store_queue *queue, struct store_range range)
{
    struct store_range *ranges;
    int code = store_queue_touch(db, queue);

    if (code != 0 || range.from >= range.to)
        return code;
    ranges = realloc(queue->now.ranges, (queue->now.range_count + 1) * sizeof(*ranges));
    if (ranges == NULL)
        return ENOMEM;
    ranges[queue->now.range_count++] = range;
    queue->now.ranges = ranges;
    queue->ranges_changed = true;
    db->purging = true;
    return 0;
}

int store_queue_keep(struct store_db *db, struct store_queue *queue, uint8_t rank, uint64_t position)
{
    size_t count = queue->now.range_count;
    int code = store_queue_touch(db, queue);

    for (size_t i = 0; i < count && code == 0; i++) {
        struct store_range *range = &queue->now.ranges[i], rest;

        if (range->rank != rank || position < range->from || position >= range->to)
            continue;
        rest = (struct store_range){.rank = rank, .from = position + 1, .to = range->to};
        range->to = position; /* perhaps empty: the next step takes it away */
        queue->ranges_changed = true;
        code = store_queue_add_range(db, queue, rest);
    }
    return code;
}

static int store_queue_write(struct store_db *db, struct store_queue *queue)
{
    const struct store_figures *figures = &queue->now.figures;
    uint8_t id[8], bytes[FIGURES_SIZE];
    MDB_val key = store_val(id, sizeof(id)), value = store_val(bytes, sizeof(bytes));
    int code;

    put_u64(id, figures->queue);
    put_u64(bytes, figures->count);
    put_u64(bytes + 8, figures->bytes);
    put_u64(bytes + 16, figures->next_position);
    put_u64(bytes + 24, figures->delivered);
    code = queue->now.known ? mdb_put(db->durable.txn, db->figures, &key, &value, 0)
                            : mdb_del(db->durable.txn, db->figures, &key, NULL);
    if ((code != 0 && code != MDB_NOTFOUND) || !queue->ranges_changed)
        return code == MDB_NOTFOUND ? 0 : code;

    if (queue->now.range_count == 0) {
        code = mdb_del(db->durable.txn, db->purges, &key, NULL);
        return code == MDB_NOTFOUND ? 0 : code;
    }
    value = store_val(NULL, queue->now.range_count * RANGE_SIZE);
    code = mdb_put(db->durable.txn, db->purges, &key, &value, MDB_RESERVE);
    for (size_t i = 0; i < queue->now.range_count && code == 0; i++)
        store_key_put((uint8_t *)value.mv_data + i * RANGE_SIZE, queue->now.ranges[i].from, queue->now.ranges[i].rank,
                      queue->now.ranges[i].to);
    return code;
}

int store_queue_settle(struct store_db *db)
{
    int code = 0;

    for (struct store_queue *queue = db->touched; queue != NULL && code == 0; queue = queue->next_touched)
        code = store_queue_write(db, queue);
    return code;
}

static struct store_queue *store_queue_untouch(struct store_db *db)
{
    struct store_queue *queue = db->touched;

    if (queue != NULL) {
        db->touched = queue->next_touched;
        queue->touched = queue->ranges_changed = false;
    }
    return queue;
}

void store_queue_committed(struct store_db *db)
{
    struct store_queue *queue;

    while ((queue = store_queue_untouch(db)) != NULL) {
        free(queue->before.ranges);
        queue->before.ranges = NULL;
        if (queue->now.dropped && !queue->now.known && queue->now.range_count == 0)
            store_queue_remove(db, queue);
    }
}

void store_queue_aborted(struct store_db *db)
{
    struct store_queue *queue;

    while ((queue = store_queue_untouch(db)) != NULL) {
        free(queue->now.ranges);
        queue->now = queue->before;
        queue->before.ranges = NULL;
        db->purging |= queue->now.range_count > 0;
    }
}

static int store_queue_load_figures(struct store_db *db, MDB_cursor *cursor)
{
    MDB_val key, value;
    int code;

    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        const uint8_t *bytes = value.mv_data;
        struct store_queue *queue;

        if (key.mv_size != 8 || value.mv_size != FIGURES_SIZE)
            return MDB_CORRUPTED;
        queue = store_queue_make(db, get_u64(key.mv_data));
        if (queue == NULL)
            return ENOMEM;
        queue->now.known = true;
        queue->now.figures.count = get_u64(bytes);
        queue->now.figures.bytes = get_u64(bytes + 8);
        queue->now.figures.next_position = get_u64(bytes + 16);
        queue->now.figures.delivered = get_u64(bytes + 24);
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

static int store_queue_load_ranges(struct store_db *db, MDB_cursor *cursor)
{
    MDB_val key, value;
    int code;

    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        const uint8_t *bytes = value.mv_data;
        struct store_queue *queue;

        if (key.mv_size != 8 || value.mv_size == 0 || value.mv_size % RANGE_SIZE != 0)
            return MDB_CORRUPTED;
        queue = store_queue_make(db, get_u64(key.mv_data));
        if (queue == NULL)
            return ENOMEM;
        queue->now.dropped = !queue->now.known;
        queue->now.range_count = value.mv_size / RANGE_SIZE;
        queue->now.ranges = calloc(queue->now.range_count, sizeof(*queue->now.ranges));
        if (queue->now.ranges == NULL)
            return ENOMEM;
        for (size_t i = 0; i < queue->now.range_count; i++, bytes += RANGE_SIZE)
            queue->now.ranges[i] = (struct store_range){
                .from = get_u64(bytes), .rank = bytes[8], .to = get_u64(bytes + 9)};
        db->purging = true;
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

int store_queue_load(struct store_db *db)
{
    MDB_cursor *cursor;
    int code = mdb_cursor_open(db->durable.txn, db->figures, &cursor);

    if (code != 0)
        return code;
    code = store_queue_load_figures(db, cursor);
    mdb_cursor_close(cursor);
    if (code == 0)
        code = mdb_cursor_open(db->durable.txn, db->purges, &cursor);
    if (code != 0)
        return code;
    code = store_queue_load_ranges(db, cursor);
    mdb_cursor_close(cursor);
    return code;
}

void store_queue_free_all(struct store_db *db)
{
    struct store_queue *queue, *next;

    HASH_ITER (hh, db->queues, queue, next)
        store_queue_remove(db, queue);
}
