/* SPDX-License-Identifier: MIT */
/*
 * The loop's side: the open batch, and what comes back from the thread.
 *
 * The open batch is filled without any lock and published at the end of the turn. While the thread
 * has not taken it, the next turn takes it back and goes on with it: so the thread always finds
 * everything that was asked for up to the last turn in one batch.
 */
#include "broker/store_private.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define KEEP_OPS 65536          /* of a batch that is used again */
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

/* ---- batches ---- */

void store_read_free(struct store_read *read)
{
    for (size_t i = 0; i < read->row_count; i++)
        message_drop(read->rows[i].message);
    free(read->rows);
    free(read);
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

static void store_batch_free_all(struct store_batch *batch)
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
    *batch = (struct store_batch){.ops = old.ops, .capacity = old.capacity, .marks = old.marks,
                                  .mark_capacity = old.mark_capacity, .text = old.text};
    batch->number = ++store->number;
    batch->reads_tail = &batch->reads;
    return batch;
}

static void store_batch_recycle(struct store *store, struct store_batch *batch)
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

static void store_committed_up_to(struct store *store, uint64_t batch)
{
    store->committed = batch;
    store->ops.committed(store->arg, batch);
}

/* At the end of the turn. */
static void store_publish(struct loop_task *task)
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
        if (batch->asked || batch->live > 0 || batch->reads != NULL)
            batch->not_until = 0;
        else if (batch->not_until == 0)
            batch->not_until = store_clock() + MARKS_WAIT_MS;
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
    batch->live++;
    batch->asked = true;
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
    struct store_op *op = store_op_add(store, batch, STORE_OP_ADD, store_message_bytes(message));

    op->entry = *entry;
    op->message = message_hold(message);
    op->holds = true;
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
    bytes = store_message_bytes(op->message);
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

void store_remove(struct store *store, const struct store_entry *entry, const struct store_ticket *ticket)
{
    struct store_batch *batch;

    if (store_undo(store, entry, ticket))
        return;
    batch = store_open_batch(store);
    store_op_add(store, batch, STORE_OP_REMOVE, 0)->entry = *entry;
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
    store_op_add(store, store_open_batch(store), STORE_OP_PURGE, 0)->entry =
        (struct store_entry){.queue = queue, .rank = rank, .position = position};
}

void store_drop_queue(struct store *store, uint64_t queue)
{
    store_op_add(store, store_open_batch(store), STORE_OP_DROP_QUEUE, 0)->entry =
        (struct store_entry){.queue = queue};
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
    *read = (struct store_read){.queue = queue, .rank = rank, .position = position, .count = count, .bytes = bytes,
                                .done = done, .arg = arg};
    batch = store_open_batch(store);
    *batch->reads_tail = read;
    batch->reads_tail = &read->next;
    return read;
}

void store_read_cancel(struct store_read *read)
{
    /* It comes back like any other, and is thrown away then. */
    atomic_store_explicit(&read->cancelled, true, memory_order_relaxed);
}

/* ---- what comes back ---- */

static void store_free(struct store *store)
{
    pthread_mutex_destroy(&store->lock);
    pthread_cond_destroy(&store->work);
    pthread_cond_destroy(&store->ended);
    free(store);
}

static void store_answer(struct store *store, struct store_read *read)
{
    size_t count = read->row_count;

    /* The messages are the receiver's. */
    if (!atomic_load_explicit(&read->cancelled, memory_order_relaxed) && !store->closed) {
        read->row_count = 0;
        read->done(read->arg, read->rows, count, read->end);
    }
    store_read_free(read);
}

static void store_returned(evutil_socket_t fd, short what, void *arg)
{
    struct store *store = arg;
    struct store_batch *batch;
    struct store_read *reads;
    bool low_changed, is_low;
    uint64_t count, committed = 0;
    char why[sizeof(store->why)];

    (void)what;
    if (read(fd, &count, sizeof(count)) < 0)
        return;
    pthread_mutex_lock(&store->lock);
    batch = store->returned;
    store->returned = NULL;
    store->returned_tail = &store->returned;
    reads = store->answered;
    store->answered = NULL;
    store->answered_tail = &store->answered;
    low_changed = store->low_changed;
    store->low_changed = false;
    is_low = store->is_low;
    memcpy(why, store->why, sizeof(why));
    pthread_mutex_unlock(&store->lock);

    while (batch != NULL) {
        struct store_batch *next = batch->next;

        committed = batch->number;
        store_batch_recycle(store, batch);
        batch = next;
    }
    store->calling++;
    if (committed != 0)
        store_committed_up_to(store, committed);
    while (reads != NULL) {
        struct store_read *next = reads->next;

        store_answer(store, reads);
        reads = next;
    }
    if (low_changed && !store->closed)
        store->ops.low(store->arg, is_low ? why : NULL);
    if (--store->calling == 0 && store->closed)
        store_free(store);
}

/* ---- open and close ---- */

static int store_prepare(struct store *store, struct loop *loop)
{
    pthread_condattr_t clock;

    pthread_mutex_init(&store->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&store->work, &clock);
    pthread_cond_init(&store->ended, &clock);
    pthread_condattr_destroy(&clock);
    store->returned_tail = &store->returned;
    store->answered_tail = &store->answered;
    store->in_flight_tail = &store->in_flight;
    store->unread_tail = &store->unread;
    store->publish.run = store_publish;
    store->limit_changed = true;
    store->loop = loop;
    store->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (store->wake < 0)
        return -1;
    store->event = event_new(loop_base(loop), store->wake, EV_READ | EV_PERSIST, store_returned, store);
    return store->event != NULL ? event_add(store->event, NULL) : -1;
}

/* Everything but the memory of the struct itself. The thread has ended. */
static void store_release(struct store *store)
{
    if (store->event != NULL)
        event_free(store->event);
    if (store->wake >= 0)
        close(store->wake);
    store_db_close(&store->db);
    store_batch_free(store->open);
    store_batch_free(store->spare);
    store_batch_free_all(store->ready);
    store_batch_free_all(store->in_flight);
    store_batch_free_all(store->returned);
    for (struct store_read *read = store->unread, *next; read != NULL; read = next) {
        next = read->next;
        store_read_free(read);
    }
    for (struct store_read *read = store->answered, *next; read != NULL; read = next) {
        next = read->next;
        store_read_free(read);
    }
}

struct store *store_open(struct loop *loop, const struct store_options *options, const struct store_ops *ops, void *arg,
                         char *error, size_t size)
{
    struct store *store = calloc(1, sizeof(*store));

    if (store == NULL) {
        snprintf(error, size, "store %s: %s", options->folder, strerror(ENOMEM));
        return NULL;
    }
    store->ops = *ops;
    store->arg = arg;
    store->limit = options->disk_free_limit;
    if (store_prepare(store, loop) != 0) {
        snprintf(error, size, "store %s: no event for the loop: %s", options->folder, strerror(errno));
        store->db.lock = -1;
    } else if (store_db_open(&store->db, options, error, size) == 0) {
        return store;
    }
    store_release(store);
    store_free(store);
    return NULL;
}

void store_set_disk_free_limit(struct store *store, uint64_t limit)
{
    pthread_mutex_lock(&store->lock);
    store->limit = limit;
    store->limit_changed = true;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
}

/* With the lock held: until the thread has ended, or so long. */
static bool store_wait_for_end(struct store *store, int64_t ms)
{
    int64_t until = store_clock() + ms;
    struct timespec time = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

    while (!store->has_ended) {
        if (pthread_cond_timedwait(&store->ended, &store->lock, &time) == ETIMEDOUT)
            return store->has_ended;
    }
    return true;
}

/* False: it hangs in the disk. */
static bool store_end_thread(struct store *store, int64_t ms)
{
    size_t lost = 0;
    bool ended;

    pthread_mutex_lock(&store->lock);
    store->stop = true;
    pthread_cond_signal(&store->work);
    ended = store_wait_for_end(store, ms);
    if (!ended) {
        store->abandon = true;
        pthread_cond_signal(&store->work);
        ended = store_wait_for_end(store, 1000);
    }
    pthread_mutex_unlock(&store->lock);
    if (!ended) {
        log_error("store: the disk does not answer: what was not yet confirmed is lost");
        pthread_detach(store->thread);
        return false;
    }
    pthread_join(store->thread, NULL);
    for (const struct store_batch *batch = store->in_flight; batch != NULL; batch = batch->next)
        lost += batch->count - batch->at;
    if (lost > 0)
        log_error("store %s: %zu changes could not be written within %lld ms and are lost; none of them was confirmed",
                  store->db.folder, lost, (long long)ms);
    return true;
}

void store_close(struct store *store, int64_t ms)
{
    bool ended = true;

    if (store == NULL)
        return;
    store->closed = true;
    loop_task_cancel(store->loop, &store->publish);
    if (store->started) {
        struct store_batch *batch = store->open;

        pthread_mutex_lock(&store->lock);
        if (batch != NULL) {
            store->ready = batch;
            store->open = NULL;
        }
        pthread_mutex_unlock(&store->lock);
        ended = store_end_thread(store, ms);
    }
    if (!ended) {
        event_free(store->event);
        return; /* the rest belongs to a thread that may come back */
    }
    store_release(store);
    if (store->calling == 0)
        store_free(store);
}
