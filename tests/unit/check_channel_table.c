/* SPDX-License-Identifier: MIT */
/* A connection's channels by number. */
#include "broker/channel_table.h"
#include "suite.h"

static struct peer_channel *some(uintptr_t number)
{
    return (struct peer_channel *)number; /* never looked into */
}

START_TEST(numbers_near_and_far)
{
    static const uint16_t numbers[] = {1, 2, 63, 64, 2047, 2048, 65535};
    struct channel_table table = {0};
    unsigned at = 0;

    ck_assert_ptr_null(channel_table_next(&table, &at));
    for (size_t i = HARK_COUNT(numbers); i-- > 0;) {
        ck_assert_ptr_null(channel_table_at(&table, numbers[i]));
        ck_assert_int_eq(channel_table_reserve(&table, numbers[i]), 0);
        ck_assert_ptr_null(channel_table_at(&table, numbers[i]));
        channel_table_set(&table, numbers[i], some(numbers[i]));
    }
    at = 0;
    for (size_t i = 0; i < HARK_COUNT(numbers); i++) {
        ck_assert_ptr_eq(channel_table_at(&table, numbers[i]), some(numbers[i]));
        ck_assert_ptr_eq(channel_table_next(&table, &at), some(numbers[i]));
        channel_table_set(&table, numbers[i], NULL); /* may go while they are walked */
    }
    ck_assert_ptr_null(channel_table_next(&table, &at));
    at = 0;
    ck_assert_ptr_null(channel_table_next(&table, &at));
    channel_table_free(&table);
}
END_TEST

START_TEST(one_far_number_is_cheap)
{
    struct channel_table table = {0};
    unsigned pages = 0;

    ck_assert_int_eq(channel_table_reserve(&table, 65535), 0);
    for (unsigned i = 0; i < table.page_count; i++)
        pages += table.pages[i] != NULL;
    ck_assert_uint_eq(pages, 1);
    ck_assert_uint_eq(table.page_count, 65536 / CHANNEL_TABLE_PAGE);
    channel_table_free(&table);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_table");
    TCase *tests = tcase_create("channel_table");

    tcase_add_test(tests, numbers_near_and_far);
    tcase_add_test(tests, one_far_number_is_cheap);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
