/* SPDX-License-Identifier: MIT */
/* Consumers of one queue take turns by priority, however many consumers and priorities there are. */
#include "unit/broker_kit.h"

#include "broker/invariants.h"
#include "broker/queue_private.h"
#include "suite.h"

#include <stdio.h>
#include <time.h>

#define CHANNELS 50

static struct broker_kit kit;
static struct raw_client a, b;

static void setup(void)
{
    broking_begin(&kit);
    broking_open(&kit);
    raw_connect(&kit, &a);
    raw_connect(&kit, &b);
    raw_declare(&b, "q", false, NULL);
}

static void teardown(void)
{
    raw_disconnect(&a);
    raw_disconnect(&b);
    broking_end(&kit);
}

static void put_consume(uint16_t channel, const char *tag, int64_t priority, bool no_ack)
{
    amqp_table_entry_t entry = {.key = amqp_span(span_str("x-priority")),
                                .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = priority}};
    amqp_basic_consume_t consume = {.queue = amqp_span(span_str("q")),
                                    .consumer_tag = amqp_span(span_str(tag)),
                                    .no_ack = no_ack,
                                    .nowait = 1,
                                    .arguments = {.num_entries = 1, .entries = &entry}};

    raw_put(&a, channel, AMQP_BASIC_CONSUME_METHOD, &consume);
}

static void consumed_by(unsigned consumers)
{
    raw_flush(&a);
    for (int i = 0; i < 10000 && raw_queue(&kit, "q")->consumer_count != consumers; i++)
        broking_turn(&kit, false);
    ck_assert_uint_eq(raw_queue(&kit, "q")->consumer_count, consumers);
}

/* Messages for "q", and who gets them: the first letters of the tags. */
static void publish(int messages)
{
    for (int i = 0; i < messages; i++)
        raw_put_publish(&b, 1, "", "q", NULL, 1);
    raw_flush(&b);
}

static void delivered_to(const char *tags)
{
    for (; *tags != '\0'; tags++) {
        const amqp_basic_deliver_t *deliver;

        raw_expect(&a, AMQP_BASIC_DELIVER_METHOD);
        deliver = a.method.decoded;
        ck_assert_int_eq(*(const char *)deliver->consumer_tag.bytes, *tags);
    }
}

static void prefetch(uint16_t count)
{
    amqp_basic_qos_t qos = {.prefetch_count = count};

    raw_call(&a, 1, AMQP_BASIC_QOS_METHOD, &qos, AMQP_BASIC_QOS_OK_METHOD);
}

START_TEST(the_highest_that_can_takes_turns_with_its_equals)
{
    prefetch(2);
    put_consume(1, "0", 0, false);
    put_consume(1, "x", 5, false);
    put_consume(1, "-", INT64_MIN, false);
    put_consume(1, "y", 5, false);
    put_consume(1, "+", INT64_MAX, false);
    put_consume(1, "1", 0, false);
    consumed_by(6);
    publish(13);
    delivered_to("++xyxy0101--");
    ck_assert_uint_eq(raw_next(&a, 20), 0);
    raw_ack(&a, 8, false); /* of "1" */
    delivered_to("1");
    publish(2);
    raw_ack(&a, 11, false); /* of "-" */
    delivered_to("-");
    raw_ack(&a, 3, false); /* of "x" */
    delivered_to("x");
}
END_TEST

START_TEST(who_leaves_is_passed_over)
{
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_span(span_str("x")), .nowait = 1};

    for (int64_t priority = -1; priority <= 1; priority++)
        put_consume(1, priority < 0 ? "-" : priority == 0 ? "0" : "x", priority, true);
    put_consume(1, "y", 1, true);
    consumed_by(4);
    publish(3);
    delivered_to("xyx");
    raw_put(&a, 1, AMQP_BASIC_CANCEL_METHOD, &cancel);
    consumed_by(3);
    publish(2);
    delivered_to("yy");
    cancel.consumer_tag = amqp_span(span_str("y"));
    raw_put(&a, 1, AMQP_BASIC_CANCEL_METHOD, &cancel);
    consumed_by(2);
    publish(2);
    delivered_to("00");
    put_consume(1, "z", 1, true);
    consumed_by(3);
    publish(1);
    delivered_to("z");
}
END_TEST

/* Everybody subscribes, takes a message, gives it back, leaves: none of it goes through all others each time. */
static void many_come_and_go(int64_t (*priority)(unsigned index))
{
    enum { EACH = 1000, ALL = CHANNELS * EACH };
    clock_t before = clock();

    for (uint16_t channel = 2; channel <= CHANNELS; channel++)
        raw_call(&a, channel, AMQP_CHANNEL_OPEN_METHOD, &(amqp_channel_open_t){0}, AMQP_CHANNEL_OPEN_OK_METHOD);
    prefetch(1);
    for (unsigned i = 0; i < ALL; i++)
        put_consume((uint16_t)(1 + i % CHANNELS), "", priority(i), false);
    while (raw_push(&a), raw_queue(&kit, "q")->consumer_count < ALL)
        ck_assert_int_eq(loop_turn(kit.loop, false), 0);
    ck_assert_int_lt((clock() - before) * 10 / CLOCKS_PER_SEC, 20);
    broker_check(kit.broker);
    publish(CHANNELS);
    for (int i = 0; i < CHANNELS; i++)
        raw_expect(&a, AMQP_BASIC_DELIVER_METHOD);
    before = clock();
    raw_disconnect(&a);
    while (raw_queue(&kit, "q")->consumer_count > 0)
        ck_assert_int_eq(loop_turn(kit.loop, true), 0);
    ck_assert_int_lt((clock() - before) * 10 / CLOCKS_PER_SEC, 20);
    broker_check(kit.broker);
    raw_connect(&kit, &a);
}

static int64_t mixed(unsigned index)
{
    return index * 7 % 10;
}

static int64_t all_different(unsigned index)
{
    return (int64_t)(index * 2654435761U) - INT32_MAX;
}

static int64_t falling(unsigned index)
{
    return -(int64_t)index;
}

START_TEST(many_of_few_priorities)
{
    many_come_and_go(mixed);
}
END_TEST

START_TEST(many_of_many_priorities)
{
    many_come_and_go(all_different);
}
END_TEST

START_TEST(each_below_the_last)
{
    many_come_and_go(falling);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("broker");
    TCase *tests = tcase_create("priorities");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_highest_that_can_takes_turns_with_its_equals);
    tcase_add_test(tests, who_leaves_is_passed_over);
    tcase_add_test(tests, many_of_few_priorities);
    tcase_add_test(tests, many_of_many_priorities);
    tcase_add_test(tests, each_below_the_last);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
