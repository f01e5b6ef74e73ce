/* SPDX-License-Identifier: MIT */
/* Deliveries not yet settled: found by tag, bounded however long one of them is held. */
#include "broker/peer_channel.h"
#include "suite.h"

#include <stdlib.h>

static struct outstandings all;
static struct queue queue;

static void teardown(void)
{
    free(all.items);
    all = (struct outstandings){0};
}

static void add(uint64_t tag)
{
    struct outstanding *item = outstanding_add(&all, tag);

    ck_assert_ptr_nonnull(item);
    item->queue = &queue;
}

START_TEST(found_by_tag)
{
    for (uint64_t tag = 1; tag <= 100; tag++)
        add(tag);
    for (uint64_t tag = 1; tag <= 100; tag++) {
        ck_assert_ptr_nonnull(outstanding_find(&all, tag));
        ck_assert_uint_eq(outstanding_find(&all, tag)->tag, tag);
    }
    ck_assert_ptr_null(outstanding_find(&all, 0));
    ck_assert_ptr_null(outstanding_find(&all, 101));
}
END_TEST

START_TEST(settled_is_unknown)
{
    for (uint64_t tag = 1; tag <= 10; tag++)
        add(tag);
    outstanding_remove(&all, outstanding_find(&all, 5));
    ck_assert_ptr_null(outstanding_find(&all, 5));
    ck_assert_uint_eq(outstanding_first(&all)->tag, 1);
    outstanding_remove(&all, outstanding_first(&all));
    ck_assert_uint_eq(outstanding_first(&all)->tag, 2);
    ck_assert_uint_eq(all.count, 8);
}
END_TEST

START_TEST(one_is_held_while_many_pass)
{
    add(1);
    for (uint64_t tag = 2; tag <= 1000000; tag++) {
        add(tag);
        outstanding_remove(&all, outstanding_find(&all, tag));
    }
    ck_assert_uint_eq(all.count, 1);
    ck_assert_uint_le(all.capacity, 64);
    ck_assert_uint_eq(outstanding_first(&all)->tag, 1);
    add(2000000);
    ck_assert_ptr_nonnull(outstanding_find(&all, 2000000));
    ck_assert_ptr_nonnull(outstanding_find(&all, 1));
}
END_TEST

START_TEST(with_holes)
{
    for (uint64_t tag = 1; tag <= 1000; tag++)
        add(tag);
    for (uint64_t tag = 2; tag <= 1000; tag += 2)
        outstanding_remove(&all, outstanding_find(&all, tag));
    for (uint64_t tag = 1001; tag <= 1600; tag++)
        add(tag);
    for (uint64_t tag = 1; tag <= 1600; tag++)
        ck_assert_int_eq(outstanding_find(&all, tag) != NULL, tag > 1000 || tag % 2 == 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outstanding");
    TCase *tests = tcase_create("outstanding");

    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, found_by_tag);
    tcase_add_test(tests, settled_is_unknown);
    tcase_add_test(tests, one_is_held_while_many_pass);
    tcase_add_test(tests, with_holes);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
