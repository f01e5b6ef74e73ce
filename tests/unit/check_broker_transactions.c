/* SPDX-License-Identifier: MIT */
/* A transaction is committed in one turn of the loop, so there is an end to what it may hold. */
#include "unit/broker_kit.h"

#include "broker/queue_private.h"
#include "suite.h"

#include <stdio.h>

#define PLACES_MAX 500000
#define QUEUES 60

static struct broker_kit kit;
static struct raw_client a, b;

static void setup(void)
{
    broking_begin(&kit);
    kit.options.memory_limit = 1 << 30;
    broking_open(&kit);
    raw_connect(&kit, &a);
    raw_connect(&kit, &b);
    raw_call(&a, 1, AMQP_TX_SELECT_METHOD, &(amqp_tx_select_t){0}, AMQP_TX_SELECT_OK_METHOD);
}

static void teardown(void)
{
    raw_disconnect(&a);
    raw_disconnect(&b);
    broking_end(&kit);
}

static void bind_queues(int from, int to)
{
    char name[16];

    for (int i = from; i < to; i++) {
        amqp_queue_bind_t bind = {.exchange = amqp_span(span_str("amq.fanout"))};

        snprintf(name, sizeof(name), "q%d", i);
        raw_declare(&b, name, false, NULL);
        bind.queue = amqp_span(span_str(name));
        raw_call(&b, 1, AMQP_QUEUE_BIND_METHOD, &bind, AMQP_QUEUE_BIND_OK_METHOD);
    }
}

static void publish(int messages)
{
    for (int i = 0; i < messages; i++)
        raw_put_publish(&a, 1, "amq.fanout", "", NULL, 1);
    while (raw_push(&a), buf_length(&a.out) > 0)
        ck_assert_int_eq(loop_turn(kit.loop, false), 0);
}

static void refused(void)
{
    const amqp_channel_close_t *close;

    raw_expect(&a, AMQP_CHANNEL_CLOSE_METHOD);
    close = a.method.decoded;
    ck_assert_int_eq(close->reply_code, 406);
    ck_assert_ptr_nonnull(strstr((const char *)close->reply_text.bytes, "commit more often"));
    ck_assert_uint_eq(kit.broker->ready_count, 0);
}

static void committed(uint64_t places)
{
    raw_call(&a, 1, AMQP_TX_COMMIT_METHOD, &(amqp_tx_commit_t){0}, AMQP_TX_COMMIT_OK_METHOD);
    ck_assert_uint_eq(kit.broker->ready_count, places);
}

START_TEST(each_queue_counts)
{
    enum { MOST = PLACES_MAX / QUEUES };

    bind_queues(0, QUEUES);
    publish(MOST);
    committed(MOST * QUEUES);
    for (int i = 0; i < QUEUES; i++) {
        char name[16];

        snprintf(name, sizeof(name), "q%d", i);
        queue_purge(raw_queue(&kit, name));
    }
    publish(MOST); /* anew */
    publish(1);
    refused();
}
END_TEST

START_TEST(queues_that_are_bound_meanwhile_count)
{
    bind_queues(0, 1);
    publish(PLACES_MAX / QUEUES + 1);
    bind_queues(1, QUEUES);
    raw_put(&a, 1, AMQP_TX_COMMIT_METHOD, &(amqp_tx_commit_t){0});
    raw_flush(&a);
    refused();
}
END_TEST

START_TEST(queues_that_have_gone_do_not_count)
{
    amqp_queue_delete_t delete = {.queue = amqp_span(span_str("q1"))};

    bind_queues(0, 2);
    publish(1000);
    raw_call(&b, 1, AMQP_QUEUE_DELETE_METHOD, &delete, AMQP_QUEUE_DELETE_OK_METHOD);
    committed(1000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("broker");
    TCase *tests = tcase_create("transactions");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, each_queue_counts);
    tcase_add_test(tests, queues_that_are_bound_meanwhile_count);
    tcase_add_test(tests, queues_that_have_gone_do_not_count);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
