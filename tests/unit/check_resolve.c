/* SPDX-License-Identifier: MIT */
/* Names to addresses, and dialling them in turn. */
#include "net/dial.h"
#include "net/resolve.h"
#include "peer.h"
#include "suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

static struct loop *loop;
static unsigned answers;
static struct addrinfo *found;
static char why[256];
static int dialled;

static void on_resolved(void *arg, struct addrinfo *list, const char *error)
{
    ck_assert_ptr_eq(arg, &answers);
    ck_assert((list == NULL) == (error != NULL));
    answers++;
    found = list;
    if (error != NULL)
        snprintf(why, sizeof(why), "%s", error);
}

static void on_dialled(void *arg, int fd, const char *error)
{
    ck_assert_ptr_eq(arg, &answers);
    answers++;
    dialled = fd;
    if (fd < 0)
        snprintf(why, sizeof(why), "%s", error);
}

static void setup(void)
{
    loop = peer_loop();
    dialled = -1;
}

static void teardown(void)
{
    if (found != NULL)
        freeaddrinfo(found);
    if (dialled >= 0)
        close(dialled);
    peer_loop_free(loop);
}

START_TEST(test_numeric)
{
    struct addrinfo *list = resolve_numeric("127.0.0.1", 5672);
    struct sockaddr_in *address;

    ck_assert_ptr_nonnull(list);
    address = (struct sockaddr_in *)(void *)list->ai_addr;
    ck_assert_int_eq(ntohs(address->sin_port), 5672);
    ck_assert_uint_eq(ntohl(address->sin_addr.s_addr), INADDR_LOOPBACK);
    ck_assert_ptr_null(list->ai_next);
    freeaddrinfo(list);
    list = resolve_numeric("::1", 1);
    ck_assert_ptr_nonnull(list);
    ck_assert_int_eq(list->ai_family, AF_INET6);
    freeaddrinfo(list);
    ck_assert_ptr_null(resolve_numeric("localhost", 1));
    ck_assert_ptr_null(resolve_numeric("", 1));
    ck_assert_ptr_null(resolve_numeric("127.0.0.256", 1));
}
END_TEST

START_TEST(test_name)
{
    ck_assert_ptr_nonnull(resolve_start(loop, "localhost", 5672, on_resolved, &answers));
    ck_assert_uint_eq(answers, 0);
    peer_until(loop, answers == 1);
    ck_assert_msg(found != NULL, "%s", why);
    peer_wait(loop, 20);
    ck_assert_uint_eq(answers, 1);
}
END_TEST

START_TEST(test_no_such_name)
{
    ck_assert_ptr_nonnull(resolve_start(loop, "no such host", 5672, on_resolved, &answers));
    peer_until(loop, answers == 1);
    ck_assert_ptr_null(found);
    ck_assert_str_ne(why, "");
}
END_TEST

START_TEST(test_cancelled)
{
    for (int i = 0; i < 20; i++) {
        struct resolve *resolve;

        while ((resolve = resolve_start(loop, "localhost", 5672, on_resolved, &answers)) == NULL) {
            ck_assert_int_eq(errno, EAGAIN); /* on a busy machine the threads of those before still run */
            usleep(1000);
        }
        if (i % 2 == 1)
            usleep(2000); /* the answer is there, but nobody has heard it */
        resolve_cancel(resolve);
    }
    peer_wait(loop, 50);
    ck_assert_uint_eq(answers, 0);
    resolve_cancel(NULL);
}
END_TEST

/* ---- dialling ---- */

static int listen_on(const char *text, uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, text, &address.sin_addr);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* "localhost" is ::1 first on many machines, and only 127.0.0.1 answers: all addresses are tried. */
START_TEST(test_dial)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    uint16_t port;
    int fd = listen_on("127.0.0.1", &port);

    ck_assert_ptr_nonnull(dial_start(loop, hosts[_i], port, NULL, 2000, on_dialled, &answers));
    ck_assert_uint_eq(answers, 0);
    peer_until(loop, answers == 1);
    ck_assert_msg(dialled >= 0, "%s", why);
    close(fd);
}
END_TEST

START_TEST(test_dial_refused)
{
    uint16_t port;

    close(listen_on("127.0.0.1", &port));
    ck_assert_ptr_nonnull(dial_start(loop, "127.0.0.1", port, NULL, 2000, on_dialled, &answers));
    peer_until(loop, answers == 1);
    ck_assert_int_eq(dialled, -1);
    ck_assert_str_eq(why, "Connection refused");
}
END_TEST

START_TEST(test_dial_no_name)
{
    ck_assert_ptr_nonnull(dial_start(loop, "no such host", 1, NULL, 2000, on_dialled, &answers));
    peer_until(loop, answers == 1);
    ck_assert_int_eq(dialled, -1);
    ck_assert_ptr_eq(strstr(why, "the name cannot be resolved: "), why);
}
END_TEST

/* What a look-up needs is not to be had: that is the reason, and not "out of memory". */
START_TEST(test_dial_cannot_ask)
{
    struct rlimit before, none = {.rlim_cur = 3};

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    ck_assert_ptr_nonnull(dial_start(loop, "localhost", 1, NULL, 2000, on_dialled, &answers));
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_uint_eq(answers, 0);
    peer_until(loop, answers == 1);
    ck_assert_int_eq(dialled, -1);
    ck_assert_str_eq(why, "the name cannot be resolved: Too many open files");
}
END_TEST

/* A listener whose queue is full does not answer: the time that dialling has is its end. */
START_TEST(test_dial_silence)
{
    uint16_t port;
    int fd = listen_on("127.0.0.1", &port);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int filler[4];

    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    for (size_t i = 0; i < HARK_COUNT(filler); i++) {
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(filler[i], (struct sockaddr *)&address, sizeof(address));
    }
    ck_assert_ptr_nonnull(dial_start(loop, "127.0.0.1", port, NULL, 100, on_dialled, &answers));
    peer_until(loop, answers == 1);
    ck_assert_int_eq(dialled, -1);
    ck_assert_str_eq(why, "Connection timed out");
    for (size_t i = 0; i < HARK_COUNT(filler); i++)
        close(filler[i]);
    close(fd);
}
END_TEST

START_TEST(test_dial_unix)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    char path[] = "/tmp/check_resolve.XXXXXX", longer[200];

    ck_assert_ptr_nonnull(mkdtemp(path));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_ptr_nonnull(dial_start(loop, NULL, 0, address.sun_path, 2000, on_dialled, &answers));
    ck_assert_uint_eq(answers, 0);
    peer_until(loop, answers == 1);
    ck_assert_msg(dialled >= 0, "%s", why);
    close(dialled);
    close(fd);
    unlink(address.sun_path);
    ck_assert_ptr_nonnull(dial_start(loop, NULL, 0, address.sun_path, 2000, on_dialled, &answers));
    peer_until(loop, answers == 2);
    ck_assert_str_eq(why, "No such file or directory");
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    ck_assert_ptr_nonnull(dial_start(loop, NULL, 0, longer, 2000, on_dialled, &answers));
    ck_assert_uint_eq(answers, 2);
    peer_until(loop, answers == 3);
    ck_assert_str_eq(why, "the path is longer than the 107 bytes that a socket address holds");
    rmdir(path);
}
END_TEST

START_TEST(test_dial_cancelled)
{
    uint16_t port;
    int fd = listen_on("127.0.0.1", &port);

    dial_cancel(dial_start(loop, "127.0.0.1", port, NULL, 2000, on_dialled, &answers));
    dial_cancel(dial_start(loop, "localhost", port, NULL, 2000, on_dialled, &answers));
    dial_cancel(dial_start(loop, NULL, 0, "/nowhere", 2000, on_dialled, &answers));
    dial_cancel(NULL);
    peer_wait(loop, 50);
    ck_assert_uint_eq(answers, 0);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resolve");
    TCase *tcase = tcase_create("names"), *dial = tcase_create("dial");

    tcase_set_timeout(tcase, 20); /* a name server may take its time to say no */
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_numeric);
    tcase_add_test(tcase, test_name);
    tcase_add_test(tcase, test_no_such_name);
    tcase_add_test(tcase, test_cancelled);
    suite_add_tcase(suite, tcase);
    tcase_add_checked_fixture(dial, setup, teardown);
    tcase_set_timeout(dial, 20);
    tcase_add_loop_test(dial, test_dial, 0, 2);
    tcase_add_test(dial, test_dial_refused);
    tcase_add_test(dial, test_dial_no_name);
    tcase_add_test(dial, test_dial_cannot_ask);
    tcase_add_test(dial, test_dial_silence);
    tcase_add_test(dial, test_dial_unix);
    tcase_add_test(dial, test_dial_cancelled);
    suite_add_tcase(suite, dial);
    return suite_run(suite);
}
