/* SPDX-License-Identifier: MIT */
/* A consumer against a fake server: what it asks, acknowledges and gives back, and what it does
 * when things go away. */
#include "client/consumer.h"
#include "session_kit.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 64

static struct consumer *consumer;
static struct ticket tickets[MOST]; /* by tag */
static unsigned delivered, subscribed, unsubscribed, gone, done;
static uint64_t oversized;
static bool free_it; /* from within the next delivery */

static struct {
    char text[4096];    /* what the client settled: "3+ 5" acknowledged, "-2" given back */
    char consumed[256]; /* queue and arguments of basic.consume */
    uint16_t prefetch;
    bool global;
    uint16_t refuse; /* code for basic.consume */
    bool silent;     /* does not answer basic.cancel and channel.close */
} server;

/* ---- what the consumer says ---- */

static void on_delivery(void *arg, const struct ticket *ticket, bool redelivered, struct message *message,
                        uint64_t size)
{
    ck_assert(arg == &consumer && !redelivered);
    ck_assert_uint_lt(ticket->tag, MOST);
    tickets[ticket->tag] = *ticket;
    delivered++;
    oversized = size;
    message_drop(message);
    if (free_it) {
        consumer_free(consumer);
        consumer = NULL;
        free_it = false;
    }
}

static void on_subscribed(void *arg, bool now)
{
    (void)arg;
    *(now ? &subscribed : &unsubscribed) += 1;
    ck_assert(consumer_is_subscribed(consumer) == now);
}

static void on_gone(void *arg)
{
    (void)arg;
    gone++;
}

static void on_done(void *arg)
{
    (void)arg;
    done++;
}

static const struct consumer_ops ops = {.delivery = on_delivery, .subscribed = on_subscribed, .gone = on_gone};

/* ---- what the server does ---- */

static void note(const char *format, unsigned long long tag, const char *mark)
{
    size_t at = strlen(server.text);

    snprintf(server.text + at, sizeof(server.text) - at, format, at > 0 ? " " : "", tag, mark);
}

static void close_channel(uint16_t number, uint16_t code)
{
    amqp_channel_close_t close = {.reply_code = code, .reply_text = amqp_span(span_str("because"))};

    peer_say(peer, number, AMQP_CHANNEL_CLOSE_METHOD, &close);
}

static void note_consume(const amqp_basic_consume_t *consume)
{
    int at = snprintf(server.consumed, sizeof(server.consumed), "%.*s%s", (int)consume->queue.len,
                      (const char *)consume->queue.bytes, consume->no_ack ? " no-ack" : "");

    for (int i = 0; i < consume->arguments.num_entries; i++) {
        const amqp_table_entry_t *entry = &consume->arguments.entries[i];

        at += snprintf(server.consumed + at, sizeof(server.consumed) - (size_t)at, " %.*s=%c", (int)entry->key.len,
                       (const char *)entry->key.bytes, entry->value.kind);
        at += entry->value.kind == 'S'
                  ? snprintf(server.consumed + at, sizeof(server.consumed) - (size_t)at, "%.*s",
                             (int)entry->value.value.bytes.len, (const char *)entry->value.value.bytes.bytes)
                  : snprintf(server.consumed + at, sizeof(server.consumed) - (size_t)at, "%lld",
                             entry->value.kind == 't' ? entry->value.value.boolean : (long long)entry->value.value.i64);
    }
}

static bool on_method(void *arg, uint16_t number, const amqp_method_t *method)
{
    (void)arg;
    switch (method->id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *ack = method->decoded;

        note("%s%llu%s", ack->delivery_tag, ack->multiple ? "+" : "");
        return true;
    }
    case AMQP_BASIC_REJECT_METHOD: {
        const amqp_basic_reject_t *reject = method->decoded;

        ck_assert(reject->requeue);
        note("%s-%llu%s", reject->delivery_tag, "");
        return true;
    }
    case AMQP_BASIC_QOS_METHOD: {
        const amqp_basic_qos_t *qos = method->decoded;

        server.prefetch = qos->prefetch_count;
        server.global = qos->global != 0;
        return false;
    }
    case AMQP_BASIC_CONSUME_METHOD:
        note_consume(method->decoded);
        if (server.refuse == 0)
            return false;
        close_channel(number, server.refuse);
        return true;
    case AMQP_BASIC_CANCEL_METHOD:
    case AMQP_CHANNEL_CLOSE_METHOD:
        return server.silent;
    default:
        return false;
    }
}

static void deliver(uint64_t from, uint64_t to)
{
    unsigned wanted = delivered + (unsigned)(to - from) + 1;

    for (uint64_t tag = from; tag <= to; tag++)
        peer_deliver(peer, 1, tag, "key", "body", 4);
    peer_until(loop, delivered == wanted);
}

/* ---- fixture ---- */

static const struct consumer_argument arguments[] = {
    {.name = "x-priority", .kind = 'l', .number = -5},
    {.name = "x-cancel-on-ha-failover", .kind = 't', .number = 1},
    {.name = "x-stream-offset", .kind = 'S', .text = "first"},
};

static void make(void)
{
    char queue[] = "signups", section[] = "[queue signups]";
    struct consumer_options settings = {.queue = queue,
                                        .section = section,
                                        .prefetch = 7,
                                        .arguments = arguments,
                                        .argument_count = HARK_COUNT(arguments),
                                        .retry_min = 20,
                                        .retry_max = 80};

    consumer = consumer_new(session, &settings, &ops, &consumer);
    ck_assert_ptr_nonnull(consumer);
    memset(queue, 'x', sizeof(queue) - 1);
    memset(section, 'x', sizeof(section) - 1);
}

static void setup(void)
{
    kit_setup();
    peer->on_method = on_method;
    options.max_message_size = 1000;
    kit_start_open();
    make();
}

static void teardown(void)
{
    if (consumer != NULL)
        consumer_free(consumer);
    kit_teardown();
}

static void start(void)
{
    consumer_start(consumer);
    peer_until(loop, subscribed == 1);
}

START_TEST(test_subscribes)
{
    ck_assert(!consumer_is_subscribed(consumer));
    start();
    ck_assert_str_eq(server.consumed, "signups x-priority=l-5 x-cancel-on-ha-failover=t1 x-stream-offset=Sfirst");
    ck_assert_uint_eq(server.prefetch, 7);
    ck_assert(!server.global);
    ck_assert_str_eq(consumer_queue(consumer), "signups");
    consumer_start(consumer);
    peer_wait(loop, 20);
    ck_assert_uint_eq(peer_saw(peer, 1, AMQP_BASIC_CONSUME_METHOD), 1);
    ck_assert_uint_eq(peer_saw(peer, 2, AMQP_CHANNEL_OPEN_METHOD), 0);
}
END_TEST

START_TEST(test_acknowledgements)
{
    start();
    deliver(1, 6);
    ck_assert_uint_eq(consumer_in_hand(consumer), 6);
    consumer_ack(&tickets[3]);
    consumer_ack(&tickets[1]);
    consumer_ack(&tickets[5]);
    consumer_ack(&tickets[2]);
    consumer_ack(&tickets[2]); /* twice is once */
    ck_assert_uint_eq(consumer_in_hand(consumer), 2);
    peer_until(loop, strcmp(server.text, "3+ 5") == 0);
    consumer_ack(&tickets[3]);
    consumer_ack(&tickets[6]);
    consumer_ack(&tickets[4]);
    peer_until(loop, strcmp(server.text, "3+ 5 6+") == 0);
    deliver(7, 7);
    consumer_ack(&tickets[7]);
    peer_until(loop, strcmp(server.text, "3+ 5 6+ 7") == 0);
    ck_assert_uint_eq(consumer_in_hand(consumer), 0);
    ck_assert_uint_eq(consumer_delivered(consumer), 7);
}
END_TEST

START_TEST(test_requeue)
{
    start();
    deliver(1, 3);
    consumer_requeue(&tickets[2]);
    consumer_requeue(&tickets[2]);
    consumer_ack(&tickets[2]);
    consumer_ack(&tickets[3]);
    consumer_requeue(&tickets[3]);
    consumer_ack(&tickets[1]);
    peer_until(loop, strcmp(server.text, "-2 3+") == 0);
    ck_assert_uint_eq(consumer_in_hand(consumer), 0);
}
END_TEST

START_TEST(test_oversized)
{
    static const char body[1001];

    start();
    peer_deliver(peer, 1, 1, "key", body, sizeof(body));
    peer_until(loop, delivered == 1);
    ck_assert_uint_eq(oversized, sizeof(body));
    consumer_ack(&tickets[1]);
    peer_until(loop, strcmp(server.text, "1") == 0);
}
END_TEST

/* A new connection numbers from 1 again: what was delivered on the old one must not be acknowledged
 * on it. */
START_TEST(test_old_tickets_are_void)
{
    struct ticket old;

    start();
    deliver(1, 3);
    consumer_ack(&tickets[1]); /* and lost at once */
    old = tickets[2];
    peer_hangup(peer);
    peer_until(loop, unsubscribed == 1);
    consumer_session_lost(consumer);
    consumer_ack(&old);
    ck_assert_uint_eq(consumer_in_hand(consumer), 0);
    peer_until(loop, noted.opened == 2);
    peer_wait(loop, 20);
    ck_assert_uint_eq(peer_saw(peer, 1, AMQP_CHANNEL_OPEN_METHOD), 0); /* not before it is told to */
    consumer_start(consumer);
    peer_until(loop, subscribed == 2);
    ck_assert_uint_eq(server.prefetch, 7);
    deliver(1, 2);
    server.text[0] = '\0';
    consumer_ack(&old);
    consumer_requeue(&old);
    consumer_ack(&tickets[1]);
    peer_until(loop, strcmp(server.text, "1") == 0);
    ck_assert_uint_eq(consumer_in_hand(consumer), 1);
}
END_TEST

START_TEST(test_cancel_and_close)
{
    start();
    deliver(1, 2);
    server.silent = true;
    consumer_cancel(consumer, on_done, NULL);
    peer_until(loop, peer_saw(peer, 1, AMQP_BASIC_CANCEL_METHOD) == 1);
    deliver(3, 4); /* still on their way */
    ck_assert_uint_eq(done, 0);
    peer_say(peer, 1, AMQP_BASIC_CANCEL_OK_METHOD, &(amqp_basic_cancel_ok_t){.consumer_tag = amqp_span(span_str("x"))});
    peer_until(loop, done == 1);
    consumer_ack(&tickets[1]);
    consumer_requeue(&tickets[4]);
    peer_until(loop, strcmp(server.text, "-4 1") == 0);
    consumer_ack(&tickets[2]);
    consumer_close(consumer, on_done, NULL); /* takes that acknowledgement along */
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_METHOD) == 1);
    ck_assert_str_eq(server.text, "-4 1 2");
    ck_assert_uint_eq(done, 1);
    consumer_ack(&tickets[3]);
    peer_say(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, &server);
    peer_until(loop, done == 2);
    consumer_start(consumer);
    peer_wait(loop, 20);
    ck_assert_str_eq(server.text, "-4 1 2");
    ck_assert_uint_eq(peer_saw(peer, 1, AMQP_CHANNEL_OPEN_METHOD) + unsubscribed, 1);
}
END_TEST

START_TEST(test_cancel_when_not_subscribed)
{
    if (_i > 0)
        consumer_start(consumer);
    if (_i > 1)
        peer_until(loop, peer_saw(peer, 1, AMQP_BASIC_CONSUME_METHOD) == 1);
    consumer_cancel(consumer, on_done, NULL);
    ck_assert_uint_eq(done, 1);
    consumer_start(consumer);
    peer_wait(loop, 20);
    ck_assert_uint_eq(subscribed, 0);
    consumer_close(consumer, on_done, NULL);
    ck_assert_uint_eq(done, 2);
}
END_TEST

START_TEST(test_lost_while_cancelling)
{
    start();
    server.silent = true;
    consumer_cancel(consumer, on_done, NULL);
    peer_until(loop, peer_saw(peer, 1, AMQP_BASIC_CANCEL_METHOD) == 1);
    if (_i == 0)
        peer_hangup(peer);
    else
        close_channel(1, 406);
    peer_until(loop, done == 1);
    peer_wait(loop, 100);
    ck_assert_uint_eq(done, 1);
    ck_assert_uint_eq(subscribed, 1);
    ck_assert_uint_eq(unsubscribed, 1); /* the tickets are void */
}
END_TEST

/* basic.cancel from the server: a new channel, by way of the owner, who may have the queue to
 * declare. */
START_TEST(test_cancelled_by_server)
{
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_span(span_str("hark")), .nowait = 1};
    struct ticket old;

    start();
    deliver(1, 3);
    old = tickets[3];
    peer_say(peer, 1, AMQP_BASIC_CANCEL_METHOD, &cancel);
    peer_until(loop, unsubscribed == 1);
    consumer_ack(&old);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_METHOD) == 1);
    peer_until(loop, gone == 1);
    ck_assert_uint_eq(peer_saw(peer, 1, AMQP_BASIC_CONSUME_METHOD), 1);
    consumer_start(consumer);
    peer_until(loop, subscribed == 2);
    consumer_ack(&old);
    peer_wait(loop, 20);
    ck_assert_str_eq(server.text, "");
}
END_TEST

START_TEST(test_queue_missing)
{
    int64_t began = peer_clock();

    server.refuse = 404;
    consumer_start(consumer);
    peer_until(loop, gone == 1);
    ck_assert_int_ge(peer_clock() - began, 9); /* after the back-off: half of 20 ms at least */
    peer_wait(loop, 100);
    ck_assert_uint_eq(gone, 1);
    ck_assert_uint_eq(peer_saw(peer, 1, AMQP_BASIC_CONSUME_METHOD), 1); /* it is the owner's turn */
    began = peer_clock();
    consumer_start(consumer);
    peer_until(loop, gone == 2);
    ck_assert_int_ge(peer_clock() - began, 19); /* twice as long */
    server.refuse = 0;
    consumer_start(consumer);
    peer_until(loop, subscribed == 1);
    ck_assert_uint_eq(unsubscribed, 0);
}
END_TEST

START_TEST(test_refused_is_tried_again)
{
    static const uint16_t codes[] = {403, 405, 406};

    server.refuse = codes[_i];
    consumer_start(consumer);
    peer_until(loop, peer_saw(peer, 1, AMQP_BASIC_CONSUME_METHOD) == 3);
    ck_assert_uint_eq(gone, 0);
    server.refuse = 0;
    peer_until(loop, subscribed == 1);
}
END_TEST

/* As for an acknowledgement that took too long. */
START_TEST(test_channel_closed_by_server)
{
    start();
    deliver(1, 2);
    consumer_ack(&tickets[1]);
    close_channel(1, 406);
    peer_until(loop, unsubscribed == 1);
    ck_assert_uint_eq(consumer_in_hand(consumer), 0);
    peer_until(loop, subscribed == 2);
    server.text[0] = '\0';
    consumer_ack(&tickets[2]);
    deliver(1, 1);
    consumer_ack(&tickets[1]);
    peer_until(loop, strcmp(server.text, "1") == 0);
    peer_wait(loop, 20);
    ck_assert_str_eq(server.text, "1");
}
END_TEST

START_TEST(test_session_lost_in_back_off)
{
    server.refuse = 403;
    consumer_start(consumer);
    peer_until(loop, peer_saw(peer, 1, AMQP_BASIC_CONSUME_METHOD) == 1);
    peer_hangup(peer);
    peer_until(loop, noted.lost >= 1);
    consumer_session_lost(consumer);
    server.refuse = 0;
    peer_until(loop, noted.opened == 2);
    peer_wait(loop, 100);
    ck_assert_uint_eq(subscribed, 0);
    consumer_start(consumer);
    peer_until(loop, subscribed == 1);
}
END_TEST

START_TEST(test_freed_from_within)
{
    start();
    free_it = true;
    for (uint64_t tag = 1; tag <= 3; tag++)
        peer_deliver(peer, 1, tag, "key", "body", 4);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_METHOD) == 1);
    peer_wait(loop, 20);
    ck_assert_uint_eq(delivered, 1);
    ck_assert_uint_eq(noted.lost, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("consumer");
    TCase *all = tcase_create("consumer");

    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, test_subscribes);
    tcase_add_test(all, test_acknowledgements);
    tcase_add_test(all, test_requeue);
    tcase_add_test(all, test_oversized);
    tcase_add_test(all, test_old_tickets_are_void);
    tcase_add_test(all, test_cancel_and_close);
    tcase_add_loop_test(all, test_cancel_when_not_subscribed, 0, 3);
    tcase_add_loop_test(all, test_lost_while_cancelling, 0, 2);
    tcase_add_test(all, test_cancelled_by_server);
    tcase_add_test(all, test_queue_missing);
    tcase_add_loop_test(all, test_refused_is_tried_again, 0, 3);
    tcase_add_test(all, test_channel_closed_by_server);
    tcase_add_test(all, test_session_lost_in_back_off);
    tcase_add_test(all, test_freed_from_within);
    suite_add_tcase(suite, all);

    return suite_run(suite);
}
