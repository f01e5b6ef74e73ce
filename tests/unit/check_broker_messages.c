/* SPDX-License-Identifier: MIT */
/* No message is lost, comes twice, comes too late or goes round for ever. */
#include "unit/broker_kit.h"

#include "broker/queue_private.h"
#include "wire/table.h"
#include "suite.h"

#include <stdlib.h>
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

/* For so many ms. */
static void let_it_work(int ms)
{
    for (int i = 0; i < ms; i++) {
        broking_turn(&kit, false);
        usleep(1000);
    }
}

/* As after a kill -9: with what is on disk now. */
static void crash(void)
{
    char command[300], folder[80];

    broking_sync(&kit);
    snprintf(folder, sizeof(folder), "%s-", kit.folder);
    snprintf(command, sizeof(command), "cp -r %s %s", kit.folder, folder);
    ck_assert_int_eq(system(command), 0);
    raw_disconnect(&a);
    raw_disconnect(&b);
    broking_close(&kit);
    snprintf(command, sizeof(command), "rm -rf %s && mv %s %s", kit.folder, folder, kit.folder);
    ck_assert_int_eq(system(command), 0);
    broking_open(&kit);
    raw_connect(&kit, &a);
    raw_connect(&kit, &b);
}

static amqp_table_entry_t text(const char *key, const char *value)
{
    return (amqp_table_entry_t){.key = amqp_span(span_str(key)),
                                .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_span(span_str(value))}};
}

static amqp_table_entry_t number(const char *key, int64_t value)
{
    return (amqp_table_entry_t){.key = amqp_span(span_str(key)),
                                .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = value}};
}

static void bind_queue(const char *queue, const char *exchange, const char *key, const amqp_table_t *arguments)
{
    amqp_queue_bind_t bind = {.queue = amqp_span(span_str(queue)),
                              .exchange = amqp_span(span_str(exchange)),
                              .routing_key = amqp_span(span_str(key))};

    if (arguments != NULL)
        bind.arguments = *arguments;
    raw_call(&a, 1, AMQP_QUEUE_BIND_METHOD, &bind, AMQP_QUEUE_BIND_OK_METHOD);
}

/* ---- routing ---- */

START_TEST(all_keys_of_cc_count)
{
    struct properties properties = {.flags = PROPERTY_HEADERS};
    struct buf headers = {0};
    size_t position;
    char key[16];

    raw_declare(&a, "q1999", false, NULL);
    buf_put(&headers, "\2CCA", 4);
    position = table_begin(&headers);
    for (int i = 0; i < 2000; i++) {
        buf_put_u8(&headers, 'S');
        buf_put_u32(&headers, (uint32_t)snprintf(key, sizeof(key), "q%d", i));
        buf_put_span(&headers, span_str(key));
    }
    table_end(&headers, position);
    properties.headers = buf_span(&headers);
    raw_put_publish(&a, 1, "", "nobody", &properties, 10);
    raw_flush(&a);
    let_it_work(5);
    ck_assert_uint_eq(raw_queue(&kit, "q1999")->ready_count, 1);
    buf_free(&headers);
}
END_TEST

/* A message with many headers against a binding with many arguments. */
START_TEST(many_headers_are_compared_quickly)
{
    enum { MANY = 15000 };
    struct properties properties = {.flags = PROPERTY_HEADERS};
    static amqp_table_entry_t entries[MANY];
    static char names[MANY][12];
    amqp_table_t arguments = {.num_entries = MANY, .entries = entries};
    struct buf headers = {0};
    clock_t before;

    raw_declare(&a, "q", false, NULL);
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof(names[i]), "%d", i);
        entries[i] = (amqp_table_entry_t){.key = amqp_span(span_str(names[i])),
                                          .value = {.kind = AMQP_FIELD_KIND_VOID}};
    }
    buf_clear(&headers);
    for (int i = MANY; i-- > 0;)
        table_put_boolean(&headers, span_str(names[i]), true);
    bind_queue("q", "amq.headers", "", &arguments);
    properties.headers = buf_span(&headers);
    before = clock();
    for (int i = 0; i < 10; i++)
        raw_put_publish(&a, 1, "amq.headers", "", &properties, 10);
    raw_flush(&a);
    for (int i = 0; i < 1000 && raw_queue(&kit, "q")->ready_count < 10; i++)
        broking_turn(&kit, false);
    ck_assert_uint_eq(raw_queue(&kit, "q")->ready_count, 10);
    ck_assert_int_lt((clock() - before) * 10 / CLOCKS_PER_SEC, 20);
    buf_free(&headers);
}
END_TEST

/* Processor time of messages that die, each with so many records of its deaths, of `kinds` queues. */
static clock_t deaths_take(int kinds)
{
    enum { MANY = 3500, MESSAGES = 60 };
    struct properties properties = {.flags = PROPERTY_HEADERS};
    uint64_t target = raw_queue(&kit, "dead")->ready_count + MESSAGES;
    struct buf headers = {0};
    size_t array, record;
    char name[12];
    clock_t before;

    buf_put_u8(&headers, 7);
    buf_put_span(&headers, span_str("x-death"));
    buf_put_u8(&headers, 'A');
    array = table_begin(&headers);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "%d", 1000 + i % kinds);
        buf_put_u8(&headers, 'F');
        record = table_begin(&headers);
        table_put_string(&headers, span_str("queue"), span_str(name));
        table_put_string(&headers, span_str("reason"), span_str("x"));
        table_end(&headers, record);
    }
    table_end(&headers, array);
    properties.headers = buf_span(&headers);
    before = clock();
    for (int i = 0; i < MESSAGES; i++)
        raw_put_publish(&a, 1, "", "q", &properties, 10);
    raw_flush(&a);
    for (int i = 0; i < 1000 && raw_queue(&kit, "dead")->ready_count < target; i++)
        broking_turn(&kit, false);
    ck_assert_uint_eq(raw_queue(&kit, "dead")->ready_count, target);
    buf_free(&headers);
    return clock() - before;
}

/* A message may claim to have died in many queues: that is not compared each with each. */
START_TEST(many_deaths_are_counted_quickly)
{
    amqp_table_entry_t entries[] = {text("x-dead-letter-exchange", ""), text("x-dead-letter-routing-key", "dead"),
                                    number("x-max-length", 0)};
    amqp_table_t arguments = {.num_entries = 3, .entries = entries};
    clock_t one;

    raw_declare(&a, "dead", false, NULL);
    raw_declare(&a, "q", false, &arguments);
    one = deaths_take(1);
    ck_assert_int_lt(deaths_take(3500), 6 * one);
}
END_TEST

/* ---- time ---- */

/* What was to die while the broker was down dies when it is up, though nobody consumes. */
START_TEST(messages_expire_after_a_restart)
{
    amqp_table_entry_t entries[] = {text("x-dead-letter-exchange", ""), text("x-dead-letter-routing-key", "dead")};
    amqp_table_t arguments = {.num_entries = 2, .entries = entries};
    struct properties properties = {
        .flags = PROPERTY_DELIVERY_MODE | PROPERTY_EXPIRATION, .delivery_mode = 2, .expiration = span_str("100")};

    raw_declare(&a, "dead", true, NULL);
    raw_declare(&a, "q", true, &arguments);
    for (int i = 0; i < 3; i++)
        raw_put_publish(&a, 1, "", "q", &properties, 10);
    raw_flush(&a);
    let_it_work(3);
    crash();
    for (int i = 0; i < 3000 && raw_queue(&kit, "dead")->ready_count < 3; i++)
        let_it_work(1);
    ck_assert_uint_eq(raw_queue(&kit, "dead")->ready_count, 3);
    ck_assert_uint_eq(raw_queue(&kit, "q")->ready_count, 0);
}
END_TEST

/* What is over the limit goes quickly, though all of it is on disk and nobody takes it. */
START_TEST(a_limit_holds_on_disk)
{
    enum { LIMIT = 10000 };
    amqp_table_entry_t entries[] = {number("x-max-length", LIMIT)};
    amqp_table_t arguments = {.num_entries = 1, .entries = entries};
    struct properties properties = {.flags = PROPERTY_DELIVERY_MODE, .delivery_mode = 2};
    unsigned reads = 0;
    struct queue *queue;
    uint64_t from;

    raw_declare(&a, "q", true, &arguments);
    for (int i = 0; i < LIMIT; i++)
        raw_put_publish(&a, 1, "", "q", &properties, 10);
    raw_flush(&a);
    raw_declare(&a, "q", true, &arguments);
    queue = raw_queue(&kit, "q");
    queue_page_out(queue, 0, false, UINT64_MAX);
    broking_sync(&kit);
    from = queue->paged.position;
    for (int i = 0; i < LIMIT; i++)
        raw_put_publish(&a, 1, "", "q", &properties, 10);
    raw_push(&a);
    while (kit.broker->published < 2 * LIMIT || queue->ready_count > LIMIT) {
        raw_push(&a);
        broking_turn(&kit, false);
        reads += queue->paged.position != from;
        from = queue->paged.position;
    }
    ck_assert_uint_lt(reads, 60); /* 64 at a time were 157 */
}
END_TEST

/* A consumer that waits does not get what has expired on disk, though there is too much in the queue. */
START_TEST(what_has_expired_is_not_delivered_for_being_too_much)
{
    amqp_table_entry_t entries[] = {number("x-message-ttl", 50), number("x-max-length", 3)};
    amqp_table_t arguments = {.num_entries = 2, .entries = entries};
    struct properties properties = {.flags = PROPERTY_DELIVERY_MODE, .delivery_mode = 2};

    raw_declare(&a, "q", true, &arguments);
    for (int i = 0; i < 3; i++)
        raw_put_publish(&a, 1, "", "q", &properties, 10);
    raw_flush(&a);
    let_it_work(3);
    crash();
    usleep(100000);
    raw_consume(&b, "q", "c", true);
    raw_put_publish(&a, 1, "", "q", &properties, 20);
    raw_flush(&a);
    raw_expect(&b, AMQP_BASIC_DELIVER_METHOD);
    ck_assert_uint_eq(raw_next(&b, 100), 0);
    ck_assert_uint_eq(b.body_bytes, 20);
}
END_TEST

/* ---- dead letters ---- */

/* Full queues that dead-letter into one another: others must still be served. */
START_TEST(dead_letters_in_circles_stop_nobody)
{
    enum { QUEUES = 12 };
    amqp_table_entry_t entries[] = {text("x-dead-letter-exchange", "amq.fanout"), number("x-max-length", 1)};
    amqp_table_t arguments = {.num_entries = 2, .entries = entries};
    char name[16];

    for (int i = 0; i < QUEUES; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        raw_declare(&a, name, false, &arguments);
        bind_queue(name, "amq.fanout", "", NULL);
    }
    raw_put_publish(&a, 1, "amq.fanout", "", NULL, 10);
    raw_put_publish(&a, 1, "amq.fanout", "", NULL, 10);
    raw_flush(&a);
    for (int i = 0; i < 20; i++)
        raw_declare(&b, "other", false, NULL);
}
END_TEST

/* ---- what outlives the process ---- */

START_TEST(bindings_of_exclusive_queues_go_with_them)
{
    amqp_queue_declare_t declare = {.queue = amqp_span(span_str("q")), .durable = 1, .exclusive = 1};

    raw_call(&a, 1, AMQP_QUEUE_DECLARE_METHOD, &declare, AMQP_QUEUE_DECLARE_OK_METHOD);
    bind_queue("q", "amq.direct", "k", NULL);
    crash();
    ck_assert_ptr_null(raw_queue(&kit, "q"));
    raw_declare(&a, "q", true, NULL);
    crash();
    ck_assert_ptr_nonnull(raw_queue(&kit, "q"));
    ck_assert_ptr_null(raw_queue(&kit, "q")->bindings);
}
END_TEST

START_TEST(many_queues_are_found_again)
{
    struct properties persistent = {.flags = PROPERTY_DELIVERY_MODE, .delivery_mode = 2};
    amqp_queue_declare_t declare = {.durable = 1, .nowait = 1};
    char name[16];

    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "q%d", i);
        declare.queue = amqp_span(span_str(name));
        raw_put(&a, 1, AMQP_QUEUE_DECLARE_METHOD, &declare);
        raw_put_publish(&a, 1, "", name, &persistent, 1);
    }
    while (raw_push(&a), buf_length(&a.out) > 0)
        ck_assert_int_eq(loop_turn(kit.loop, false), 0);
    let_it_work(3);
    broking_sync(&kit);
    raw_disconnect(&a);
    raw_disconnect(&b);
    broking_close(&kit);
    broking_open(&kit);
    ck_assert_uint_eq(kit.broker->ready_count, 5000);
    raw_connect(&kit, &a);
    raw_connect(&kit, &b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("broker");
    TCase *tests = tcase_create("messages");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, all_keys_of_cc_count);
    tcase_add_test(tests, many_headers_are_compared_quickly);
    tcase_add_test(tests, many_deaths_are_counted_quickly);
    tcase_add_test(tests, messages_expire_after_a_restart);
    tcase_add_test(tests, a_limit_holds_on_disk);
    tcase_add_test(tests, what_has_expired_is_not_delivered_for_being_too_much);
    tcase_add_test(tests, dead_letters_in_circles_stop_nobody);
    tcase_add_test(tests, bindings_of_exclusive_queues_go_with_them);
    tcase_add_test(tests, many_queues_are_found_again);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
