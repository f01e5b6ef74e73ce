/* SPDX-License-Identifier: MIT */
/* Nobody waits for ever, nothing is used after its end: queues, exchanges and consumers that go while something is
 * under way about them. */
#include "unit/broker_kit.h"

#include "broker/queue_private.h"
#include "suite.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct broker_kit kit;
static struct raw_client a, b;

static void setup(void)
{
    broking_begin(&kit);
    broking_open(&kit);
    raw_connect(&kit, &a);
    raw_connect(&kit, &b);
}

static void teardown(void)
{
    raw_disconnect(&a);
    raw_disconnect(&b);
    broking_end(&kit);
}

/* ---- a single active consumer ---- */

START_TEST(the_single_active_consumer_goes_on)
{
    amqp_table_entry_t entry = {.key = amqp_span(span_str("x-single-active-consumer")),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
    amqp_table_t arguments = {.num_entries = 1, .entries = &entry};
    amqp_basic_qos_t qos = {.prefetch_count = 1};

    raw_declare(&a, "q", false, &arguments);
    for (int i = 0; i < 3; i++)
        raw_put_publish(&a, 1, "", "q", NULL, 10);
    raw_flush(&a);
    raw_call(&b, 1, AMQP_BASIC_QOS_METHOD, &qos, AMQP_BASIC_QOS_OK_METHOD);
    raw_consume(&b, "q", "c", false);
    for (uint64_t tag = 1; tag <= 3; tag++) {
        raw_expect(&b, AMQP_BASIC_DELIVER_METHOD);
        ck_assert_uint_eq(raw_next(&b, 20), 0); /* one at a time */
        raw_ack(&b, tag, false);
    }
}
END_TEST

/* Each of them is the active one for a moment: electing must not go through all the others each time. */
START_TEST(many_single_active_consumers_leave_at_once)
{
    enum { CHANNELS = 50, EACH = 1000 };
    amqp_table_entry_t entry = {.key = amqp_span(span_str("x-single-active-consumer")),
                                .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}};
    amqp_table_t arguments = {.num_entries = 1, .entries = &entry};
    amqp_basic_consume_t consume = {.queue = amqp_span(span_str("q")), .nowait = 1};
    clock_t before;

    raw_declare(&b, "q", false, &arguments);
    for (uint16_t channel = 1; channel <= CHANNELS; channel++) {
        if (channel > 1)
            raw_call(&a, channel, AMQP_CHANNEL_OPEN_METHOD, &(amqp_channel_open_t){0}, AMQP_CHANNEL_OPEN_OK_METHOD);
        for (int i = 0; i < EACH; i++)
            raw_put(&a, channel, AMQP_BASIC_CONSUME_METHOD, &consume);
        raw_flush(&a);
    }
    while (raw_queue(&kit, "q")->consumer_count < CHANNELS * EACH)
        broking_turn(&kit, false);
    raw_consume(&b, "q", "last", false);
    before = clock();
    raw_disconnect(&a);
    while (raw_queue(&kit, "q")->consumer_count > 1)
        broking_turn(&kit, true);
    ck_assert_int_lt((clock() - before) / CLOCKS_PER_SEC, 2);
    raw_put_publish(&b, 1, "", "q", NULL, 10);
    raw_flush(&b);
    raw_expect(&b, AMQP_BASIC_DELIVER_METHOD);
    raw_connect(&kit, &a);
}
END_TEST

/* ---- closing ---- */

/* A promise that is not yet true is not made for being the last. */
START_TEST(a_commit_is_on_disk_before_the_connection_closes)
{
    struct properties persistent = {.flags = PROPERTY_DELIVERY_MODE, .delivery_mode = 2};
    amqp_connection_close_t close = {.reply_code = 200};
    uint8_t byte;

    raw_declare(&a, "q", true, NULL);
    raw_call(&a, 1, AMQP_TX_SELECT_METHOD, &(amqp_tx_select_t){0}, AMQP_TX_SELECT_OK_METHOD);
    raw_put_publish(&a, 1, "", "q", &persistent, 10);
    raw_put(&a, 1, AMQP_TX_COMMIT_METHOD, &(amqp_tx_commit_t){0});
    raw_put(&a, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    raw_push(&a);
    while (kit.broker->channel_count > 1)
        broking_turn(&kit, true);
    ck_assert_int_eq(recv(a.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
    raw_expect(&a, AMQP_TX_COMMIT_OK_METHOD);
    raw_expect(&a, AMQP_CONNECTION_CLOSE_OK_METHOD);
}
END_TEST

/* ---- basic.get while the messages are on disk ---- */

/* All messages of "q" are on disk only. */
static void queue_on_disk(int messages)
{
    raw_declare(&a, "q", true, NULL);
    for (int i = 0; i < messages; i++)
        raw_put_publish(&a, 1, "", "q", NULL, 10);
    raw_flush(&a);
    for (int i = 0; i < 100 && raw_queue(&kit, "q")->ready_count < (uint64_t)messages; i++)
        broking_turn(&kit, false);
    queue_page_out(raw_queue(&kit, "q"), 0, false, UINT64_MAX);
    broking_sync(&kit);
    ck_assert_uint_eq(raw_queue(&kit, "q")->paged.count, (uint64_t)messages);
}

static void get_and_wait(void)
{
    amqp_basic_get_t get = {.queue = amqp_span(span_str("q"))};

    raw_put(&a, 1, AMQP_BASIC_GET_METHOD, &get);
    raw_flush(&a);
    for (int i = 0; i < 100 && raw_queue(&kit, "q")->getters == NULL; i++)
        broking_turn(&kit, false);
    ck_assert_ptr_nonnull(raw_queue(&kit, "q")->getters);
}

START_TEST(a_get_that_waits_is_answered)
{
    queue_on_disk(3);
    get_and_wait();
    raw_expect(&a, AMQP_BASIC_GET_OK_METHOD);
}
END_TEST

START_TEST(a_get_waits_for_a_queue_that_is_purged)
{
    queue_on_disk(3);
    get_and_wait();
    ck_assert_uint_eq(queue_purge(raw_queue(&kit, "q")), 3);
    raw_expect(&a, AMQP_BASIC_GET_EMPTY_METHOD);
    raw_declare(&a, "q", true, NULL);
}
END_TEST

START_TEST(a_get_waits_for_a_queue_that_is_deleted)
{
    queue_on_disk(3);
    get_and_wait();
    queue_delete(raw_queue(&kit, "q"));
    raw_expect(&a, AMQP_BASIC_GET_EMPTY_METHOD);
    raw_declare(&a, "q", true, NULL);
}
END_TEST

START_TEST(a_get_waits_while_the_connection_is_closed)
{
    struct reply error = {0};

    queue_on_disk(3);
    get_and_wait();
    ck_assert_int_eq(reply_set(&error, REPLY_CONNECTION_FORCED, 0, "shutdown"), -1);
    peer_fail(kit.broker->peers, &error);
    raw_expect(&a, AMQP_CONNECTION_CLOSE_METHOD);
    raw_put(&a, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &(amqp_connection_close_ok_t){0});
    raw_flush(&a);
    for (int i = 0; i < 100 && kit.broker->peer_count == 2; i++)
        broking_turn(&kit, false);
    ck_assert_uint_eq(kit.broker->peer_count, 1);
}
END_TEST

/* ---- auto-delete ---- */

#define CHAIN 100000

/* Each bound to the next; when the last binding goes, all go. */
START_TEST(a_long_chain_of_exchanges_goes_at_once)
{
    amqp_exchange_declare_t declare = {.type = amqp_span(span_str("fanout")), .auto_delete = 1, .nowait = 1};
    amqp_exchange_bind_t bind = {.nowait = 1};
    amqp_exchange_delete_t delete = {0};
    char name[32], before[32] = "amq.fanout";

    for (int i = 0; i < CHAIN; i++) {
        snprintf(name, sizeof(name), "e%d", i);
        declare.exchange = amqp_span(span_str(name));
        raw_put(&a, 1, AMQP_EXCHANGE_DECLARE_METHOD, &declare);
        bind.source = amqp_span(span_str(name));
        bind.destination = amqp_span(span_str(before));
        raw_put(&a, 1, AMQP_EXCHANGE_BIND_METHOD, &bind);
        snprintf(before, sizeof(before), "%s", name);
    }
    delete.exchange = amqp_span(span_str("e0"));
    raw_call(&a, 1, AMQP_EXCHANGE_DELETE_METHOD, &delete, AMQP_EXCHANGE_DELETE_OK_METHOD);
    ck_assert_uint_eq(HASH_COUNT(broker_vhost(kit.broker, span_str("/"))->exchanges), 7);
}
END_TEST

/* Bindings that only differ in their arguments all have one key: each must not cost by the number of those before. */
START_TEST(many_bindings_of_one_key)
{
    amqp_table_entry_t entry = {.key = amqp_span(span_str("n")), .value.kind = AMQP_FIELD_KIND_I32};
    amqp_queue_bind_t bind = {.queue = amqp_span(span_str("q")),
                              .exchange = amqp_span(span_str("amq.direct")),
                              .routing_key = amqp_span(span_str("k")),
                              .arguments = {.num_entries = 1, .entries = &entry},
                              .nowait = 1};
    amqp_queue_delete_t delete = {.queue = amqp_span(span_str("q"))};
    clock_t before = clock();

    raw_declare(&a, "q", false, NULL);
    for (int i = 0; i < 50000; i++) {
        entry.value.value.i32 = i;
        raw_put(&a, 1, AMQP_QUEUE_BIND_METHOD, &bind);
    }
    raw_call(&a, 1, AMQP_QUEUE_DELETE_METHOD, &delete, AMQP_QUEUE_DELETE_OK_METHOD);
    ck_assert_int_lt((clock() - before) / CLOCKS_PER_SEC, 5);
}
END_TEST

/* ---- dead letters ---- */

/* A queue on disk whose messages only time takes is not read while dead letters wait, be they of others: afterwards
 * it is, though nothing happens to it any more. */
START_TEST(a_queue_on_disk_is_read_after_the_dead_letters)
{
    amqp_table_entry_t entries[] = {
        {.key = amqp_span(span_str("x-dead-letter-exchange")), .value.kind = AMQP_FIELD_KIND_UTF8},
        {.key = amqp_span(span_str("x-message-ttl")), .value.kind = AMQP_FIELD_KIND_I32, .value.value.i32 = 60000}};
    amqp_table_t arguments = {.num_entries = 2, .entries = entries};
    amqp_basic_nack_t nack = {.multiple = 1};
    struct queue *queue;

    raw_declare(&a, "q", true, &arguments);
    queue = raw_queue(&kit, "q");
    for (int i = 0; i < 10; i++)
        raw_put_publish(&a, 1, "", "q", NULL, 10);
    raw_flush(&a);
    while (queue->ready_count < 10)
        broking_turn(&kit, true);
    arguments.num_entries = 1;
    raw_declare(&b, "dying", false, &arguments);
    for (int i = 0; i < 2000; i++)
        raw_put_publish(&b, 1, "", "dying", NULL, 10);
    raw_flush(&b);
    raw_consume(&b, "dying", "c", false);
    for (int i = 0; i < 2000; i++)
        raw_expect(&b, AMQP_BASIC_DELIVER_METHOD);
    queue_page_out(queue, 0, false, UINT64_MAX);
    raw_put(&b, 1, AMQP_BASIC_NACK_METHOD, &nack);
    raw_push(&b);
    while (!kit.broker->deaths.resting)
        broking_turn(&kit, true);
    queue_schedule(queue);
    broking_turn(&kit, false);
    ck_assert(kit.broker->deaths.resting);
    ck_assert_uint_eq(queue->paged.count, 10);
    for (int i = 0; i < 5000 && queue->paged.count > 0; i++) {
        broking_turn(&kit, false);
        usleep(1000);
    }
    ck_assert_uint_eq(queue->paged.count, 0);
}
END_TEST

/* Their bodies are copied, and their headers read: a crowd of large ones does not hold everybody up. */
START_TEST(large_dead_letters_go_a_few_per_turn)
{
    amqp_table_entry_t entries[] = {
        {.key = amqp_span(span_str("x-dead-letter-exchange")), .value.kind = AMQP_FIELD_KIND_UTF8},
        {.key = amqp_span(span_str("x-dead-letter-routing-key")),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_span(span_str("dead"))}}};
    amqp_table_t arguments = {.num_entries = 2, .entries = entries};
    amqp_basic_nack_t nack = {.multiple = 1};
    uint64_t before = 0, most = 0;

    raw_declare(&a, "dead", false, NULL);
    raw_declare(&a, "q", false, &arguments);
    for (int i = 0; i < 20; i++)
        raw_put_publish(&a, 1, "", "q", NULL, 1 << 20);
    raw_flush(&a);
    while (raw_queue(&kit, "q")->ready_count < 20)
        broking_turn(&kit, true);
    raw_consume(&b, "q", "c", false);
    for (int i = 0; i < 20; i++)
        raw_expect(&b, AMQP_BASIC_DELIVER_METHOD);
    raw_put(&b, 1, AMQP_BASIC_NACK_METHOD, &nack);
    raw_push(&b);
    while (before < 20) {
        uint64_t now;

        broking_turn(&kit, false);
        now = raw_queue(&kit, "dead")->ready_count;
        most = now - before > most ? now - before : most;
        before = now;
    }
    ck_assert_uint_lt(most, 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("broker");
    TCase *tests = tcase_create("lives");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, many_single_active_consumers_leave_at_once);
    tcase_add_test(tests, a_commit_is_on_disk_before_the_connection_closes);
    tcase_add_test(tests, the_single_active_consumer_goes_on);
    tcase_add_test(tests, a_get_that_waits_is_answered);
    tcase_add_test(tests, a_get_waits_for_a_queue_that_is_purged);
    tcase_add_test(tests, a_get_waits_for_a_queue_that_is_deleted);
    tcase_add_test(tests, a_get_waits_while_the_connection_is_closed);
    tcase_add_test(tests, a_long_chain_of_exchanges_goes_at_once);
    tcase_add_test(tests, many_bindings_of_one_key);
    tcase_add_test(tests, a_queue_on_disk_is_read_after_the_dead_letters);
    tcase_add_test(tests, large_dead_letters_go_a_few_per_turn);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
