/* SPDX-License-Identifier: MIT */
/*
 * The thread. It takes the batch that the loop has published, makes one transaction of it (several
 * of a very large one), commits, gives it back and wakes the loop. What cannot be committed stays
 * and is tried again each second; batches that come meanwhile stand behind it.
 *
 * With nothing to do and nothing wrong it sleeps without a limit.
 */
#include "base/log.h"
#include "broker/store_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define CHECK_MS 1000
#define WRITE_BYTES (32u << 20) /* of one transaction */
#define UNMAP_FAULTS 1024       /* of pages, each of which maps 64 KiB at most */

int64_t store_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- between the two ---- */

/* With the lock held. */
static void store_thread_wake(struct store *store)
{
    uint64_t one = 1;

    /* It cannot fail but for a counter at its end, and then the loop is awake. */
    if (write(store->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
        log_error("store %s: cannot wake the loop: %s", store->db.folder, strerror(errno));
}

static void store_thread_say(struct store *store)
{
    const char *why = store->failure[0] != 0 ? store->failure : store->disk;
    bool low = why[0] != 0;

    pthread_mutex_lock(&store->lock);
    if (low != store->is_low) {
        store->is_low = low;
        store->low_changed = true;
        snprintf(store->why, sizeof(store->why), "%s", why);
        store_thread_wake(store);
    }
    pthread_mutex_unlock(&store->lock);
}

/* ---- the disk ---- */

static void store_thread_check_disk(struct store *store, int64_t now)
{
    struct statvfs disk;
    uint64_t limit, available;
    bool changed;

    pthread_mutex_lock(&store->lock);
    limit = store->limit;
    changed = store->limit_changed;
    store->limit_changed = false;
    pthread_mutex_unlock(&store->lock);
    if (!changed && now < store->check_at && store->check_allocated == store->db.allocated)
        return;
    store->check_at = now + CHECK_MS;
    store->check_allocated = store->db.allocated;
    if (statvfs(store->db.folder, &disk) != 0)
        return; /* if the disk is gone, commits will say so */
    available = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (available < limit)
        available += store_env_spare(
            &store->db); /* the file does not shrink: what was taken out of it makes room there */
    if ((available < limit) == store->disk_low)
        return;
    store->disk_low = available < limit;
    if (store->disk_low) {
        snprintf(store->disk, sizeof(store->disk),
                 "store %.100s: %llu MiB are free on the disk and within the store, disk_free_limit is %llu MiB: make "
                 "room, consume messages or lower it",
                 store->db.folder, (unsigned long long)(available >> 20), (unsigned long long)(limit >> 20));
        log_warning("%s", store->disk);
    } else {
        store->disk[0] = 0;
        log_notice("store %s: there is room again", store->db.folder);
    }
    store_thread_say(store);
}

/* ---- writing ---- */

int store_thread_apply(struct store_db *db, const struct store_batch *batch, const struct store_op *op)
{
    struct span name, value;
    int code;

    switch ((enum store_op_kind)op->kind) {
    case STORE_OP_DONE:
        return 0;
    case STORE_OP_ADD:
        return store_row_add(db, &op->entry, op->message);
    case STORE_OP_REMOVE:
        return store_row_remove(db, &op->entry, NULL);
    case STORE_OP_UPDATE:
        return store_row_update(db, &op->entry);
    case STORE_OP_PURGE:
        return store_purge_mark(db, op->entry.queue, op->entry.rank, op->entry.position);
    case STORE_OP_DROP_QUEUE:
        return store_purge_drop(db, op->entry.queue);
    case STORE_OP_PUT:
    case STORE_OP_FORGET:
        name = span_of(batch->text.data + batch->text.start + op->at, op->name_length);
        value = span_of(name.data + name.length, op->value_length);
        code = op->kind == STORE_OP_PUT ? store_definition_put(db, op->definition, name, value)
                                        : store_definition_forget(db, op->definition, name);
        /* It would fail for ever and keep everybody behind it waiting. */
        if (code == MDB_BAD_VALSIZE) {
            log_error("store %s: a definition cannot be stored: %s", db->durable_path, mdb_strerror(code));
            return 0;
        }
        return code;
    }
    return 0;
}

static int store_thread_marks(struct store_db *db, const struct store_batch *batch)
{
    int code = 0;

    for (size_t i = 0; i < batch->mark_count && code == 0; i++) {
        struct store_queue *queue = store_queue_find(db, batch->marks[i].queue);

        /* Without a row on disk there is nothing that could come back. */
        if (queue == NULL || !queue->now.known || queue->now.figures.delivered >= batch->marks[i].below)
            continue;
        code = store_queue_touch(db, queue);
        queue->now.figures.delivered = batch->marks[i].below;
    }
    return code;
}

/* Where a transaction ends: before op `at` of `batch` (NULL: behind all). */
struct store_end {
    struct store_batch *batch;
    size_t at;
};

static int store_thread_apply_all(struct store *store, struct store_end *end, size_t most_ops, size_t most_bytes)
{
    size_t ops = 0, bytes = 0;
    int code = 0;

    for (struct store_batch *batch = store->in_flight; batch != NULL; batch = batch->next) {
        for (size_t i = batch->at; i < batch->count; i++) {
            const struct store_op *op = &batch->ops[i];

            if (ops == most_ops || bytes >= most_bytes) {
                *end = (struct store_end){batch, i};
                return 0;
            }
            ops++;
            if (op->kind == STORE_OP_ADD)
                bytes += op->message->body.length;
            code = store_thread_apply(&store->db, batch, op);
            if (code != 0)
                return code;
        }
        code = store_thread_marks(&store->db, batch);
        if (code != 0)
            return code;
    }
    *end = (struct store_end){NULL, 0};
    return 0;
}

/* What additions are still to come, in bytes: a guess of what the file grows by. */
static size_t store_thread_growth(const struct store *store)
{
    size_t bytes = 0, additions = 0;

    for (const struct store_batch *batch = store->in_flight; batch != NULL; batch = batch->next) {
        bytes += batch->bytes;
        additions += batch->additions;
    }
    return additions > 0 ? bytes < WRITE_BYTES ? bytes : WRITE_BYTES : 0;
}

static int store_thread_write(struct store *store, struct store_end *end)
{
    struct store_db *db = &store->db;
    size_t growth = store_thread_growth(store);
    int code = growth > 0 ? store_env_make_room(db, growth) : 0;

    if (code == 0)
        code = store_thread_apply_all(store, end, store->most_ops, WRITE_BYTES);
    if (code == 0 && db->purging)
        code = store_purge_step(db, store->purge_rows / 10);
    if (code == 0)
        code = store_db_commit(db);
    else
        store_db_abort(db);
    return code;
}

static int store_thread_purge(struct store *store)
{
    int code = store_purge_step(&store->db, store->purge_rows);

    if (code == 0)
        return store_db_commit(&store->db);
    store_db_abort(&store->db);
    return code;
}

/* ---- reading ---- */

static void store_thread_unread(struct store *store, struct store_batch *batch)
{
    if (batch->reads == NULL)
        return;
    *store->unread_tail = batch->reads;
    store->unread_tail = batch->reads_tail;
    batch->reads = NULL;
    batch->reads_tail = &batch->reads;
}

/* One that fails stays the first, to be tried again: an empty answer would be a lie. */
static int store_thread_answer(struct store *store, uint64_t batch)
{
    while (store->unread != NULL && store->unread->batch <= batch) {
        struct store_read *read = store->unread;
        int code = store_read_run(&store->db, read);

        if (code != 0)
            return code;
        store->unread = read->next;
        if (store->unread == NULL)
            store->unread_tail = &store->unread;
        read->next = NULL;
        pthread_mutex_lock(&store->lock);
        *store->answered_tail = read;
        store->answered_tail = &read->next;
        store_thread_wake(store);
        pthread_mutex_unlock(&store->lock);
    }
    return 0;
}

/* While the batches cannot be committed: as if they were, and undone again. */
static void store_thread_peek(struct store *store)
{
    struct store_db *db = &store->db;
    struct store_end end;
    int code, after;

    for (struct store_batch *batch = store->in_flight; batch != NULL; batch = batch->next)
        store_thread_unread(store, batch);
    if (store->unread == NULL)
        return;
    code = store_env_stretch(db, 4 * (uint64_t)store_thread_growth(store) + STORE_RESERVE);
    if (code == 0)
        code = store_thread_apply_all(store, &end, SIZE_MAX, SIZE_MAX);
    if (code == 0)
        code = store_db_settle(db);
    if (code == 0)
        code = store_thread_answer(store, UINT64_MAX);
    store_db_abort(db);
    after = store_env_stretch(db, 0);
    if (code == 0)
        code = after;
    if (code != 0)
        log_debug("store %s: reading has to wait: %s", db->folder, mdb_strerror(code));
}

/* ---- the turn ---- */

/* Up to there everything is on disk: back to the loop with it. */
static void store_thread_finish(struct store *store, const struct store_end *end)
{
    struct store_batch *done = NULL, **done_tail = &done;

    while (store->in_flight != NULL && store->in_flight != end->batch) {
        struct store_batch *batch = store->in_flight;

        store->finished = batch->number;
        store->in_flight = batch->next;
        batch->next = NULL;
        *done_tail = batch;
        done_tail = &batch->next;
        store_thread_unread(store, batch);
    }
    if (store->in_flight == NULL)
        store->in_flight_tail = &store->in_flight;
    else
        store->in_flight->at = end->at;
    pthread_mutex_lock(&store->lock);
    if (done != NULL) {
        *store->returned_tail = done;
        store->returned_tail = done_tail;
        store_thread_wake(store);
    }
    store->busy = store->in_flight != NULL;
    pthread_mutex_unlock(&store->lock);
}

static void store_thread_relieve(struct store *store, const struct store_batch *first)
{
    unsigned dropped;
    char text[512];
    int code = first != NULL || store->db.purging ? store_relief(store, first) : 0;

    if (code != 0 && log_allowed(&store->said, &dropped))
        log_warning("removals have to wait: %s", store_db_error(&store->db, code, text, sizeof(text)));
}

static void store_thread_failed(struct store *store, int code)
{
    bool relieve = false;
    char again[512];

    if (store->failure[0] == 0) {
        store_db_error(&store->db, code, store->failure, sizeof(store->failure));
        log_error("%s (%s)", store->failure,
                  code == MDB_CORRUPTED || code == MDB_PAGE_NOTFOUND || code == MDB_INVALID
                      ? "until then nothing more is stored or confirmed"
                      : "nothing is lost; harkd tries again each second");
        relieve = true;
    }
    store->retry_at = store_clock() + store->retry_ms;
    store->db.map_full = code == MDB_MAP_FULL;
    if (code == MDB_TXN_FULL && store->most_ops > 1)
        store->most_ops /= 2;
    if (code == MDB_PANIC || store->db.durable.env == NULL) {
        code = store_db_reopen(&store->db);
        if (code != 0)
            log_error("%s", store_db_error(&store->db, code, again, sizeof(again)));
    }
    if (relieve)
        store_thread_relieve(store, store->in_flight);
    store_thread_say(store);
}

/* What of the files has been looked at is the kernel's to keep or not, but counts as memory of ours while it is
 * mapped. */
static void store_thread_unmap(struct store *store)
{
    struct rusage usage;

    if (getrusage(RUSAGE_THREAD, &usage) != 0 || usage.ru_minflt + usage.ru_majflt - store->faults < UNMAP_FAULTS)
        return;
    store->faults = usage.ru_minflt + usage.ru_majflt;
    store_env_unmap(&store->db);
}

static void store_thread_worked(struct store *store)
{
    store->retry_at = 0;
    store->most_ops = STORE_WRITE_OPS;
    if (store->in_flight == NULL)
        store_env_give_back(&store->db);
    store_thread_unmap(store);
    if (store->failure[0] == 0)
        return;
    store->failure[0] = 0;
    log_notice("store %s: commits work again", store->db.folder);
    store_thread_say(store);
}

static void store_thread_turn(struct store *store, struct store_batch *fresh)
{
    struct store_end end = {NULL, 0};
    int64_t now = store_clock();
    int code = 0;

    store_thread_check_disk(store, now);
    if (store->retry_at != 0) {
        store_thread_relieve(store, fresh);
        if (fresh != NULL || now >= store->retry_at)
            store_thread_peek(store);
        store_relief_merge(store);
        if (now < store->retry_at)
            return;
    }
    if (store->in_flight != NULL)
        code = store_thread_write(store, &end);
    else if (store->db.purging)
        code = store_thread_purge(store);
    if (code == 0 && store->in_flight != NULL)
        store_thread_finish(store, &end);
    if (code == 0)
        code = store_thread_answer(store, store->finished);
    if (code == 0)
        store_thread_worked(store);
    else
        store_thread_failed(store, code);
}

/* Until when to wait with the lock held; 0: no need to; -1: for ever. */
static int64_t store_thread_until(struct store *store, int64_t now)
{
    int64_t until = -1;

    if (store->ready != NULL && (store->stop || now >= store->ready->not_until))
        return 0;
    if (store->ready != NULL)
        until = store->ready->not_until;
    if (store->limit_changed || (store->retry_at == 0 && (store->in_flight != NULL || store->db.purging)))
        return 0;
    if (store->retry_at != 0 && now >= store->retry_at)
        return 0;
    if (store->retry_at != 0 && (until < 0 || store->retry_at < until))
        until = store->retry_at;
    if (store->disk_low && now >= store->check_at)
        return 0;
    if (store->disk_low && (until < 0 || store->check_at < until))
        until = store->check_at;
    return until;
}

/* False: the end. *fresh: the batch that has come, if one has. */
static bool store_thread_wait(struct store *store, struct store_batch **fresh)
{
    bool more = true;

    *fresh = NULL;
    pthread_mutex_lock(&store->lock);
    for (;;) {
        int64_t until = store_thread_until(store, store_clock());

        if (store->stop && ((store->ready == NULL && store->in_flight == NULL) || store->abandon)) {
            more = false;
            break;
        }
        if (until == 0)
            break;
        store->sleeps_until = until > 0 ? until : INT64_MAX;
        if (until > 0) {
            struct timespec time = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

            pthread_cond_timedwait(&store->work, &store->lock, &time);
        } else {
            pthread_cond_wait(&store->work, &store->lock);
        }
        store->sleeps_until = 0;
    }
    if (more && store->ready != NULL && (store->stop || store_clock() >= store->ready->not_until)) {
        *fresh = store->ready;
        store->ready = NULL;
        store->busy = true;
        (*fresh)->next = NULL;
        *store->in_flight_tail = *fresh;
        store->in_flight_tail = &(*fresh)->next;
    }
    pthread_mutex_unlock(&store->lock);
    return more;
}

static void *store_thread_run(void *arg)
{
    struct store *store = arg;
    struct store_batch *fresh;

    pthread_setname_np(pthread_self(), "store");
    while (store_thread_wait(store, &fresh))
        store_thread_turn(store, fresh);
    pthread_mutex_lock(&store->lock);
    store->has_ended = true;
    pthread_cond_broadcast(&store->ended);
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

int store_thread_start(struct store *store)
{
    sigset_t all, before;
    int code;

    /* Signals are the loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&store->thread, NULL, store_thread_run, store);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    store->started = code == 0;
    return code;
}
