/* SPDX-License-Identifier: MIT */
/*
 * The inside of the store, shared by its files and its test.
 *
 *   store.c             opened, closed, what comes back from the thread
 *   store_batch.c       what the loop asks for: the open batch
 *   store_thread.c      the thread: batches into transactions, failures, room on the disk
 *   store_relief.c      while a batch does not fit: removals, and batches put together
 *   store_open.c        folder, lock, version; store_recover.c: reading at the start
 *   store_lmdb.c        the environments, their transactions
 *   store_rows.c        rows of messages; store_shared.c: messages of several queues
 *   store_queue.c       figures of queues and what of them is to be purged; store_purge.c: purging
 *   store_scan.c, store_read.c   reading back; store_definitions.c: definitions
 *
 * struct store_db is the thread's alone once it runs. Everything under `lock` in struct store
 * belongs to both, the rest of it to the loop.
 *
 * Functions of the database give 0, an errno (positive) or an error of LMDB (negative). After one,
 * the transactions are aborted and figures and ranges are what they were before them.
 */
#ifndef BROKER_STORE_PRIVATE_H
#define BROKER_STORE_PRIVATE_H

#include "base/buf.h"
#include "base/log.h"
#include "broker/store.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define STORE_VERSION 1
#define STORE_KEY 17 /* queue, rank, position */
/* Ops of one transaction: LMDB keeps a list of its changed pages, and others wait for it. */
#define STORE_WRITE_OPS 50000
#define STORE_RESERVE (8u << 20) /* bytes of the file that only removals may use */

/* ---- the database ---- */

/* A message of several queues: how many more rows refer to it after this transaction. */
struct store_share {
    uint64_t shared;
    int64_t change;
    const struct message *message;
};

struct store_env {
    MDB_env *env;
    const char *path;
    uint64_t map_size;
    MDB_dbi rows, counts, messages;
    MDB_txn *txn;
    MDB_cursor *put, *find;  /* of the rows, in txn */
    uint8_t last[STORE_KEY]; /* no row is behind it; all 0: there are none */
    struct store_share *shares;
    size_t share_count, share_capacity;
};

/* Rows of one queue and rank that are purged but still there: positions from <= p < to. */
struct store_range {
    uint64_t from, to;
    uint8_t rank;
};

struct store_queue_state {
    struct store_figures figures;
    struct store_range *ranges;
    size_t range_count;
    bool known;   /* has a row of figures */
    bool dropped; /* forgotten when its last row is gone */
};

struct store_queue {
    struct store_queue_state now, before; /* before: as on disk, while touched */
    uint64_t next_transient;
    bool touched, ranges_changed;
    struct store_queue *next_touched;
    UT_hash_handle hh; /* by now.figures.queue */
};

struct store_db {
    char *folder, *durable_path, *transient_path;
    int lock;
    struct store_env durable, transient;
    MDB_dbi meta, definitions, figures, purges;
    uint32_t version; /* of the file */
    struct store_queue *queues, *touched, *latest;
    bool purging;  /* some queue may have ranges */
    bool map_full; /* the latest failure was that */
    struct buf scratch;
    uint64_t allocated; /* bytes that the file has on the disk, as far as we know */
    uint64_t next_shared;
    void (*hash)(struct span name, uint8_t hash[16]); /* replaced by the test */
};

/* store_open.c */
int store_db_open(struct store_db *db, const struct store_options *options, char *error, size_t size) HARK_MUSTCHECK;
void store_db_close(struct store_db *db);

/* store_lmdb.c */
int store_env_open(struct store_db *db, struct store_env *env) HARK_MUSTCHECK;
int store_env_begin(struct store_db *db, struct store_env *env) HARK_MUSTCHECK;
/* The transient one only is while something is or was in it. It may be closed all the same: it could not be opened
 * when it was to be mapped anew, which does not make it empty. */
bool store_env_is_there(const struct store_env *env);
int store_env_begin_read(struct store_db *db, struct store_env *env) HARK_MUSTCHECK;
/* Makes sure that `bytes` more, and the reserve behind them, have their place on the disk. */
int store_env_make_room(struct store_db *db, size_t bytes) HARK_MUSTCHECK;
/* What has been read of the files is mapped no longer. Not within a transaction. */
void store_env_unmap(struct store_db *db);
/* The transient file goes when it is large and nothing is in it. Not within a transaction. */
void store_env_give_back(struct store_db *db);
/* Bytes that can be written without any of the disk. Not within a transaction. */
uint64_t store_env_spare(struct store_db *db);
/* Maps so much more than the largest size, or (0) no more than that; nothing if the map is not what is full. */
int store_env_stretch(struct store_db *db, uint64_t more) HARK_MUSTCHECK;
void store_env_close(struct store_env *env);
int store_db_settle(struct store_db *db) HARK_MUSTCHECK;
/* When it fails, the transient rows may have changed already: what was asked for is then asked for again, in the same
 * order from the first on, and that gives the same rows. */
int store_db_commit(struct store_db *db) HARK_MUSTCHECK;
void store_db_abort(struct store_db *db);
/* After MDB_PANIC nothing works any more but this. */
int store_db_reopen(struct store_db *db) HARK_MUSTCHECK;
/* What went wrong and what to do about it. */
const char *store_db_error(const struct store_db *db, int code, char *text, size_t size);

static inline MDB_val store_val(const void *data, size_t length)
{
    /* LMDB never writes through what it is given */
    return (MDB_val){.mv_data = (void *)(uintptr_t)data, .mv_size = length};
}

static inline void put_u16(uint8_t *to, uint16_t value)
{
    value = __builtin_bswap16(value);
    memcpy(to, &value, sizeof(value));
}

static inline void put_u32(uint8_t *to, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(to, &value, sizeof(value));
}

static inline void put_u64(uint8_t *to, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(to, &value, sizeof(value));
}

static inline void store_key_put(uint8_t key[STORE_KEY], uint64_t queue, uint8_t rank, uint64_t position)
{
    put_u64(key, queue);
    key[8] = rank;
    put_u64(key + 9, position);
}

/* store_rows.c */
struct store_row_value {
    bool redelivered;
    uint16_t deliveries;
    int64_t expires;
    uint64_t shared; /* 0: content is the message */
    uint64_t bytes;  /* of the body */
    struct span content;
};
/* -1: not a row. */
int store_row_parse(struct span bytes, struct store_row_value *row) HARK_MUSTCHECK;
size_t store_content_size(const struct message *message);
void store_content_put(uint8_t *to, const struct message *message);
struct message *store_content_get(struct span content) HARK_MUSTCHECK;
int store_row_add(struct store_db *db, const struct store_entry *entry, const struct message *message) HARK_MUSTCHECK;
/* *found may be NULL: nobody wants to know. */
int store_row_remove(struct store_db *db, const struct store_entry *entry, bool *found) HARK_MUSTCHECK;
int store_row_update(struct store_db *db, const struct store_entry *entry) HARK_MUSTCHECK;

/* store_shared.c */
int store_share_change(struct store_env *env, uint64_t shared, int change,
                       const struct message *message) HARK_MUSTCHECK;
int store_share_settle(struct store_env *env) HARK_MUSTCHECK;

/* store_queue.c */
struct store_queue *store_queue_find(struct store_db *db, uint64_t id);
struct store_queue *store_queue_make(struct store_db *db, uint64_t id) HARK_MUSTCHECK;
/* Before the first change in a transaction. */
int store_queue_touch(struct store_db *db, struct store_queue *queue) HARK_MUSTCHECK;
void store_queue_mark(struct store_queue *queue, uint64_t below);
/* Is it purged? *to: so is everything below that position. */
bool store_queue_gone(const struct store_queue *queue, uint8_t rank, uint64_t position, uint64_t *to);
int store_queue_add_range(struct store_db *db, struct store_queue *queue, struct store_range range) HARK_MUSTCHECK;
/* A row that is added where others are purged. */
int store_queue_keep(struct store_db *db, struct store_queue *queue, uint8_t rank, uint64_t position) HARK_MUSTCHECK;
int store_queue_settle(struct store_db *db) HARK_MUSTCHECK;
void store_queue_committed(struct store_db *db);
void store_queue_aborted(struct store_db *db);
int store_queue_load(struct store_db *db) HARK_MUSTCHECK;
void store_queue_free_all(struct store_db *db);

/* store_scan.c: rows of one queue that are not purged, in order */
struct store_scan {
    MDB_cursor *cursor;
    const struct store_queue *skip; /* may be NULL */
    uint64_t queue, position;       /* of the row */
    uint8_t rank;
    struct span value;
    bool end;
};
int store_scan_begin(struct store_env *env, struct store_scan *scan, const struct store_queue *skip, uint64_t queue,
                     uint8_t rank, uint64_t position) HARK_MUSTCHECK;
int store_scan_next(struct store_scan *scan) HARK_MUSTCHECK;
void store_scan_end(struct store_scan *scan);

/* store_purge.c */
int store_purge_mark(struct store_db *db, uint64_t queue, uint8_t rank, uint64_t position) HARK_MUSTCHECK;
int store_purge_drop(struct store_db *db, uint64_t queue) HARK_MUSTCHECK;
/* Takes at most so many rows out, into the transaction, and stops after some milliseconds. */
int store_purge_step(struct store_db *db, size_t rows) HARK_MUSTCHECK;

/* store_definitions.c */
int store_definition_put(struct store_db *db, enum store_kind kind, struct span name, struct span value) HARK_MUSTCHECK;
int store_definition_forget(struct store_db *db, enum store_kind kind, struct span name) HARK_MUSTCHECK;
int store_definition_each(struct store_db *db, const struct store_recovery *recovery, void *arg) HARK_MUSTCHECK;
void store_definition_hash(struct span name, uint8_t hash[16]);

/* ---- batches ---- */

enum store_op_kind {
    STORE_OP_DONE,
    STORE_OP_ADD,
    STORE_OP_REMOVE,
    STORE_OP_UPDATE,
    STORE_OP_PURGE,
    STORE_OP_DROP_QUEUE,
    STORE_OP_PUT,
    STORE_OP_FORGET,
};

struct store_op {
    uint8_t kind;       /* enum store_op_kind */
    uint8_t definition; /* enum store_kind */
    bool holds;         /* the message, done or not; the loop drops it */
    bool counted;       /* in the bytes of the batch */
    bool in_order;      /* not before what was asked for before it */
    union {
        struct {
            struct store_entry entry;
            struct message *message;
        };
        struct {
            size_t at; /* name and value, one behind the other, in the batch's text */
            size_t name_length, value_length;
        };
    };
};

/* store_delivered() */
struct store_mark {
    uint64_t queue, below;
};
#define STORE_MARKS 64 /* queues whose mark of this batch is found again */

struct store_batch {
    struct store_batch *next;
    uint64_t number;
    struct store_op *ops;
    size_t count, capacity, live; /* live: not undone */
    size_t additions;             /* that are live */
    size_t at;                    /* the thread's: what stands before is on disk */
    struct store_mark *marks;
    size_t mark_count, mark_capacity;
    uint32_t mark_at[STORE_MARKS]; /* by the queue's last bits: index + 1 */
    struct buf text;
    struct store_read *reads, **reads_tail;
    size_t bytes;
    bool asked;        /* somebody may wait for it */
    int64_t not_until; /* ms; nothing but removals and marks, which can wait for company */
};

struct store_read {
    struct store_read *next;
    uint64_t batch; /* which has to be done before */
    uint64_t queue, position;
    size_t count, bytes;
    store_read_done done;
    void *arg;
    atomic_bool cancelled;
    uint8_t rank;
    struct store_row *rows;
    size_t row_count, row_capacity;
    bool end;
};

struct store {
    /* the loop's */
    struct loop *loop;
    struct store_ops ops;
    void *arg;
    struct event *event;
    struct loop_task publish;
    struct store_batch *open; /* NULL: published, perhaps taken */
    struct store_batch *spare;
    uint64_t number, committed, next_shared;
    size_t pending;
    unsigned calling;
    bool closed, started;

    int wake; /* eventfd: written by the thread, read by the loop */
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t work, ended;
    struct store_batch *ready;
    struct store_batch *returned, **returned_tail;
    struct store_read *answered, **answered_tail;
    uint64_t limit;
    int64_t sleeps_until; /* the thread; 0: it is awake and will look */
    bool limit_changed;   /* true at first: the disk is looked at before anything is asked */
    bool busy, stop, abandon, has_ended;
    bool is_low, low_changed;
    char why[512];

    /* the thread's */
    struct store_db db;
    struct store_batch *in_flight, **in_flight_tail;
    uint64_t finished; /* the newest batch that is on disk */
    struct store_read *unread, **unread_tail;
    int64_t retry_ms, retry_at, check_at; /* ms; retry_at 0: nothing has failed */
    size_t most_ops;                      /* of a transaction */
    size_t purge_rows;                    /* taken out in one transaction; with somebody's batch a tenth */
    uint64_t check_allocated;             /* what the file had when the disk was looked at */
    long faults;                          /* of pages, by the thread, when the files were mapped anew */
    bool disk_low;
    char failure[512], disk[256];
    struct log_limit said; /* of removals that have to wait too */
};

/* store_batch.c */
void store_batch_publish(struct loop_task *task);
void store_batch_free(struct store_batch *batch);
void store_batch_free_all(struct store_batch *batch);
/* Back from the thread. */
void store_batch_recycle(struct store *store, struct store_batch *batch);
/* All batches up to that one are on disk. */
void store_committed_up_to(struct store *store, uint64_t batch);

/* store.c */
void store_read_free(struct store_read *read);

/* store_thread.c */
int store_thread_start(struct store *store) HARK_MUSTCHECK;
int store_thread_apply(struct store_db *db, const struct store_batch *batch, const struct store_op *op) HARK_MUSTCHECK;
int64_t store_clock(void); /* ms of CLOCK_MONOTONIC */

/* store_relief.c */
/* Commits what of the batches from `first` on (NULL: of none) can be done without what stands before it, and goes on
 * with purges. */
int store_relief(struct store *store, const struct store_batch *first) HARK_MUSTCHECK;
/* Many small batches wait behind one that does not fit: what is left of each goes into the one before. */
void store_relief_merge(struct store *store);

/* store_read.c */
/* In the transactions that are open, or in ones for reading. */
int store_read_run(struct store_db *db, struct store_read *read) HARK_MUSTCHECK;

#endif
