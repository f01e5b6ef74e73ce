/* SPDX-License-Identifier: MIT */
/* A worker whose time is up, with a module that cannot let go of its events: it has no cancel. */
#include "dispatch/dispatcher.h"
#include "suite.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

static struct event_base *base;
static struct dispatcher *dispatcher;
static struct dispatch_queue *queue;
static struct hark_event *kept;
static unsigned published, acked, settled, closed;
static bool settles_in_close;

static void port_ack(void *arg, const struct dispatch_ticket *ticket)
{
    (void)arg;
    (void)ticket;
    acked++;
}

static void port_publish(void *arg, struct outgoing *outgoing)
{
    (void)arg;
    published++;
    outgoing->done(outgoing, OUTCOME_ABANDONED, "");
}

static void port_nothing(void *arg)
{
    (void)arg;
}

static void settle(void *arg)
{
    struct hark_event *event = arg;
    struct hark_message message = {.like = event};

    ck_assert(span_is(span_of(hark_body(event).data, hark_body(event).length), "body"));
    ck_assert_int_eq(hark_emit(event, &message), 0);
    kept = NULL;
    settled++;
    hark_settle(event, (enum hark_verdict)(HARK_DONE + settled % 3), "at last");
}

static enum hark_verdict handle(struct hark_instance *instance, struct hark_event *event)
{
    kept = event;
    ck_assert_ptr_nonnull(hark_wait(instance, 1000, settle, event));
    return HARK_LATER;
}

static void close_module(struct hark_instance *instance)
{
    (void)instance;
    closed++;
    if (settles_in_close && kept != NULL)
        settle(kept);
}

static const struct hark_module module = {
    .api = HARK_API, .name = "test", .help = "test", .handle = handle, .close = close_module};

static void listen_as(const char *name)
{
    static const int64_t ladder[] = {1000};
    const char *queues[] = {"work"}, *patterns[] = {"#"};
    struct dispatch_listener listener = {.name = name,
                                         .module = &module,
                                         .queues = queues,
                                         .queue_count = 1,
                                         .patterns = patterns,
                                         .pattern_count = 1,
                                         .emit_exchange = "out",
                                         .retry = ladder,
                                         .retry_count = 1,
                                         .concurrency = 4};

    ck_assert_int_eq(dispatcher_add_listener(dispatcher, &listener), 0);
}

static void setup(void)
{
    struct dispatch_ports ports = {.ack = port_ack, .publish = port_publish, .redeclare = port_nothing};
    struct dispatch_options options = {.dead_letter = "hark.dead",
                                       .dead_letter_queue = "hark.dead",
                                       .frame_max = 8192,
                                       .max_hops = 3,
                                       .crash_limit = 3};

    base = options.base = event_base_new();
    dispatcher = dispatcher_new(&options, &ports);
    queue = dispatcher_add_queue(dispatcher, "work", 0);
    ck_assert_ptr_nonnull(queue);
    listen_as("a");
    listen_as("b");
}

static void teardown(void)
{
    event_base_free(base);
}

static void deliver(void)
{
    struct dispatch_ticket ticket = {.tag = 7};
    struct reply error;
    struct message *message = message_new(span_str("events"), span_str("k"), span_of("\0\0", 2), 4, &error);

    ck_assert_ptr_nonnull(message);
    memcpy(message_body_bytes(message), "body", 4);
    dispatcher_deliver(queue, &ticket, false, message, 0);
}

/* Its event stays as long as it may be touched, and comes to nothing. */
START_TEST(test_settles_after_its_time)
{
    for (int i = 0; i < 3; i++)
        deliver();
    dispatcher_abandon(dispatcher);
    dispatcher_abandon(dispatcher);
    dispatcher_advance(dispatcher, 1000);
    ck_assert_uint_eq(settled, 6);
    ck_assert_uint_eq(acked + published, 0);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->in_hand, 0);
    dispatcher_free(dispatcher);
    ck_assert_uint_eq(closed, 2);
}
END_TEST

START_TEST(test_never_settles)
{
    settles_in_close = _i == 1;
    for (int i = 0; i < 3; i++)
        deliver();
    dispatcher_abandon(dispatcher);
    ck_assert_ptr_nonnull(kept);
    dispatcher_free(dispatcher);
    ck_assert_uint_eq(closed, 2);
    ck_assert_uint_eq(settled, settles_in_close);
    ck_assert_uint_eq(acked + published, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dispatcher_leaving");
    TCase *tests = tcase_create("leaving");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_settles_after_its_time);
    tcase_add_loop_test(tests, test_never_settles, 0, 2);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
