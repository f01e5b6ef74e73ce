/* SPDX-License-Identifier: MIT */
/* A dispatcher without memory: what it cannot take, or cannot put anywhere, goes back to its queue. */
#include "dispatch/dispatcher.h"
#include "wire/table.h"
#include "suite.h"

#include <event2/event.h>
#include <hark/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define LISTENERS 2000
#define LARGE 600000 /* more than the heap has free */

static struct event_base *base;
static struct dispatcher *dispatcher;
static struct dispatch_queue *queue;
static struct hark_event *held;
static unsigned acked, postponed, published;

static void port_ack(void *arg, const struct dispatch_ticket *ticket)
{
    (void)arg;
    (void)ticket;
    acked++;
}

static void port_postpone(void *arg, const struct dispatch_ticket *ticket)
{
    (void)arg;
    ck_assert_uint_eq(ticket->tag, 7);
    postponed++;
}

static void port_publish(void *arg, struct outgoing *outgoing)
{
    (void)arg;
    published++;
    outgoing->done(outgoing, OUTCOME_CONFIRMED, "");
}

static void port_nothing(void *arg)
{
    (void)arg;
}

static enum hark_verdict handle(struct hark_instance *instance, struct hark_event *event)
{
    (void)instance;
    held = event;
    return HARK_LATER;
}

static void cancel(struct hark_instance *instance, struct hark_event *event)
{
    (void)instance;
    (void)event;
}

static const struct hark_module module = {
    .api = HARK_API, .name = "test", .help = "test", .handle = handle, .cancel = cancel};

static void listen_to(const char *name, const char *pattern)
{
    const char *queues[] = {"work"}, *patterns[] = {pattern};
    struct dispatch_listener listener = {.name = name,
                                         .module = &module,
                                         .queues = queues,
                                         .queue_count = 1,
                                         .patterns = patterns,
                                         .pattern_count = 1,
                                         .timeout = 30000,
                                         .concurrency = 1};

    ck_assert_int_eq(dispatcher_add_listener(dispatcher, &listener), 0);
}

static void setup(void)
{
    static const struct dispatch_ports ports = {
        .ack = port_ack, .postpone = port_postpone, .publish = port_publish, .redeclare = port_nothing};
    static struct dispatch_options options = {.dead_letter = "hark.dead",
                                              .dead_letter_queue = "hark.dead",
                                              .frame_max = 2 * LARGE,
                                              .max_hops = 3,
                                              .crash_limit = 3,
                                              .persistent = true};
    static char names[LISTENERS][16];

    base = options.base = event_base_new();
    dispatcher = dispatcher_new(&options, &ports);
    queue = dispatcher_add_queue(dispatcher, "work", 0);
    ck_assert_ptr_nonnull(queue);
    for (int i = 0; i < LISTENERS; i++) {
        snprintf(names[i], sizeof(names[i]), "l%d", i);
        listen_to(names[i], "all");
    }
    listen_to("one", "one");
}

static void teardown(void)
{
    dispatcher_abandon(dispatcher);
    dispatcher_free(dispatcher);
    event_base_free(base);
}

/* None: no more than there is. */
static void let_have(bool memory)
{
    struct rlimit limit = {.rlim_cur = memory ? RLIM_INFINITY : 0, .rlim_max = RLIM_INFINITY};

    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

static struct message *message_of(const char *key, size_t headers)
{
    struct properties properties = {.flags = PROPERTY_HEADERS};
    struct buf table = {0}, raw = {0};
    char *text = calloc(1, headers + 1);
    struct message *message;
    struct reply error;

    ck_assert_ptr_nonnull(text);
    memset(text, 'x', headers);
    table_put_string(&table, span_str("mine"), span_of(text, headers));
    properties.headers = buf_span(&table);
    properties_put(&raw, &properties);
    message = message_new(span_str("events"), span_str(key), buf_span(&raw), 4, &error);
    ck_assert_ptr_nonnull(message);
    memcpy(message_body_bytes(message), "body", 4);
    buf_free(&table);
    buf_free(&raw);
    free(text);
    return message;
}

START_TEST(test_no_memory_for_a_delivery)
{
    struct dispatch_ticket ticket = {.tag = 7};
    struct message *message = message_of("all", 10);

    let_have(false);
    dispatcher_deliver(queue, &ticket, false, message, 0);
    let_have(true);
    ck_assert_uint_eq(postponed, 1);
    ck_assert_uint_eq(acked, 0);
    ck_assert_ptr_null(held);
}
END_TEST

START_TEST(test_no_memory_for_a_dead_letter)
{
    struct dispatch_ticket ticket = {.tag = 7};

    dispatcher_deliver(queue, &ticket, false, message_of("one", LARGE), 0);
    ck_assert_ptr_nonnull(held);
    let_have(false);
    hark_settle(held, HARK_REJECT, "no");
    let_have(true);
    ck_assert_uint_eq(postponed, 1);
    ck_assert_uint_eq(acked + published, 0);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->in_hand, 0);
}
END_TEST

START_TEST(test_memory_is_enough)
{
    struct dispatch_ticket ticket = {.tag = 7};

    dispatcher_deliver(queue, &ticket, false, message_of("one", LARGE), 0);
    ck_assert_ptr_nonnull(held);
    hark_settle(held, HARK_DONE, NULL);
    ck_assert_uint_eq(acked, 1);
    ck_assert_uint_eq(postponed + published, 0);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->in_hand, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dispatcher");
    TCase *all = tcase_create("memory");

    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, test_memory_is_enough);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which need address space of their own */
    tcase_add_test(all, test_no_memory_for_a_delivery);
    tcase_add_test(all, test_no_memory_for_a_dead_letter);
#else
    (void)test_no_memory_for_a_delivery;
    (void)test_no_memory_for_a_dead_letter;
#endif
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
