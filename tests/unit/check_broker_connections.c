/* SPDX-License-Identifier: MIT */
/* Limits. connection_max counts every descriptor that clients hold, also of those that are being shown out. */
#include "unit/broker_kit.h"

#include "suite.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX 3
#define WAIT_S 20

static struct broker_kit kit;
static struct sockaddr_in address;
static int clients[MAX] = {-1, -1, -1};

static void setup(void)
{
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    broking_begin(&kit);
    kit.options.connection_max = kit.options.consumer_max = kit.options.queue_max = MAX;
    broking_open(&kit);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(fd, 10), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    ck_assert_int_eq(broker_listen(kit.broker, fd, NULL, false), 0);
}

static void teardown(void)
{
    for (int i = 0; i < MAX; i++)
        close(clients[i]);
    broking_end(&kit);
}

static int dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Says these 8 bytes and hears what comes: what is not nothing. Bytes; 0: the broker closed. */
static ssize_t say(int fd, const char *header)
{
    time_t end = time(NULL) + WAIT_S;
    uint8_t bytes[1024];
    ssize_t got;

    (void)!send(fd, header, 8, MSG_NOSIGNAL);
    do {
        ck_assert_int_lt(time(NULL), end);
        broking_turn(&kit, false);
        got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    } while (got < 0 && errno == EAGAIN);
    return got > 0 ? got : 0;
}

static bool is_taken(void)
{
    int fd = dial();
    ssize_t got = say(fd, "AMQP\0\0\x09\x01");

    close(fd);
    return got > 0;
}

START_TEST(who_speaks_another_protocol_counts_until_it_is_gone)
{
    struct timespec before, after;

    clock_gettime(CLOCK_MONOTONIC, &before);
    for (int i = 0; i < MAX; i++) {
        clients[i] = dial();
        ck_assert_int_eq(say(clients[i], "GET / HT"), 8);
    }
    ck_assert(!is_taken() || kit.broker->flushing_count < MAX); /* a slow machine may have taken the second */
    while (!is_taken())                                         /* though none of them has closed */
        broking_turn(&kit, false);
    clock_gettime(CLOCK_MONOTONIC, &after);
    ck_assert_int_lt(after.tv_sec - before.tv_sec, 9);
}
END_TEST

START_TEST(who_closes_makes_room_at_once)
{
    for (int i = 0; i < MAX; i++) {
        clients[i] = dial();
        ck_assert_int_eq(say(clients[i], "GET / HT"), 8);
    }
    close(clients[0]);
    clients[0] = -1;
    for (time_t end = time(NULL) + WAIT_S; kit.broker->flushing_count == MAX;) {
        broking_turn(&kit, true);
        ck_assert_int_lt(time(NULL), end);
    }
    ck_assert(is_taken());
}
END_TEST

START_TEST(the_broker_ends_while_they_leave)
{
    clients[0] = dial();
    ck_assert_int_eq(say(clients[0], "GET / HT"), 8);
    ck_assert_uint_eq(kit.broker->flushing_count, 1);
    broking_close(&kit);
}
END_TEST

START_TEST(consumers_of_a_connection)
{
    struct raw_client client, other;
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_span(span_str("0"))};
    amqp_basic_consume_t consume = {.queue = amqp_span(span_str("q")), .consumer_tag = amqp_span(span_str("0"))};

    raw_connect(&kit, &client);
    raw_connect(&kit, &other);
    raw_call(&client, 2, AMQP_CHANNEL_OPEN_METHOD, &(amqp_channel_open_t){0}, AMQP_CHANNEL_OPEN_OK_METHOD);
    raw_declare(&client, "q", false, NULL);
    for (uint16_t i = 0; i < MAX; i++) {
        char tag[2] = {(char)('0' + i), '\0'};

        consume.consumer_tag = amqp_span(span_str(tag));
        raw_call(&client, (uint16_t)(1 + i % 2), AMQP_BASIC_CONSUME_METHOD, &consume, AMQP_BASIC_CONSUME_OK_METHOD);
    }
    raw_consume(&other, "q", "c", false); /* it has its own */
    raw_call(&client, 1, AMQP_BASIC_CANCEL_METHOD, &cancel, AMQP_BASIC_CANCEL_OK_METHOD);
    consume.consumer_tag = amqp_span(span_str("new"));
    raw_call(&client, 1, AMQP_BASIC_CONSUME_METHOD, &consume, AMQP_BASIC_CONSUME_OK_METHOD);
    consume.consumer_tag = amqp_span(span_str("more"));
    raw_call(&client, 1, AMQP_BASIC_CONSUME_METHOD, &consume, AMQP_CONNECTION_CLOSE_METHOD);
    ck_assert_uint_eq(((amqp_connection_close_t *)client.method.decoded)->reply_code, REPLY_NOT_ALLOWED);
    raw_disconnect(&client);
    raw_disconnect(&other);
}
END_TEST

START_TEST(queues_of_a_virtual_host)
{
    struct raw_client client;
    amqp_queue_declare_t declare = {.queue = amqp_span(span_str("another"))};

    raw_connect(&kit, &client);
    raw_declare(&client, "1", false, NULL);
    raw_declare(&client, "2", true, NULL);
    raw_declare(&client, "3", false, NULL);
    raw_declare(&client, "3", false, NULL);
    raw_call(&client, 1, AMQP_QUEUE_DECLARE_METHOD, &declare, AMQP_CHANNEL_CLOSE_METHOD);
    ck_assert_uint_eq(((amqp_channel_close_t *)client.method.decoded)->reply_code, REPLY_PRECONDITION_FAILED);
    raw_disconnect(&client);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("broker");
    TCase *tests = tcase_create("connections");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, who_speaks_another_protocol_counts_until_it_is_gone);
    tcase_add_test(tests, who_closes_makes_room_at_once);
    tcase_add_test(tests, the_broker_ends_while_they_leave);
    tcase_add_test(tests, consumers_of_a_connection);
    tcase_add_test(tests, queues_of_a_virtual_host);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
