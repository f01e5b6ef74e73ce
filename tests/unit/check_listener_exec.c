/* SPDX-License-Identifier: MIT */
#include <hark/test.h>

#include "suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const struct hark_module hark_module_exec;

static const struct hark_header headers[] = {{{"x-colour", 8}, {.kind = 'S', .str = {"blue", 4}}}};

/* Runs one event to its end, at most 20 s. */
static struct hark_test *run(const char *section, const char *body)
{
    struct hark_test *t = hark_test_open(&hark_module_exec, section);
    struct hark_test_event event = {.exchange = "events",
                                    .routing_key = "user.signed-up",
                                    .body = hark_str(body),
                                    .properties = {[HARK_MESSAGE_ID] = "m1"},
                                    .headers = headers,
                                    .header_count = 1};

    ck_assert_ptr_nonnull(t);
    hark_test_feed(t, &event);
    ck_assert_int_eq(hark_test_settle(t, 20000), 0);
    return t;
}

static bool is(struct hark_str str, const char *text)
{
    return str.length == strlen(text) && memcmp(str.data, text, str.length) == 0;
}

START_TEST(test_body_in_output_out)
{
    struct hark_test *t = run("command = cat\noutput_type = text/plain\n", "hello");

    ck_assert_int_eq(hark_test_verdict(t, 0), HARK_DONE);
    ck_assert(is(hark_test_message(t, 0)->body, "hello"));
    ck_assert(is(hark_test_message(t, 0)->properties[HARK_CONTENT_TYPE], "text/plain"));
    hark_test_close(t);
}
END_TEST

START_TEST(test_environment)
{
    struct hark_test *t = run(
        "command = sh -c \"echo $HARK_ROUTING_KEY $HARK_EXCHANGE $HARK_MESSAGE_ID $HARK_HEADER_X_COLOUR $MORE\"\n"
        "environment.MORE = more\n",
        "");

    ck_assert(is(hark_test_message(t, 0)->body, "user.signed-up events m1 blue more\n"));
    hark_test_close(t);
}
END_TEST

static const struct {
    int status;
    const char *codes;
    enum hark_verdict verdict;
} statuses[] = {
    {0, "default", HARK_DONE},    {1, "default", HARK_RETRY},   {63, "default", HARK_RETRY},
    {64, "default", HARK_REJECT}, {66, "default", HARK_REJECT}, {67, "default", HARK_RETRY},
    {0, "strict", HARK_DONE},     {3, "strict", HARK_REJECT},   {4, "strict", HARK_RETRY},
    {5, "strict", HARK_REJECT},   {6, "strict", HARK_RETRY},    {64, "strict", HARK_RETRY},
};

START_TEST(test_exit_status)
{
    struct hark_test *t;
    char section[128];

    snprintf(section, sizeof(section), "command = sh -c \"echo x; exit %d\"\nexit_codes = %s\n", statuses[_i].status,
             statuses[_i].codes);
    t = run(section, "");
    ck_assert_int_eq(hark_test_verdict(t, 0), statuses[_i].verdict);
    ck_assert_uint_eq(hark_test_emitted(t), statuses[_i].verdict == HARK_DONE ? 1 : 0);
    hark_test_close(t);
}
END_TEST

START_TEST(test_killed_by_signal)
{
    struct hark_test *t = run("command = sh -c \"kill -9 $$\"\n", "");

    ck_assert_int_eq(hark_test_verdict(t, 0), HARK_RETRY);
    ck_assert_ptr_nonnull(strstr(hark_test_reason(t, 0), "signal 9"));
    hark_test_close(t);
}
END_TEST

START_TEST(test_no_such_program)
{
    struct hark_test *t = run("command = /nonexistent/program\n", "");

    ck_assert_int_eq(hark_test_verdict(t, 0), HARK_RETRY);
    ck_assert_ptr_nonnull(strstr(hark_test_reason(t, 0), "/nonexistent/program cannot be started: No such file"));
    hark_test_close(t);
}
END_TEST

START_TEST(test_large_body_and_reader_that_stops)
{
    size_t size = 1 << 20;
    char *body = malloc(size + 1);
    struct hark_test *t;

    memset(body, 'b', size);
    body[size] = '\0';
    t = run("command = wc -c\n", body);
    ck_assert(is(hark_test_message(t, 0)->body, "1048576\n"));
    hark_test_close(t);
    t = run("command = true\n", body);
    ck_assert_int_eq(hark_test_verdict(t, 0), HARK_DONE);
    hark_test_close(t);
    free(body);
}
END_TEST

START_TEST(test_too_much_output)
{
    struct hark_test *t = run("command = sh -c \"yes & yes\"\noutput_max = 64K\n", "");

    ck_assert_int_eq(hark_test_verdict(t, 0), HARK_REJECT);
    ck_assert_uint_eq(hark_test_emitted(t), 0);
    hark_test_close(t);
}
END_TEST

START_TEST(test_error_lines)
{
    struct hark_test *t = run("command = sh -c \"printf 'one\\\\ntwo' >&2\"\n", "");

    ck_assert_ptr_nonnull(strstr(hark_test_log(t), "stderr: one\n"));
    ck_assert_ptr_nonnull(strstr(hark_test_log(t), "stderr: two\n"));
    hark_test_close(t);
}
END_TEST

static unsigned count(const char *in, const char *what)
{
    unsigned n = 0;

    while ((in = strstr(in, what)) != NULL)
        n++, in++;
    return n;
}

/* However much they write, a listener's programs do not flood the log; what is left out is counted. */
START_TEST(test_error_lines_are_limited)
{
    struct hark_test *t = run("command = sh -c \"yes complaint | head -n 5000 >&2\"\n", "");
    struct hark_test_event event = {.routing_key = "k"};

    ck_assert_uint_eq(count(hark_test_log(t), "stderr: complaint\n"), 100);
    hark_test_advance(t, 10000);
    ck_assert_uint_eq(count(hark_test_log(t), "stderr: 4900 more lines were left out, 100 in 10 s is the limit\n"), 1);
    hark_test_feed(t, &event);
    ck_assert_int_eq(hark_test_settle(t, 20000), 0);
    ck_assert_uint_eq(count(hark_test_log(t), "stderr: complaint\n"), 200);
    hark_test_close(t);
}
END_TEST

/* All of harkd's environment is passed on, and the event's fits beside it. */
START_TEST(test_large_environment)
{
    struct hark_test *t;

    for (int i = 0; i < 2000; i++) {
        char name[32];

        snprintf(name, sizeof(name), "OWN_%d", i);
        ck_assert_int_eq(setenv(name, "x", 1), 0);
    }
    t = run("command = sh -c \"env | grep -c ^OWN_; echo $HARK_HEADER_X_COLOUR\"\n", "");
    ck_assert(is(hark_test_message(t, 0)->body, "2000\nblue\n"));
    hark_test_close(t);
}
END_TEST

/* A grandchild that has closed its pipes holds nothing up, and is killed all the same. */
START_TEST(test_group_ends_with_its_program)
{
    struct hark_test *t = run("command = sh -c \"sleep 1000 </dev/null >/dev/null 2>&1 & echo $!\"\n", "");
    pid_t left = (pid_t)atoi(hark_test_message(t, 0)->body.data);

    ck_assert_int_eq(hark_test_verdict(t, 0), HARK_DONE);
    ck_assert_int_gt(left, 1);
    for (int i = 0; kill(left, 0) == 0; i++) { /* it is init's to reap */
        ck_assert_int_lt(i, 5000);
        usleep(1000);
    }
    hark_test_close(t);
}
END_TEST

/* A grandchild that keeps the pipes open does not hold the event up for ever. */
START_TEST(test_grandchild_keeps_pipes)
{
    struct hark_test *t = hark_test_open(&hark_module_exec, "command = sh -c \"echo out; sleep 1000 &\"\n");
    struct hark_test_event event = {.routing_key = "k"};

    hark_test_feed(t, &event);
    ck_assert_int_eq(hark_test_settle(t, 20000), 0);
    ck_assert_int_eq(hark_test_verdict(t, 0), HARK_DONE);
    hark_test_close(t);
}
END_TEST

START_TEST(test_timeout_kills_the_group)
{
    struct hark_test *t = hark_test_open(&hark_module_exec, "command = sh -c \"echo $$ >&2; sleep 1000 | sleep 1000\"\n"
                                                            "timeout = 10s\n");
    struct hark_test_event event = {.routing_key = "k"};
    const char *line;
    pid_t group;

    ck_assert_int_eq(hark_test_feed(t, &event), HARK_LATER);
    while ((line = strstr(hark_test_log(t), "stderr: ")) == NULL)
        ck_assert_int_eq(hark_test_settle(t, 20), -1);
    group = (pid_t)strtol(line + strlen("stderr: "), NULL, 10);
    ck_assert_int_eq(kill(-group, 0), 0);
    hark_test_advance(t, 9000);
    ck_assert_int_eq(hark_test_verdict(t, 0), HARK_LATER);
    hark_test_advance(t, 1100);
    ck_assert_int_eq(hark_test_verdict(t, 0), HARK_RETRY);
    ck_assert_ptr_nonnull(strstr(hark_test_reason(t, 0), "10000 ms"));
    hark_test_close(t);
    while (kill(-group, 0) == 0) /* the others are init's to reap */
        usleep(1000);
}
END_TEST

START_TEST(test_no_zero_bytes_in_environment)
{
    static const struct hark_header zero[] = {{{"bad", 3}, {.kind = 'S', .str = {"a\0b", 3}}}};
    struct hark_test *t = hark_test_open(&hark_module_exec, "command = true\n");
    struct hark_test_event event = {.routing_key = "k", .headers = zero, .header_count = 1};

    ck_assert_int_eq(hark_test_feed(t, &event), HARK_REJECT);
    ck_assert_ptr_nonnull(strstr(hark_test_reason(t, 0), "0 byte"));
    hark_test_close(t);
}
END_TEST

START_TEST(test_concurrency)
{
    struct hark_test *t = hark_test_open(&hark_module_exec, "command = cat\nconcurrency = 2\n");
    struct hark_test_event event = {.routing_key = "k", .body = {"x", 1}};

    for (int i = 0; i < 20; i++)
        hark_test_feed(t, &event);
    ck_assert_int_eq(hark_test_settle(t, 20000), 0);
    ck_assert_uint_eq(hark_test_emitted(t), 20);
    hark_test_close(t);
}
END_TEST

START_TEST(test_close_with_programs_running)
{
    struct hark_test *t = hark_test_open(&hark_module_exec, "command = sleep 1000\n");
    struct hark_test_event event = {.routing_key = "k"};

    for (int i = 0; i < 3; i++)
        hark_test_feed(t, &event);
    ck_assert_int_eq(hark_test_settle(t, 50), -1);
    hark_test_close(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("listener_exec");
    TCase *tests = tcase_create("exec");

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_body_in_output_out);
    tcase_add_test(tests, test_environment);
    tcase_add_loop_test(tests, test_exit_status, 0, sizeof(statuses) / sizeof(statuses[0]));
    tcase_add_test(tests, test_killed_by_signal);
    tcase_add_test(tests, test_no_such_program);
    tcase_add_test(tests, test_large_body_and_reader_that_stops);
    tcase_add_test(tests, test_too_much_output);
    tcase_add_test(tests, test_error_lines);
    tcase_add_test(tests, test_error_lines_are_limited);
    tcase_add_test(tests, test_large_environment);
    tcase_add_test(tests, test_group_ends_with_its_program);
    tcase_add_test(tests, test_grandchild_keeps_pipes);
    tcase_add_test(tests, test_timeout_kills_the_group);
    tcase_add_test(tests, test_no_zero_bytes_in_environment);
    tcase_add_test(tests, test_concurrency);
    tcase_add_test(tests, test_close_with_programs_running);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
