/* SPDX-License-Identifier: MIT */
/* The supervisor: reloads, good and bad ones. */
#include "supervisor_rig.h"
#include "suite.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

int worker_run(const struct worker_start *start)
{
    return rig_worker(start);
}

int embedded_run(const struct embedded_start *start)
{
    return rig_embedded(start);
}

START_TEST(reload_replaces)
{
    pid_t old;

    rig_start("well", "", NULL);
    rig_heard("READY=1");
    rig_wait("trace", "start well 1", 1);
    old = rig_traced("start well 1 ");
    rig_write_ini("well", "workers = 2");
    kill(rig_supervisor, SIGHUP);
    rig_heard("RELOADING=1\nMONOTONIC_USEC=");
    rig_heard("READY=1");
    rig_wait("trace", "left well 1", 1);
    ck_assert_int_eq(rig_traced("left well 1 "), old);
    rig_wait("log", "reloaded", 1);
    ck_assert_uint_eq(rig_count(rig_content("trace"), "start well"), 3);
    /* The old one is told to leave only when both new ones consume. */
    ck_assert(strstr(rig_text, "left well") > strstr(rig_text, "start well 2"));
    rig_stop();
}
END_TEST

START_TEST(wrong_file_changes_nothing)
{
    rig_start("well", "", NULL);
    rig_heard("READY=1");
    rig_write_ini("well", "wrokers = 2");
    kill(rig_supervisor, SIGHUP);
    rig_heard("RELOADING=1");
    rig_heard("READY=1");
    rig_wait("log", "nothing was changed", 1);
    ck_assert_ptr_nonnull(strstr(rig_text, "hark.ini:3: [hark] unknown key \"wrokers\""));
    ck_assert_uint_eq(rig_count(rig_text, "started pid"), 1);
    rig_stop();
}
END_TEST

/* The new workers cannot start: the old ones go on, and the next reload works. */
START_TEST(failed_reload)
{
    pid_t old;

    rig_start("well", "", NULL);
    rig_heard("READY=1");
    rig_wait("trace", "start well 1", 1);
    old = rig_traced("start well 1 ");
    rig_write_ini("refuses", "workers = 3");
    kill(rig_supervisor, SIGHUP);
    rig_wait("log", "the old one goes on", 1);
    rig_heard("READY=1");
    ck_assert_int_eq(kill(old, 0), 0);
    rig_write_ini("breaks", "");
    kill(rig_supervisor, SIGHUP);
    rig_wait("log", "the old one goes on", 2);
    rig_heard("READY=1");
    ck_assert_int_eq(kill(old, 0), 0);
    rig_write_ini("well", "");
    kill(rig_supervisor, SIGHUP);
    rig_heard("READY=1");
    rig_wait_gone(old);
    rig_wait("log", "reloaded", 1);
    rig_stop();
}
END_TEST

/* A SIGHUP that comes during a reload is not lost: the last file counts. */
START_TEST(reload_upon_reload)
{
    rig_start("stubborn", "", NULL);
    rig_heard("READY=1");
    for (int i = 0; i < 20; i++)
        kill(rig_supervisor, SIGHUP);
    rig_write_ini("well", "workers = 2");
    kill(rig_supervisor, SIGHUP);
    rig_wait("trace", "start well", 2);
    kill(rig_supervisor, SIGTERM);
    kill(rig_supervisor, SIGTERM);
    rig_wait("log", "draining", 1);
    kill(rig_supervisor, SIGINT);
    ck_assert_int_eq(rig_wait_end(), 0);
    rig_clean_up();
}
END_TEST

/* A listener of the new configuration never comes back from open(), and hangs are not watched for:
 * it is named, and the old workers go on. */
START_TEST(stuck_reload)
{
    pid_t old;

    rig_start("well", "hang_timeout = 0\ndrain_timeout = 1500ms", NULL);
    rig_heard("READY=1");
    rig_wait("trace", "start well 1", 1);
    old = rig_traced("start well 1 ");
    rig_write_ini("stuck", "hang_timeout = 0\ndrain_timeout = 1500ms");
    kill(rig_supervisor, SIGHUP);
    rig_wait("log", "listener \"mail\" is still being opened after 1", 1);
    rig_wait("log", "does not start within drain_timeout: the old one goes on", 1);
    rig_heard("READY=1");
    rig_wait_gone(rig_traced("start stuck 1 "));
    ck_assert_int_eq(kill(old, 0), 0);
    rig_write_ini("well", "");
    kill(rig_supervisor, SIGHUP);
    rig_heard("READY=1");
    rig_wait_gone(old);
    rig_wait("log", "reloaded", 1);
    rig_stop();
}
END_TEST

/* Old workers that take their time to leave: however many reloads are asked for, few generations
 * are there at once, and there is one more reload when it is possible. */
START_TEST(many_reloads)
{
    rig_start("stubborn", "drain_timeout = 500ms", NULL);
    rig_heard("READY=1");
    for (int i = 0; i < 60; i++) {
        kill(rig_supervisor, SIGHUP);
        nanosleep(&(struct timespec){.tv_nsec = 40000000}, NULL);
    }
    ck_assert_uint_eq(rig_count(rig_content("log"), "started pid"), 3);
    ck_assert_uint_eq(rig_count(rig_text, "of earlier reloads are still draining"), 1);
    rig_wait("log", "have not left in time", 2);
    rig_wait("log", "reloaded", 3);
    ck_assert_uint_eq(rig_count(rig_content("log"), "started pid"), 4);
    kill(rig_supervisor, SIGTERM);
    rig_wait("log", "draining\n", 1);
    kill(rig_supervisor, SIGTERM);
    ck_assert_int_eq(rig_wait_end(), 0);
    rig_clean_up();
}
END_TEST

/* A worker that crashes between two reloads, and a stop in the midst of one. */
START_TEST(stop_in_a_reload)
{
    rig_start("well", "workers = 2", NULL);
    rig_heard("READY=1");
    rig_write_ini("slow", "workers = 2");
    kill(rig_supervisor, SIGHUP);
    rig_wait("trace", "start slow", 2);
    kill(rig_supervisor, SIGTERM);
    ck_assert_int_eq(rig_wait_end(), 0);
    ck_assert_uint_eq(rig_count(rig_content("trace"), "left "), 4);
    rig_clean_up();
}
END_TEST

/* ---- who asks hears what came of it ---- */

static void said(const char *text)
{
    ck_assert_msg(strstr(rig_text, text) != NULL, "\"%s\" is not in: %s", text, rig_text);
}

/* The manager's socket holds only a few messages. */
static void hear_all(void)
{
    char unused[64];

    while (recv(rig_manager, unused, sizeof(unused), MSG_DONTWAIT) > 0)
        ;
}

START_TEST(asked)
{
    rig_start("well", "", NULL);
    rig_heard("READY=1");
    ck_assert_int_eq(rig_ask_reload(), 0);
    said("reloaded /tmp/check_supervisor");
    rig_write_ini("well", "dedup_entries = 12345");
    ck_assert_int_eq(rig_ask_reload(), 0);
    said("a changed dedup_entries takes effect at the next restart");
    hear_all();
    rig_write_ini("slow", "");
    ck_assert_int_eq(rig_ask_reload(), 0);
    said("do not consume from all queues yet");
    rig_write_ini("well", "wrokers = 2");
    ck_assert_int_eq(rig_ask_reload(), 1);
    said("hark.ini:3: [hark] unknown key \"wrokers\"");
    said("has 1 mistake: nothing was changed");
    rig_heard("; the last reload failed: /tmp/check_supervisor");
    ck_assert_int_eq(strncmp(rig_text, "READY=1\nSTATUS=", 15), 0);
    rig_write_ini("refuses", "");
    ck_assert_int_eq(rig_ask_reload(), 1);
    said("the new configuration does not start");
    ck_assert_ptr_null(strstr(rig_text, "wrokers"));
    rig_heard("; the last reload failed: the new configuration does not start");
    hear_all();
    rig_write_ini("well", "");
    ck_assert_int_eq(rig_ask_reload(), 0);
    rig_heard("RELOADING=1");
    rig_heard("READY=1\nSTATUS=");
    ck_assert_ptr_null(strstr(rig_text, "the last reload failed"));
    rig_stop();
}
END_TEST

/* The manager is busy and its socket full: that the reload is over is told as soon as it reads again. */
START_TEST(manager_is_busy)
{
    struct sockaddr_un address;
    socklen_t length = sizeof(address);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    rig_start("well", "", NULL);
    rig_heard("READY=1");
    ck_assert_int_eq(getsockname(rig_manager, (struct sockaddr *)&address, &length), 0);
    while (sendto(fd, "X=1", 3, MSG_DONTWAIT, (struct sockaddr *)&address, length) == 3)
        ;
    ck_assert_int_eq(rig_ask_reload(), 0);
    hear_all();
    rig_heard("READY=1\nSTATUS=");
    close(fd);
    rig_stop();
}
END_TEST

/* A reload that had read the file before the question does not answer it. */
START_TEST(asked_meanwhile)
{
    struct rig_asker first, second;

    rig_start("well", "hang_timeout = 0", NULL);
    rig_heard("READY=1");
    rig_write_ini("stuck", "hang_timeout = 0\ndrain_timeout = 1500ms");
    rig_begin_ask(&first);
    rig_wait("trace", "start stuck", 1);
    rig_write_ini("well", "workers = 2");
    rig_begin_ask(&second);
    ck_assert_int_eq(rig_end_ask(&first), 1);
    said("does not start within drain_timeout");
    ck_assert_int_eq(rig_end_ask(&second), 0);
    rig_wait("trace", "start well", 3);
    rig_stop();
}
END_TEST

/* harkd ends while somebody waits: as it was told, or not. */
START_TEST(asked_in_vain)
{
    struct rig_asker asker;

    rig_start("well", "hang_timeout = 0", NULL);
    rig_heard("READY=1");
    rig_write_ini("stuck", "hang_timeout = 0");
    rig_begin_ask(&asker);
    rig_wait("trace", "start stuck", 1);
    kill(rig_supervisor, _i == 0 ? SIGTERM : SIGKILL);
    ck_assert_int_eq(rig_end_ask(&asker), _i == 0 ? 1 : EX_UNAVAILABLE);
    said(_i == 0 ? "harkd is stopping" : "has ended before it could reload");
    kill(rig_traced("start stuck 1 "), SIGKILL); /* nobody else does so soon */
    ck_assert_int_eq(rig_wait_end(), _i == 0 ? 0 : 1000 + SIGKILL);
    rig_wait_gone(rig_traced("start well 1 "));
    ck_assert_int_eq(rig_ask_reload(), EX_UNAVAILABLE);
    said("no harkd with this number listens");
    rig_clean_up();
}
END_TEST

/* Somebody else has taken the name. */
START_TEST(asked_of_another)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "harkd/%d/reload", (int)getppid());

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address,
                          (socklen_t)offsetof(struct sockaddr_un, sun_path) + 1 + (socklen_t)length),
                     0);
    ck_assert_int_eq(listen(fd, 1), 0);
    rig_supervisor = getppid();
    ck_assert_int_eq(rig_ask_reload(), EX_UNAVAILABLE);
    said("another one answers in its name");
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reload");
    TCase *tcase = tcase_create("reload");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, reload_replaces);
    tcase_add_test(tcase, wrong_file_changes_nothing);
    tcase_add_test(tcase, failed_reload);
    tcase_add_test(tcase, reload_upon_reload);
    tcase_add_test(tcase, stuck_reload);
    tcase_add_test(tcase, many_reloads);
    tcase_add_test(tcase, stop_in_a_reload);
    tcase_add_test(tcase, asked);
    tcase_add_test(tcase, manager_is_busy);
    tcase_add_test(tcase, asked_meanwhile);
    tcase_add_loop_test(tcase, asked_in_vain, 0, 2);
    tcase_add_test(tcase, asked_of_another);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
