/* SPDX-License-Identifier: MIT */
/* Two consumers on one connection, as a worker drains them: when the last one is cancelled, both are closed. */
#include "client/consumer.h"
#include "session_kit.h"
#include "suite.h"

#include <stdlib.h>

static struct consumer *first, *second;
static unsigned subscribed, closed;
static bool second_cancelled;

static void on_delivery(void *arg, const struct ticket *ticket, bool redelivered, struct message *message,
                        uint64_t oversized)
{
    (void)arg;
    (void)ticket;
    (void)redelivered;
    (void)oversized;
    message_drop(message);
}

static void on_subscribed(void *arg, bool now)
{
    (void)arg;
    subscribed += now;
}

static void on_closed(void *arg)
{
    (void)arg;
    closed++;
}

static void on_first_cancelled(void *arg)
{
    (void)arg;
    consumer_close(first, on_closed, NULL);
    consumer_close(second, on_closed, NULL);
}

static void on_second_cancelled(void *arg)
{
    (void)arg;
    second_cancelled = true;
}

/* The server never answers the first one's basic.cancel. */
static bool on_method(void *arg, uint16_t number, const amqp_method_t *method)
{
    (void)arg;
    return method->id == AMQP_BASIC_CANCEL_METHOD && number == 1;
}

static struct consumer *make(const char *queue)
{
    static const struct consumer_ops ops = {.delivery = on_delivery, .subscribed = on_subscribed};
    struct consumer_options settings = {
        .queue = queue, .section = "[queue]", .prefetch = 10, .retry_min = 20, .retry_max = 50};
    struct consumer *consumer = consumer_new(session, &settings, &ops, NULL);

    ck_assert_ptr_nonnull(consumer);
    consumer_start(consumer);
    return consumer;
}

static void setup(void)
{
    kit_setup();
    peer->on_method = on_method;
    kit_start_open();
    first = make("first");
    second = make("second");
    peer_until(loop, subscribed == 2);
}

static void teardown(void)
{
    consumer_free(first);
    consumer_free(second);
    kit_teardown();
}

START_TEST(test_lost_between_cancels)
{
    consumer_cancel(first, on_first_cancelled, NULL);
    consumer_cancel(second, on_second_cancelled, NULL);
    peer_until(loop, second_cancelled);
    peer_hangup(peer);
    peer_until(loop, noted.lost >= 1);
    ck_assert_uint_eq(closed, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("consumers");
    TCase *all = tcase_create("all");

    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, test_lost_between_cancels);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
