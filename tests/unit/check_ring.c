/* SPDX-License-Identifier: MIT */
/* A queue's ring: what goes back goes to its place. */
#include "broker/ring.h"
#include "suite.h"

#include <stdlib.h>

static struct ring ring;

static void teardown(void)
{
    ring_free(&ring);
}

static void append(uint64_t position)
{
    struct entry *entry = ring_append(&ring);

    ck_assert_ptr_nonnull(entry);
    *entry = (struct entry){.position = position};
}

static void insert(uint64_t position)
{
    struct entry entry = {.position = position};

    ck_assert_int_eq(ring_insert(&ring, &entry), 0);
}

static void in_order(size_t count)
{
    ck_assert_uint_eq(ring.count, count);
    for (size_t i = 1; i < ring.count; i++)
        ck_assert_uint_lt(ring_at(&ring, i - 1)->position, ring_at(&ring, i)->position);
}

START_TEST(first_in_first_out)
{
    for (uint64_t round = 0; round < 1000; round++) {
        append(2 * round);
        append(2 * round + 1);
        ck_assert_uint_eq(ring_first(&ring)->position, round);
        ring_drop_first(&ring);
    }
    in_order(1000);
}
END_TEST

START_TEST(requeued_to_its_place)
{
    for (uint64_t i = 0; i < 100; i++)
        append(10 * i);
    for (int i = 0; i < 50; i++)
        ring_drop_first(&ring);
    for (uint64_t i = 50; i > 0; i--)
        insert(10 * (i - 1));
    in_order(100);
    insert(5);   /* between the first two: the front moves */
    insert(985); /* between the last two: the back moves */
    insert(995);
    in_order(103);
    ck_assert_uint_eq(ring_at(&ring, 1)->position, 5);
    ck_assert_uint_eq(ring_at(&ring, 102)->position, 995);
}
END_TEST

START_TEST(any_order)
{
    uint32_t seed = 12345;
    uint64_t positions[500];

    for (uint64_t i = 0; i < 500; i++)
        positions[i] = i;
    for (size_t i = 499; i > 0; i--) {
        size_t other;
        uint64_t kept = positions[i];

        seed = seed * 1103515245 + 12345;
        other = (seed >> 8) % (i + 1);
        positions[i] = positions[other];
        positions[other] = kept;
    }
    for (size_t i = 0; i < 500; i++)
        insert(positions[i]);
    in_order(500);
}
END_TEST

START_TEST(memory_comes_back)
{
    for (uint64_t i = 0; i < 100000; i++)
        append(i);
    for (int i = 0; i < 99990; i++)
        ring_drop_first(&ring);
    ring_trim(&ring);
    ck_assert_uint_lt(ring.mask, 128);
    in_order(10);
    ck_assert_uint_eq(ring_first(&ring)->position, 99990);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring");
    TCase *tests = tcase_create("ring");

    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, first_in_first_out);
    tcase_add_test(tests, requeued_to_its_place);
    tcase_add_test(tests, any_order);
    tcase_add_test(tests, memory_comes_back);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
