/* SPDX-License-Identifier: MIT */
/* What is too large to be kept, from the dispatcher's side: its dead letter is streamed, and it is acknowledged or given
 * back. */
#include "dispatch/dispatcher.h"
#include "wire/table.h"
#include "suite.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

static struct event_base *base;
static struct dispatcher *dispatcher;
static struct dispatch_queue *queue;
static struct outgoing *published;
static unsigned acked, requeued;

static void port_ack(void *arg, const struct dispatch_ticket *ticket)
{
    (void)arg;
    ck_assert_uint_eq(ticket->tag, 7);
    acked++;
}

static void port_requeue(void *arg, const struct dispatch_ticket *ticket)
{
    (void)arg;
    ck_assert(ticket->tag == 7 || ticket->tag == 8);
    requeued++;
}

static void port_publish(void *arg, struct outgoing *outgoing)
{
    (void)arg;
    ck_assert_ptr_null(published);
    published = outgoing;
}

static void port_nothing(void *arg)
{
    (void)arg;
}

static const struct dispatch_ports ports = {
    .ack = port_ack, .requeue = port_requeue, .publish = port_publish, .redeclare = port_nothing};
static struct dispatch_options options = {.dead_letter = "hark.dead",
                                          .dead_letter_queue = "hark.dead",
                                          .frame_max = 8192,
                                          .max_hops = 3,
                                          .crash_limit = 3,
                                          .persistent = true};

static void setup(void)
{
    base = options.base = event_base_new();
    dispatcher = dispatcher_new(&options, &ports);
    queue = dispatcher_add_queue(dispatcher, "work", 0);
    ck_assert_ptr_nonnull(queue);
}

static void teardown(void)
{
    dispatcher_free(dispatcher);
    event_base_free(base);
}

static void deliver(bool redelivered, int64_t count)
{
    struct dispatch_ticket ticket = {.tag = 7};
    struct properties properties = {.flags = PROPERTY_HEADERS};
    struct buf headers = {0}, raw = {0};
    struct reply error;
    struct message *message;

    table_put_integer(&headers, span_str("x-delivery-count"), count);
    properties.headers = buf_span(&headers);
    properties_put(&raw, &properties);
    message = message_new(span_str("events"), span_str("k"), buf_span(&raw), 0, &error);
    ck_assert_ptr_nonnull(message);
    dispatcher_deliver(queue, &ticket, redelivered, message, 1000000);
    buf_free(&headers);
    buf_free(&raw);
    ck_assert_ptr_nonnull(published);
    ck_assert_uint_eq(published->streamed, 1000000);
    ck_assert(span_is(published->exchange, "hark.dead"));
}

static void done(enum outcome outcome)
{
    struct outgoing *outgoing = published;

    published = NULL;
    outgoing->done(outgoing, outcome, "");
}

START_TEST(test_confirmed)
{
    deliver(false, 0);
    ck_assert_uint_eq(acked, 0);
    done(OUTCOME_CONFIRMED);
    ck_assert_uint_eq(acked, 1);
    ck_assert_uint_eq(requeued, 0);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->in_hand, 0);
}
END_TEST

/* Its bytes are gone: only its queue has it. Not at once, and ever later the more often it has come back. */
START_TEST(test_given_back)
{
    static const struct {
        bool redelivered;
        int64_t count, pause;
    } cases[] = {{false, 0, 1000}, {true, 0, 10000}, {true, 3, 80000}, {true, 99, 1280000}};

    deliver(cases[_i].redelivered, cases[_i].count);
    done(_i == 0 ? OUTCOME_RETURNED : _i == 1 ? OUTCOME_REFUSED : OUTCOME_NACKED);
    dispatcher_advance(dispatcher, cases[_i].pause - 100);
    ck_assert_uint_eq(requeued, 0);
    dispatcher_advance(dispatcher, 200);
    ck_assert_uint_eq(requeued, 1);
    ck_assert_uint_eq(acked, 0);
    ck_assert_ptr_null(published);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->in_hand, 0);
}
END_TEST

/* Its source has ended, or the worker leaves: it is neither's to settle. */
START_TEST(test_abandoned)
{
    deliver(false, 0);
    if (_i == 1) {
        done(OUTCOME_NACKED);
        dispatcher_abandon(dispatcher);
    } else {
        done(OUTCOME_ABANDONED);
    }
    ck_assert_uint_eq(acked + requeued, 0);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->in_hand, 0);
}
END_TEST

/* A second one with its id waits for it, and must not be kept for ever when it comes to nothing. */
START_TEST(test_duplicate_is_given_back_too)
{
    void *memory = aligned_alloc(64, (dedup_size(64) + 63) / 64 * 64);
    struct dispatch_ticket ticket = {.tag = 8};
    struct properties properties = {.flags = PROPERTY_MESSAGE_ID, .message_id = span_str("m1")};
    struct buf raw = {0};
    struct reply error;
    struct message *message;

    dispatcher_free(dispatcher);
    memset(memory, 0, dedup_size(64));
    options.dedup = dedup_open(memory, 64);
    dispatcher = dispatcher_new(&options, &ports);
    queue = dispatcher_add_queue(dispatcher, "work", 60000);
    properties_put(&raw, &properties);
    for (; ticket.tag >= 7; ticket.tag--) {
        message = message_new(span_str("events"), span_str("k"), buf_span(&raw), 0, &error);
        ck_assert_ptr_nonnull(message);
        dispatcher_deliver(queue, &ticket, false, message, 1000000);
    }
    done(OUTCOME_NACKED);
    dispatcher_advance(dispatcher, 1100);
    ck_assert_uint_eq(requeued, 2);
    ck_assert_uint_eq(acked, 0);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->in_hand, 0);
    buf_free(&raw);
    dispatcher_free(dispatcher);
    free(memory);
    options.dedup = NULL;
    dispatcher = dispatcher_new(&options, &ports);
}
END_TEST

static const char *seen;

static enum hark_verdict handle(struct hark_instance *instance, struct hark_event *event)
{
    struct hark_message message = {.exchange = hark_str("out"), .body = {.data = "", .length = (size_t)1 << 47}};

    (void)instance;
    /* Another time there may be memory: that is told apart from what can never be emitted. */
    ck_assert_int_eq(hark_emit(event, &message), -1);
    ck_assert_int_eq(errno, ENOMEM);
    message = (struct hark_message){.exchange = {.data = "", .length = 256}};
    ck_assert_int_eq(hark_emit(event, &message), -1);
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_uint_eq(hark_attempt(event), 2);
    ck_assert_uint_eq(hark_body(event).length, 4);
    seen = hark_body(event).data;
    return HARK_RETRY;
}

/* A large one that comes back from a retry is in memory once, not twice. */
START_TEST(test_retry_is_not_copied)
{
    static const struct hark_module module = {.api = HARK_API, .name = "test", .help = "test", .handle = handle};
    static const int64_t ladder[] = {1000, 1000};
    const char *queues[] = {"work"}, *patterns[] = {"k"};
    struct dispatch_listener listener = {.name = "a",
                                         .module = &module,
                                         .queues = queues,
                                         .queue_count = 1,
                                         .patterns = patterns,
                                         .pattern_count = 1,
                                         .retry = ladder,
                                         .retry_count = 2,
                                         .concurrency = 1};
    struct dispatch_ticket ticket = {.tag = 7};
    struct properties properties = {.flags = PROPERTY_HEADERS};
    struct buf headers = {0}, raw = {0};
    struct reply error;
    struct message *message;

    ck_assert_int_eq(dispatcher_add_listener(dispatcher, &listener), 0);
    table_put_string(&headers, span_str("x-hark-exchange"), span_str("events"));
    table_put_string(&headers, span_str("x-hark-key"), span_str("k"));
    table_put_integer(&headers, span_str("x-hark-attempt"), 1);
    properties.headers = buf_span(&headers);
    properties_put(&raw, &properties);
    message = message_new(span_str(""), span_str("work"), buf_span(&raw), 4, &error);
    ck_assert_ptr_nonnull(message);
    memcpy(message_body_bytes(message), "body", 4);
    dispatcher_deliver(queue, &ticket, false, message_hold(message), 0);
    ck_assert_ptr_eq(seen, message->body.data);
    message_drop(message);
    ck_assert_ptr_nonnull(published);
    ck_assert(span_is(published->exchange, "hark.retry.1000"));
    ck_assert(span_is(published->body, "body"));
    done(OUTCOME_CONFIRMED);
    ck_assert_uint_eq(acked, 1);
    buf_free(&headers);
    buf_free(&raw);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dispatcher_oversized");
    TCase *tests = tcase_create("oversized");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_confirmed);
    tcase_add_loop_test(tests, test_given_back, 0, 4);
    tcase_add_loop_test(tests, test_abandoned, 0, 2);
    tcase_add_test(tests, test_duplicate_is_given_back_too);
    tcase_add_test(tests, test_retry_is_not_copied);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
