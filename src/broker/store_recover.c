/* SPDX-License-Identifier: MIT */
/* What the loop reads, once, before the thread runs: definitions, figures, what is still to be purged. */
#include "broker/store_private.h"

/* The first number that no stored message has. */
static int store_recover_shared(struct store_db *db)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int code = mdb_cursor_open(db->durable.txn, db->durable.counts, &cursor);

    if (code != 0)
        return code;
    db->next_shared = 1;
    code = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    mdb_cursor_close(cursor);
    if (code == 0 && key.mv_size != 8)
        return MDB_CORRUPTED;
    if (code == 0)
        db->next_shared = get_u64(key.mv_data) + 1;
    return code == MDB_NOTFOUND ? 0 : code;
}

static int store_recover_all(struct store_db *db, const struct store_recovery *recovery, void *arg)
{
    struct store_queue *queue, *next;
    int code = store_env_begin_read(db, &db->durable);

    if (code == 0)
        code = store_recover_shared(db);
    if (code == 0)
        code = store_definition_each(db, recovery, arg);
    if (code == 0)
        code = store_queue_load(db);
    store_db_abort(db);
    if (code != 0)
        return code;
    HASH_ITER (hh, db->queues, queue, next) {
        if (queue->now.known)
            recovery->figures(arg, &queue->now.figures);
    }
    return 0;
}

int store_recover(struct store *store, const struct store_recovery *recovery, void *arg, char *error, size_t size)
{
    int code = store_recover_all(&store->db, recovery, arg);

    if (code != 0) {
        store_db_error(&store->db, code, error, size);
        return -1;
    }
    store->next_shared = store->db.next_shared;
    code = store_thread_start(store);
    if (code == 0)
        return 0;
    store_db_error(&store->db, code, error, size);
    return -1;
}
