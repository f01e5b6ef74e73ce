/* SPDX-License-Identifier: MIT */
/* Messages that are too large to be kept, between two fake servers: from one they come, to the other they go. */
#include "client/consumer.h"
#include "client/relay.h"
#include "session_kit.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct peer *target;
static struct relays relays;
static struct relay *holder;
static char outcomes[200], why_text[200];
static uint8_t part[100000];

static void on_target_opened(void *arg)
{
    (void)arg;
    relays_opened(&relays);
}

static void on_target_lost(void *arg, const char *why)
{
    (void)arg;
    (void)why;
    relays_lost(&relays);
}

static struct session *connect_target(void *arg)
{
    static const struct session_ops ops = {.opened = on_target_opened, .lost = on_target_lost};
    char name[] = "127.0.0.1";
    struct session_host to = {.host = name, .port = target->port};
    struct session_options settings = options;

    ck_assert_ptr_null(arg);
    settings.hosts = &to;
    return session_new(loop, &settings, &ops, NULL);
}

static void on_done(struct outgoing *outgoing, enum outcome outcome, const char *why)
{
    size_t at = strlen(outcomes);

    snprintf(outcomes + at, sizeof(outcomes) - at, "%.*s=%d ", (int)outgoing->routing_key.length,
             (const char *)outgoing->routing_key.data, (int)outcome);
    snprintf(why_text, sizeof(why_text), "%s", why);
    outgoing_free(outgoing);
}

static void start(const char *key, uint64_t size)
{
    struct outgoing *outgoing = outgoing_new(span_str("hark.dead"), span_str(key), span_of("\0\0", 2), span_str(""),
                                             NULL);

    ck_assert_ptr_nonnull(outgoing);
    outgoing->streamed = size;
    outgoing->done = on_done;
    relay_start(&relays, outgoing, &holder);
}

static bool paused(void)
{
    return link_is_paused(session_link(session));
}

/* Until the header is out. */
static void start_and_stream(const char *key, uint64_t size)
{
    start(key, size);
    ck_assert_ptr_nonnull(holder);
    ck_assert(paused()); /* no part may come before the channel is open */
    peer_until(loop, !paused());
}

static void setup(void)
{
    kit_setup();
    target = peer_new(loop);
    kit_start_open();
    ck_assert_int_eq(relays_init(&relays, session, connect_target, NULL), 0);
}

static void teardown(void)
{
    relays_free(&relays);
    peer_free(target);
    kit_teardown();
}

static void answer(uint32_t id)
{
    amqp_basic_ack_t ack = {.delivery_tag = 1};
    amqp_basic_nack_t nack = {.delivery_tag = 1};

    peer_say(target, 1, id, id == AMQP_BASIC_ACK_METHOD ? (const void *)&ack : &nack);
}

START_TEST(test_passes_through)
{
    start_and_stream("k", 3 * sizeof(part));
    for (int i = 0; i < 3; i++) {
        ck_assert_ptr_nonnull(holder);
        relay_part(holder, span_of(part, sizeof(part)));
    }
    ck_assert_ptr_null(holder);
    peer_until(loop, target->body_bytes == 3 * sizeof(part));
    ck_assert_uint_eq(peer_saw(target, 1, AMQP_CONFIRM_SELECT_METHOD), 1);
    ck_assert_str_eq(outcomes, "");
    answer(AMQP_BASIC_ACK_METHOD);
    peer_until(loop, strcmp(outcomes, "k=1 ") == 0);
    ck_assert(!paused());
    start_and_stream("again", 1); /* by the same connection */
    ck_assert_uint_eq(target->accepted, 1);
}
END_TEST

START_TEST(test_outcomes)
{
    static const char *const expected[] = {"k=3 ", "k=2 ", "k=4 ", "k=3 "};
    amqp_basic_return_t returned = {.reply_code = 312};
    amqp_channel_close_t close = {.reply_code = 404, .reply_text = amqp_span(span_str("NOT_FOUND"))};

    start_and_stream("k", 10);
    relay_part(holder, span_of(part, 10));
    peer_until(loop, target->body_bytes == 10);
    if (_i == 0) {
        answer(AMQP_BASIC_NACK_METHOD);
    } else if (_i == 1) {
        method_put(&target->out, 1, AMQP_BASIC_RETURN_METHOD, &returned);
        content_put(&target->out, 1, target->tune_frame_max, span_of("\0\0", 2), span_of(part, 10));
        answer(AMQP_BASIC_ACK_METHOD);
    } else if (_i == 2) {
        peer_say(target, 1, AMQP_CHANNEL_CLOSE_METHOD, &close);
    } else {
        peer_hangup(target);
    }
    peer_until(loop, outcomes[0] != '\0');
    ck_assert_str_eq(outcomes, expected[_i]);
    ck_assert(_i != 2 || strcmp(why_text, "NOT_FOUND") == 0);
    ck_assert(!paused());
}
END_TEST

/* Half of it is on its way: only the end of the connection takes it back. The next has a new one. */
START_TEST(test_cut)
{
    start_and_stream("k", 2 * sizeof(part));
    relay_part(holder, span_of(part, sizeof(part)));
    peer_until(loop, target->body_bytes == sizeof(part));
    relay_cut(holder);
    ck_assert_ptr_null(holder);
    ck_assert_str_eq(outcomes, "k=5 ");
    peer_until(loop, target->fd < 0 || target->ended);
    ck_assert_uint_eq(peer_saw(target, 1, AMQP_CHANNEL_CLOSE_METHOD), 0);
    relay_cut(NULL);
    start_and_stream("next", 10);
    ck_assert_uint_eq(target->accepted, 2);
    relay_part(holder, span_of(part, 10));
    peer_until(loop, target->body_bytes == 10);
    answer(AMQP_BASIC_ACK_METHOD);
    peer_until(loop, strcmp(outcomes, "k=5 next=1 ") == 0);
}
END_TEST

/* Nobody is there: it does not hold up the consuming for ever. */
START_TEST(test_no_connection)
{
    target->at = _i == 0 ? PEER_ACCEPT : PEER_AFTER;
    target->trouble = PEER_HANGUP;
    start("k", 1000000);
    ck_assert(paused());
    peer_until(loop, outcomes[0] != '\0');
    ck_assert_str_eq(outcomes, "k=3 ");
    ck_assert_ptr_null(holder);
    ck_assert(!paused());
}
END_TEST

START_TEST(test_full)
{
    size_t fed = 0;

    start_and_stream("k", (uint64_t)1 << 40);
    target->deaf = true;
    while (!paused()) {
        relay_part(holder, span_of(part, sizeof(part)));
        fed += sizeof(part);
        ck_assert_uint_lt(fed, 200000000);
        ck_assert_int_eq(loop_turn(loop, false), 0);
    }
    ck_assert_uint_lt(link_pending(session_link(relays.to)), 2 << 20);
    target->deaf = false;
    event_add(target->event, NULL);
    peer_until(loop, !paused());
    peer_until(loop, target->body_bytes == fed);
}
END_TEST

/* ---- where they come from ---- */

static uint64_t announced;
static size_t came;
static unsigned lasts, cuts;

static void on_delivery(void *arg, const struct ticket *ticket, bool redelivered, struct message *message,
                        uint64_t size)
{
    (void)arg;
    (void)ticket;
    (void)redelivered;
    ck_assert_uint_eq(message->body.length, 0);
    announced = size;
    message_drop(message);
}

static void on_body(void *arg, struct span body, bool last)
{
    (void)arg;
    ck_assert_uint_gt(announced, 0);
    came += body.length;
    lasts += last;
}

static void on_cut(void *arg)
{
    (void)arg;
    cuts++;
}

static void on_subscribed(void *arg, bool subscribed)
{
    (void)arg;
    (void)subscribed;
}

START_TEST(test_consumer)
{
    static const struct consumer_ops ops = {
        .delivery = on_delivery, .body = on_body, .cut = on_cut, .subscribed = on_subscribed};
    struct consumer_options settings = {
        .queue = "q", .section = "[queue q]", .prefetch = 7, .retry_min = 20, .retry_max = 80};
    struct consumer *consumer = consumer_new(session, &settings, &ops, NULL);
    amqp_basic_deliver_t deliver = {.consumer_tag = amqp_span(span_str("t")), .delivery_tag = 2};
    static uint8_t body[1000001];

    consumer_start(consumer);
    peer_until(loop, consumer_is_subscribed(consumer));
    peer_deliver(peer, 1, 1, "k", body, sizeof(body));
    peer_until(loop, lasts == 1);
    ck_assert_uint_eq(announced, sizeof(body));
    ck_assert_uint_eq(came, sizeof(body));
    came = 0;
    method_put(&peer->out, 1, AMQP_BASIC_DELIVER_METHOD, &deliver);
    content_put_header(&peer->out, 1, peer->tune_frame_max, span_of("\0\0", 2), 2000000);
    content_put_body(&peer->out, 1, peer->tune_frame_max, span_of(body, 300000));
    peer_bytes(peer, NULL, 0);
    peer_until(loop, came == 300000);
    ck_assert_uint_eq(announced, 2000000);
    ck_assert_uint_eq(cuts, 0);
    if (_i == 0)
        peer_hangup(peer);
    else
        consumer_close(consumer, NULL, NULL);
    peer_until(loop, cuts == 1);
    ck_assert_uint_eq(lasts, 1);
    consumer_free(consumer);
    ck_assert_uint_eq(cuts, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("relay");
    TCase *tests = tcase_create("relay");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_passes_through);
    tcase_add_loop_test(tests, test_outcomes, 0, 4);
    tcase_add_test(tests, test_cut);
    tcase_add_loop_test(tests, test_no_connection, 0, 2);
    tcase_add_test(tests, test_full);
    tcase_add_loop_test(tests, test_consumer, 0, 2);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
