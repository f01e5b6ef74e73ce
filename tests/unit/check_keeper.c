/* SPDX-License-Identifier: MIT */
/* The supervisor and the embedded broker: who starts and leaves when, what survives whom. */
#include "net/listen.h"
#include "supervisor_rig.h"
#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EMBEDDED "url = embedded:\nhang_timeout = 0\n"
#define BROKER "[broker]\ndata = state\nlisten =\n"

int worker_run(const struct worker_start *start)
{
    return rig_worker(start);
}

int embedded_run(const struct embedded_start *start)
{
    return rig_embedded(start);
}

/* In the trace, one text stands before the other. */
static void in_order(const char *first, const char *second)
{
    const char *trace = rig_content("trace"), *one = strstr(trace, first), *two = strstr(trace, second);

    ck_assert_msg(one != NULL && two != NULL && one < two, "\"%s\" before \"%s\":\n%s", first, second, trace);
}

START_TEST(test_order)
{
    rig_start("well", EMBEDDED "workers = 2\n" BROKER, NULL);
    rig_heard("READY=1");
    rig_wait("trace", "start well", 2);
    in_order("broker serves 1\n", "start well");
    ck_assert(rig_has("state/workers.sock"));
    kill(rig_traced("broker begins well "), SIGTERM); /* as one to the whole group: it is the last all the same */
    kill(rig_supervisor, SIGTERM);
    ck_assert_int_eq(rig_wait_end(), 0);
    in_order("left well 1", "broker left\n");
    in_order("left well 2", "broker left\n");
    ck_assert(!rig_has("state/workers.sock"));
    rig_clean_up();
}
END_TEST

/* Only the broker is started again; the workers are not concerned. */
START_TEST(test_crash)
{
    rig_start("well", EMBEDDED BROKER, NULL);
    rig_heard("READY=1");
    rig_wait("trace", "start well 1", 1);
    kill(rig_traced("broker begins well "), SIGKILL);
    rig_wait("trace", "broker serves", 2);
    rig_wait("log", "broker: died by signal 9 (Killed), pid", 1);
    ck_assert_uint_eq(rig_count(rig_content("trace"), "start well 1"), 1);
    rig_stop();
}
END_TEST

START_TEST(test_hang)
{
    rig_start("well", "url = embedded:\nhang_timeout = 300ms\n" BROKER, NULL);
    rig_wait("trace", "start well", 1);
    kill(rig_traced("broker begins well "), SIGSTOP);
    rig_wait("log", "broker: pid", 1);
    rig_wait("log", "has stood still for", 1);
    rig_wait("log", "after its loop had stood still", 1);
    rig_wait("trace", "broker serves", 2);
    rig_stop();
}
END_TEST

/* A long store takes its time: the service manager is asked for more of it, as long as the broker does something. */
START_TEST(test_opens_slowly)
{
    /* At once, too, when the next look is in ten seconds. */
    rig_start("well",
              _i == 0 ? "url = embedded:\nhang_timeout = 300ms\n" BROKER "vhost = opens\n"
                      : EMBEDDED BROKER "vhost = opens\n",
              NULL);
    for (int i = _i == 0 ? 0 : 4; i < 5; i++) {
        rig_heard("EXTEND_TIMEOUT_USEC=30000000");
        ck_assert_ptr_null(strstr(rig_content("trace"), "broker serves"));
        if (i == 0 || _i == 1)
            rig_heard("STATUS=Starting: the broker opens its store");
    }
    rig_heard("READY=1");
    while (recv(rig_manager, rig_text, sizeof(rig_text), MSG_DONTWAIT) > 0)
        ;
    nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    while (recv(rig_manager, rig_text, sizeof(rig_text) - 1, MSG_DONTWAIT) > 0)
        ck_assert_ptr_null(strstr(rig_text, "EXTEND"));
    rig_stop();
}
END_TEST

/* One that stands still gets no more: it is the manager's to end it. */
START_TEST(test_opens_never)
{
    rig_start("well", "url = embedded:\nhang_timeout = 300ms\n" BROKER "vhost = stands\n", NULL);
    rig_wait("trace", "broker begins stands", 1);
    nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    while (recv(rig_manager, rig_text, sizeof(rig_text), MSG_DONTWAIT) > 0)
        ;
    nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    while (recv(rig_manager, rig_text, sizeof(rig_text) - 1, MSG_DONTWAIT) > 0)
        ck_assert_ptr_null(strstr(rig_text, "EXTEND"));
    kill(rig_supervisor, SIGTERM);
    rig_heard("STOPPING=1");
    kill(rig_supervisor, SIGTERM);
    ck_assert_int_eq(rig_wait_end(), 0);
    rig_clean_up();
}
END_TEST

/* It never came up: there is nothing to go back to. */
START_TEST(test_refuses)
{
    rig_start("well", _i == 0 ? EMBEDDED BROKER "vhost = refuses\n" : EMBEDDED BROKER "vhost = locked\n", NULL);
    ck_assert_int_eq(rig_wait_end(), _i == 0 ? 1 : 71);
    rig_wait("log", "cannot start", 1);
    ck_assert_uint_eq(rig_count(rig_content("trace"), "start well"), 0);
    rig_clean_up();
}
END_TEST

START_TEST(test_address_taken)
{
    int fds[LISTEN_MAX];
    char error[300], name[100], general[300];

    ck_assert_int_eq(listen_tcp("127.0.0.1", 0, fds, error, sizeof(error)), 1);
    listen_name(fds[0], name, sizeof(name));
    snprintf(general, sizeof(general), EMBEDDED "[broker]\ndata = state\nlisten = %s\n", name);
    rig_start("well", general, NULL);
    ck_assert_int_eq(rig_wait_end(), 71);
    snprintf(general, sizeof(general), "hark.ini:7: [broker] listen = %s: cannot listen on %s: Address already in use",
             name, name);
    rig_wait("log", general, 1);
    ck_assert(!rig_has("state/workers.sock") && !rig_has("trace"));
    close(fds[0]);
    rig_clean_up();
}
END_TEST

START_TEST(test_reload)
{
    rig_start("well", EMBEDDED BROKER, NULL);
    rig_heard("READY=1");
    rig_wait("trace", "start well", 1);
    rig_write_ini("slow", EMBEDDED "[broker]\ndata = other\nlisten =\n");
    kill(rig_supervisor, SIGHUP);
    rig_wait("log", "reloaded", 1);
    in_order("broker reads\n", "start slow");
    rig_wait("log", "a changed listen, listen_tls or data takes effect at the next restart", 1);
    /* the data stays where it is, also for a broker that starts again */
    kill(rig_traced("broker begins well "), SIGKILL);
    rig_wait("trace", "broker serves", 2);
    ck_assert(!rig_has("other"));
    rig_write_ini("well", "url = amqp://127.0.0.1:1/v\n");
    kill(rig_supervisor, SIGHUP);
    rig_wait("log", "the embedded broker comes and goes with a restart, not with a reload: nothing was changed", 1);
    rig_stop();
}
END_TEST

/* While the broker is away, a reload waits for it. */
/* Who asks for a reload hears that the broker could not do all of it. */
START_TEST(test_reload_by_halves)
{
    rig_start("well", EMBEDDED BROKER "vhost = halves\n", NULL);
    rig_heard("READY=1");
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(rig_ask_reload(), 1);
        ck_assert_ptr_nonnull(strstr(rig_text, "broker: not all of the new configuration could be applied"));
    }
    rig_stop();
}
END_TEST

START_TEST(test_reload_after_crash)
{
    rig_start("well", EMBEDDED BROKER, NULL);
    rig_heard("READY=1");
    rig_wait("trace", "start well", 1);
    kill(rig_traced("broker begins well "), SIGKILL);
    rig_wait("log", "broker: died", 1);
    rig_write_ini("slow", EMBEDDED BROKER);
    kill(rig_supervisor, SIGHUP);
    rig_wait("log", "reloaded", 1);
    ck_assert_uint_eq(rig_count(rig_content("trace"), "broker serves"), 2);
    rig_stop();
}
END_TEST

/* The broker is there until the last worker has left. */
START_TEST(test_supervisor_killed)
{
    pid_t broker;

    rig_start("well", EMBEDDED "workers = 2\n" BROKER, NULL);
    rig_wait("trace", "start well", 2);
    broker = rig_traced("broker begins well ");
    kill(rig_supervisor, SIGKILL);
    waitpid(rig_supervisor, NULL, 0);
    rig_wait_gone(broker);
    in_order("orphan well 1", "broker orphan");
    in_order("orphan well 2", "broker orphan");
    rig_clean_up();
}
END_TEST

/* Without exchanges, queues and listeners there is nothing for a worker to do. */
START_TEST(test_broker_only)
{
    rig_start(NULL, EMBEDDED BROKER, NULL);
    rig_heard("READY=1\nSTATUS=Serving: broker: 0 connections");
    rig_wait("trace", "broker serves", 1);
    ck_assert_ptr_null(strstr(rig_content("trace"), "start well"));
    rig_stop();
}
END_TEST

START_TEST(test_twice)
{
    rig_start("stubborn", EMBEDDED BROKER, NULL);
    rig_wait("trace", "start stubborn", 1);
    kill(rig_supervisor, SIGTERM);
    rig_wait("log", "draining", 1);
    kill(rig_supervisor, SIGTERM);
    ck_assert_int_eq(rig_wait_end(), 0);
    ck_assert(!rig_has("state/workers.sock"));
    rig_clean_up();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keeper");
    TCase *cases = tcase_create("keeper");

    tcase_set_timeout(cases, 40);
    tcase_add_test(cases, test_order);
    tcase_add_test(cases, test_crash);
    tcase_add_test(cases, test_hang);
    tcase_add_loop_test(cases, test_opens_slowly, 0, 2);
    tcase_add_test(cases, test_opens_never);
    tcase_add_loop_test(cases, test_refuses, 0, 2);
    tcase_add_test(cases, test_address_taken);
    tcase_add_test(cases, test_reload);
    tcase_add_test(cases, test_reload_by_halves);
    tcase_add_test(cases, test_reload_after_crash);
    tcase_add_test(cases, test_supervisor_killed);
    tcase_add_test(cases, test_broker_only);
    tcase_add_test(cases, test_twice);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
