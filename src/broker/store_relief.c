/* SPDX-License-Identifier: MIT */
/*
 * A full disk: additions wait, and what makes room must not wait behind them. Removals of rows that
 * are on disk and purges are done out of order, with what the file has in reserve. What is done,
 * and what a purge leaves nothing to do of, is marked so in its batch.
 */
#include "broker/store_private.h"

#define RELIEF_OPS 500 /* of one transaction: what it changes must fit into the reserve */

/* A purge that is done leaves nothing to add of what was asked for before it. */
static void store_relief_undo(const struct store *store, const struct store_op *purge)
{
    for (struct store_batch *batch = store->in_flight; batch != NULL; batch = batch->next) {
        for (size_t i = batch->at; i < batch->count; i++) {
            struct store_op *op = &batch->ops[i];

            if (op == purge)
                return;
            if (op->kind != STORE_OP_ADD || op->entry.queue != purge->entry.queue)
                continue;
            if (op->entry.rank > purge->entry.rank ||
                (op->entry.rank == purge->entry.rank && op->entry.position >= purge->entry.position))
                op->kind = STORE_OP_DONE;
        }
    }
}

static int store_relief_op(struct store *store, const struct store_op *op, bool *done)
{
    struct store_db *db = &store->db;

    *done = false;
    if (op->kind == STORE_OP_REMOVE)
        return store_row_remove(db, &op->entry, done);
    if (op->kind != STORE_OP_PURGE && op->kind != STORE_OP_DROP_QUEUE)
        return 0;
    *done = true;
    return store_thread_apply(db, NULL, op);
}

static int store_relief_commit(struct store *store, struct store_op *done[], size_t *count)
{
    bool transient;
    int code = store_db_commit(&store->db, &transient);

    for (size_t i = 0; i < *count && (code == 0 || transient); i++) {
        if (done[i]->kind != STORE_OP_REMOVE && code == 0)
            store_relief_undo(store, done[i]);
        if (code == 0 || (done[i]->kind == STORE_OP_REMOVE && done[i]->entry.transient))
            done[i]->kind = STORE_OP_DONE;
    }
    *count = 0;
    return code;
}

int store_relief(struct store *store, struct store_batch *first)
{
    struct store_op *done[RELIEF_OPS];
    size_t count = 0;
    int code = 0;

    mdb_env_set_mapsize(store->db.durable.env, store->db.durable.map_size + STORE_RESERVE);
    for (struct store_batch *batch = first; batch != NULL && code == 0; batch = batch->next) {
        for (size_t i = batch->at; i < batch->count && code == 0; i++) {
            bool is_done;

            code = store_relief_op(store, &batch->ops[i], &is_done);
            if (code == 0 && is_done)
                done[count++] = &batch->ops[i];
            if (code == 0 && count == RELIEF_OPS)
                code = store_relief_commit(store, done, &count);
        }
    }
    if (code == 0 && store->db.purging)
        code = store_purge_step(&store->db, RELIEF_OPS);
    if (code == 0)
        code = store_relief_commit(store, done, &count);
    else
        store_db_abort(&store->db);
    mdb_env_set_mapsize(store->db.durable.env, store->db.durable.map_size);
    return code;
}
