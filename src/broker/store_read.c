/* SPDX-License-Identifier: MIT */
/* Reading messages back: durable and transient rows of a queue, merged in their order. */
#include "base/log.h"
#include "broker/store_private.h"

#include <errno.h>
#include <stdlib.h>

static int store_read_message(struct store_env *env, const struct store_row_value *row, struct message **message)
{
    struct span content = row->content;

    if (row->shared != 0) {
        uint8_t number[8];
        MDB_val key = store_val(number, sizeof(number)), value;
        int code;

        put_u64(number, row->shared);
        code = mdb_get(env->txn, env->messages, &key, &value);
        if (code != 0 && code != MDB_NOTFOUND)
            return code;
        content = code == 0 ? span_of(value.mv_data, value.mv_size) : span_of(NULL, 0);
    }
    *message = store_content_get(content);
    return 0;
}

static int store_read_grow(struct store_read *read)
{
    size_t capacity = read->row_capacity > 0 ? 2 * read->row_capacity : 16;
    struct store_row *rows;

    if (read->row_count < read->row_capacity)
        return 0;
    rows = realloc(read->rows, capacity * sizeof(*rows));
    if (rows == NULL)
        return ENOMEM;
    read->rows = rows;
    read->row_capacity = capacity;
    return 0;
}

/* Takes over the row under the scan. *bytes: of its body. */
static int store_read_row(struct store_env *env, const struct store_scan *scan, bool transient, struct store_read *read,
                          uint64_t *bytes)
{
    struct message *message = NULL;
    struct store_row_value row;
    int code = store_read_grow(read);

    *bytes = 0;
    if (code == 0 && store_row_parse(scan->value, &row) == 0)
        code = store_read_message(env, &row, &message);
    if (code != 0)
        return code;
    if (message == NULL) {
        log_error("store %s: queue %llu: the message at position %llu cannot be read and is left out", env->path,
                  (unsigned long long)scan->queue, (unsigned long long)scan->position);
        return 0;
    }
    read->rows[read->row_count++] = (struct store_row){.entry = {.queue = scan->queue,
                                                                 .position = scan->position,
                                                                 .shared = row.shared,
                                                                 .expires = row.expires,
                                                                 .deliveries = row.deliveries,
                                                                 .rank = scan->rank,
                                                                 .transient = transient,
                                                                 .redelivered = row.redelivered},
                                                       .message = message};
    *bytes = message->body.length;
    return 0;
}

static bool store_read_before(const struct store_scan *a, const struct store_scan *b)
{
    if (a->end || b->end)
        return !a->end;
    return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static int store_read_rows(struct store_db *db, struct store_read *read)
{
    const struct store_queue *queue = store_queue_find(db, read->queue);
    struct store_scan durable = {.end = true}, transient = {.end = true};
    uint64_t sum = 0, bytes;
    int code;

    code = store_scan_begin(&db->durable, &durable, queue, read->queue, read->rank, read->position);
    if (code == 0)
        code = store_scan_begin(&db->transient, &transient, queue, read->queue, read->rank, read->position);
    while (code == 0 && !(durable.end && transient.end) && read->row_count < read->count &&
           (read->row_count == 0 || sum < read->bytes)) {
        bool first = store_read_before(&durable, &transient);
        struct store_scan *scan = first ? &durable : &transient;

        code = store_read_row(first ? &db->durable : &db->transient, scan, !first, read, &bytes);
        sum += bytes;
        if (code == 0)
            code = store_scan_next(scan);
    }
    read->end = durable.end && transient.end;
    store_scan_end(&durable);
    store_scan_end(&transient);
    return code;
}

int store_read_run(struct store_db *db, struct store_read *read)
{
    bool durable = db->durable.txn == NULL, transient = db->transient.txn == NULL;
    int code = 0;

    if (atomic_load_explicit(&read->cancelled, memory_order_relaxed))
        return 0;
    code = store_env_begin_read(db, &db->durable);
    if (code == 0)
        code = store_env_begin_read(db, &db->transient);
    if (code == 0)
        code = store_read_rows(db, read);
    if (durable && db->durable.txn != NULL) {
        mdb_txn_abort(db->durable.txn);
        db->durable.txn = NULL;
    }
    if (transient && db->transient.txn != NULL) {
        mdb_txn_abort(db->transient.txn);
        db->transient.txn = NULL;
    }
    if (code == 0)
        return 0;
    for (size_t i = 0; i < read->row_count; i++)
        message_drop(read->rows[i].message); /* nobody else has seen them */
    read->row_count = 0;
    return code;
}
