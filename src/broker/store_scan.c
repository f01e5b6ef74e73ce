/* SPDX-License-Identifier: MIT */
/* Going through the rows of one queue in order, past what is purged but still there. */
#include "broker/store_private.h"

/* From the row under the cursor, on to the next that counts. */
static int store_scan_settle(struct store_scan *scan, int code, MDB_val *key, MDB_val *value)
{
    uint8_t bytes[STORE_KEY];
    uint64_t to;

    while (code == 0) {
        const uint8_t *at = key->mv_data;

        if (key->mv_size != STORE_KEY)
            return MDB_CORRUPTED;
        if (get_u64(at) != scan->queue)
            break;
        scan->rank = at[8];
        scan->position = get_u64(at + 9);
        scan->value = span_of(value->mv_data, value->mv_size);
        if (scan->skip == NULL || !store_queue_gone(scan->skip, scan->rank, scan->position, &to))
            return 0;
        store_key_put(bytes, scan->queue, scan->rank, to);
        *key = store_val(bytes, sizeof(bytes));
        code = mdb_cursor_get(scan->cursor, key, value, MDB_SET_RANGE);
    }
    scan->end = true;
    return code == MDB_NOTFOUND ? 0 : code;
}

int store_scan_begin(struct store_env *env, struct store_scan *scan, const struct store_queue *skip, uint64_t queue,
                     uint8_t rank, uint64_t position)
{
    uint8_t bytes[STORE_KEY];
    MDB_val key = store_val(bytes, sizeof(bytes)), value;
    int code;

    *scan = (struct store_scan){.skip = skip, .queue = queue};
    if (env->txn == NULL) {
        scan->end = true;
        return 0;
    }
    code = mdb_cursor_open(env->txn, env->rows, &scan->cursor);
    if (code != 0) {
        scan->cursor = NULL;
        return code;
    }
    store_key_put(bytes, queue, rank, position);
    code = mdb_cursor_get(scan->cursor, &key, &value, MDB_SET_RANGE);
    return store_scan_settle(scan, code, &key, &value);
}

int store_scan_next(struct store_scan *scan)
{
    MDB_val key, value;
    int code = mdb_cursor_get(scan->cursor, &key, &value, MDB_NEXT);

    return store_scan_settle(scan, code, &key, &value);
}

void store_scan_end(struct store_scan *scan)
{
    if (scan->cursor != NULL)
        mdb_cursor_close(scan->cursor);
    scan->cursor = NULL;
}
