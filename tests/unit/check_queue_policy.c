/* SPDX-License-Identifier: MIT */
/* What the arguments of a queue ask for, and which of them are refused. */
#include "broker/queue.h"
#include "wire/table.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

static struct buf arguments;
static struct queue_policy policy;
static struct reply error;

static int read_policy(void)
{
    struct queue_options options = {.name = span_str("q"), .arguments = buf_span(&arguments), .durable = true};

    return queue_policy_read(&options, "/", &policy, &error);
}

static void teardown(void)
{
    buf_free(&arguments);
    arguments = (struct buf){0};
}

START_TEST(nothing_asked_for)
{
    ck_assert_int_eq(read_policy(), 0);
    ck_assert_int_eq(policy.message_ttl, -1);
    ck_assert_int_eq(policy.max_length, -1);
    ck_assert_int_eq(policy.delivery_limit, -1);
    ck_assert_int_eq(policy.overflow, QUEUE_DROP_HEAD);
    ck_assert(!policy.has_dead_exchange && !policy.single_active && !policy.quorum);
}
END_TEST

START_TEST(everything_asked_for)
{
    table_put_integer(&arguments, span_str("x-message-ttl"), 0);
    table_put_integer(&arguments, span_str("x-expires"), QUEUE_TIME_MAX);
    table_put_integer(&arguments, span_str("x-max-length"), 7);
    table_put_integer(&arguments, span_str("x-max-length-bytes"), 1LL << 40);
    table_put_integer(&arguments, span_str("x-delivery-limit"), 3);
    table_put_integer(&arguments, span_str("x-max-priority"), 10);
    table_put_string(&arguments, span_str("x-dead-letter-exchange"), span_str(""));
    table_put_string(&arguments, span_str("x-dead-letter-routing-key"), span_str("dead"));
    table_put_string(&arguments, span_str("x-overflow"), span_str("reject-publish-dlx"));
    table_put_string(&arguments, span_str("x-queue-type"), span_str("quorum"));
    table_put_boolean(&arguments, span_str("x-single-active-consumer"), true);
    table_put_string(&arguments, span_str("x-something-else"), span_str("is let through"));
    ck_assert_int_eq(read_policy(), 0);
    ck_assert_int_eq(policy.message_ttl, 0);
    ck_assert_int_eq(policy.expires, QUEUE_TIME_MAX);
    ck_assert_int_eq(policy.max_length, 7);
    ck_assert_int_eq(policy.max_bytes, 1LL << 40);
    ck_assert_int_eq(policy.delivery_limit, 3);
    ck_assert_uint_eq(policy.max_priority, 10);
    ck_assert(policy.has_dead_exchange && policy.dead_exchange.length == 0);
    ck_assert(policy.has_dead_key && span_is(policy.dead_key, "dead"));
    ck_assert_int_eq(policy.overflow, QUEUE_REJECT_PUBLISH_DLX);
    ck_assert(policy.quorum && policy.single_active);
}
END_TEST

static const struct {
    const char *name;
    int64_t number;
} bad_numbers[] = {
    {"x-message-ttl", -1},
    {"x-message-ttl", QUEUE_TIME_MAX + 1},
    {"x-expires", 0},
    {"x-max-length", -1},
    {"x-max-length-bytes", -5},
    {"x-max-priority", 256},
    {"x-max-priority", -1},
    {"x-delivery-limit", -1},
    {"x-overflow", 1},
    {"x-queue-type", 1},
    {"x-dead-letter-exchange", 1},
    {"x-single-active-consumer", 1},
};

START_TEST(refused_numbers)
{
    table_put_integer(&arguments, span_str(bad_numbers[_i].name), bad_numbers[_i].number);
    ck_assert_int_eq(read_policy(), -1);
    ck_assert_uint_eq(error.code, REPLY_PRECONDITION_FAILED);
    ck_assert_ptr_nonnull(strstr(error.text, bad_numbers[_i].name));
}
END_TEST

static const struct {
    const char *name, *text;
} bad_texts[] = {
    {"x-message-ttl", "60000"},
    {"x-expires", "1"},
    {"x-max-length", "x"},
    {"x-overflow", "drop-tail"},
    {"x-queue-type", "stream"},
    {"x-max-priority", "5"},
    {"x-dead-letter-routing-key", "without an exchange"},
};

START_TEST(refused_texts)
{
    table_put_string(&arguments, span_str(bad_texts[_i].name), span_str(bad_texts[_i].text));
    ck_assert_int_eq(read_policy(), -1);
    ck_assert_uint_eq(error.code, REPLY_PRECONDITION_FAILED);
    ck_assert_ptr_nonnull(strstr(error.text, bad_texts[_i].name));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("queue_policy");
    TCase *tests = tcase_create("queue_policy");

    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_test(tests, nothing_asked_for);
    tcase_add_test(tests, everything_asked_for);
    tcase_add_loop_test(tests, refused_numbers, 0, (int)HARK_COUNT(bad_numbers));
    tcase_add_loop_test(tests, refused_texts, 0, (int)HARK_COUNT(bad_texts));
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
