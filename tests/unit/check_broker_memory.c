/* SPDX-License-Identifier: MIT */
/* What clients can make the broker hold is bounded, and whoever is made to wait for memory goes on. */
#include "unit/broker_kit.h"
#include "suite.h"

#include <stdlib.h>
#include <unistd.h>

#define MEGABYTE (1 << 20)

static struct broker_kit kit;
static struct raw_client a, b;

static void open_with(uint64_t limit)
{
    kit.options.memory_limit = limit;
    broking_open(&kit);
    raw_connect(&kit, &a);
    raw_connect(&kit, &b);
}

static void setup(void)
{
    broking_begin(&kit);
}

static void teardown(void)
{
    raw_disconnect(&a);
    raw_disconnect(&b);
    broking_end(&kit);
}

/* What the client has sent is worked off, as far as the broker wants to; it reads nothing. */
static void do_not_read(struct raw_client *client)
{
    for (int i = 0; i < 500; i++) {
        raw_push(client);
        broking_turn(&kit, false);
    }
}

/* For so many ms. */
static void let_it_work(int ms)
{
    for (int i = 0; i < ms; i++) {
        broking_turn(&kit, false);
        usleep(1000);
    }
}

static size_t piled_up(void)
{
    size_t bytes = 0;

    for (struct peer *peer = kit.broker->peers; peer != NULL; peer = peer->next)
        bytes += link_pending(peer->link) + buf_length(&peer->held);
    return bytes;
}

/* ---- who asks and does not read ---- */

START_TEST(answers_that_nobody_reads)
{
    amqp_basic_get_t get = {.queue = amqp_span(span_str("q"))};
    amqp_basic_recover_t recover = {.requeue = 1};

    open_with(64 * MEGABYTE);
    raw_declare(&a, "q", false, NULL);
    raw_put_publish(&a, 1, "", "q", NULL, MEGABYTE);
    raw_flush(&a);
    for (int i = 0; i < 200; i++) {
        raw_put(&a, 1, AMQP_BASIC_GET_METHOD, &get);
        raw_put(&a, 1, AMQP_BASIC_RECOVER_METHOD, &recover);
    }
    do_not_read(&a);
    ck_assert_uint_lt(piled_up(), 32 * MEGABYTE);
    for (int i = 0; i < 200; i++) {
        raw_expect(&a, AMQP_BASIC_GET_OK_METHOD);
        raw_expect(&a, AMQP_BASIC_RECOVER_OK_METHOD);
    }
}
END_TEST

START_TEST(returns_that_nobody_reads)
{
    open_with(64 * MEGABYTE);
    for (int i = 0; i < 100; i++) {
        raw_put_mandatory(&a, 1, "", "nobody", MEGABYTE);
        do_not_read(&a);
    }
    ck_assert_uint_lt(piled_up(), 32 * MEGABYTE);
    for (int i = 0; i < 100; i++)
        raw_expect(&a, AMQP_BASIC_RETURN_METHOD);
}
END_TEST

START_TEST(a_connection_that_is_held_can_be_closed)
{
    amqp_basic_get_t get = {.queue = amqp_span(span_str("q"))};
    amqp_connection_close_ok_t ok = {0};
    struct reply error = {0};

    open_with(64 * MEGABYTE);
    raw_declare(&a, "q", false, NULL);
    for (int i = 0; i < 40; i++)
        raw_put_publish(&a, 1, "", "q", NULL, MEGABYTE);
    raw_flush(&a);
    for (int i = 0; i < 40; i++)
        raw_put(&a, 1, AMQP_BASIC_GET_METHOD, &get);
    do_not_read(&a);
    ck_assert_int_eq(reply_set(&error, REPLY_CONNECTION_FORCED, 0, "shutdown"), -1);
    peer_fail(kit.broker->peers, &error);
    while (raw_next(&a, 1000) == AMQP_BASIC_GET_OK_METHOD)
        ;
    ck_assert_uint_eq(a.method.id, AMQP_CONNECTION_CLOSE_METHOD);
    raw_put(&a, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    raw_flush(&a);
    for (int i = 0; i < 100 && kit.broker->peer_count == 2; i++)
        broking_turn(&kit, false);
    ck_assert_uint_eq(kit.broker->peer_count, 1);
}
END_TEST

/* ---- what is not yet in a queue ---- */

START_TEST(transactions_count)
{
    amqp_channel_open_t open = {0};
    amqp_tx_select_t select = {0};

    open_with(16 * MEGABYTE);
    for (uint16_t channel = 2; channel < 20; channel++) {
        raw_call(&a, channel, AMQP_CHANNEL_OPEN_METHOD, &open, AMQP_CHANNEL_OPEN_OK_METHOD);
        raw_call(&a, channel, AMQP_TX_SELECT_METHOD, &select, AMQP_TX_SELECT_OK_METHOD);
    }
    for (uint16_t channel = 2; channel < 20; channel++)
        for (int i = 0; i < 3; i++)
            raw_put_publish(&a, channel, "", "nobody", NULL, MEGABYTE);
    do_not_read(&a);
    ck_assert(kit.broker->memory_alarm);
    ck_assert_uint_gt(buf_length(&a.out), 20 * MEGABYTE);
    raw_disconnect(&a);
    for (int i = 0; i < 10; i++)
        broking_turn(&kit, false);
    ck_assert(!kit.broker->memory_alarm);
    raw_connect(&kit, &a);
}
END_TEST

/* The first half of a message, in whole frames. */
static void put_half(uint16_t channel, size_t size)
{
    uint8_t half[65536] = {0};
    struct buf *out = &a.out;
    size_t frame;

    method_put_publish(out, channel, span_str(""), span_str("nobody"), false);
    frame = frame_begin(out, FRAME_HEADER, channel);
    buf_put_u32(out, 60 << 16);
    buf_put_u64(out, 2 * size);
    buf_put_u16(out, 0);
    frame_finish(out, frame);
    for (; size > 0; size -= sizeof(half)) {
        frame = frame_begin(out, FRAME_BODY, channel);
        buf_put(out, half, sizeof(half));
        frame_finish(out, frame);
    }
}

START_TEST(contents_that_never_end_count)
{
    amqp_channel_open_t open = {0};

    open_with(16 * MEGABYTE);
    for (uint16_t channel = 2; channel < 40; channel++)
        raw_call(&a, channel, AMQP_CHANNEL_OPEN_METHOD, &open, AMQP_CHANNEL_OPEN_OK_METHOD);
    for (uint16_t channel = 2; channel < 40; channel++)
        put_half(channel, MEGABYTE);
    do_not_read(&a);
    ck_assert(kit.broker->memory_alarm);
    ck_assert_uint_gt(buf_length(&a.out), 16 * MEGABYTE);
    raw_disconnect(&a);
    for (int i = 0; i < 10; i++)
        broking_turn(&kit, false);
    ck_assert(!kit.broker->memory_alarm);
    raw_connect(&kit, &a);
}
END_TEST

/* ---- large messages go to the disk too ---- */

START_TEST(large_messages_do_not_stay_in_memory)
{
    open_with(16 * MEGABYTE);
    raw_declare(&a, "q", false, NULL);
    for (int i = 0; i < 60; i++)
        raw_put_publish(&a, 1, "", "q", NULL, MEGABYTE);
    raw_flush(&a);
    for (int i = 0; i < 10000 && (kit.broker->published < 60 || kit.broker->memory_alarm); i++)
        let_it_work(1);
    ck_assert_uint_eq(raw_queue(&kit, "q")->ready_count, 60);
    ck_assert(!kit.broker->memory_alarm);
    raw_consume(&b, "q", "c", true);
    for (int i = 0; i < 60; i++)
        raw_expect(&b, AMQP_BASIC_DELIVER_METHOD);
}
END_TEST

START_TEST(many_short_queues_do_not_stay_in_memory)
{
    char name[32];

    open_with(16 * MEGABYTE);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        raw_declare(&a, name, false, NULL);
    }
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        for (int j = 0; j < 10; j++)
            raw_put_publish(&a, 1, "", name, NULL, 10000);
    }
    raw_flush(&a);
    for (int i = 0; i < 10000 && (kit.broker->published < 3000 || kit.broker->memory_alarm); i++)
        let_it_work(1);
    ck_assert_uint_eq(kit.broker->published, 3000);
    ck_assert(!kit.broker->memory_alarm);
}
END_TEST

/* Millions of messages that are purged or deleted are gone at once for everybody, and hold nobody up: their memory
 * follows. */
static void fill_memory(int messages)
{
    raw_declare(&a, "q", false, NULL);
    for (int i = 0; i < messages; i++) {
        raw_put_publish(&a, 1, "", "q", NULL, 1);
        if (i % 1000 == 999)
            raw_flush(&a);
    }
    for (int i = 0; i < 10000 && kit.broker->published < (uint64_t)messages; i++)
        let_it_work(1);
    ck_assert_uint_eq(raw_queue(&kit, "q")->ready_count, (uint64_t)messages);
    ck_assert_uint_eq(raw_queue(&kit, "q")->paged.count, 0);
}

static void memory_follows(uint64_t before)
{
    ck_assert_uint_gt(kit.broker->memory, before / 2);
    for (int i = 0; i < 10000 && kit.broker->memory > 0; i++)
        let_it_work(1);
    ck_assert_uint_eq(kit.broker->memory, 0);
}

START_TEST(a_long_queue_goes_a_part_per_turn)
{
    amqp_queue_purge_t purge = {.queue = amqp_span(span_str("q"))};
    amqp_queue_delete_t delete = {.queue = amqp_span(span_str("q"))};
    uint64_t before;

    open_with(UINT64_C(4096) * MEGABYTE);
    fill_memory(200000);
    before = kit.broker->memory;
    raw_call(&a, 1, AMQP_QUEUE_PURGE_METHOD, &purge, AMQP_QUEUE_PURGE_OK_METHOD);
    ck_assert_uint_eq(((const amqp_queue_purge_ok_t *)a.method.decoded)->message_count, 200000);
    ck_assert_uint_eq(raw_queue(&kit, "q")->ready_count, 0);
    ck_assert_uint_eq(kit.broker->ready_count, 0);
    memory_follows(before);
    kit.broker->published = 0;
    fill_memory(200000);
    raw_call(&a, 1, AMQP_QUEUE_DELETE_METHOD, &delete, AMQP_QUEUE_DELETE_OK_METHOD);
    ck_assert_uint_eq(((const amqp_queue_delete_ok_t *)a.method.decoded)->message_count, 200000);
    memory_follows(before);
}
END_TEST

/* Nothing of the broker is left to the loop, though much goes with it. */
START_TEST(what_goes_with_the_broker_asks_for_nothing)
{
    open_with(256 * MEGABYTE);
    raw_declare(&a, "q", false, NULL);
    for (int i = 0; i < 20000; i++) {
        raw_put_publish(&a, 1, "", "q", NULL, 4000);
        if (i % 100 == 99)
            raw_flush(&a);
    }
    for (int i = 0; i < 10000 && kit.broker->published < 20000; i++)
        let_it_work(1);
    ck_assert_uint_gt(kit.broker->memory, kit.broker->memory_ease);
    raw_disconnect(&a);
    raw_disconnect(&b);
    broker_free(kit.broker);
    ck_assert_int_eq(loop_turn(kit.loop, false), 0);
    loop_free(kit.loop);
    open_with(256 * MEGABYTE);
}
END_TEST

/* A message counts until the last queue has let go of it. */
START_TEST(what_is_in_many_queues_does_not_stay_in_memory_for_the_last_one)
{
    amqp_queue_bind_t bind = {.exchange = amqp_span(span_str("amq.fanout"))};
    struct properties persistent = {.flags = PROPERTY_DELIVERY_MODE, .delivery_mode = 2};
    char name[32];

    open_with(64 * MEGABYTE);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        raw_declare(&a, name, true, NULL);
        bind.queue = amqp_span(span_str(name));
        raw_call(&a, 1, AMQP_QUEUE_BIND_METHOD, &bind, AMQP_QUEUE_BIND_OK_METHOD);
    }
    for (int i = 0; i < 30000; i++) {
        raw_put_publish(&a, 1, "amq.fanout", "", &persistent, 1000);
        if (i % 100 == 99)
            raw_flush(&a);
    }
    for (int i = 0; i < 10000 && kit.broker->published < 30000; i++)
        let_it_work(1);
    ck_assert_uint_eq(kit.broker->published, 30000);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        ck_assert_uint_lt(raw_queue(&kit, name)->ready_count - raw_queue(&kit, name)->paged.count, 16000);
    }
}
END_TEST

/* A consumer that takes nothing does not bring the queue back into memory. */
START_TEST(a_consumer_that_waits_holds_little)
{
    amqp_basic_qos_t qos = {.prefetch_count = 1};

    open_with(16 * MEGABYTE);
    raw_declare(&a, "q", false, NULL);
    raw_call(&b, 1, AMQP_BASIC_QOS_METHOD, &qos, AMQP_BASIC_QOS_OK_METHOD);
    for (int i = 0; i < 60; i++)
        raw_put_publish(&a, 1, "", "q", NULL, MEGABYTE);
    raw_flush(&a);
    for (int i = 0; i < 10000 && (kit.broker->published < 60 || kit.broker->memory_alarm); i++)
        let_it_work(1);
    raw_consume(&b, "q", "c", false);
    raw_expect(&b, AMQP_BASIC_DELIVER_METHOD);
    let_it_work(300);
    ck_assert(!kit.broker->memory_alarm);
    ck_assert_uint_lt(kit.broker->memory, 12 * MEGABYTE);
}
END_TEST

/* An alarm that what waits for the disk has helped to raise ends with the commit, though nothing else happens. */
START_TEST(an_alarm_ends_with_the_commit)
{
    struct properties persistent = {.flags = PROPERTY_DELIVERY_MODE, .delivery_mode = 2};

    open_with(16 * MEGABYTE);
    raw_declare(&a, "q", true, NULL);
    raw_consume(&b, "q", "c", false); /* unsettled: cannot be left to the disk */
    for (int i = 0; i < 10; i++)
        raw_put_publish(&a, 1, "", "q", &persistent, MEGABYTE);
    raw_flush(&a);
    for (int i = 0; i < 10; i++)
        raw_expect(&b, AMQP_BASIC_DELIVER_METHOD);
    let_it_work(300);
    ck_assert_uint_eq(store_pending(kit.broker->store), 0);
    ck_assert(!kit.broker->memory_alarm);
    raw_declare(&a, "q", true, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("broker");
    TCase *tests = tcase_create("memory");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, answers_that_nobody_reads);
    tcase_add_test(tests, returns_that_nobody_reads);
    tcase_add_test(tests, a_connection_that_is_held_can_be_closed);
    tcase_add_test(tests, transactions_count);
    tcase_add_test(tests, contents_that_never_end_count);
    tcase_add_test(tests, large_messages_do_not_stay_in_memory);
    tcase_add_test(tests, many_short_queues_do_not_stay_in_memory);
    tcase_add_test(tests, a_long_queue_goes_a_part_per_turn);
    tcase_add_test(tests, what_goes_with_the_broker_asks_for_nothing);
    tcase_add_test(tests, what_is_in_many_queues_does_not_stay_in_memory_for_the_last_one);
    tcase_add_test(tests, a_consumer_that_waits_holds_little);
    tcase_add_test(tests, an_alarm_ends_with_the_commit);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
