/* SPDX-License-Identifier: MIT */
/*
 * A kit to test a listener module without a broker. It runs the module in hark's real runtime, feeds it
 * events, records what it emits and how it settles, and owns the clock, so that a test of a 10 minute retry takes no
 * time. For use with any test framework: every function aborts with a message on misuse only.
 *
 *     struct hark_test *t = hark_test_open(&hark_module_log, "level = info\n");
 *     struct hark_test_event e = {.routing_key = "user.signed-up", .body = hark_str("{}")};
 *     ck_assert_int_eq(hark_test_feed(t, &e), HARK_DONE);
 *     hark_test_close(t);
 */
#ifndef HARK_TEST_H
#define HARK_TEST_H

#include <hark/listener.h>

struct hark_test;

struct hark_test_event {
    const char *exchange, *routing_key; /* NULL: "" */
    struct hark_str body;
    const char *properties[HARK_PROPERTIES];
    const struct hark_header *headers;
    size_t header_count;
    unsigned attempt; /* 0 means 1 */
    bool redelivered;
};

/* An instance of the module, its section as in the ini file ("key = value\n..."; `emit`, `timeout`, `concurrency`
 * and the other common keys work too). NULL if settings or open() failed: hark_test_log() says why. */
struct hark_test *hark_test_open(const struct hark_module *module, const char *section);
void hark_test_close(struct hark_test *t);

/* Feeds one event and returns its verdict, HARK_LATER if it has not settled when handle() returned. */
enum hark_verdict hark_test_feed(struct hark_test *t, const struct hark_test_event *event);

/* Runs the loop until every event is settled and every message safe, for at most `ms` of real time. 0, or -1: time out. */
int hark_test_settle(struct hark_test *t, int64_t ms);

/* Moves the clock: timers and timeouts due within `ms` fire in order, at once. */
void hark_test_advance(struct hark_test *t, int64_t ms);

/* The n-th event's verdict so far (HARK_LATER: none), and its reason ("" if none). */
enum hark_verdict hark_test_verdict(const struct hark_test *t, size_t n);
const char *hark_test_reason(const struct hark_test *t, size_t n);

/* What was published: only messages of events that settled HARK_DONE, and of hark_emit_new(). Valid until close.
 * Strings, and here the body too, have a 0 byte behind them. */
struct hark_test_message {
    struct hark_str exchange, routing_key, body;
    struct hark_str properties[HARK_PROPERTIES];
    int delivery_mode, priority;
    int64_t timestamp;
    const struct hark_header *headers;
    size_t header_count;
};
size_t hark_test_emitted(const struct hark_test *t);
const struct hark_test_message *hark_test_message(const struct hark_test *t, size_t n);
/* The value of a header of a message, or NULL. */
const struct hark_value *hark_test_header(const struct hark_test_message *message, const char *name);

/* From now on the broker refuses (true) or confirms (false) what is published. */
void hark_test_refuse(struct hark_test *t, bool refuse);

/* Everything logged so far, one line each: "info: text\n". */
const char *hark_test_log(const struct hark_test *t);

#endif
