/* SPDX-License-Identifier: MIT */
/* The broker's control socket: what it answers, what it refuses, what it does not do for whoever does not read. */
#include "broker/control.h"
#include "unit/broker_kit.h"
#include "suite.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TURNS_MAX 2000

static struct broker_kit kit;
static char path[128];
static char answer[1 << 20];
static size_t length; /* of the answer */

static void setup(void)
{
    broking_begin(&kit);
    broking_open(&kit);
    snprintf(path, sizeof(path), "%s/control", kit.folder);
    length = 0;
}

static void teardown(void)
{
    broking_end(&kit);
}

static int call(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* True once it has a whole line; false: the broker has hung up. */
static bool hear(int fd)
{
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        ssize_t got = recv(fd, answer + length, sizeof(answer) - 1 - length, 0);

        if (got > 0)
            length += (size_t)got;
        answer[length] = '\0';
        if (length > 0 && answer[length - 1] == '\n')
            return true;
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return false;
        broking_turn(&kit, false);
    }
    ck_abort_msg("no answer, only: %s", answer);
    return false;
}

static void say(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* One request on a connection of its own. */
static const char *ask(const char *request)
{
    int fd = call();

    length = 0;
    say(fd, request);
    say(fd, "\n");
    ck_assert(hear(fd));
    close(fd);
    broking_turn(&kit, false);
    return answer;
}

START_TEST(only_the_owner_may_connect)
{
    struct stat about;

    ck_assert_int_eq(stat(path, &about), 0);
    ck_assert_uint_eq(about.st_mode & 0777, 0600);
    broking_close(&kit);
    ck_assert_int_eq(stat(path, &about), -1);
}
END_TEST

START_TEST(queues_are_listed_and_deleted)
{
    struct raw_client client;

    raw_connect(&kit, &client);
    raw_declare(&client, "q \"\1\xff", true, NULL);
    ck_assert_str_eq(
        ask("{\"command\":\"queues\",\"vhost\":\"/\"}"),
        "{\"ok\":true,\"result\":[{\"name\":\"q \\\"\\\\x01\\\\xFF\",\"ready\":0,\"unacked\":0,\"consumers\":0,"
        "\"durable\":true,\"arguments\":{}}]}\n");
    raw_declare(&client, "plain", false, NULL);
    ck_assert_str_eq(ask("{\"command\":\"delete-queue\",\"vhost\":\"/\",\"name\":\"plain\"}"),
                     "{\"ok\":true,\"result\":true}\n");
    ck_assert_ptr_null(raw_queue(&kit, "plain"));
    ck_assert_str_eq(ask("{\"command\":\"delete-queue\",\"vhost\":\"/\",\"name\":\"plain\"}"),
                     "{\"ok\":false,\"error\":\"no queue \\\"plain\\\" in virtual host \\\"/\\\"\"}\n");
    raw_disconnect(&client);
}
END_TEST

START_TEST(connections_are_listed_and_closed)
{
    struct raw_client client;

    raw_connect(&kit, &client);
    ask("{\"command\":\"connections\"}");
    ck_assert_ptr_nonnull(strstr(answer, "\"state\":\"open\",\"user\":\"guest\",\"vhost\":\"/\",\"channels\":1"));
    ck_assert_ptr_nonnull(strstr(answer, " - raw client\",\"connection_name\":\"raw client\""));
    ck_assert_str_eq(ask("{\"command\":\"connections\",\"vhost\":\"elsewhere\"}"), "{\"ok\":true,\"result\":[]}\n");
    ck_assert_str_eq(
        ask("{\"command\":\"close-connections\",\"vhost\":\"/\",\"name\":\"another\",\"reason\":\"enough\"}"),
        "{\"ok\":true,\"result\":0}\n");
    ck_assert_str_eq(ask("{\"command\":\"close-connections\",\"vhost\":\"/\",\"reason\":\"enough\"}"),
                     "{\"ok\":true,\"result\":1}\n");
    raw_expect(&client, AMQP_CONNECTION_CLOSE_METHOD);
    ck_assert_uint_eq(((amqp_connection_close_t *)client.method.decoded)->reply_code, REPLY_CONNECTION_FORCED);
    raw_disconnect(&client);
}
END_TEST

START_TEST(virtual_hosts_and_users)
{
    struct user *user;

    ask("{\"command\":\"add-vhost\",\"name\":\"shop\"}");
    ck_assert_ptr_nonnull(broker_vhost(kit.broker, span_str("shop")));
    ask("{\"command\":\"put-user\",\"name\":\"bob\",\"password\":\"secret\"}");
    ask("{\"command\":\"permit\",\"user\":\"bob\",\"vhost\":\"shop\",\"configure\":\"^b\",\"write\":\"\",\"read\":\".*\"}");
    ck_assert_str_eq(answer, "{\"ok\":true,\"result\":true}\n");
    user = users_login(kit.broker->users, span_str("bob"), span_str("secret"), false);
    ck_assert_ptr_nonnull(user);
    ck_assert(user_may(user, "shop", PERMISSION_CONFIGURE, span_str("box")));
    ck_assert(!user_may(user, "shop", PERMISSION_WRITE, span_str("box")));
    user_drop(user);
    ask("{\"command\":\"delete-vhost\",\"name\":\"shop\"}");
    ck_assert_ptr_null(broker_vhost(kit.broker, span_str("shop")));
    ask("{\"command\":\"delete-vhost\",\"name\":\"/\"}");
    ck_assert_str_eq(answer, "{\"ok\":false,\"error\":\"the virtual host / is always there\"}\n");
}
END_TEST

START_TEST(limits_are_set)
{
    ask("{\"command\":\"set\",\"memory_limit\":0}");
    ck_assert_ptr_null(strstr(ask("{\"command\":\"status\"}"), "\"alarm\":\"disk\""));
    ck_assert_ptr_nonnull(strstr(answer, "\"alarm\":\"memory\""));
    ask("{\"command\":\"set\",\"memory_limit\":1000000000}");
    ck_assert_ptr_null(strstr(ask("{\"command\":\"status\"}"), "alarm"));
}
END_TEST

static const struct {
    const char *request, *error;
} refused[] = {
    {"", "a request is a JSON object"},
    {"[]", "a request is a JSON object"},
    {"{\"command\":\"status\"", "a request is a JSON object"},
    {"{}", "\\\"command\\\" must be a string"},
    {"{\"command\":7}", "\\\"command\\\" must be a string"},
    {"{\"command\":\"dance\"}", "no command \\\"dance\\\""},
    {"{\"command\":\"queues\"}", "\\\"vhost\\\" must be a string"},
    {"{\"command\":\"queues\",\"vhost\":\"none\"}", "no virtual host \\\"none\\\""},
    {"{\"command\":\"connections\",\"vhost\":[]}", "\\\"vhost\\\" must be a string"},
    {"{\"command\":\"add-vhost\",\"name\":\"\"}", "the name of a virtual host has 1 to 255 bytes"},
    {"{\"command\":\"set\"}", "nothing to set"},
    {"{\"command\":\"set\",\"memory_limit\":-1}", "must be a number of bytes"},
    {"{\"command\":\"set\",\"memory_limit\":1e99}", "must be a number of bytes"},
    {"{\"command\":\"permit\",\"user\":\"nobody\",\"vhost\":\"/\",\"configure\":\"\",\"write\":\"\",\"read\":\"\"}",
     "nobody"},
};

START_TEST(wrong_requests)
{
    ask(refused[_i].request);
    ck_assert_int_eq(strncmp(answer, "{\"ok\":false,\"error\":\"", 21), 0);
    ck_assert_msg(strstr(answer, refused[_i].error) != NULL, "%s", answer);
}
END_TEST

START_TEST(requests_in_pieces_and_in_a_row)
{
    int fd = call();

    say(fd, "{\"command\":");
    broking_turn(&kit, false);
    say(fd, "\"connections\"}\n{\"command\":\"no\"}\n{\"comm");
    while (strstr(answer, "no command") == NULL)
        ck_assert(hear(fd));
    ck_assert_str_eq(answer, "{\"ok\":true,\"result\":[]}\n{\"ok\":false,\"error\":\"no command \\\"no\\\"\"}\n");
    close(fd);
    broking_turn(&kit, false);
}
END_TEST

START_TEST(a_line_has_an_end)
{
    static char line[CONTROL_LINE_MAX];
    int fd = call();

    memset(line, 'x', sizeof(line));
    for (size_t sent = 0; sent < sizeof(line);) {
        ssize_t now = send(fd, line + sent, sizeof(line) - sent, MSG_NOSIGNAL);

        if (now > 0)
            sent += (size_t)now;
        broking_turn(&kit, false);
    }
    ck_assert(hear(fd));
    ck_assert_str_eq(answer, "{\"ok\":false,\"error\":\"the request is too long\"}\n");
    length = 0;
    ck_assert(!hear(fd));
    close(fd);
}
END_TEST

/* Requests are read as fast as answers are. */
START_TEST(who_does_not_read_is_not_read)
{
    static const char request[] = "{\"command\":\"status\"}\n";
    size_t sent = 0, asked;
    int fd = call(), silent = 0;

    while (silent < 50) { /* turns in which the socket took nothing */
        ssize_t now = send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL);

        silent = now < 0 ? silent + 1 : 0;
        if (now > 0)
            sent += (size_t)now;
        ck_assert_uint_lt(sent, 64 << 20);
        broking_turn(&kit, false);
    }
    asked = sent / (sizeof(request) - 1);
    for (size_t lines = 0; lines < asked;) { /* and all are answered in the end */
        length = 0;
        ck_assert(hear(fd));
        for (size_t i = 0; i < length; i++)
            lines += answer[i] == '\n';
    }
    close(fd);
    broking_turn(&kit, false);
}
END_TEST

START_TEST(clients_are_limited)
{
    int fds[CONTROL_CLIENTS_MAX], one_more;

    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        fds[i] = call();
        length = 0;
        say(fds[i], "{\"command\":\"connections\"}\n");
        ck_assert(hear(fds[i]));
    }
    one_more = call();
    length = 0;
    ck_assert(!hear(one_more));
    close(one_more);
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
        close(fds[i]);
    for (int i = 0; i < 10; i++)
        broking_turn(&kit, false);
    ask("{\"command\":\"connections\"}");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("control");
    TCase *tests = tcase_create("control");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, only_the_owner_may_connect);
    tcase_add_test(tests, queues_are_listed_and_deleted);
    tcase_add_test(tests, connections_are_listed_and_closed);
    tcase_add_test(tests, virtual_hosts_and_users);
    tcase_add_test(tests, limits_are_set);
    tcase_add_loop_test(tests, wrong_requests, 0, sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(tests, requests_in_pieces_and_in_a_row);
    tcase_add_test(tests, a_line_has_an_end);
    tcase_add_test(tests, who_does_not_read_is_not_read);
    tcase_add_test(tests, clients_are_limited);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
