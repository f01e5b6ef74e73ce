/* SPDX-License-Identifier: MIT */
/*
 * A full disk: additions wait, and what makes room must not wait behind them. Removals of rows that
 * are on disk (but not those of messages that have moved on) and purges are done out of order, with what the file has in reserve. What is done,
 * and what a purge leaves nothing to do of, is marked so in its batch.
 */
#include "broker/store_private.h"

#include <errno.h>
#include <stdlib.h>

#define RELIEF_OPS 500  /* of one transaction: what it changes must fit into the reserve */
#define RELIEF_STEPS 20 /* of purges, each time */
#define WAITING_BITS 20 /* of 128 KiB */

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

/* The rows for which an addition is waiting, more or less: a bit for each. Their removals keep their place. */
struct store_relief {
    uint8_t *waiting;
    struct store_op *done[RELIEF_OPS];
    size_t count;
};

static size_t store_relief_bit(const struct store_entry *entry)
{
    return ((entry->queue * 31 + entry->position) * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - WAITING_BITS);
}

static void store_relief_wait(struct store_relief *relief, const struct store_op *op)
{
    size_t bit = store_relief_bit(&op->entry);

    relief->waiting[bit / 8] |= (uint8_t)(1U << bit % 8);
}

static bool store_relief_waits(const struct store_relief *relief, const struct store_op *op)
{
    size_t bit = store_relief_bit(&op->entry);

    return relief->waiting[bit / 8] >> bit % 8 & 1;
}

static int store_relief_commit(struct store *store, struct store_relief *relief)
{
    int code = store_db_commit(&store->db);

    for (size_t i = 0; i < relief->count && code == 0; i++) {
        if (relief->done[i]->kind != STORE_OP_REMOVE)
            store_relief_undo(store, relief->done[i]);
        relief->done[i]->kind = STORE_OP_DONE;
    }
    relief->count = 0;
    return code;
}

static int store_relief_op(struct store *store, struct store_relief *relief, struct store_op *op)
{
    bool done = false;
    int code = 0;

    if (op->kind == STORE_OP_ADD) {
        store_relief_wait(relief, op);
    } else if (op->kind == STORE_OP_REMOVE && !op->in_order && !store_relief_waits(relief, op)) {
        code = store_row_remove(&store->db, &op->entry, &done);
    } else if (op->kind == STORE_OP_PURGE || op->kind == STORE_OP_DROP_QUEUE) {
        code = store_thread_apply(&store->db, NULL, op);
        done = true;
    }
    if (code != 0 || !done)
        return code;
    relief->done[relief->count++] = op;
    return relief->count == RELIEF_OPS ? store_relief_commit(store, relief) : 0;
}

static int store_relief_run(struct store *store, struct store_relief *relief, const struct store_batch *first)
{
    struct store_batch *batch = store->in_flight;
    int code = 0;

    for (; batch != first; batch = batch->next) {
        for (size_t i = batch->at; i < batch->count; i++) {
            if (batch->ops[i].kind == STORE_OP_ADD)
                store_relief_wait(relief, &batch->ops[i]);
        }
    }
    for (; batch != NULL && code == 0; batch = batch->next) {
        for (size_t i = batch->at; i < batch->count && code == 0; i++)
            code = store_relief_op(store, relief, &batch->ops[i]);
    }
    if (code == 0)
        code = store_relief_commit(store, relief);
    for (int step = 0; step < RELIEF_STEPS && store->db.purging && code == 0; step++) {
        code = store_purge_step(&store->db, RELIEF_OPS);
        if (code == 0)
            code = store_relief_commit(store, relief);
    }
    if (code != 0)
        store_db_abort(&store->db);
    return code;
}

int store_relief(struct store *store, const struct store_batch *first)
{
    struct store_relief relief = {.waiting = calloc(1, 1U << (WAITING_BITS - 3))};
    int code = relief.waiting != NULL ? store_env_stretch(&store->db, STORE_RESERVE) : ENOMEM, after;

    if (code == 0) {
        code = store_relief_run(store, &relief, first);
        after = store_env_stretch(&store->db, 0);
        if (code == 0)
            code = after;
    }
    free(relief.waiting);
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
