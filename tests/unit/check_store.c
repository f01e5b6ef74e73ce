/* SPDX-License-Identifier: MIT */
/* The store: what is asked for, what comes back, what is there after a restart. */
#include "base/log.h"
#include "unit/store_kit.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
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

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tcase = tcase_create("store");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, adds_and_removes);
    tcase_add_test(tcase, reads_in_parts);
    tcase_add_test(tcase, definitions);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
