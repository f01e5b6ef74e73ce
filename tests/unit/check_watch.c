/* SPDX-License-Identifier: MIT */
/* The supervisor feeds the watchdog only while its workers move. */
#include "supervisor_rig.h"

#include <check.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

int worker_run(const struct worker_start *start)
{
    return rig_worker(start);
}

START_TEST(watchdog_is_fed)
{
    rig_start("well", "workers = 2\nhang_timeout = 0", "600000");
    for (int i = 0; i < 10; i++)
        rig_heard("WATCHDOG=1");
    rig_stop();
}
END_TEST

static void expect_starved(const char *why)
{
    rig_wait("log", why, 1);
    /* What was sent before that. */
    while (recv(rig_manager, rig_text, sizeof(rig_text), MSG_DONTWAIT) > 0)
        ;
    nanosleep(&(struct timespec){.tv_nsec = 800000000}, NULL);
    while (recv(rig_manager, rig_text, sizeof(rig_text) - 1, MSG_DONTWAIT) > 0)
        ck_assert_msg(strncmp(rig_text, "WATCHDOG=1", 10) != 0, "the watchdog is fed");
}

START_TEST(watchdog_misses_a_loop)
{
    rig_start("well", "workers = 2\nhang_timeout = 0", "600000");
    rig_wait("trace", "start well", 2);
    kill(rig_traced("start well 2 "), SIGSTOP);
    expect_starved("worker 2: pid");
    kill(rig_traced("start well 2 "), SIGCONT);
    rig_heard("WATCHDOG=1");
    rig_stop();
}
END_TEST

START_TEST(watchdog_misses_consumers)
{
    rig_start("deaf", "hang_timeout = 0", "600000");
    expect_starved("consumers show no sign of life");
    rig_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watch");
    TCase *tcase = tcase_create("watch");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, watchdog_is_fed);
    tcase_add_test(tcase, watchdog_misses_a_loop);
    tcase_add_test(tcase, watchdog_misses_consumers);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
