/* SPDX-License-Identifier: MIT */
/*
 * The supervisor, with workers that do what a test wants instead of working: the worker_run() below
 * takes the place of the real one. How a worker behaves is the name of the first listener in its
 * configuration.
 */
#include "daemon/supervisor.h"

#include "base/log.h"
#include "daemon/config.h"
#include "daemon/worker.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 15000

static char directory[] = "/tmp/check_supervisor.XXXXXX";
static char text[1 << 18];
static int manager = -1;
static pid_t supervisor;

/* ---- the workers ---- */

static volatile sig_atomic_t told_to_leave;

static void leave(int signal)
{
    (void)signal;
    told_to_leave = 1;
}

static void trace(const char *format, ...)
{
    char line[200], path[64];
    va_list args;
    int fd, length;

    snprintf(path, sizeof(path), "%s/trace", directory);
    va_start(args, format);
    length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)length) != length)
        abort();
    close(fd);
}

/* True the first time that any worker asks. */
static bool first_time(void)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "%s/once", directory);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void enter_call(struct slot *slot)
{
    slot_enter(slot, span_str("mail"), span_str("signups"), span_str("user.\n"), span_str("m-1"),
               42);
}

int worker_run(const struct worker_start *start)
{
    const char *way = start->config->listeners[0].name;
    struct slot *slot = start->slot;
    struct pollfd control = {.fd = start->control, .events = POLLIN};
    struct rlimit no_core = {0};

    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    if (strcmp(way, "refuses") == 0)
        return EX_CONFIG;
    if (strcmp(way, "breaks") == 0)
        raise(SIGSEGV);
    if (strcmp(way, "stubborn") == 0)
        signal(SIGTERM, SIG_IGN);
    else
        signal(SIGTERM, leave);
    trace("start %s %u %d\n", way, start->number, (int)getpid());
    slot_set_state(slot, SLOT_STARTED);
    if (strcmp(way, "slow") != 0)
        slot_set_state(slot, SLOT_CONSUMING);
    if (strcmp(way, "falls") == 0 || (strcmp(way, "crashes") == 0 && first_time())) {
        enter_call(slot);
        raise(SIGSEGV);
    }
    if (strcmp(way, "hangs") == 0 && first_time()) {
        enter_call(slot);
        for (;;)
            pause();
    }
    while (!told_to_leave) {
        char byte;

        if (poll(&control, 1, -1) > 0 && read(start->control, &byte, 1) == 0)
            break;
        slot_turn(slot);
        if (strcmp(way, "deaf") != 0)
            slot_consumers_live(slot);
    }
    trace("%s %s %u %d\n", told_to_leave ? "left" : "orphan", way, start->number, (int)getpid());
    return EX_OK;
}

/* ---- a supervisor in a process of its own ---- */

static const char *path_of(const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static void write_ini(const char *way, const char *general)
{
    FILE *file = fopen(path_of("new.ini"), "w");
    char to[128];

    ck_assert_ptr_nonnull(file);
    fprintf(
        file,
        "[hark]\nurl = amqp://127.0.0.1:1/v\n%s\n[exchange e]\n[queue q]\nbind = e #\n[listener %s]\nmodule = log\n"
        "queue = q\n",
        general, way);
    fclose(file);
    snprintf(to, sizeof(to), "%s", path_of("hark.ini"));
    ck_assert_int_eq(rename(path_of("new.ini"), to), 0);
}

static const char *content(const char *name)
{
    int fd = open(path_of(name), O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static unsigned count(const char *in, const char *what)
{
    unsigned n = 0;

    while ((in = strstr(in, what)) != NULL)
        n++, in++;
    return n;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

/* Waits until the file has `what` so many times. */
static void wait_for(const char *name, const char *what, unsigned times)
{
    for (int waited = 0; count(content(name), what) < times; waited += 10) {
        ck_assert_msg(waited < PATIENCE_MS, "\"%s\" does not come %u times in the %s:\n%.3000s",
                      what, times, name, text);
        nap();
    }
}

/* Waits for a message that has `what` in it; those before it are forgotten. */
static void wait_heard(const char *what)
{
    struct pollfd poller = {.fd = manager, .events = POLLIN};

    do {
        ssize_t n;

        ck_assert_msg(poll(&poller, 1, PATIENCE_MS) > 0, "%s does not come; log:\n%.3000s", what,
                      content("log"));
        n = recv(manager, text, sizeof(text) - 1, 0);
        ck_assert_int_gt(n, 0);
        text[n] = '\0';
    } while (strstr(text, what) == NULL);
}

static void start(const char *way, const char *general, const char *watchdog_usec)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    ck_assert_ptr_nonnull(mkdtemp(directory));
    write_ini(way, general);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path_of("notify"));
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(manager, (struct sockaddr *)&address, sizeof(address)), 0);
    supervisor = fork();
    ck_assert_int_ge(supervisor, 0);
    if (supervisor == 0) {
        struct supervisor_options options = {
            .path = strdup(path_of("hark.ini")), .log = -1, .log_level = -1};
        struct ini_errors errors = {0};
        struct config *config = config_read(options.path, &errors);
        int log = open(path_of("log"), O_WRONLY | O_CREAT | O_APPEND, 0600);

        dup2(log, STDERR_FILENO);
        setenv("NOTIFY_SOCKET", address.sun_path, 1);
        unsetenv("JOURNAL_STREAM");
        if (watchdog_usec != NULL)
            setenv("WATCHDOG_USEC", watchdog_usec, 1);
        if (config == NULL)
            _exit(99);
        _exit(supervisor_run(config, &options));
    }
}

static int wait_end(void)
{
    int status = 0;

    for (int waited = 0; waitpid(supervisor, &status, WNOHANG) == 0; waited += 10) {
        ck_assert_msg(waited < PATIENCE_MS, "the supervisor does not end:\n%.3000s",
                      content("log"));
        nap();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void clean_up(void)
{
    static const char *const names[] = {"hark.ini", "new.ini", "log", "trace", "notify", "once"};

    for (size_t i = 0; i < HARK_COUNT(names); i++)
        unlink(path_of(names[i]));
    rmdir(directory);
}

static void stop(void)
{
    kill(supervisor, SIGTERM);
    ck_assert_int_eq(wait_end(), 0);
    clean_up();
}

static pid_t traced_pid(const char *line)
{
    const char *at = strstr(content("trace"), line);

    ck_assert_msg(at != NULL, "%s", line);
    return (pid_t)strtol(at + strlen(line), NULL, 10);
}

static void wait_gone(pid_t pid)
{
    for (int waited = 0; kill(pid, 0) == 0; waited += 10) {
        ck_assert_int_lt(waited, PATIENCE_MS);
        nap();
    }
}

/* ---- start and stop ---- */

START_TEST(starts_and_drains)
{
    start("well", "workers = 3", NULL);
    wait_heard("READY=1");
    wait_for("trace", "start well", 3);
    wait_for("log", "ready", 1);
    kill(supervisor, SIGUSR1);
    kill(supervisor, SIGUSR2);
    kill(supervisor, SIGTERM);
    wait_heard("STOPPING=1");
    ck_assert_int_eq(wait_end(), 0);
    ck_assert_uint_eq(count(content("trace"), "left well"), 3);
    wait_for("log", "stopped", 1);
    clean_up();
}
END_TEST

/* A listener that cannot be opened ends the start, with all other workers. */
START_TEST(refused_start)
{
    start("refuses", "workers = 2", NULL);
    ck_assert_int_eq(wait_end(), 1);
    ck_assert_ptr_nonnull(strstr(content("log"), "cannot start"));
    clean_up();
}
END_TEST

START_TEST(broken_start)
{
    start("breaks", "workers = 2", NULL);
    ck_assert_int_eq(wait_end(), EX_SOFTWARE);
    clean_up();
}
END_TEST

/* The broker is away: workers that try are ready enough. */
START_TEST(slow_start)
{
    start("slow", "", NULL);
    wait_heard("READY=1");
    wait_heard("STATUS=Waiting for the broker: 0 of 1 workers connected");
    stop();
}
END_TEST

START_TEST(second_signal_kills)
{
    start("stubborn", "workers = 2", NULL);
    wait_heard("READY=1");
    kill(supervisor, SIGTERM);
    wait_for("log", "draining", 1);
    ck_assert_int_eq(waitpid(supervisor, NULL, WNOHANG), 0);
    kill(supervisor, SIGINT);
    ck_assert_int_eq(wait_end(), 0);
    ck_assert_ptr_nonnull(strstr(content("log"), "a second time"));
    clean_up();
}
END_TEST

START_TEST(drain_has_an_end)
{
    start("stubborn", "drain_timeout = 10ms", NULL);
    wait_heard("READY=1");
    kill(supervisor, SIGTERM);
    ck_assert_int_eq(wait_end(), 0);
    ck_assert_ptr_nonnull(strstr(content("log"), "have not left in time"));
    clean_up();
}
END_TEST

START_TEST(supervisor_dies)
{
    start("well", "workers = 2", NULL);
    wait_heard("READY=1");
    kill(supervisor, SIGKILL);
    ck_assert_int_eq(wait_end(), 1000 + SIGKILL);
    wait_gone(traced_pid("start well 1 "));
    wait_gone(traced_pid("start well 2 "));
    clean_up();
}
END_TEST

/* ---- workers that die ---- */

START_TEST(crash_is_blamed)
{
    start("crashes", "", NULL);
    wait_for("log", "worker 1: started pid", 2);
    ck_assert_ptr_nonnull(
        strstr(content("log"), "worker 1: died by signal 11 (Segmentation fault), pid "));
    ck_assert_ptr_nonnull(strstr(
        text, "in listener \"mail\", queue \"signups\", key \"user.\\n\", message id \"m-1\": "
              "this message has brought down 1 worker, crash_limit is 3"));
    ck_assert_ptr_null(strstr(text, "starts again in"));
    stop();
}
END_TEST

START_TEST(backs_off)
{
    start("falls", "", NULL);
    wait_for("log", "starts again in 400 ms", 1);
    ck_assert_uint_eq(count(text, "starts again in 100 ms"), 1);
    ck_assert_uint_eq(count(text, "starts again in 200 ms"), 1);
    ck_assert_ptr_nonnull(strstr(text, "brought down 4 workers"));
    stop();
}
END_TEST

START_TEST(hang_is_ended)
{
    start("hangs", "hang_timeout = 300ms", NULL);
    wait_for("log", "worker 1: started pid", 2);
    ck_assert_ptr_nonnull(strstr(content("log"), "has stood still for"));
    ck_assert_ptr_nonnull(strstr(text, "in listener \"mail\": killed"));
    ck_assert_ptr_nonnull(
        strstr(text, "died by signal 6 (Aborted) after its loop had stood still"));
    ck_assert_ptr_nonnull(strstr(text, "message id \"m-1\""));
    stop();
}
END_TEST

/* Stopped, not hung: SIGABRT does not reach it. */
START_TEST(stopped_worker_is_ended)
{
    start("well", "hang_timeout = 300ms", NULL);
    wait_for("trace", "start well", 1);
    kill(traced_pid("start well 1 "), SIGSTOP);
    wait_for("log", "worker 1: started pid", 2);
    ck_assert_ptr_nonnull(strstr(content("log"), "died by signal 9"));
    stop();
}
END_TEST

/* An idle worker does not look like one that hangs. */
START_TEST(idle_is_no_hang)
{
    start("well", "hang_timeout = 150ms", NULL);
    wait_heard("READY=1");
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    ck_assert_uint_eq(count(content("log"), "started pid"), 1);
    stop();
}
END_TEST

/* ---- the watchdog ---- */

START_TEST(watchdog_is_fed)
{
    start("well", "workers = 2\nhang_timeout = 0", "600000");
    for (int i = 0; i < 10; i++)
        wait_heard("WATCHDOG=1");
    stop();
}
END_TEST

static void expect_starved(const char *why)
{
    wait_for("log", why, 1);
    /* What was sent before that. */
    while (recv(manager, text, sizeof(text), MSG_DONTWAIT) > 0)
        ;
    nanosleep(&(struct timespec){.tv_nsec = 800000000}, NULL);
    while (errno = 0, recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT) > 0)
        ck_assert_msg(strncmp(text, "WATCHDOG=1", 10) != 0, "the watchdog is fed");
}

START_TEST(watchdog_misses_a_loop)
{
    start("well", "workers = 2\nhang_timeout = 0", "600000");
    wait_for("trace", "start well", 2);
    kill(traced_pid("start well 2 "), SIGSTOP);
    expect_starved("worker 2: pid");
    kill(traced_pid("start well 2 "), SIGCONT);
    wait_heard("WATCHDOG=1");
    stop();
}
END_TEST

START_TEST(watchdog_misses_consumers)
{
    start("deaf", "hang_timeout = 0", "600000");
    expect_starved("consumers show no sign of life");
    stop();
}
END_TEST

/* ---- reload ---- */

START_TEST(reload_replaces)
{
    pid_t old;

    start("well", "", NULL);
    wait_heard("READY=1");
    wait_for("trace", "start well 1", 1);
    old = traced_pid("start well 1 ");
    write_ini("well", "workers = 2");
    kill(supervisor, SIGHUP);
    wait_heard("RELOADING=1\nMONOTONIC_USEC=");
    wait_heard("READY=1");
    wait_for("trace", "left well 1", 1);
    ck_assert_int_eq(traced_pid("left well 1 "), old);
    wait_for("log", "reloaded", 1);
    ck_assert_uint_eq(count(content("trace"), "start well"), 3);
    /* The old one is told to leave only when both new ones consume. */
    ck_assert(strstr(text, "left well") > strstr(text, "start well 2"));
    stop();
}
END_TEST

START_TEST(wrong_file_changes_nothing)
{
    start("well", "", NULL);
    wait_heard("READY=1");
    write_ini("well", "wrokers = 2");
    kill(supervisor, SIGHUP);
    wait_heard("RELOADING=1");
    wait_heard("READY=1");
    wait_for("log", "nothing was changed", 1);
    ck_assert_ptr_nonnull(strstr(text, "hark.ini:3: [hark] unknown key \"wrokers\""));
    ck_assert_uint_eq(count(text, "started pid"), 1);
    stop();
}
END_TEST

/* The new workers cannot start: the old ones go on, and the next reload works. */
START_TEST(failed_reload)
{
    pid_t old;

    start("well", "", NULL);
    wait_heard("READY=1");
    wait_for("trace", "start well 1", 1);
    old = traced_pid("start well 1 ");
    write_ini("refuses", "workers = 3");
    kill(supervisor, SIGHUP);
    wait_for("log", "the old one goes on", 1);
    wait_heard("READY=1");
    ck_assert_int_eq(kill(old, 0), 0);
    write_ini("breaks", "");
    kill(supervisor, SIGHUP);
    wait_for("log", "the old one goes on", 2);
    wait_heard("READY=1");
    ck_assert_int_eq(kill(old, 0), 0);
    write_ini("well", "");
    kill(supervisor, SIGHUP);
    wait_heard("READY=1");
    wait_gone(old);
    wait_for("log", "reloaded", 1);
    stop();
}
END_TEST

/* A SIGHUP that comes during a reload is not lost: the last file counts. */
START_TEST(reload_upon_reload)
{
    start("stubborn", "", NULL);
    wait_heard("READY=1");
    for (int i = 0; i < 20; i++)
        kill(supervisor, SIGHUP);
    write_ini("well", "workers = 2");
    kill(supervisor, SIGHUP);
    wait_for("trace", "start well", 2);
    kill(supervisor, SIGTERM);
    kill(supervisor, SIGTERM);
    wait_for("log", "draining", 1);
    kill(supervisor, SIGINT);
    ck_assert_int_eq(wait_end(), 0);
    clean_up();
}
END_TEST

/* A worker that crashes between two reloads, and a stop in the midst of one. */
START_TEST(stop_in_a_reload)
{
    start("well", "workers = 2", NULL);
    wait_heard("READY=1");
    write_ini("slow", "workers = 2");
    kill(supervisor, SIGHUP);
    wait_for("trace", "start slow", 2);
    kill(supervisor, SIGTERM);
    ck_assert_int_eq(wait_end(), 0);
    ck_assert_uint_eq(count(content("trace"), "left "), 4);
    clean_up();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("supervisor");
    TCase *tcase = tcase_create("supervisor");
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, starts_and_drains);
    tcase_add_test(tcase, refused_start);
    tcase_add_test(tcase, broken_start);
    tcase_add_test(tcase, slow_start);
    tcase_add_test(tcase, second_signal_kills);
    tcase_add_test(tcase, drain_has_an_end);
    tcase_add_test(tcase, supervisor_dies);
    tcase_add_test(tcase, crash_is_blamed);
    tcase_add_test(tcase, backs_off);
    tcase_add_test(tcase, hang_is_ended);
    tcase_add_test(tcase, stopped_worker_is_ended);
    tcase_add_test(tcase, idle_is_no_hang);
    tcase_add_test(tcase, watchdog_is_fed);
    tcase_add_test(tcase, watchdog_misses_a_loop);
    tcase_add_test(tcase, watchdog_misses_consumers);
    tcase_add_test(tcase, reload_replaces);
    tcase_add_test(tcase, wrong_file_changes_nothing);
    tcase_add_test(tcase, failed_reload);
    tcase_add_test(tcase, reload_upon_reload);
    tcase_add_test(tcase, stop_in_a_reload);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
