/* SPDX-License-Identifier: MIT */
/*
 * A full disk: additions wait, and what makes room must not wait behind them. Removals of rows that
 * are on disk and purges are done out of order, with what the file has in reserve. What is done,
 * and what a purge leaves nothing to do of, is marked so in its batch.
 */
#include "broker/store_private.h"

#include <stdlib.h>

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

/* ---- putting batches together ---- */

static int store_relief_move_marks(struct store_batch *to, const struct store_batch *from)
{
    for (size_t i = 0; i < from->mark_count; i++) {
        size_t at = 0;

        while (at < to->mark_count && to->marks[at].queue != from->marks[i].queue)
            at++;
        if (at == to->mark_capacity) {
            size_t capacity = at > 0 ? 2 * at : 16;
            struct store_mark *marks = realloc(to->marks, capacity * sizeof(*marks));

            if (marks == NULL)
                return -1;
            to->marks = marks;
            to->mark_capacity = capacity;
        }
        if (at == to->mark_count)
            to->marks[to->mark_count++] = from->marks[i];
        else if (to->marks[at].below < from->marks[i].below)
            to->marks[at].below = from->marks[i].below;
    }
    return 0;
}

static bool store_relief_has_work(const struct store_batch *batch)
{
    for (size_t i = batch->at; i < batch->count; i++) {
        /* Messages can only be dropped by the loop, so a batch that holds some stays. */
        if (batch->ops[i].kind != STORE_OP_DONE || batch->ops[i].holds)
            return true;
    }
    return batch->reads != NULL;
}

void store_relief_merge(struct store *store)
{
    struct store_batch *batch = store->in_flight;

    while (batch != NULL && batch->next != NULL) {
        struct store_batch *next = batch->next;

        if (store_relief_has_work(next) || store_relief_move_marks(batch, next) != 0) {
            batch = next;
            continue;
        }
        batch->number = next->number;
        batch->bytes += next->bytes;
        batch->next = next->next;
        if (next->next == NULL)
            store->in_flight_tail = &batch->next;
        next->next = NULL;
        store_batch_free(next);
    }
}
