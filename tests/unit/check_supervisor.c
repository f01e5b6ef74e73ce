/* SPDX-License-Identifier: MIT */
/* The supervisor: start, stop, and workers that die or hang. */
#include "supervisor_rig.h"
#include "suite.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>

int worker_run(const struct worker_start *start)
{
    return rig_worker(start);
}

int embedded_run(const struct embedded_start *start)
{
    return rig_embedded(start);
}

/* ---- start and stop ---- */

START_TEST(starts_and_drains)
{
    rig_start("well", "workers = 3", NULL);
    rig_heard("READY=1");
    rig_wait("trace", "start well", 3);
    rig_wait("log", "ready", 1);
    kill(rig_supervisor, SIGUSR1);
    kill(rig_supervisor, SIGUSR2);
    kill(rig_supervisor, SIGTERM);
    rig_heard("STOPPING=1");
    ck_assert_int_eq(rig_wait_end(), 0);
    ck_assert_uint_eq(rig_count(rig_content("trace"), "left well"), 3);
    rig_wait("log", "stopped", 1);
    rig_clean_up();
}
END_TEST

/* A listener that cannot be opened ends the start, with all other workers. */
START_TEST(refused_start)
{
    rig_start("refuses", "workers = 2", NULL);
    ck_assert_int_eq(rig_wait_end(), 1);
    ck_assert_ptr_nonnull(strstr(rig_content("log"), "cannot start"));
    rig_clean_up();
}
END_TEST

START_TEST(broken_start)
{
    rig_start("breaks", "workers = 2", NULL);
    ck_assert_int_eq(rig_wait_end(), EX_SOFTWARE);
    rig_clean_up();
}
END_TEST

/* The broker is away: workers that try are ready enough. */
START_TEST(slow_start)
{
    rig_start("slow", "", NULL);
    rig_heard("STATUS=Waiting for the broker: 0 of 1 workers connected");
    rig_wait("log", "ready", 1);
    rig_stop();
}
END_TEST

START_TEST(second_signal_kills)
{
    rig_start("stubborn", "workers = 2", NULL);
    rig_heard("READY=1");
    kill(rig_supervisor, SIGTERM);
    rig_wait("log", "draining", 1);
    ck_assert_int_eq(waitpid(rig_supervisor, NULL, WNOHANG), 0);
    kill(rig_supervisor, SIGINT);
    ck_assert_int_eq(rig_wait_end(), 0);
    ck_assert_ptr_nonnull(strstr(rig_content("log"), "a second time"));
    rig_clean_up();
}
END_TEST

START_TEST(drain_has_an_end)
{
    rig_start("stubborn", "drain_timeout = 10ms", NULL);
    rig_heard("READY=1");
    kill(rig_supervisor, SIGTERM);
    ck_assert_int_eq(rig_wait_end(), 0);
    ck_assert_ptr_nonnull(strstr(rig_content("log"), "have not left in time"));
    rig_clean_up();
}
END_TEST

/* A service manager's limit may be shorter than drain_timeout: it is asked for more, and not before there is a need. */
START_TEST(drain_asks_for_time)
{
    rig_start("stubborn", "hang_timeout = 300ms", NULL);
    do {
        rig_heard("="); /* one by one */
        ck_assert_ptr_null(strstr(rig_text, "EXTEND_TIMEOUT_USEC"));
    } while (strstr(rig_text, "READY=1") == NULL);
    kill(rig_supervisor, SIGTERM);
    rig_heard("STOPPING=1");
    for (int i = 0; i < 5; i++)
        rig_heard("EXTEND_TIMEOUT_USEC=30000000");
    kill(rig_supervisor, SIGTERM);
    ck_assert_int_eq(rig_wait_end(), 0);
    rig_clean_up();
}
END_TEST

/* What it says about itself follows what happens, whenever the next look is. */
START_TEST(status_is_prompt)
{
    struct timespec begin, end;

    rig_start("stubborn", "workers = 2\nhang_timeout = 30s", NULL);
    rig_heard("READY=1");
    clock_gettime(CLOCK_MONOTONIC, &begin);
    kill(rig_supervisor, SIGTERM);
    rig_heard("STATUS=Draining: 2 workers, 0 in hand");
    kill(rig_traced("start stubborn 1 "), SIGKILL);
    rig_heard("STATUS=Draining: 1 worker, 0 in hand");
    clock_gettime(CLOCK_MONOTONIC, &end);
    ck_assert_int_lt(end.tv_sec - begin.tv_sec, 5);
    kill(rig_supervisor, SIGTERM);
    ck_assert_int_eq(rig_wait_end(), 0);
    rig_clean_up();
}
END_TEST

START_TEST(supervisor_dies)
{
    rig_start("well", "workers = 2", NULL);
    rig_heard("READY=1");
    kill(rig_supervisor, SIGKILL);
    ck_assert_int_eq(rig_wait_end(), 1000 + SIGKILL);
    rig_wait_gone(rig_traced("start well 1 "));
    rig_wait_gone(rig_traced("start well 2 "));
    rig_clean_up();
}
END_TEST

/* ---- workers that die ---- */

START_TEST(crash_is_blamed)
{
    rig_start("crashes", "", NULL);
    rig_wait("log", "worker 1: started pid", 2);
    ck_assert_ptr_nonnull(strstr(rig_content("log"), "worker 1: died by signal 11 (Segmentation fault), pid "));
    ck_assert_ptr_nonnull(strstr(rig_text,
                                 "in listener \"mail\", queue \"signups\", key \"user.\\n\", message id \"m-1\": "
                                 "this message has brought down 1 worker, crash_limit is 3"));
    ck_assert_ptr_null(strstr(rig_text, "starts again in"));
    rig_stop();
}
END_TEST

START_TEST(backs_off)
{
    rig_start("falls", "", NULL);
    rig_wait("log", "starts again in 400 ms", 1);
    ck_assert_uint_eq(rig_count(rig_text, "starts again in 100 ms"), 1);
    ck_assert_uint_eq(rig_count(rig_text, "starts again in 200 ms"), 1);
    ck_assert_ptr_nonnull(strstr(rig_text, "brought down 4 workers"));
    rig_stop();
}
END_TEST

START_TEST(hang_is_ended)
{
    rig_start("hangs", "hang_timeout = 300ms", NULL);
    rig_wait("log", "worker 1: started pid", 2);
    ck_assert_ptr_nonnull(strstr(rig_content("log"), "has stood still for"));
    ck_assert_ptr_nonnull(strstr(rig_text, "in listener \"mail\": killed"));
    ck_assert_ptr_nonnull(strstr(rig_text, "died by signal 6 (Aborted) after its loop had stood still"));
    ck_assert_ptr_nonnull(strstr(rig_text, "message id \"m-1\""));
    rig_stop();
}
END_TEST

/* Stopped, not hung: SIGABRT does not reach it. */
START_TEST(stopped_worker_is_ended)
{
    rig_start("well", "hang_timeout = 300ms", NULL);
    rig_wait("trace", "start well", 1);
    kill(rig_traced("start well 1 "), SIGSTOP);
    rig_wait("log", "worker 1: started pid", 2);
    ck_assert_ptr_nonnull(strstr(rig_content("log"), "died by signal 9"));
    rig_stop();
}
END_TEST

/* An idle worker does not look like one that hangs. */
START_TEST(idle_is_no_hang)
{
    rig_start("well", "hang_timeout = 150ms", NULL);
    rig_heard("READY=1");
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    ck_assert_uint_eq(rig_count(rig_content("log"), "started pid"), 1);
    rig_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("supervisor");
    TCase *tcase = tcase_create("supervisor");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, starts_and_drains);
    tcase_add_test(tcase, refused_start);
    tcase_add_test(tcase, broken_start);
    tcase_add_test(tcase, slow_start);
    tcase_add_test(tcase, second_signal_kills);
    tcase_add_test(tcase, drain_has_an_end);
    tcase_add_test(tcase, drain_asks_for_time);
    tcase_add_test(tcase, status_is_prompt);
    tcase_add_test(tcase, supervisor_dies);
    tcase_add_test(tcase, crash_is_blamed);
    tcase_add_test(tcase, backs_off);
    tcase_add_test(tcase, hang_is_ended);
    tcase_add_test(tcase, stopped_worker_is_ended);
    tcase_add_test(tcase, idle_is_no_hang);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
