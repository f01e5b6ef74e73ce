/* SPDX-License-Identifier: MIT */
/* The dispatcher between two arrays: what is acknowledged when, what a retry copy carries and what comes back of it. */
#include "dispatch/dispatcher.h"
#include "wire/table.h"
#include "suite.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define MANY 64

static struct event_base *base;
static struct dispatcher *dispatcher;
static struct dispatch_queue *queue;
static struct outgoing *published[MANY];
static size_t published_count, acked_count;
static uint64_t acked[MANY];
static unsigned crashes;
static uint64_t entered;
static enum hark_verdict verdicts[2]; /* of listener a and b */
static unsigned calls[2], attempts[2];
static struct hark_event *held;
static size_t drained;
static bool own_events; /* handle() asks for the loop */

/* ---- the ports: confirmed by hand ---- */

static void port_ack(void *arg, const struct dispatch_ticket *ticket)
{
    (void)arg;
    acked[acked_count++] = ticket->tag;
}

static void port_publish(void *arg, struct outgoing *outgoing)
{
    (void)arg;
    published[published_count++] = outgoing;
}

static void port_nothing(void *arg)
{
    (void)arg;
}

static void port_enter(void *arg, const struct dispatch_call *call)
{
    (void)arg;
    entered = call->identity;
}

static unsigned port_crashes(void *arg, uint64_t identity)
{
    (void)arg;
    (void)identity;
    return crashes;
}

static void done(size_t n, enum outcome outcome)
{
    published[n]->done(published[n], outcome, "");
    published[n] = NULL;
}

/* ---- two listeners: each emits one message and settles as it is told ---- */

static enum hark_verdict handle(struct hark_instance *instance, struct hark_event *event)
{
    int which = hark_name(instance)[0] == 'b';
    struct hark_message message = {.like = event};

    if (own_events)
        ck_assert_ptr_eq(hark_loop(instance), base);
    calls[which]++;
    attempts[which] = hark_attempt(event);
    ck_assert_int_eq(hark_emit(event, &message), 0);
    if (verdicts[which] == HARK_LATER)
        held = event;
    return verdicts[which];
}

static void cancel(struct hark_instance *instance, struct hark_event *event)
{
    (void)instance;
    (void)event;
    held = NULL;
}

static const struct hark_module module = {
    .api = HARK_API, .name = "test", .help = "test", .handle = handle, .cancel = cancel};

static void listen_on(const char *work, const char *name, const char *pattern, size_t retries)
{
    static const int64_t ladder[] = {1000, 5000};
    const char *queues[] = {work}, *patterns[] = {pattern};
    /* clang-format off */
    struct dispatch_listener listener = {.name = name, .module = &module, .queues = queues, .queue_count = 1,
                                         .patterns = patterns, .pattern_count = 1, .emit_exchange = "out",
                                         .retry = ladder, .retry_count = retries, .timeout = 30000, .concurrency = 4};
    /* clang-format on */

    ck_assert_int_eq(dispatcher_add_listener(dispatcher, &listener), 0);
}

static void listen_to(const char *name, const char *pattern)
{
    listen_on("work", name, pattern, 2);
}

static void *dedup_memory;

static void setup(void)
{
    /* clang-format off */
    struct dispatch_ports ports = {.ack = port_ack, .publish = port_publish, .redeclare = port_nothing,
                                   .enter = port_enter, .leave = port_nothing, .crashes = port_crashes};
    struct dispatch_options options = {.dead_letter = "hark.dead", .dead_letter_queue = "hark.dead", .frame_max = 8192,
                                       .max_hops = 3, .crash_limit = 3, .persistent = true};
    /* clang-format on */

    dedup_memory = aligned_alloc(64, (dedup_size(1024) + 63) / 64 * 64);
    memset(dedup_memory, 0, dedup_size(1024));
    options.dedup = dedup_open(dedup_memory, 1024);
    base = options.base = event_base_new();
    dispatcher = dispatcher_new(&options, &ports);
    queue = dispatcher_add_queue(dispatcher, "work", 60000);
    listen_to("a", "user.#");
    listen_to("b", "*.signed-up");
    verdicts[0] = verdicts[1] = HARK_DONE;
    crashes = 0;
}

static void teardown(void)
{
    dispatcher_abandon(dispatcher);
    for (size_t i = 0; i < published_count; i++)
        if (published[i] != NULL)
            done(i, OUTCOME_ABANDONED);
    dispatcher_free(dispatcher);
    event_base_free(base);
    free(dedup_memory);
}

static void deliver_as(uint64_t tag, const char *exchange, const char *key, struct span raw, bool redelivered)
{
    struct dispatch_ticket ticket = {.tag = tag};
    struct reply error;
    struct message *message = message_new(span_str(exchange), span_str(key), raw, 4, &error);

    ck_assert_ptr_nonnull(message);
    memcpy(message_body_bytes(message), "body", 4);
    dispatcher_deliver(queue, &ticket, redelivered, message, 0);
}

/* With a message id, a user id, an expiration, and headers that the broker would act on. */
static void deliver(uint64_t tag, const char *key, const char *id, int64_t hops)
{
    struct properties properties = {.flags = PROPERTY_HEADERS | PROPERTY_USER_ID | PROPERTY_EXPIRATION};
    struct buf headers = {0}, raw = {0};

    table_put_string(&headers, span_str("CC"), span_str("elsewhere"));
    table_put_boolean(&headers, span_str("mine"), true);
    table_put_string(&headers, span_str("x-hark-reason"), span_str("from a dead letter"));
    if (hops > 0)
        table_put_integer(&headers, span_str("x-hark-hops"), hops);
    properties.headers = buf_span(&headers);
    properties.user_id = span_str("alice");
    properties.expiration = span_str("60000");
    if (id != NULL) {
        properties.message_id = span_str(id);
        properties.flags |= PROPERTY_MESSAGE_ID;
    }
    properties_put(&raw, &properties);
    deliver_as(tag, "events", key, buf_span(&raw), false);
    buf_free(&headers);
    buf_free(&raw);
}

static struct properties properties_of(const struct outgoing *outgoing)
{
    struct properties properties;
    struct reply error;

    ck_assert_int_eq(properties_parse(outgoing->raw_properties, &properties, &error), 0);
    return properties;
}

static bool header_is(const struct outgoing *outgoing, const char *name, const char *text)
{
    struct properties properties = properties_of(outgoing);
    struct table_entry entry;

    return table_find(properties.headers, span_str(name), &entry) && span_is(entry.value, text);
}

/* ---- the tests ---- */

START_TEST(test_acknowledged_when_all_is_confirmed)
{
    deliver(1, "user.signed-up", "m1", 0);
    ck_assert_uint_eq(published_count, 2);
    done(0, OUTCOME_CONFIRMED);
    ck_assert_uint_eq(acked_count, 0);
    done(1, OUTCOME_CONFIRMED);
    ck_assert_uint_eq(acked_count, 1);
    ck_assert_uint_eq(acked[0], 1);
}
END_TEST

START_TEST(test_only_the_failed_listener_again)
{
    struct outgoing *copy;
    struct properties properties;

    verdicts[1] = HARK_RETRY;
    deliver(1, "user.signed-up", "m1", 0);
    ck_assert_uint_eq(published_count, 2); /* a's message, b's retry copy; nothing of what b emitted */
    copy = published[1];
    ck_assert(span_is(copy->exchange, "hark.retry.1000") && span_is(copy->routing_key, "work"));
    properties = properties_of(copy);
    ck_assert_uint_eq(properties.flags & (PROPERTY_USER_ID | PROPERTY_EXPIRATION), 0);
    ck_assert(header_is(copy, "x-hark-kept-CC", "elsewhere") && !header_is(copy, "CC", "elsewhere"));
    ck_assert(header_is(copy, "x-hark-listener", "b") && header_is(copy, "x-hark-user-id", "alice"));

    verdicts[1] = HARK_DONE;
    deliver_as(2, "", "work", copy->raw_properties, false);
    ck_assert_uint_eq(calls[0], 1);
    ck_assert_uint_eq(calls[1], 2);
    ck_assert_uint_eq(attempts[1], 2);
    ck_assert(span_is(published[2]->routing_key, "user.signed-up"));
    ck_assert(header_is(published[2], "CC", "elsewhere"));
    ck_assert(header_is(published[2], "x-hark-reason", "from a dead letter"));
    ck_assert(span_is(properties_of(published[2]).expiration, "60000"));
    done(0, OUTCOME_CONFIRMED);
    done(1, OUTCOME_CONFIRMED);
    done(2, OUTCOME_CONFIRMED);
    ck_assert_uint_eq(acked_count, 2);
}
END_TEST

START_TEST(test_ladder_ends_in_the_dead_letters)
{
    struct outgoing *copy;

    verdicts[0] = HARK_RETRY;
    deliver(1, "user.x", "m1", 0);
    deliver_as(2, "", "work", published[0]->raw_properties, false);
    copy = published[1];
    ck_assert(span_is(copy->exchange, "hark.retry.5000"));
    deliver_as(3, "", "work", copy->raw_properties, false);
    copy = published[2];
    ck_assert(span_is(copy->exchange, "hark.dead") && span_is(copy->routing_key, "user.x"));
    ck_assert(header_is(copy, "x-hark-reason", "attempts") && header_is(copy, "x-hark-exchange", "events"));
    ck_assert_uint_eq(acked_count, 0);
    done(2, OUTCOME_CONFIRMED);
    ck_assert_uint_eq(acked_count, 1);
}
END_TEST

START_TEST(test_returned_is_retried)
{
    deliver(1, "user.x", "m1", 0);
    done(0, OUTCOME_RETURNED);
    ck_assert_uint_eq(published_count, 2);
    ck_assert(span_is(published[1]->exchange, "hark.retry.1000"));
    ck_assert_uint_eq(acked_count, 0);
}
END_TEST

START_TEST(test_refused_copy_is_held)
{
    verdicts[0] = HARK_REJECT;
    deliver(1, "user.x", "m1", 0);
    done(0, OUTCOME_RETURNED);
    ck_assert_uint_eq(published_count, 1);
    dispatcher_advance(dispatcher, 1000);
    ck_assert_uint_eq(published_count, 2); /* published again, and not acknowledged before it is safe */
    ck_assert(span_is(published[1]->exchange, "hark.dead"));
    ck_assert_uint_eq(acked_count, 0);
    done(1, OUTCOME_CONFIRMED);
    ck_assert_uint_eq(acked_count, 1);
}
END_TEST

START_TEST(test_stable_ids)
{
    char first[15] = "";

    deliver(1, "user.x", "m1", 0);
    ck_assert_uint_eq(properties_of(published[0]).message_id.length, 14);
    memcpy(first, properties_of(published[0]).message_id.data, 14);
    done(0, OUTCOME_ABANDONED); /* the worker goes: not acknowledged */
    ck_assert_uint_eq(acked_count, 0);
    deliver(2, "user.x", "m1", 0);
    ck_assert(span_is(properties_of(published[1]).message_id, first));
    ck_assert(span_is(properties_of(published[1]).correlation_id, "m1"));
    deliver(3, "user.x", "m2", 0);
    ck_assert(!span_is(properties_of(published[2]).message_id, first));
}
END_TEST

START_TEST(test_duplicates)
{
    deliver(1, "user.x", "m1", 0);
    deliver(2, "user.x", "m1", 0); /* while the first is in hand: waits for it */
    ck_assert_uint_eq(calls[0], 1);
    ck_assert_uint_eq(acked_count, 0);
    done(0, OUTCOME_CONFIRMED);
    ck_assert_uint_eq(acked_count, 2);
    deliver(3, "user.x", "m1", 0); /* and afterwards: at once */
    ck_assert_uint_eq(calls[0], 1);
    ck_assert_uint_eq(acked_count, 3);
    deliver(4, "user.x", NULL, 0);
    deliver(5, "user.x", NULL, 0); /* without an id there are no duplicates */
    ck_assert_uint_eq(calls[0], 3);
}
END_TEST

START_TEST(test_buried)
{
    deliver(1, "order.x", "m1", 0);
    ck_assert(header_is(published[0], "x-hark-reason", "no-listener"));
    deliver(2, "user.x", "m2", 3);
    ck_assert(header_is(published[1], "x-hark-reason", "hops"));
    crashes = 3;
    deliver_as(3, "events", "user.x", span_of("\0\0", 2), true);
    ck_assert(header_is(published[2], "x-hark-reason", "crashed"));
    ck_assert_uint_eq(calls[0], 0);
}
END_TEST

START_TEST(test_timeout)
{
    verdicts[0] = HARK_LATER;
    deliver(1, "user.x", "m1", 0);
    dispatcher_advance(dispatcher, 29000);
    ck_assert_ptr_nonnull(held);
    dispatcher_advance(dispatcher, 2000);
    ck_assert_ptr_null(held);
    ck_assert(span_is(published[0]->exchange, "hark.retry.1000"));
}
END_TEST

static void count_drained(void *arg)
{
    (void)arg;
    drained++;
}

START_TEST(test_drain)
{
    verdicts[0] = HARK_LATER;
    deliver(1, "user.x", "m1", 0);
    dispatcher_drain(dispatcher, count_drained, NULL);
    ck_assert_uint_eq(drained, 0);
    hark_settle(held, HARK_DONE, NULL);
    ck_assert_uint_eq(drained, 0);
    done(0, OUTCOME_CONFIRMED);
    ck_assert_uint_eq(drained, 1);
    ck_assert_uint_eq(acked_count, 1);
}
END_TEST

START_TEST(test_abandon)
{
    verdicts[0] = HARK_LATER;
    for (uint64_t tag = 1; tag <= 10; tag++) /* four run, the others wait; two of them are twins */
        deliver(tag, "user.x", tag % 2 ? "m1" : NULL, 0);
    dispatcher_abandon(dispatcher);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->in_hand, 0);
    ck_assert_uint_eq(acked_count, 0);
}
END_TEST

/* A dead letter that is moved back to its queue is no duplicate of its earlier life... */
START_TEST(test_replayed_unheard)
{
    struct buf raw = {0};

    deliver(1, "order.x", "m1", 0);
    buf_put_span(&raw, published[0]->raw_properties);
    done(0, OUTCOME_CONFIRMED);
    listen_to("c", "order.#");
    deliver_as(2, "", "work", buf_span(&raw), false);
    buf_free(&raw);
    ck_assert_uint_eq(calls[0], 1);
}
END_TEST

/* ... nor are the retries of its new one. */
START_TEST(test_replayed_with_retries)
{
    verdicts[0] = HARK_RETRY;
    deliver(1, "user.x", "m1", 0);
    for (size_t n = 0; n < 4; n++) { /* attempts 1, 2, 3; replayed: 1, 2 */
        struct buf raw = {0};

        ck_assert_uint_eq(published_count, n + 1);
        buf_put_span(&raw, published[n]->raw_properties);
        done(n, OUTCOME_CONFIRMED);
        deliver_as(n + 2, "", "work", buf_span(&raw), false);
        buf_free(&raw);
    }
    ck_assert_uint_eq(calls[0], 5);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->duplicates, 0);
}
END_TEST

static void deliver_large(uint64_t tag, size_t size)
{
    struct properties properties = {.flags = PROPERTY_HEADERS};
    struct buf headers = {0}, raw = {0};
    char *text = calloc(1, size);

    table_put_string(&headers, span_str("large"), span_of(text, size));
    properties.headers = buf_span(&headers);
    properties_put(&raw, &properties);
    deliver_as(tag, "events", "user.y", buf_span(&raw), false);
    buf_free(&headers);
    buf_free(&raw);
    free(text);
}

/* A dead letter whose headers fill a frame, and that fails again, still comes back. */
START_TEST(test_large_dead_letter_fails_again)
{
    struct dispatch_queue *dead = dispatcher_add_queue(dispatcher, "hark.dead", 0);

    listen_on("hark.dead", "bb", "#", 0);
    verdicts[0] = verdicts[1] = HARK_REJECT;
    deliver_large(1, 7700);
    ck_assert(span_is(published[0]->exchange, "hark.dead"));
    queue = dead;
    deliver_as(2, "hark.dead", "user.y", published[0]->raw_properties, false);
    ck_assert_uint_eq(published_count, 2);
    ck_assert(span_is(published[1]->exchange, "hark.retry.60000"));
    ck_assert_uint_eq(acked_count, 0);
}
END_TEST

/* Frames are tuned smaller after a copy was made: it is made anew. */
START_TEST(test_refused_copy_is_made_anew)
{
    dispatcher_set_frame_max(dispatcher, 131072);
    verdicts[0] = HARK_REJECT;
    deliver_large(1, 8110);
    ck_assert_uint_gt(published[0]->raw_properties.length, 8192 - 20);
    dispatcher_set_frame_max(dispatcher, 8192);
    done(0, OUTCOME_REFUSED);
    dispatcher_advance(dispatcher, 1000);
    ck_assert_uint_eq(published_count, 2);
    ck_assert_uint_le(published[1]->raw_properties.length, 8192 - 20);
}
END_TEST

/* The channel is gone: what no listener was called with is let go, the rest ends as it would. */
START_TEST(test_void)
{
    verdicts[0] = HARK_LATER;
    for (uint64_t tag = 1; tag <= 10; tag++)
        deliver(tag, "user.x", NULL, 0);
    ck_assert(!dispatcher_has_own_events(dispatcher));
    own_events = true;
    dispatcher_void(queue);
    ck_assert_uint_eq(dispatcher_counters(dispatcher)->in_hand, 4);
    ck_assert_uint_eq(calls[0], 4);
    deliver(11, "a.signed-up", NULL, 0);
    ck_assert(dispatcher_has_own_events(dispatcher));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dispatcher");
    TCase *tests = tcase_create("dispatcher");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_acknowledged_when_all_is_confirmed);
    tcase_add_test(tests, test_only_the_failed_listener_again);
    tcase_add_test(tests, test_ladder_ends_in_the_dead_letters);
    tcase_add_test(tests, test_returned_is_retried);
    tcase_add_test(tests, test_refused_copy_is_held);
    tcase_add_test(tests, test_stable_ids);
    tcase_add_test(tests, test_duplicates);
    tcase_add_test(tests, test_buried);
    tcase_add_test(tests, test_timeout);
    tcase_add_test(tests, test_drain);
    tcase_add_test(tests, test_abandon);
    tcase_add_test(tests, test_replayed_unheard);
    tcase_add_test(tests, test_replayed_with_retries);
    tcase_add_test(tests, test_large_dead_letter_fails_again);
    tcase_add_test(tests, test_refused_copy_is_made_anew);
    tcase_add_test(tests, test_void);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
