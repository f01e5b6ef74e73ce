/* SPDX-License-Identifier: MIT */
/* The store against a model of it: whatever is asked for in whatever order, it has what the model has. */
#include "base/log.h"
#include "unit/store_kit.h"
#include "suite.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define QUEUES 4
#define POSITIONS 600
#define STEPS 4000

struct slot {
    struct store_entry entry;
    struct store_ticket ticket;
    size_t body;
    bool there;
};

static struct store_kit kit;
/* A message stands at its position, whatever its rank. */
static struct slot slots[QUEUES][POSITIONS];
static uint64_t next_position[QUEUES], stored_next[QUEUES], ids[QUEUES], next_id;

static unsigned pick(unsigned below)
{
    return (unsigned)rand() % below;
}

static void model_drop(unsigned queue)
{
    store_drop_queue(kit.store, ids[queue]);
    ids[queue] = ++next_id;
    next_position[queue] = stored_next[queue] = 0;
    memset(slots[queue], 0, sizeof(slots[queue]));
}

static void model_put(unsigned queue, uint64_t position, uint64_t shared, struct message *message)
{
    struct slot *slot = &slots[queue][position];

    *slot = (struct slot){.there = true, .body = message->body.length};
    slot->entry = (struct store_entry){.queue = ids[queue],
                                       .position = position,
                                       .shared = shared,
                                       .expires = (int64_t)pick(1000),
                                       .rank = (uint8_t)pick(3),
                                       .transient = pick(4) == 0,
                                       .redelivered = pick(2) == 0};
    store_add(kit.store, &slot->entry, message, &slot->ticket);
    if (slot->entry.transient)
        return;
    if (position >= stored_next[queue])
        stored_next[queue] = position + 1;
}

static void model_add(void)
{
    struct message *message = stored_message("key", pick(20) == 0 ? 5000 : pick(300));
    bool several = pick(3) == 0;
    uint64_t shared = several ? store_new_shared(kit.store) : 0;
    unsigned first = pick(QUEUES);

    for (unsigned i = 0; i < (several ? QUEUES : 1); i++) {
        unsigned queue = (first + i) % QUEUES;

        if (next_position[queue] == POSITIONS)
            model_drop(queue);
        model_put(queue, next_position[queue]++, shared, message);
    }
    message_drop(message);
}

/* A message that came back to the queue and goes to the disk once more. */
static void model_add_old(void)
{
    unsigned queue = pick(QUEUES);
    struct message *message;

    if (next_position[queue] == 0)
        return;
    message = stored_message("key", pick(300));
    for (unsigned i = 0; i < 5; i++) {
        uint64_t position = pick((unsigned)next_position[queue]);

        if (!slots[queue][position].there)
            model_put(queue, position, 0, message);
    }
    message_drop(message);
}

static struct slot *model_any(void)
{
    unsigned queue = pick(QUEUES);

    return next_position[queue] > 0 ? &slots[queue][pick((unsigned)next_position[queue])] : NULL;
}

static void model_remove(void)
{
    struct slot *slot = model_any();

    if (slot == NULL || !slot->there)
        return;
    store_remove(kit.store, &slot->entry, pick(3) == 0 ? NULL : &slot->ticket);
    slot->there = false;
}

static void model_update(void)
{
    struct slot *slot = model_any();

    if (slot == NULL || !slot->there)
        return;
    slot->entry.deliveries++;
    slot->entry.redelivered = true;
    store_update(kit.store, &slot->entry);
}

static void model_purge(void)
{
    unsigned queue = pick(QUEUES);
    uint8_t rank = (uint8_t)pick(3);
    uint64_t position = pick(POSITIONS);

    store_purge(kit.store, ids[queue], rank, position);
    for (unsigned i = 0; i < POSITIONS; i++) {
        struct slot *slot = &slots[queue][i];

        if (slot->entry.rank > rank || (slot->entry.rank == rank && i >= position))
            slot->there = false;
    }
}

static void check_queue(unsigned queue)
{
    size_t at = 0;

    stored_read(&kit, ids[queue], 0, 0, 4096, SIZE_MAX);
    ck_assert(kit.end);
    for (uint8_t rank = 0; rank < 3; rank++) {
        for (unsigned i = 0; i < POSITIONS; i++) {
            struct slot *slot = &slots[queue][i];
            const struct store_row *row = &kit.rows[at];

            if (!slot->there || slot->entry.rank != rank)
                continue;
            ck_assert_uint_lt(at, kit.row_count);
            ck_assert_uint_eq(row->entry.position, i);
            ck_assert_uint_eq(row->entry.rank, rank);
            ck_assert_uint_eq(row->entry.shared, slot->entry.shared);
            ck_assert_uint_eq(row->entry.deliveries, slot->entry.deliveries);
            ck_assert_int_eq(row->entry.expires, slot->entry.expires);
            ck_assert_int_eq(row->entry.redelivered, slot->entry.redelivered);
            ck_assert_int_eq(row->entry.transient, slot->entry.transient);
            ck_assert_uint_eq(row->message->body.length, slot->body);
            at++;
        }
    }
    ck_assert_uint_eq(at, kit.row_count);
}

static void check_figures(unsigned queue)
{
    struct store_figures figures = stored_figures(&kit, ids[queue]);
    uint64_t count = 0, bytes = 0;

    for (unsigned i = 0; i < POSITIONS; i++) {
        slots[queue][i].there &= !slots[queue][i].entry.transient;
        count += slots[queue][i].there;
        bytes += slots[queue][i].there ? slots[queue][i].body : 0;
    }
    ck_assert_uint_eq(figures.count, count);
    ck_assert_uint_eq(figures.bytes, bytes);
    /* One that was undone may never have been stored. */
    ck_assert_uint_le(figures.next_position, stored_next[queue]);
}

static void restart(void)
{
    stored_close(&kit);
    stored_open(&kit);
    for (unsigned queue = 0; queue < QUEUES; queue++)
        check_figures(queue);
}

/* ---- faults: these stand before LMDB's own ---- */

static atomic_int failing; /* of so many per mille of the commits, and of a few writes */

static bool fails(int per_mille)
{
    static atomic_uint at;

    /* not rand(): that is the model's, and this is another thread */
    return (atomic_fetch_add(&at, 1) * 2654435761U >> 16) % 1000 < (unsigned)per_mille;
}

int mdb_txn_commit(MDB_txn *txn)
{
    int (*commit)(MDB_txn *) = (int (*)(MDB_txn *))(uintptr_t)dlsym(RTLD_NEXT, "mdb_txn_commit");

    if (!fails(atomic_load(&failing)))
        return commit(txn);
    mdb_txn_abort(txn);
    return ENOSPC;
}

int mdb_cursor_put(MDB_cursor *cursor, MDB_val *key, MDB_val *data, unsigned flags)
{
    int (*put)(MDB_cursor *, MDB_val *, MDB_val *, unsigned) = (int (*)(MDB_cursor *, MDB_val *, MDB_val *, unsigned))(
        uintptr_t)dlsym(RTLD_NEXT, "mdb_cursor_put");

    return fails(atomic_load(&failing) / 800) ? MDB_MAP_FULL : put(cursor, key, data, flags);
}

static void model_step(bool limited)
{
    unsigned what = pick(1000);

    if (limited && ((what >= 890 && what < 894) || what >= 950))
        return; /* that would wait for a commit */

    if (what < 450)
        model_add();
    else if (what < 800)
        model_remove();
    else if (what < 850)
        model_update();
    else if (what < 880)
        model_add_old();
    else if (what < 888)
        model_purge();
    else if (what < 890)
        model_drop(pick(QUEUES));
    else if (what < 894)
        restart();
    else if (what < 910)
        check_queue(pick(QUEUES));
    else if (what < 950)
        stored_turn(&kit);
    else if (what < 970)
        stored_sync(&kit);
}

static void quiet(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    (void)level;
    (void)text;
}

START_TEST(model)
{
    bool limited;

    log_divert(quiet, NULL);
    kit.retry_ms = 20;
    log_set_level(LOG_LEVEL_ERROR);
    srand((unsigned)_i + 1);
    stored_begin(&kit);
    kit.purge_rows = 10 + 30 * (size_t)_i; /* so that much of it is pending most of the time */
    stored_open(&kit);
    for (unsigned queue = 0; queue < QUEUES; queue++)
        ids[queue] = ++next_id;
    for (unsigned i = 0; i < STEPS; i++) {
        /* Of every 500 steps, 200 on a disk that is full. */
        limited = _i % 2 == 1 && i % 500 >= 300;
        atomic_store(&failing, limited ? 800 : 0);
        model_step(limited);
    }
    atomic_store(&failing, 0);
    restart();
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        check_queue(queue);
        model_drop(queue);
    }
    stored_sync(&kit);
    stored_close(&kit);
    /* Nothing that nobody needs is left. */
    for (int i = 0; i < 3000 && stored_entries(&kit, "purges") > 0; i++) {
        stored_open(&kit);
        store_put(kit.store, STORE_VHOST, span_str("/"), span_str(""));
        stored_close(&kit);
    }
    ck_assert_uint_eq(stored_entries(&kit, "rows"), 0);
    ck_assert_uint_eq(stored_entries(&kit, "messages"), 0);
    ck_assert_uint_eq(stored_entries(&kit, "counts"), 0);
    ck_assert_uint_eq(stored_entries(&kit, "figures"), 0);
    stored_end(&kit);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_model");
    TCase *tcase = tcase_create("store_model");

    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, model, 0, 6);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
