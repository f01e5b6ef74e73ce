/* SPDX-License-Identifier: MIT */
/* What is said once: by who meets it, and by all who share. */
#include "client/complaint.h"
#include "suite.h"

#include <check.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define MINUTES 60000

START_TEST(test_once)
{
    struct complaint complaint = {0};

    ck_assert(complaint_is_news(&complaint, NULL, "a", 0));
    ck_assert(!complaint_is_news(&complaint, NULL, "a", 4 * MINUTES));
    ck_assert(complaint_is_news(&complaint, NULL, "a", 6 * MINUTES));
    ck_assert(complaint_is_news(&complaint, NULL, "b", 6 * MINUTES));
    ck_assert(complaint_is_news(&complaint, NULL, "a", 6 * MINUTES));
}
END_TEST

START_TEST(test_once_by_all)
{
    struct complaints *common = complaints_open();
    struct complaint one = {0}, two = {0}, three = {0};

    ck_assert_ptr_nonnull(common);
    ck_assert(complaint_is_news(&one, common, "a", 10 * MINUTES));
    ck_assert(!complaint_is_news(&two, common, "a", 11 * MINUTES));
    ck_assert(complaint_is_news(&two, common, "b", 11 * MINUTES));
    ck_assert(!complaint_is_news(&two, common, "a", 12 * MINUTES));
    ck_assert(complaint_is_news(&three, common, "a", 16 * MINUTES));
    ck_assert(!complaint_is_news(&one, common, "a", 16 * MINUTES));
    complaints_close(common);
}
END_TEST

/* Each worker's loop has looked at the clock at another moment. */
START_TEST(test_once_by_clocks)
{
    struct complaints *common = complaints_open();
    struct complaint one = {0}, two = {0};

    ck_assert_ptr_nonnull(common);
    ck_assert(complaint_is_news(&one, common, "a", 10 * MINUTES));
    ck_assert(!complaint_is_news(&two, common, "a", 10 * MINUTES - 1));
    complaints_close(common);
}
END_TEST

/* All at once, in processes of their own. */
START_TEST(test_once_by_processes)
{
    enum { PROCESSES = 8, TEXTS = 100 };
    struct complaints *common = complaints_open();
    int status, said = 0;

    ck_assert_ptr_nonnull(common);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            struct complaint own[TEXTS] = {0};
            int mine = 0;

            for (int k = 0; k < TEXTS; k++) {
                char text[] = {(char)(1 + k), '\0'};

                mine += complaint_is_news(&own[k], common, text, MINUTES);
            }
            _exit(mine);
        }
    while (wait(&status) > 0)
        said += WEXITSTATUS(status);
    ck_assert_int_eq(said, TEXTS);
    complaints_close(common);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("complaint");
    TCase *all = tcase_create("complaint");

    tcase_add_test(all, test_once);
    tcase_add_test(all, test_once_by_all);
    tcase_add_test(all, test_once_by_clocks);
    tcase_add_test(all, test_once_by_processes);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
