/* SPDX-License-Identifier: MIT */
/* The store: what is asked for, what comes back, what is there after a restart. */
#include "base/log.h"
#include "unit/store_kit.h"
#include "suite.h"

#include <stdio.h>
#include <unistd.h>

static struct store_kit kit;

static void set_up(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    stored_begin(&kit);
    stored_open(&kit);
}

static void tear_down(void)
{
    stored_end(&kit);
}

static void restart(void)
{
    stored_close(&kit);
    stored_open(&kit);
}

static struct store_entry entry_of(uint64_t queue, uint64_t position)
{
    return (struct store_entry){.queue = queue, .position = position};
}

static void add(uint64_t queue, uint64_t position)
{
    struct store_entry entry = entry_of(queue, position);

    stored_add(&kit, &entry, 10);
}

static void take(uint64_t queue, uint64_t position)
{
    struct store_entry entry = entry_of(queue, position);

    store_remove(kit.store, &entry, NULL);
}

static void check_figures(uint64_t queue, uint64_t count, uint64_t bytes, uint64_t next)
{
    struct store_figures figures = stored_figures(&kit, queue);

    ck_assert_uint_eq(figures.count, count);
    ck_assert_uint_eq(figures.bytes, bytes);
    ck_assert_uint_eq(figures.next_position, next);
}

START_TEST(adds_and_removes)
{
    struct store_entry entry = entry_of(1, 3);

    for (uint64_t i = 0; i < 10; i++)
        add(1, i);
    stored_sync(&kit);
    ck_assert_uint_eq(store_pending(kit.store), 0);
    take(1, 0);
    take(1, 5);
    take(1, 77); /* never was */
    take(9, 0);
    entry.deliveries = 7;
    entry.redelivered = true;
    store_update(kit.store, &entry);
    store_delivered(kit.store, 1, 6);
    store_delivered(kit.store, 1, 4);
    stored_sync(&kit);

    restart();
    ck_assert_uint_eq(kit.figure_count, 1);
    check_figures(1, 8, 80, 10);
    ck_assert_uint_eq(stored_figures(&kit, 1).delivered, 6);
    stored_read(&kit, 1, 0, 0, 100, 1000000);
    ck_assert(kit.end);
    ck_assert_uint_eq(kit.row_count, 8);
    ck_assert_uint_eq(kit.rows[0].entry.position, 1);
    ck_assert(!kit.rows[0].entry.redelivered);
    ck_assert_uint_eq(kit.rows[2].entry.deliveries, 7);
    ck_assert(kit.rows[2].entry.redelivered);
    ck_assert_uint_eq(kit.rows[7].entry.position, 9);
    ck_assert(span_is(kit.rows[7].message->routing_key, "9"));
    ck_assert(span_is(kit.rows[7].message->exchange, "events"));
    ck_assert_uint_eq(kit.rows[7].message->properties.delivery_mode, 2);
    ck_assert_uint_eq(kit.rows[7].message->body.length, 10);
}
END_TEST

START_TEST(reads_in_parts)
{
    for (uint64_t i = 0; i < 100; i++)
        add(2, i);
    stored_read(&kit, 2, 0, 10, 20, 1000000);
    ck_assert_uint_eq(kit.row_count, 20);
    ck_assert_uint_eq(kit.rows[0].entry.position, 10);
    ck_assert(!kit.end);
    stored_read(&kit, 2, 0, 90, 10, 1000000);
    ck_assert_uint_eq(kit.row_count, 10);
    ck_assert(kit.end);
    stored_read(&kit, 2, 0, 0, 100, 25);
    ck_assert_uint_eq(kit.row_count, 3);
    stored_read(&kit, 3, 0, 0, 100, 25);
    ck_assert_uint_eq(kit.row_count, 0);
    ck_assert(kit.end);
}
END_TEST

START_TEST(definitions)
{
    static char name[65536], value[65536];

    memset(name, 'n', sizeof(name));
    memset(value, 'v', sizeof(value));
    store_put(kit.store, STORE_QUEUE, span_str("q"), span_str("old"));
    store_put(kit.store, STORE_QUEUE, span_str("q"), span_str("new"));
    store_put(kit.store, STORE_BINDING, span_of(name, sizeof(name)), span_of(value, sizeof(value)));
    store_put(kit.store, STORE_BINDING, span_of(name, 500), span_str("long"));
    store_put(kit.store, STORE_VHOST, span_str("/"), span_str(""));
    store_put(kit.store, STORE_EXCHANGE, span_str("gone"), span_str("x"));
    store_forget(kit.store, STORE_EXCHANGE, span_str("gone"));
    store_forget(kit.store, STORE_EXCHANGE, span_str("never"));
    restart();
    ck_assert_uint_eq(kit.record_count, 4);
    ck_assert_int_eq(memcmp(buf_span(&kit.records).data, "1 /=\n5 q=new\n6 n", 16), 0);

    store_forget(kit.store, STORE_BINDING, span_of(name, sizeof(name)));
    store_put(kit.store, STORE_BINDING, span_of(name, 500), span_str("longer"));
    restart();
    ck_assert_uint_eq(kit.record_count, 3);
    ck_assert_ptr_nonnull(memmem(buf_span(&kit.records).data, buf_length(&kit.records), "=longer\n", 8));
}
END_TEST

static void same_hash(struct span name, uint8_t hash[16])
{
    (void)name;
    memset(hash, 7, 16);
}

static void put_long(char letter, const char *value)
{
    char name[1000];

    memset(name, letter, sizeof(name));
    if (value != NULL)
        store_put(kit.store, STORE_BINDING, span_of(name, sizeof(name)), span_str(value));
    else
        store_forget(kit.store, STORE_BINDING, span_of(name, sizeof(name)));
}

static bool recorded(char letter, const char *value)
{
    char text[1100];

    memset(text, letter, 1000);
    snprintf(text + 1000, 100, "=%s\n", value);
    return memmem(buf_span(&kit.records).data, buf_length(&kit.records), text, strlen(text)) != NULL;
}

START_TEST(colliding_names)
{
    kit.store->db.hash = same_hash;
    put_long('a', "1");
    put_long('b', "2");
    put_long('c', "3");
    put_long('b', NULL);
    put_long('c', "4");
    put_long('d', "5");
    put_long('e', NULL);
    restart();
    ck_assert_uint_eq(kit.record_count, 3);
    ck_assert(recorded('a', "1"));
    ck_assert(recorded('c', "4"));
    ck_assert(recorded('d', "5"));
}
END_TEST

/* ---- additions undone ---- */

START_TEST(undone_in_the_open_batch)
{
    struct message *message = stored_message("k", 100);
    struct store_entry entry = entry_of(4, 0);
    struct store_ticket ticket;
    uint64_t batch = store_batch(kit.store);

    store_add(kit.store, &entry, message, &ticket);
    ck_assert_uint_eq(ticket.batch, batch);
    ck_assert_uint_eq(message->references, 2);
    ck_assert_uint_gt(store_pending(kit.store), 100);
    store_remove(kit.store, &entry, &ticket);
    ck_assert_uint_eq(message->references, 1);
    ck_assert_uint_eq(store_pending(kit.store), 0);
    stored_sync(&kit); /* whoever waits for that batch is told */
    ck_assert_uint_ge(store_committed(kit.store), batch);

    /* others around it */
    add(4, 1);
    entry.position = 2;
    store_add(kit.store, &entry, message, &ticket);
    add(4, 3);
    store_remove(kit.store, &entry, &ticket);
    ck_assert_uint_eq(message->references, 1);
    message_drop(message);
    restart();
    check_figures(4, 2, 20, 4);
}
END_TEST

START_TEST(undone_too_late)
{
    struct message *message = stored_message("k", 100);
    struct store_entry entry = entry_of(4, 0);
    struct store_ticket ticket;

    store_add(kit.store, &entry, message, &ticket);
    stored_sync(&kit);
    ck_assert_uint_eq(message->references, 1);
    store_remove(kit.store, &entry, &ticket);
    restart();
    check_figures(4, 0, 0, 1);
    message_drop(message);
}
END_TEST

/* Whether or not the thread has taken the batch in between, the outcome is the same. */
START_TEST(undone_in_a_race)
{
    struct message *message = stored_message("k", 10);

    for (uint64_t i = 0; i < 2000; i++) {
        struct store_entry entry = entry_of(4, i);
        struct store_ticket ticket;

        store_add(kit.store, &entry, message, &ticket);
        if (i % 3 != 0)
            stored_turn(&kit);
        if (i % 10 != 0)
            store_remove(kit.store, &entry, &ticket);
    }
    stored_sync(&kit);
    ck_assert_uint_eq(message->references, 1);
    message_drop(message);
    restart();
    ck_assert_uint_eq(kit.figures[0].count, 200);
}
END_TEST

/* ---- shared messages ---- */

static void share_one(struct message *message, uint64_t shared, uint64_t queue, bool transient)
{
    struct store_entry entry = {.queue = queue, .shared = shared, .transient = transient};

    store_add(kit.store, &entry, message, NULL);
}

static void unshare_one(uint64_t shared, uint64_t queue, bool transient)
{
    struct store_entry entry = {.queue = queue, .shared = shared, .transient = transient};

    store_remove(kit.store, &entry, NULL);
}

START_TEST(shared)
{
    struct message *message = stored_message("k", 3000);
    uint64_t number = store_new_shared(kit.store), other = store_new_shared(kit.store);

    ck_assert_uint_ne(number, other);
    for (uint64_t queue = 1; queue <= 3; queue++)
        share_one(message, number, queue, false);
    share_one(message, number, 4, true);
    /* one that comes and goes at once */
    share_one(message, other, 5, false);
    unshare_one(other, 5, false);
    stored_sync(&kit);
    unshare_one(number, 1, false);
    unshare_one(number, 1, false); /* twice counts once */
    unshare_one(number, 2, false);
    stored_sync(&kit);
    stored_read(&kit, 4, 0, 0, 10, 10);
    ck_assert_uint_eq(kit.row_count, 1);
    ck_assert_uint_eq(kit.rows[0].message->body.length, 3000);
    unshare_one(number, 4, true);
    message_drop(message);

    restart();
    ck_assert_uint_eq(kit.figure_count, 4);
    check_figures(1, 0, 0, 1);
    check_figures(3, 1, 3000, 1);
    ck_assert_uint_gt(store_new_shared(kit.store), number);
    stored_read(&kit, 3, 0, 0, 10, 10);
    ck_assert_uint_eq(kit.row_count, 1);
    ck_assert_uint_eq(kit.rows[0].entry.shared, number);
    ck_assert_uint_eq(kit.rows[0].message->body.length, 3000);
    stored_close(&kit);
    ck_assert_uint_eq(stored_entries(&kit, "messages"), 1);
    stored_open(&kit);
    unshare_one(number, 3, false);
    stored_close(&kit);
    ck_assert_uint_eq(stored_entries(&kit, "messages"), 0);
    ck_assert_uint_eq(stored_entries(&kit, "counts"), 0);
    ck_assert_uint_eq(stored_entries(&kit, "rows"), 0);
    stored_open(&kit);
}
END_TEST

/* ---- transient ---- */

START_TEST(transient_among_durable)
{
    char path[128];

    for (uint64_t i = 0; i < 50; i++) {
        struct store_entry entry = {.queue = 1, .position = i, .transient = i % 3 == 0, .rank = i % 7 == 0 ? 1 : 2};

        stored_add(&kit, &entry, 10);
    }
    stored_read(&kit, 1, 0, 0, 100, 100000);
    ck_assert_uint_eq(kit.row_count, 50);
    ck_assert(kit.end);
    for (size_t i = 1; i < kit.row_count; i++) {
        struct store_entry a = kit.rows[i - 1].entry, b = kit.rows[i].entry;

        ck_assert(a.rank < b.rank || (a.rank == b.rank && a.position < b.position));
        ck_assert(b.transient == (b.position % 3 == 0));
    }
    stored_read(&kit, 1, 2, 40, 2, 100000);
    ck_assert_uint_eq(kit.rows[0].entry.position, 40);
    ck_assert_uint_eq(kit.rows[1].entry.position, 41);
    ck_assert(!kit.end);

    restart();
    snprintf(path, sizeof(path), "%s/transient.mdb", kit.folder);
    ck_assert_int_ne(access(path, F_OK), 0);
    check_figures(1, 33, 330, 50);
    stored_read(&kit, 1, 0, 0, 100, 100000);
    ck_assert_uint_eq(kit.row_count, 33);
}
END_TEST

START_TEST(transient_only)
{
    struct store_entry entry = {.queue = 1, .transient = true};

    for (uint64_t i = 0; i < 10; i++) {
        entry.position = i;
        stored_add(&kit, &entry, 10);
    }
    store_purge(kit.store, 1, 0, 5);
    entry.position = 2;
    store_remove(kit.store, &entry, NULL);
    stored_read(&kit, 1, 0, 0, 100, 100000);
    ck_assert_uint_eq(kit.row_count, 4);
    stored_sync(&kit);
    store_purge(kit.store, 1, 0, 3);
    entry.position = 1;
    store_remove(kit.store, &entry, NULL);
    stored_read(&kit, 1, 0, 0, 100, 100000);
    ck_assert_uint_eq(kit.row_count, 1);
    restart();
    ck_assert_uint_eq(kit.figure_count, 0);
}
END_TEST

/* ---- reading ---- */

static void never(void *arg, struct store_row *rows, size_t count, bool end)
{
    (void)arg;
    (void)rows;
    (void)count;
    (void)end;
    ck_abort_msg("a cancelled read was answered");
}

/* Its file is on a disk that others need too. */
START_TEST(transient_gives_the_disk_back)
{
    struct store_entry entry = {.queue = 1, .transient = true};
    char path[128];

    snprintf(path, sizeof(path), "%s/transient.mdb", kit.folder);
    for (; entry.position < 80; entry.position++)
        stored_add(&kit, &entry, 1 << 20);
    stored_sync(&kit);
    ck_assert_int_eq(access(path, F_OK), 0);
    for (uint64_t i = 0; i < 79; i++)
        store_remove(kit.store, &(struct store_entry){.queue = 1, .position = i, .transient = true}, NULL);
    stored_sync(&kit);
    ck_assert_int_eq(access(path, F_OK), 0);
    stored_read(&kit, 1, 0, 0, 10, 1 << 20);
    ck_assert_uint_eq(kit.row_count, 1);
    store_purge(kit.store, 1, 0, 0);
    for (int i = 0; i < 1000 && access(path, F_OK) == 0; i++) {
        stored_sync(&kit);
        usleep(1000);
    }
    ck_assert_int_ne(access(path, F_OK), 0);
    stored_add(&kit, &entry, 10);
    stored_sync(&kit);
    stored_read(&kit, 1, 0, 0, 10, 1 << 20);
    ck_assert_uint_eq(kit.row_count, 1);
    ck_assert_uint_eq(kit.rows[0].entry.position, entry.position);
}
END_TEST

START_TEST(cancelled_reads)
{
    struct store_read *reads[3];

    add(1, 1);
    for (int i = 0; i < 3; i++) {
        reads[i] = store_read(kit.store, 1, 0, 0, 10, 10, never, NULL);
        ck_assert_ptr_nonnull(reads[i]);
    }
    store_read_cancel(reads[0]); /* not yet asked for */
    stored_turn(&kit);
    store_read_cancel(reads[1]); /* perhaps answered, perhaps not */
    store_read_cancel(reads[2]);
    stored_read(&kit, 1, 0, 0, 10, 10);
    ck_assert_uint_eq(kit.row_count, 1);
    ck_assert_ptr_nonnull(store_read(kit.store, 1, 0, 0, 10, 10, never, NULL)); /* and closed */
}
END_TEST

static void close_it(void *arg, struct store_row *rows, size_t count, bool end)
{
    (void)rows;
    (void)count;
    (void)end;
    store_close(arg, 1000);
    kit.store = NULL;
}

START_TEST(closed_in_its_call)
{
    ck_assert_ptr_nonnull(store_read(kit.store, 1, 0, 0, 10, 10, close_it, kit.store));
    ck_assert_ptr_nonnull(store_read(kit.store, 1, 0, 0, 10, 10, never, NULL));
    while (kit.store != NULL)
        ck_assert_int_eq(loop_turn(kit.loop, true), 0);
    loop_free(kit.loop);
    stored_open(&kit);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tcase = tcase_create("store");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, adds_and_removes);
    tcase_add_test(tcase, reads_in_parts);
    tcase_add_test(tcase, definitions);
    tcase_add_test(tcase, colliding_names);
    tcase_add_test(tcase, undone_in_the_open_batch);
    tcase_add_test(tcase, undone_too_late);
    tcase_add_test(tcase, undone_in_a_race);
    tcase_add_test(tcase, shared);
    tcase_add_test(tcase, transient_among_durable);
    tcase_add_test(tcase, transient_only);
    tcase_add_test(tcase, transient_gives_the_disk_back);
    tcase_add_test(tcase, cancelled_reads);
    tcase_add_test(tcase, closed_in_its_call);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
