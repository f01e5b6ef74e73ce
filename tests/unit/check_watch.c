/* SPDX-License-Identifier: MIT */
/* The supervisor feeds the watchdog only while its workers move. */
#include "supervisor_rig.h"
#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#define BROKER "[broker]\ndata = state\nlisten =\n"

int worker_run(const struct worker_start *start)
{
    return rig_worker(start);
}

int embedded_run(const struct embedded_start *start)
{
    return rig_embedded(start);
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

/* How often it has gone to sleep. */
static long rig_wakeups(void)
{
    char path[64], line[128];
    long count = -1;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)rig_supervisor);
    file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file) != NULL)
        sscanf(line, "voluntary_ctxt_switches: %ld", &count);
    fclose(file);
    ck_assert_int_ge(count, 0);
    return count;
}

static void expect_sleep(void)
{
    long before = -1, now = rig_wakeups();

    for (int i = 0; i < 20 && now != before; i++) {
        before = now;
        nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL); /* 10 looks, were it awake */
        now = rig_wakeups();
    }
    ck_assert_int_eq(now, before);
}

/* Idle workers, and nobody wants a watchdog fed: the supervisor is not woken at all, whether
 * somebody could hang or not. */
START_TEST(sleeps_while_idle)
{
    rig_start("well", _i == 0 ? "workers = 2\nhang_timeout = 150ms" : "workers = 2\nhang_timeout = 0", NULL);
    rig_heard("READY=1");
    expect_sleep();
    ck_assert_uint_eq(rig_count(rig_content("log"), "started pid"), 2);
    kill(rig_traced("start well 2 "), SIGKILL);
    rig_wait("trace", "start well 2 ", 2);
    expect_sleep();
    rig_stop();
}
END_TEST

/* With a broker of its own, too: workers would miss its heartbeats. Without heartbeats somebody has to look. */
START_TEST(sleeps_beside_a_broker)
{
    rig_start("well", "url = embedded:\nhang_timeout = 150ms\n" BROKER, NULL);
    rig_heard("READY=1");
    expect_sleep();
    rig_stop();
}
END_TEST

START_TEST(looks_after_a_broker_without_heartbeats)
{
    long before;

    rig_start("well", "url = embedded:\nhang_timeout = 150ms\nheartbeat = 0\n" BROKER, NULL);
    rig_heard("READY=1");
    before = rig_wakeups();
    for (int i = 0; i < 100 && rig_wakeups() < before + 10; i++)
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    ck_assert_int_ge(rig_wakeups(), before + 10);
    rig_stop();
}
END_TEST

START_TEST(sleeper_is_told_of_a_broker_that_hangs)
{
    rig_start("misses", "url = embedded:\nhang_timeout = 150ms\n" BROKER "vhost = dozes\n", NULL);
    rig_wait("log", "after its loop had stood still", 1);
    rig_wait("trace", "broker serves", 2);
    rig_stop();
}
END_TEST

/* A call wakes it, just before it hangs. */
START_TEST(sleeper_sees_a_hang)
{
    rig_start("dozes", "hang_timeout = 150ms", NULL);
    rig_wait("log", "worker 1: started pid", 2);
    ck_assert_ptr_nonnull(strstr(rig_content("log"), "in listener \"mail\": killed"));
    expect_sleep();
    rig_stop();
}
END_TEST

/* No call wakes it then, but the kernel tells. */
START_TEST(sleeper_sees_a_stop)
{
    rig_start("well", "hang_timeout = 150ms", NULL);
    rig_heard("READY=1");
    expect_sleep();
    kill(rig_traced("start well 1 "), SIGSTOP);
    rig_wait("log", "worker 1: started pid", 2);
    rig_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watch");
    TCase *tcase = tcase_create("watch");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, watchdog_is_fed);
    tcase_add_test(tcase, watchdog_misses_a_loop);
    tcase_add_test(tcase, watchdog_misses_consumers);
    tcase_add_loop_test(tcase, sleeps_while_idle, 0, 2);
    tcase_add_test(tcase, sleeps_beside_a_broker);
    tcase_add_test(tcase, looks_after_a_broker_without_heartbeats);
    tcase_add_test(tcase, sleeper_is_told_of_a_broker_that_hangs);
    tcase_add_test(tcase, sleeper_sees_a_hang);
    tcase_add_test(tcase, sleeper_sees_a_stop);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
