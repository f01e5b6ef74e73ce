/* SPDX-License-Identifier: MIT */
/* Listening sockets, and accepting from them. */
#include "base/log.h"
#include "net/acceptor.h"
#include "net/listen.h"
#include "peer.h"
#include "suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char error[512];
static char folder[] = "/tmp/check_listen.XXXXXX";
static char path[64];

static const char *name_of(int fd)
{
    static char name[200];

    listen_name(fd, name, sizeof(name));
    return name;
}

static uint16_t port_of(int fd)
{
    return (uint16_t)strtoul(strrchr(name_of(fd), ':') + 1, NULL, 10);
}

/* A connected client, or -1 with errno. */
static int call_tcp(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

static int call_unix(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    memcpy(address.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void check_flags(int fd)
{
    ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/socket", folder);
}

static void teardown(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

/* ---- addresses ---- */

START_TEST(test_tcp)
{
    int fds[LISTEN_MAX], client;

    ck_assert_int_eq(listen_tcp("127.0.0.1", 0, fds, error, sizeof(error)), 1);
    check_flags(fds[0]);
    ck_assert_int_eq(strncmp(name_of(fds[0]), "127.0.0.1:", 10), 0);
    ck_assert_uint_gt(port_of(fds[0]), 0);
    client = call_tcp(port_of(fds[0]));
    ck_assert_int_ge(client, 0);
    close(client);
    close(fds[0]);
}
END_TEST

START_TEST(test_tcp_v6)
{
    int fds[LISTEN_MAX];
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool there = probe >= 0 && bind(probe, (struct sockaddr *)&address, sizeof(address)) == 0;
    int count = listen_tcp("::1", 0, fds, error, sizeof(error));

    if (probe >= 0)
        close(probe);
    ck_assert_int_eq(count, there ? 1 : -1);
    if (!there)
        return;
    ck_assert_int_eq(strncmp(name_of(fds[0]), "[::1]:", 6), 0);
    close(fds[0]);
}
END_TEST

/* Each family's socket has the same port, and both can be there at once. */
START_TEST(test_tcp_all)
{
    int fds[LISTEN_MAX], count = listen_tcp(_i == 0 ? "*" : NULL, 0, fds, error, sizeof(error));
    int client;

    ck_assert_msg(count >= 1 && count <= 2, "%s", error);
    ck_assert_uint_eq(port_of(fds[0]), port_of(fds[count - 1]));
    client = call_tcp(port_of(fds[0]));
    ck_assert_int_ge(client, 0);
    close(client);
    for (int i = 0; i < count; i++)
        close(fds[i]);
}
END_TEST

START_TEST(test_tcp_taken)
{
    int fds[LISTEN_MAX], more[LISTEN_MAX];
    char expected[300];

    ck_assert_int_eq(listen_tcp("127.0.0.1", 0, fds, error, sizeof(error)), 1);
    ck_assert_int_eq(listen_tcp("127.0.0.1", port_of(fds[0]), more, error, sizeof(error)), -1);
    snprintf(expected, sizeof(expected), "cannot listen on %s: Address already in use", name_of(fds[0]));
    ck_assert_str_eq(error, expected);
    close(fds[0]);
}
END_TEST

START_TEST(test_tcp_unknown)
{
    int fds[LISTEN_MAX];

    ck_assert_int_eq(listen_tcp("no.such.name.invalid", 5672, fds, error, sizeof(error)), -1);
    ck_assert_int_eq(strncmp(error, "cannot listen on no.such.name.invalid:5672: ", 44), 0);
    /* documentation's own network: no machine has it */
    ck_assert_int_eq(listen_tcp("192.0.2.1", 5672, fds, error, sizeof(error)), -1);
    ck_assert_str_eq(error, "cannot listen on 192.0.2.1:5672: Cannot assign requested address");
}
END_TEST

START_TEST(test_unix)
{
    int fd = listen_unix(path, 0600, error, sizeof(error)), client;
    struct stat about;
    char expected[300];

    ck_assert_msg(fd >= 0, "%s", error);
    check_flags(fd);
    ck_assert_int_eq(stat(path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 07777, 0600);
    snprintf(expected, sizeof(expected), "unix:%s", path);
    ck_assert_str_eq(name_of(fd), expected);
    client = call_unix();
    ck_assert_int_ge(client, 0);
    close(client);
    close(fd);
}
END_TEST

/* The umask takes nothing away from the mode that is asked for. */
START_TEST(test_unix_mode)
{
    mode_t before = umask(0077);
    int fd = listen_unix(path, 0666, error, sizeof(error));
    struct stat about;

    umask(before);
    ck_assert_msg(fd >= 0, "%s", error);
    ck_assert_int_eq(stat(path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 07777, 0666);
    close(fd);
}
END_TEST

START_TEST(test_unix_stale)
{
    int fd = listen_unix(path, 0600, error, sizeof(error));

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(listen_unix(path, 0600, error, sizeof(error)), -1);
    ck_assert_ptr_nonnull(strstr(error, "another process listens there"));
    close(fd); /* the file stays, as after a crash */
    ck_assert_int_eq(call_unix(), -1);
    fd = listen_unix(path, 0600, error, sizeof(error));
    ck_assert_msg(fd >= 0, "%s", error);
    close(fd);
}
END_TEST

START_TEST(test_unix_refused)
{
    char longest[200];
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    close(fd);
    ck_assert_int_eq(listen_unix(path, 0600, error, sizeof(error)), -1);
    ck_assert_ptr_nonnull(strstr(error, "or it is not a socket"));
    ck_assert_int_eq(access(path, F_OK), 0);
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[108] = 0;
    ck_assert_int_eq(listen_unix(longest, 0600, error, sizeof(error)), -1);
    ck_assert_ptr_nonnull(strstr(error, "from 1 to 107 bytes"));
    ck_assert_int_eq(listen_unix("", 0600, error, sizeof(error)), -1);
    ck_assert_int_eq(listen_unix("/nonexistent/socket", 0600, error, sizeof(error)), -1);
    ck_assert_str_eq(error, "cannot listen on unix:/nonexistent/socket: No such file or directory");
}
END_TEST

/* ---- accepting ---- */

static struct loop *loop;
static struct acceptor *acceptor;
static unsigned accepted;
static int served[256];
static uint16_t port;
static unsigned pause_at, free_at;

static void on_accepted(void *arg, int fd)
{
    ck_assert_ptr_eq(arg, &accepted);
    check_flags(fd);
    served[accepted++] = fd;
    if (accepted == pause_at)
        acceptor_pause(acceptor, true);
    if (accepted == free_at) {
        acceptor_free(acceptor);
        acceptor = NULL;
    }
}

static void setup_acceptor(void)
{
    int fds[LISTEN_MAX];

    loop = peer_loop();
    ck_assert_int_eq(listen_tcp("127.0.0.1", 0, fds, error, sizeof(error)), 1);
    port = port_of(fds[0]);
    acceptor = acceptor_new(loop, fds[0], on_accepted, &accepted);
    ck_assert_ptr_nonnull(acceptor);
}

static void teardown_acceptor(void)
{
    for (unsigned i = 0; i < accepted; i++)
        close(served[i]);
    acceptor_free(acceptor);
    peer_loop_free(loop);
}

static void call(int clients[], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        clients[i] = call_tcp(port);
        ck_assert_int_ge(clients[i], 0);
    }
}

static void hang_up(const int clients[], unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(clients[i]);
}

START_TEST(test_accept)
{
    int clients[100];
    unsigned turns = 0;

    call(clients, 100);
    while (accepted < 100) {
        ck_assert_int_eq(loop_turn(loop, true), 0);
        turns++;
    }
    ck_assert_uint_lt(turns, 50); /* several at once; but */
    ck_assert_uint_gt(turns, 1);  /* not all of a storm */
    hang_up(clients, 100);
}
END_TEST

START_TEST(test_accept_paused)
{
    int clients[10];

    pause_at = 3;
    call(clients, 10);
    peer_until(loop, accepted == 3);
    peer_wait(loop, 50);
    ck_assert_uint_eq(accepted, 3);
    acceptor_pause(acceptor, false);
    peer_until(loop, accepted == 10);
    hang_up(clients, 10);
}
END_TEST

START_TEST(test_accept_freed)
{
    int clients[10];

    free_at = 3;
    call(clients, 10);
    peer_until(loop, accepted == 3);
    ck_assert_int_eq(call_tcp(port), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    hang_up(clients, 10);
}
END_TEST

static void on_log(void *arg, enum log_level level, const char *text)
{
    ck_assert_int_eq(level, LOG_LEVEL_ERROR);
    ck_assert_ptr_nonnull(strstr(text, "no connection can be accepted: Too many open files"));
    ++*(unsigned *)arg;
}

/* Without descriptors it waits instead of spinning, and goes on when there are some. */
START_TEST(test_accept_starved)
{
    struct rlimit limit;
    unsigned said = 0, turns = 0, taken = 0;
    int clients[3], more[3], others[256];
    int64_t end;

    log_divert(on_log, &said);
    call(clients, 3);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)clients[2] + 100;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (taken < HARK_COUNT(others) && (others[taken] = dup(STDIN_FILENO)) >= 0)
        taken++;
    ck_assert_int_eq(errno, EMFILE);
    end = peer_clock() + 500;
    while (peer_clock() < end) {
        ck_assert_int_eq(loop_turn(loop, true), 0);
        turns++;
    }
    ck_assert_uint_eq(accepted, 0);
    ck_assert_uint_eq(said, 1);
    ck_assert_uint_lt(turns, 400); /* the loop of the tests wakes up every few ms anyway */
    hang_up(others, taken);
    call(more, 3); /* valgrind has accepted the others before it refused them */
    peer_until(loop, accepted >= 3);
    hang_up(clients, 3);
    hang_up(more, 3);
    log_divert(NULL, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("listen");
    TCase *tcp = tcase_create("tcp"), *local = tcase_create("unix"), *accepting = tcase_create("acceptor");

    tcase_set_timeout(tcp, 20); /* a name server may take its time to say no */
    tcase_add_test(tcp, test_tcp);
    tcase_add_test(tcp, test_tcp_v6);
    tcase_add_loop_test(tcp, test_tcp_all, 0, 2);
    tcase_add_test(tcp, test_tcp_taken);
    tcase_add_test(tcp, test_tcp_unknown);
    suite_add_tcase(suite, tcp);
    tcase_add_checked_fixture(local, setup, teardown);
    tcase_add_test(local, test_unix);
    tcase_add_test(local, test_unix_mode);
    tcase_add_test(local, test_unix_stale);
    tcase_add_test(local, test_unix_refused);
    suite_add_tcase(suite, local);
    tcase_add_checked_fixture(accepting, setup_acceptor, teardown_acceptor);
    tcase_set_timeout(accepting, 20);
    tcase_add_test(accepting, test_accept);
    tcase_add_test(accepting, test_accept_paused);
    tcase_add_test(accepting, test_accept_freed);
    tcase_add_test(accepting, test_accept_starved);
    suite_add_tcase(suite, accepting);
    return suite_run(suite);
}
