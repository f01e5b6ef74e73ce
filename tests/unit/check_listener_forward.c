/* SPDX-License-Identifier: MIT */
#include <hark/test.h>

#include "suite.h"

#include <string.h>

extern const struct hark_module hark_module_forward;

static const struct hark_header headers[] = {
    {{"colour", 6}, {.kind = 'S', .str = {"blue", 4}}},
    {{"count", 5}, {.kind = 'l', .integer = 1234567890123}},
    {{"nothing", 7}, {.kind = 'V'}},
};

static const struct hark_test_event event = {
    .exchange = "events",
    .routing_key = "user.signed-up",
    .body = {"{\"a\":1}", 7},
    .properties = {[HARK_CONTENT_TYPE] = "application/json", [HARK_MESSAGE_ID] = "m1", [HARK_USER_ID] = "alice"},
    .headers = headers,
    .header_count = 3,
};

static bool is(struct hark_str str, const char *text)
{
    return str.length == strlen(text) && memcmp(str.data, text, str.length) == 0;
}

START_TEST(test_keeps_everything)
{
    struct hark_test *t = hark_test_open(&hark_module_forward, "emit = out\n");
    const struct hark_test_message *m;

    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(hark_test_feed(t, &event), HARK_DONE);
    ck_assert_uint_eq(hark_test_emitted(t), 1);
    m = hark_test_message(t, 0);
    ck_assert(is(m->exchange, "out") && is(m->routing_key, "user.signed-up") && is(m->body, "{\"a\":1}"));
    ck_assert(is(m->properties[HARK_CONTENT_TYPE], "application/json"));
    ck_assert(is(m->properties[HARK_CORRELATION_ID], "m1"));
    ck_assert_uint_eq(m->properties[HARK_MESSAGE_ID].length, 14);
    ck_assert_uint_eq(m->properties[HARK_USER_ID].length, 0);
    ck_assert_int_eq(hark_test_header(m, "count")->integer, 1234567890123);
    ck_assert_int_eq(hark_test_header(m, "count")->kind, 'l');
    ck_assert_int_eq(hark_test_header(m, "nothing")->kind, 'V');
    ck_assert(is(hark_test_header(m, "colour")->str, "blue"));
    ck_assert(is(hark_test_header(m, "x-hark-cause")->str, "m1"));
    ck_assert_int_eq(hark_test_header(m, "x-hark-hops")->integer, 1);
    ck_assert(is(hark_test_header(m, "x-hark-user-id")->str, "alice"));
    hark_test_close(t);
}
END_TEST

START_TEST(test_same_event_same_ids)
{
    struct hark_test *t = hark_test_open(&hark_module_forward, "");
    struct hark_str first, second;

    hark_test_feed(t, &event);
    hark_test_feed(t, &event);
    first = hark_test_message(t, 0)->properties[HARK_MESSAGE_ID];
    second = hark_test_message(t, 1)->properties[HARK_MESSAGE_ID];
    ck_assert_uint_eq(first.length, second.length);
    ck_assert_mem_eq(first.data, second.data, first.length);
    hark_test_close(t);
}
END_TEST

START_TEST(test_placeholders)
{
    struct hark_test *t = hark_test_open(&hark_module_forward,
                                         "exchange = to-{1}\n"
                                         "routing_key = {2}.{header.colour}.{{x}\n"
                                         "header.was = {routing_key} of {exchange}, {header.count}\n"
                                         "without = nothing\n");
    const struct hark_test_message *m;

    ck_assert_int_eq(hark_test_feed(t, &event), HARK_DONE);
    m = hark_test_message(t, 0);
    ck_assert(is(m->exchange, "to-user"));
    ck_assert(is(m->routing_key, "signed-up.blue.{x}"));
    ck_assert(is(hark_test_header(m, "was")->str, "user.signed-up of events, 1234567890123"));
    ck_assert_ptr_null(hark_test_header(m, "nothing"));
    hark_test_close(t);
}
END_TEST

START_TEST(test_unknown_placeholder)
{
    ck_assert_ptr_null(hark_test_open(&hark_module_forward, "routing_key = {colour}\n"));
    ck_assert_ptr_null(hark_test_open(&hark_module_forward, "routing_key = {1\n"));
    ck_assert_ptr_null(hark_test_open(&hark_module_forward, "header.a = {colour}\n"));
}
END_TEST

START_TEST(test_refused_is_retried)
{
    struct hark_test *t = hark_test_open(&hark_module_forward, "retry = 1s\n");
    struct hark_test_event last = event;

    hark_test_refuse(t, true);
    ck_assert_int_eq(hark_test_feed(t, &event), HARK_RETRY);
    ck_assert_ptr_nonnull(strstr(hark_test_reason(t, 0), "returned"));
    last.attempt = 2;
    ck_assert_int_eq(hark_test_feed(t, &last), HARK_REJECT);
    hark_test_refuse(t, false);
    ck_assert_int_eq(hark_test_feed(t, &event), HARK_DONE);
    hark_test_close(t);
}
END_TEST

START_TEST(test_key_too_long)
{
    struct hark_test *t = hark_test_open(&hark_module_forward, "routing_key = {routing_key}{routing_key}\n");
    struct hark_test_event longest = event;
    char key[256];

    memset(key, 'k', 255);
    key[255] = '\0';
    longest.routing_key = key;
    ck_assert_int_eq(hark_test_feed(t, &longest), HARK_REJECT);
    ck_assert_uint_eq(hark_test_emitted(t), 0);
    hark_test_close(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("listener_forward");
    TCase *tests = tcase_create("forward");

    tcase_add_test(tests, test_keeps_everything);
    tcase_add_test(tests, test_same_event_same_ids);
    tcase_add_test(tests, test_placeholders);
    tcase_add_test(tests, test_unknown_placeholder);
    tcase_add_test(tests, test_refused_is_retried);
    tcase_add_test(tests, test_key_too_long);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
