/* SPDX-License-Identifier: MIT */
/*
 * The open batch: what the loop asks for.
 *
 * It is filled without any lock and published at the end of the turn. While the thread has not taken it, the next turn
 * takes it back and goes on with it: so the thread always finds everything that was asked for up to the last turn in
 * one batch.
 */
#include "broker/store_private.h"

#include "base/log.h"

#include <stdlib.h>

#define KEEP_OPS 65536 /* of a batch that is used again */
/* Nobody waits for what is only taken out: until additions come, a sync for it would keep those waiting. */
#define REMOVALS_WAIT_MS 5
#define MARKS_WAIT_MS 200

/* What was asked for cannot be noted, so nothing that follows could be true. What is confirmed is on disk. */
static void *store_must(void *memory)
{
    if (memory != NULL)
        return memory;
    log_error("store: no memory for what is to be stored: harkd's broker stops; what it has confirmed is on disk");
    log_flush(2000);
    abort();
}

static size_t store_message_bytes(const struct message *message)
{
    return sizeof(*message) + store_content_size(message);
}

static void store_batch_clear(struct store_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct store_op *op = &batch->ops[i];

        if (op->holds)
            message_drop(op->message);
    }
    while (batch->reads != NULL) {
        struct store_read *read = batch->reads;

        batch->reads = read->next;
        store_read_free(read);
    }
    batch->count = 0;
}

void store_batch_free(struct store_batch *batch)
{
    if (batch == NULL)
        return;
    store_batch_clear(batch);
    free(batch->ops);
    free(batch->marks);
    buf_free(&batch->text);
    free(batch);
}

void store_batch_free_all(struct store_batch *batch)
{
    while (batch != NULL) {
        struct store_batch *next = batch->next;

        store_batch_free(batch);
        batch = next;
    }
}

static struct store_batch *store_batch_new(struct store *store)
{
    struct store_batch *batch = store->spare, old;

    store->spare = NULL;
    if (batch == NULL)
        batch = store_must(calloc(1, sizeof(*batch)));
    old = *batch;
    *batch = (struct store_batch){.ops = old.ops,
                                  .capacity = old.capacity,
                                  .marks = old.marks,
                                  .mark_capacity = old.mark_capacity,
                                  .text = old.text};
    batch->number = ++store->number;
    batch->reads_tail = &batch->reads;
    return batch;
}

void store_batch_recycle(struct store *store, struct store_batch *batch)
{
    store->pending -= batch->bytes;
    store_batch_clear(batch);
    buf_clear(&batch->text);
    if (store->spare != NULL || batch->capacity > KEEP_OPS || batch->text.capacity > KEEP_OPS)
        store_batch_free(batch);
    else
        store->spare = batch;
}

/* ---- the open batch ---- */

/* The open batch as it is, or NULL: the thread has taken it. */
static struct store_batch *store_take_back(struct store *store)
{
    struct store_batch *batch;

    if (store->open != NULL)
        return store->open;
    pthread_mutex_lock(&store->lock);
    batch = store->ready;
    store->ready = NULL;
    pthread_mutex_unlock(&store->lock);
    store->open = batch;
    if (batch != NULL)
        loop_defer(store->loop, &store->publish);
    return batch;
}

static struct store_batch *store_open_batch(struct store *store)
{
    struct store_batch *batch = store_take_back(store);

    if (HARK_LIKELY(batch != NULL))
        return batch;
    store->open = store_batch_new(store);
    loop_defer(store->loop, &store->publish);
    return store->open;
}

void store_committed_up_to(struct store *store, uint64_t batch)
{
    store->committed = batch;
    store->ops.committed(store->arg, batch);
}

/* When it is written, 0: at once. */
static int64_t store_batch_due(const struct store_batch *batch)
{
    int64_t due;

    if (batch->asked || batch->reads != NULL)
        return 0;
    due = store_clock() + (batch->live > 0 ? REMOVALS_WAIT_MS : MARKS_WAIT_MS);
    return batch->not_until != 0 && batch->not_until < due ? batch->not_until : due;
}

/* At the end of the turn. */
void store_batch_publish(struct loop_task *task)
{
    struct store *store = HARK_CONTAINER(task, struct store, publish);
    struct store_batch *batch = store->open;
    bool empty, at_once;

    if (batch == NULL)
        return;
    empty = batch->live == 0 && batch->mark_count == 0 && batch->reads == NULL;
    if (empty && !batch->asked)
        return; /* it stays open */
    store->open = NULL;
    pthread_mutex_lock(&store->lock);
    /* Everything in it was undone, and nothing is before it. */
    at_once = empty && !store->busy && store->returned == NULL;
    if (!at_once) {
        store->ready = batch;
        batch->not_until = store_batch_due(batch);
        if (store->sleeps_until > batch->not_until)
            pthread_cond_signal(&store->work);
    }
    pthread_mutex_unlock(&store->lock);
    if (at_once) {
        uint64_t number = batch->number;

        store_batch_recycle(store, batch);
        store_committed_up_to(store, number);
    }
}

static struct store_op *store_op_add(struct store *store, struct store_batch *batch, enum store_op_kind kind,
                                     size_t bytes)
{
    struct store_op *op;

    if (HARK_UNLIKELY(batch->count == batch->capacity)) {
        batch->capacity = batch->capacity > 0 ? 2 * batch->capacity : 256;
        batch->ops = store_must(realloc(batch->ops, batch->capacity * sizeof(*op)));
    }
    op = &batch->ops[batch->count++];
    op->kind = (uint8_t)kind;
    op->holds = false;
    op->in_order = false;
    batch->live++;
    batch->asked |= kind != STORE_OP_REMOVE && kind != STORE_OP_UPDATE;
    batch->bytes += bytes + sizeof(*op);
    store->pending += bytes + sizeof(*op);
    return op;
}

uint64_t store_batch(struct store *store)
{
    struct store_batch *batch = store_open_batch(store);

    batch->asked = true;
    return batch->number;
}

uint64_t store_committed(const struct store *store)
{
    return store->committed;
}

size_t store_pending(const struct store *store)
{
    return store->pending;
}

static void store_definition(struct store *store, enum store_op_kind kind, enum store_kind definition, struct span name,
                             struct span value)
{
    struct store_batch *batch = store_open_batch(store);
    struct store_op *op = store_op_add(store, batch, kind, name.length + value.length);

    op->definition = (uint8_t)definition;
    op->at = buf_length(&batch->text);
    op->name_length = name.length;
    op->value_length = value.length;
    buf_put_span(&batch->text, name);
    buf_put_span(&batch->text, value);
    store_must(batch->text.failed ? NULL : batch);
}

void store_put(struct store *store, enum store_kind kind, struct span name, struct span value)
{
    store_definition(store, STORE_OP_PUT, kind, name, value);
}

void store_forget(struct store *store, enum store_kind kind, struct span name)
{
    store_definition(store, STORE_OP_FORGET, kind, name, span_of(NULL, 0));
}

void store_add(struct store *store, const struct store_entry *entry, struct message *message,
               struct store_ticket *ticket)
{
    struct store_batch *batch = store_open_batch(store);
    const struct store_op *newest = batch->count > 0 ? &batch->ops[batch->count - 1] : NULL;
    /* One for several queues is in memory once. */
    bool again = newest != NULL && newest->kind == STORE_OP_ADD && newest->message == message;
    struct store_op *op = store_op_add(store, batch, STORE_OP_ADD, again ? 0 : store_message_bytes(message));

    op->entry = *entry;
    op->message = message_hold(message);
    op->holds = true;
    op->counted = !again;
    batch->additions++;
    if (ticket != NULL)
        *ticket = (struct store_ticket){.batch = batch->number, .at = batch->count - 1};
}

/* True: the addition had not left the open batch. */
static bool store_undo(struct store *store, const struct store_entry *entry, const struct store_ticket *ticket)
{
    struct store_batch *batch = ticket != NULL && ticket->batch == store->number ? store_take_back(store) : NULL;
    struct store_op *op;
    size_t bytes;

    if (batch == NULL || ticket->at >= batch->count)
        return false;
    op = &batch->ops[ticket->at];
    if (op->kind != STORE_OP_ADD || op->entry.queue != entry->queue || op->entry.position != entry->position)
        return false;
    bytes = op->counted ? store_message_bytes(op->message) : 0;
    batch->bytes -= bytes;
    store->pending -= bytes;
    message_drop(op->message);
    op->holds = false;
    op->kind = STORE_OP_DONE;
    batch->additions--;
    /* All undone: their place can be used again. */
    if (--batch->live == 0) {
        store->pending -= batch->bytes;
        batch->bytes = 0;
        batch->count = 0;
    }
    return true;
}

static void store_take_out(struct store *store, const struct store_entry *entry, const struct store_ticket *ticket,
                           bool in_order)
{
    struct store_op *op;

    if (store_undo(store, entry, ticket))
        return;
    op = store_op_add(store, store_open_batch(store), STORE_OP_REMOVE, 0);
    op->entry = *entry;
    op->in_order = in_order;
}

void store_remove(struct store *store, const struct store_entry *entry, const struct store_ticket *ticket)
{
    store_take_out(store, entry, ticket, false);
}

void store_replace(struct store *store, const struct store_entry *entry, const struct store_ticket *ticket)
{
    store_take_out(store, entry, ticket, true);
}

void store_update(struct store *store, const struct store_entry *entry)
{
    store_op_add(store, store_open_batch(store), STORE_OP_UPDATE, 0)->entry = *entry;
}

void store_delivered(struct store *store, uint64_t queue, uint64_t below)
{
    struct store_batch *batch = store_open_batch(store);
    uint32_t *at = &batch->mark_at[queue % STORE_MARKS];

    if (*at > 0 && batch->marks[*at - 1].queue == queue) {
        if (below > batch->marks[*at - 1].below)
            batch->marks[*at - 1].below = below;
        return;
    }
    if (batch->mark_count == batch->mark_capacity) {
        batch->mark_capacity = batch->mark_capacity > 0 ? 2 * batch->mark_capacity : 16;
        batch->marks = store_must(realloc(batch->marks, batch->mark_capacity * sizeof(*batch->marks)));
    }
    batch->marks[batch->mark_count++] = (struct store_mark){queue, below};
    *at = (uint32_t)batch->mark_count;
}

void store_purge(struct store *store, uint64_t queue, uint8_t rank, uint64_t position)
{
    store_op_add(store, store_open_batch(store), STORE_OP_PURGE, 0)->entry = (struct store_entry){
        .queue = queue, .rank = rank, .position = position};
}

void store_drop_queue(struct store *store, uint64_t queue)
{
    store_op_add(store, store_open_batch(store), STORE_OP_DROP_QUEUE, 0)->entry = (struct store_entry){.queue = queue};
}

uint64_t store_new_shared(struct store *store)
{
    return store->next_shared++;
}

struct store_read *store_read(struct store *store, uint64_t queue, uint8_t rank, uint64_t position, size_t count,
                              size_t bytes, store_read_done done, void *arg)
{
    struct store_read *read = calloc(1, sizeof(*read));
    struct store_batch *batch;

    if (read == NULL)
        return NULL;
    *read = (struct store_read){
        .queue = queue, .rank = rank, .position = position, .count = count, .bytes = bytes, .done = done, .arg = arg};
    batch = store_open_batch(store);
    read->batch = batch->number;
    *batch->reads_tail = read;
    batch->reads_tail = &read->next;
    return read;
}

void store_read_cancel(struct store_read *read)
{
    /* It comes back like any other, and is thrown away then. */
    atomic_store_explicit(&read->cancelled, true, memory_order_relaxed);
}
