/* SPDX-License-Identifier: MIT */
/* What the service manager hears, and what ps shows. */
#include "base/notify.h"

#include "base/title.h"
#include "suite.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int manager;
static char directory[] = "/tmp/check_notify.XXXXXX";
static struct sockaddr_un address;

static void listen_at(const char *name, size_t length)
{
    address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address.sun_path, name, length);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(manager, 0);
    ck_assert_int_eq(
        bind(manager, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)), 0);
}

static const char *heard(void)
{
    static char text[2048];
    ssize_t n = recv(manager, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void in_a_folder(struct notify *notify)
{
    char path[64];

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/notify", directory);
    listen_at(path, strlen(path) + 1);
    setenv("NOTIFY_SOCKET", path, 1);
    notify_open(notify);
}

static void leave_folder(void)
{
    close(manager);
    unlink(address.sun_path);
    rmdir(directory);
}

START_TEST(messages)
{
    struct timespec now;
    struct notify notify;
    int64_t told, here;

    in_a_folder(&notify);
    ck_assert(notify_wanted(&notify));
    ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
    notify_send(&notify, "READY=1\nSTATUS=%d in hand", 7);
    ck_assert_str_eq(heard(), "READY=1\nSTATUS=7 in hand");

    notify_reloading(&notify);
    ck_assert_int_eq(sscanf(heard(), "RELOADING=1\nMONOTONIC_USEC=%" SCNd64, &told), 1);
    clock_gettime(CLOCK_MONOTONIC, &now);
    here = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    ck_assert_int_le(told, here);
    ck_assert_int_gt(told, here - 10000000);
    leave_folder();
}
END_TEST

START_TEST(abstract_socket)
{
    struct notify notify;
    char name[64];

    snprintf(name, sizeof(name), "@hark/check_notify/%d", (int)getpid());
    setenv("NOTIFY_SOCKET", name, 1);
    notify_open(&notify);
    name[0] = '\0';
    listen_at(name, 1 + strlen(name + 1));
    notify_send(&notify, "WATCHDOG=1");
    ck_assert_str_eq(heard(), "WATCHDOG=1");
}
END_TEST

START_TEST(nobody_listens)
{
    static const char *const useless[] = {"", "@", "/", "relative", "vsock:2:1", NULL};
    struct notify notify;
    char large[200];

    unsetenv("NOTIFY_SOCKET");
    notify_open(&notify);
    ck_assert(!notify_wanted(&notify));
    ck_assert(notify_send(&notify, "READY=1"));
    for (size_t i = 0; useless[i] != NULL; i++) {
        setenv("NOTIFY_SOCKET", useless[i], 1);
        notify_open(&notify);
        ck_assert_msg(!notify_wanted(&notify), "%s", useless[i]);
    }
    memset(large, 'x', sizeof(large) - 1);
    large[0] = '/';
    large[sizeof(large) - 1] = '\0';
    setenv("NOTIFY_SOCKET", large, 1);
    notify_open(&notify);
    ck_assert(!notify_wanted(&notify));

    /* There is a name, but nobody behind it. */
    setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
    notify_open(&notify);
    ck_assert(notify_send(&notify, "READY=1")); /* again would be in vain, too */
}
END_TEST

/* A manager that does not read stops nobody, and the sender knows; the test's time limit is the judge. */
START_TEST(full_socket)
{
    struct notify notify;

    in_a_folder(&notify);
    for (int i = 0; i < 5000; i++)
        ck_assert(notify_send(&notify, "STATUS=%d", i) || i > 0);
    ck_assert(!notify_send(&notify, "READY=1"));
    ck_assert_str_eq(heard(), "STATUS=0");
    ck_assert(notify_send(&notify, "READY=1"));
    leave_folder();
}
END_TEST

START_TEST(watchdog)
{
    static const struct {
        const char *microseconds, *pid; /* "self": ours */
        int64_t ms;
    } rows[] = {
        {"30000000", NULL, 30000},
        {"30000000", "self", 30000},
        {"30000000", "1", 0},
        {"30000000", "me", 0},
        {"0", NULL, 0},
        {"-5", NULL, 0},
        {"3s", NULL, 0},
        {"", NULL, 0},
        {NULL, NULL, 0},
        {"10", NULL, 1},
        {"99999999999999999999", NULL, 0},
    };

    for (size_t i = 0; i < HARK_COUNT(rows); i++) {
        struct notify notify;
        char self[16];

        snprintf(self, sizeof(self), "%d", (int)getpid());
        setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
        if (rows[i].microseconds != NULL)
            setenv("WATCHDOG_USEC", rows[i].microseconds, 1);
        if (rows[i].pid != NULL)
            setenv("WATCHDOG_PID", strcmp(rows[i].pid, "self") == 0 ? self : rows[i].pid, 1);
        notify_open(&notify);
        ck_assert_msg(notify.watchdog_ms == rows[i].ms, "row %zu: %lld", i, (long long)notify.watchdog_ms);
        ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
        ck_assert_ptr_null(getenv("WATCHDOG_PID"));
    }
}
END_TEST

/* ---- the title: in a process that is executed for it, with known arguments and environment ----
 */

static const char *this_program; /* not /proc/self/exe, which may be valgrind */

static void title_of_myself(int argc, char **argv)
{
    char line[512], name[16];
    ssize_t n;
    int fd;

    title_init(argc, argv);
    title_set("harkd-worker12", "harkd: worker 12");
    fd = open("/proc/self/cmdline", O_RDONLY);
    n = read(fd, line, sizeof(line) - 1);
    line[n > 0 ? n : 0] = '\0';
    prctl(PR_GET_NAME, name);
    printf("%s|%s|%s|%s", line, name, getenv("FIRST"), getenv("SECOND"));
    fflush(stdout);
    _exit(0);
}

START_TEST(title)
{
    char shown[512];
    ssize_t length = 0, n;
    int ends[2], status;

    ck_assert_int_eq(pipe(ends), 0);
    if (fork() == 0) {
        char program[] = "x", argument[] = "--title";
        char first[] = "FIRST=one", second[] = "SECOND=two", options[] = "ASAN_OPTIONS=detect_leaks=0";
        char *argv[] = {program, argument, NULL}, *environment[] = {first, second, options, NULL};

        dup2(ends[1], STDOUT_FILENO);
        execve(this_program, argv, environment);
        _exit(1);
    }
    close(ends[1]);
    while ((n = read(ends[0], shown + length, sizeof(shown) - 1 - (size_t)length)) > 0)
        length += n;
    shown[length] = '\0';
    ck_assert(wait(&status) > 0);
    ck_assert_int_eq(status, 0);
    ck_assert_str_eq(shown, "harkd: worker 12|harkd-worker12|one|two");
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("notify");
    TCase *tcase = tcase_create("notify");

    this_program = argv[0];
    if (argc == 2 && strcmp(argv[1], "--title") == 0)
        title_of_myself(argc, argv);
    tcase_add_test(tcase, messages);
    tcase_add_test(tcase, abstract_socket);
    tcase_add_test(tcase, nobody_listens);
    tcase_add_test(tcase, full_socket);
    tcase_add_test(tcase, watchdog);
    tcase_add_test(tcase, title);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
