/* SPDX-License-Identifier: MIT */
/*
 * The store: what outlives the broker. Durable definitions (vhosts, exchanges, queues, bindings)
 * and the messages of queues, in LMDB, in one folder.
 *
 * A thread of its own does all disk work: the loop never waits for it, not even for a page fault.
 * What the loop asks for goes into the open batch, in order; when the thread is free it takes the
 * whole batch, makes one transaction of it, commits that with one sync, and `committed` is called
 * in the loop: one sync serves everyone who waits (group commit). Removals alone, for which nobody
 * waits, are held back a few milliseconds for the additions that they would keep waiting. A batch
 * that cannot be committed (a full disk) is kept and tried again; nothing is lost and nothing is
 * confirmed meanwhile.
 *
 * Messages that are not to outlive the process but do not fit into memory (`transient`) go to a
 * second database file, which is never synced and is deleted at the next start.
 *
 * The rows of a queue are ordered by rank (0 first), then position. A message of one queue stands
 * in that queue's row; one that went to several queues is stored once, under the number `shared`,
 * with a count of the rows that refer to it.
 */
#ifndef BROKER_STORE_H
#define BROKER_STORE_H

#include "net/loop.h"
#include "wire/message.h"

struct store;

struct store_options {
    const char *folder;       /* made if it is not there, mode 0700; locked: a second process is refused */
    uint64_t disk_free_limit; /* bytes; below it `low` is called */
    uint64_t map_size;        /* the largest the database may become; 0: 1 TiB */
};

struct store_ops {
    /* All batches up to this one are on disk. */
    void (*committed)(void *arg, uint64_t batch);
    /* The disk has less than the limit free or a commit failed, with what and what to do; or (NULL)
     * it is well again. Called on a change only. */
    void (*low)(void *arg, const char *why);
};

/* NULL with a message that names file and reason: not a folder, no permission, locked by another
 * process, a version that this program does not know, a damaged file. */
struct store *store_open(struct loop *loop, const struct store_options *options, const struct store_ops *ops, void *arg,
                         char *error, size_t size) HARK_MUSTCHECK;
void store_set_disk_free_limit(struct store *store, uint64_t limit);
/* Commits what is in the batches, ends the thread. Waits for both; nothing is called any more.
 * What cannot be committed within `ms` is lost, and said. */
void store_close(struct store *store, int64_t ms);

/* ---- recovery: before anything else ---- */

enum store_kind { /* on disk: never renumber */
                  STORE_VHOST = 1,
                  STORE_USER = 2,
                  STORE_PERMISSION = 3,
                  STORE_EXCHANGE = 4,
                  STORE_QUEUE = 5,
                  STORE_BINDING = 6,
};

struct store_figures {
    uint64_t queue;
    uint64_t count, bytes;  /* of persistent messages; bytes: their bodies */
    uint64_t next_position; /* above every position ever stored */
    uint64_t delivered;     /* positions below it may have been delivered; see store_delivered() */
};

struct store_recovery {
    /* In the order of the kinds. */
    void (*record)(void *arg, enum store_kind kind, struct span name, struct span value);
    /* For each queue that ever had a row, after the records. */
    void (*figures)(void *arg, const struct store_figures *figures);
};

/* Reads definitions and figures, not messages: costs by the number of queues. 0; -1 with a message. */
int store_recover(struct store *store, const struct store_recovery *recovery, void *arg, char *error,
                  size_t size) HARK_MUSTCHECK;

/* ---- into the open batch ---- */

/* The number of the batch that what is asked for now, in this turn of the loop, will be part of; it will be committed
 * even if nothing is asked for. The first is 1. */
uint64_t store_batch(struct store *store);
/* The newest that is on disk. */
uint64_t store_committed(const struct store *store);
/* Bytes that wait for the disk: whoever publishes faster than it writes has to be held. */
size_t store_pending(const struct store *store);

/* A definition: name and value are the caller's own encoding, up to 64 KiB each. Replaces. */
void store_put(struct store *store, enum store_kind kind, struct span name, struct span value);
void store_forget(struct store *store, enum store_kind kind, struct span name);

struct store_entry {
    uint64_t queue, position;
    uint64_t shared;     /* 0: the message is this queue's only */
    int64_t expires;     /* ms of CLOCK_REALTIME; 0: never */
    uint16_t deliveries; /* how often it was delivered without being acknowledged */
    uint8_t rank;
    bool transient, redelivered;
};

/* Where an addition stands, so that a removal can undo it while it has not yet been written. */
struct store_ticket {
    uint64_t batch; /* 0: none */
    size_t at;
};

/* Holds the message until it is written. */
void store_add(struct store *store, const struct store_entry *entry, struct message *message,
               struct store_ticket *ticket);
/* With the ticket of its addition (or NULL): one that is still in the open batch costs no I/O. */
void store_remove(struct store *store, const struct store_entry *entry, const struct store_ticket *ticket);
/* The same for one that something else takes the place of: on a full disk too, it stays until that is there. */
void store_replace(struct store *store, const struct store_entry *entry, const struct store_ticket *ticket);
/* deliveries and redelivered have changed. */
void store_update(struct store *store, const struct store_entry *entry);
/* Positions below this one may have been delivered: after a restart they count as redelivered.
 * Cheap: kept in memory and written along with the queue's figures. */
void store_delivered(struct store *store, uint64_t queue, uint64_t below);
/* Removes all rows of a queue from this rank and position on. May be spread over several
 * transactions, which a restart takes up again; rows added later are not touched. */
void store_purge(struct store *store, uint64_t queue, uint8_t rank, uint64_t position);
/* Removes all rows and the figures. The number is never used again. */
void store_drop_queue(struct store *store, uint64_t queue);
/* A number that no message has had. */
uint64_t store_new_shared(struct store *store);

/* ---- reading back ---- */

struct store_row {
    struct store_entry entry;
    struct message *message; /* the receiver's reference */
};

struct store_read;
/* Exactly once, from the loop. `end`: there are no more rows in the queue. The array is the store's and gone afterwards. */
typedef void (*store_read_done)(void *arg, struct store_row *rows, size_t count, bool end);

/* The rows from this rank and position on, in order, transient ones among the others: at most `count`, and
 * no more once their bodies have `bytes`. What was asked for before is done before. A row that cannot be
 * read is logged and left out. NULL: no memory. */
struct store_read *store_read(struct store *store, uint64_t queue, uint8_t rank, uint64_t position, size_t count,
                              size_t bytes, store_read_done done, void *arg) HARK_MUSTCHECK;
void store_read_cancel(struct store_read *read); /* `done` is not called any more */

#endif
