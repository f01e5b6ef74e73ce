/* SPDX-License-Identifier: MIT */
/*
 * The store as a whole: opened, closed, and what comes back from the thread.
 */
#include "broker/store_private.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PURGE_ROWS 20000
#define RETRY_MS 1000

void store_read_free(struct store_read *read)
{
    for (size_t i = 0; i < read->row_count; i++)
        message_drop(read->rows[i].message);
    free(read->rows);
    free(read);
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
    store->publish.run = store_batch_publish;
    store->limit_changed = true;
    store->most_ops = STORE_WRITE_OPS;
    store->purge_rows = PURGE_ROWS;
    store->retry_ms = RETRY_MS;
    store->said = (struct log_limit){.burst = 1, .period_ms = 60000};
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
    loop_task_cancel(&store->publish);
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
