/* SPDX-License-Identifier: MIT */
/* Purging and dropping queues, in steps, over restarts, and what is done to the queue meanwhile. */
#include "base/log.h"
#include "unit/store_kit.h"
#include "suite.h"

#include <stdio.h>

#define MANY 60000 /* rows: more than one step takes */

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

static void add(uint64_t queue, uint8_t rank, uint64_t position, uint64_t number, bool transient)
{
    struct store_entry entry = {
        .queue = queue, .rank = rank, .position = position, .shared = number, .transient = transient};

    stored_add(&kit, &entry, 10);
}

static void add_many(uint64_t queue, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        add(queue, 0, i, 0, false);
    stored_sync(&kit);
}

static void check_figures(uint64_t queue, uint64_t count, uint64_t next)
{
    struct store_figures figures = stored_figures(&kit, queue);

    ck_assert_uint_eq(figures.count, count);
    ck_assert_uint_eq(figures.bytes, count * 10);
    ck_assert_uint_eq(figures.next_position, next);
}

/* Closes it, with purging as far as it has come. */
static size_t rows_left(void)
{
    size_t rows;

    stored_close(&kit);
    rows = stored_entries(&kit, "rows");
    stored_open(&kit);
    return rows;
}

/* Until the steps have got the file down to so many rows, over as many restarts as it takes. */
static void wait_for_rows(size_t rows)
{
    for (int i = 0; i < 200; i++) {
        store_put(kit.store, STORE_VHOST, span_str("/"), span_str("")); /* a commit, and a step with it */
        stored_sync(&kit);
        if (rows_left() == rows) {
            stored_close(&kit);
            ck_assert_uint_eq(stored_entries(&kit, "purges"), 0);
            stored_open(&kit);
            return;
        }
    }
    ck_abort_msg("the purge does not come to its end");
}

START_TEST(from_a_position_on)
{
    for (uint8_t rank = 0; rank < 3; rank++)
        for (uint64_t i = 0; i < 10; i++)
            add(1, rank, 10 * rank + i, 0, false);
    add(2, 0, 0, 0, false);
    store_purge(kit.store, 1, 1, 14);
    add(1, 2, 30, 0, false); /* later, so it stays */
    add(1, 1, 31, 0, false);
    stored_read(&kit, 1, 0, 0, 100, 100000);
    ck_assert_uint_eq(kit.row_count, 16);
    ck_assert(kit.end);
    ck_assert_uint_eq(kit.rows[13].entry.position, 13);
    ck_assert_uint_eq(kit.rows[14].entry.position, 31);
    ck_assert_uint_eq(kit.rows[15].entry.position, 30);
    restart();
    check_figures(1, 16, 32);
    check_figures(2, 1, 1);
    store_purge(kit.store, 1, 0, 0);
    store_purge(kit.store, 3, 0, 0);
    restart();
    check_figures(1, 0, 32);
    wait_for_rows(1);
}
END_TEST

START_TEST(in_steps_over_restarts)
{
    add_many(1, 0, MANY);
    store_purge(kit.store, 1, 0, 1000);
    ck_assert_uint_gt(rows_left(), 1000); /* part of it only */
    check_figures(1, 1000, MANY);
    stored_read(&kit, 1, 0, 990, 100, 100000);
    ck_assert_uint_eq(kit.row_count, 10);
    ck_assert(kit.end);
    add_many(1, MANY, MANY + 100);
    stored_read(&kit, 1, 0, 990, 200, 100000);
    ck_assert_uint_eq(kit.row_count, 110);
    ck_assert_uint_eq(kit.rows[10].entry.position, MANY);
    wait_for_rows(1100);
    check_figures(1, 1100, MANY + 100);
}
END_TEST

/* What happens to rows that are purged but still there. */
START_TEST(meanwhile)
{
    struct store_entry entry = {.queue = 1, .position = MANY - 10};

    add_many(1, 0, MANY);
    store_purge(kit.store, 1, 0, 0);
    store_remove(kit.store, &entry, NULL); /* is gone already: counts nothing */
    entry.position--;
    store_update(kit.store, &entry);
    add(1, 0, MANY - 5, 0, false); /* comes back, over the old row */
    add(1, 0, MANY - 7, 0, true);
    stored_read(&kit, 1, 0, 0, 10, 100000);
    ck_assert_uint_eq(kit.row_count, 2);
    ck_assert_uint_eq(kit.rows[0].entry.position, MANY - 7);
    ck_assert(kit.rows[0].entry.transient);
    ck_assert_uint_eq(kit.rows[1].entry.position, MANY - 5);
    store_purge(kit.store, 1, 0, MANY - 6); /* a purge beside the other */
    add(1, 0, 3, 0, false);
    restart();
    check_figures(1, 1, MANY);
    stored_read(&kit, 1, 0, 0, 10, 100000);
    ck_assert_uint_eq(kit.row_count, 1);
    ck_assert_uint_eq(kit.rows[0].entry.position, 3);
    wait_for_rows(1);
    check_figures(1, 1, MANY);
}
END_TEST

START_TEST(dropped)
{
    uint64_t number = store_new_shared(kit.store);

    add_many(1, 0, MANY);
    add_many(2, 0, 10);
    add(1, 5, MANY, number, false);
    add(2, 0, 10, number, false);
    add(1, 5, MANY + 1, number, true);
    store_drop_queue(kit.store, 1);
    store_drop_queue(kit.store, 7);
    stored_read(&kit, 1, 0, 0, 10, 100000);
    ck_assert_uint_eq(kit.row_count, 0);
    ck_assert(kit.end);
    restart();
    ck_assert_uint_eq(kit.figure_count, 1);
    check_figures(2, 11, 11);
    wait_for_rows(11);
    ck_assert_uint_eq(kit.figure_count, 1);
    stored_read(&kit, 2, 0, 10, 10, 100000);
    ck_assert_uint_eq(kit.row_count, 1);
    store_drop_queue(kit.store, 2);
    wait_for_rows(0);
    stored_close(&kit);
    ck_assert_uint_eq(stored_entries(&kit, "messages"), 0);
    ck_assert_uint_eq(stored_entries(&kit, "figures"), 0);
    stored_open(&kit);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_purge");
    TCase *tcase = tcase_create("store_purge");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, from_a_position_on);
    tcase_add_test(tcase, in_steps_over_restarts);
    tcase_add_test(tcase, meanwhile);
    tcase_add_test(tcase, dropped);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
