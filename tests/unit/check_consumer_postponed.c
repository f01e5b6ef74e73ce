/* SPDX-License-Identifier: MIT */
/* Deliveries for which there was no memory: they do not stay with a consumer for ever. */
#include "client/consumer.h"
#include "session_kit.h"
#include "suite.h"

#include <stdio.h>
#include <string.h>

static struct consumer *consumer;
static struct ticket tickets[16]; /* by tag */
static unsigned delivered, done;
static bool ready;
static char settled[256]; /* as the server sees it: "3+ 5" acknowledged, "-2" given back */

static void on_delivery(void *arg, const struct ticket *ticket, bool redelivered, struct message *message,
                        uint64_t oversized)
{
    (void)arg;
    (void)redelivered;
    (void)oversized;
    tickets[ticket->tag] = *ticket;
    delivered++;
    message_drop(message);
}

static void on_subscribed(void *arg, bool now)
{
    (void)arg;
    ready = now;
}

static void on_done(void *arg)
{
    (void)arg;
    done++;
}

static bool on_method(void *arg, uint16_t number, const amqp_method_t *method)
{
    size_t at = strlen(settled);

    (void)arg;
    (void)number;
    if (method->id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *ack = method->decoded;

        snprintf(settled + at, sizeof(settled) - at, "%s%llu%s", at > 0 ? " " : "",
                 (unsigned long long)ack->delivery_tag, ack->multiple ? "+" : "");
        return true;
    }
    if (method->id == AMQP_BASIC_REJECT_METHOD) {
        const amqp_basic_reject_t *reject = method->decoded;

        ck_assert(reject->requeue);
        snprintf(settled + at, sizeof(settled) - at, "%s-%llu", at > 0 ? " " : "",
                 (unsigned long long)reject->delivery_tag);
        return true;
    }
    return false;
}

static void deliver(uint64_t from, uint64_t to)
{
    for (uint64_t tag = from; tag <= to; tag++)
        peer_deliver(peer, 1, tag, "key", "body", 4);
    peer_until(loop, delivered == to);
}

static void setup(void)
{
    static const struct consumer_ops ops = {.delivery = on_delivery, .subscribed = on_subscribed};
    static const struct consumer_options settings = {
        .queue = "q", .section = "[queue q]", .prefetch = 10, .retry_min = 20, .retry_max = 80};

    kit_setup();
    peer->on_method = on_method;
    kit_start_open();
    consumer = consumer_new(session, &settings, &ops, NULL);
    ck_assert_ptr_nonnull(consumer);
    consumer_start(consumer);
    peer_until(loop, ready);
}

static void teardown(void)
{
    consumer_free(consumer);
    kit_teardown();
}

/* What is settled meanwhile does not take them along. */
START_TEST(test_given_back_after_a_pause)
{
    deliver(1, 4);
    consumer_postpone(&tickets[1]);
    consumer_postpone(&tickets[3]);
    consumer_ack(&tickets[2]);
    consumer_ack(&tickets[4]);
    consumer_ack(&tickets[1]); /* not any more */
    peer_until(loop, strlen(settled) >= 9);
    ck_assert_str_eq(settled, "2 4 -1 -3");
    ck_assert_uint_eq(consumer_in_hand(consumer), 0);
    deliver(5, 5);
    consumer_postpone(&tickets[5]);
    peer_until(loop, strlen(settled) >= 12);
    ck_assert_str_eq(settled, "2 4 -1 -3 -5");
}
END_TEST

START_TEST(test_given_back_with_the_channel)
{
    deliver(1, 1);
    consumer_postpone(&tickets[1]);
    consumer_close(consumer, on_done, NULL);
    peer_until(loop, done == 1);
    peer_wait(loop, 40);
    ck_assert_str_eq(settled, "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("consumer");
    TCase *all = tcase_create("postponed");

    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, test_given_back_after_a_pause);
    tcase_add_test(all, test_given_back_with_the_channel);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
