/* SPDX-License-Identifier: MIT */
/* Large messages: a part at a time is on the link, and nothing comes in between. */
#include "publisher_kit.h"
#include "suite.h"

#include <stdlib.h>

#define LARGE (24 << 20)
#define PENDING_MAX (2 << 20)

static uint8_t *body;

static void setup(void)
{
    body = calloc(1, LARGE);
    ck_assert_ptr_nonnull(body);
    publisher_kit_setup();
}

static void teardown(void)
{
    publisher_kit_teardown();
    free(body);
}

static void send_large(const char *key)
{
    kit_send("events", span_str(key), span_of("\0\0", 2), span_of(body, LARGE));
}

static bool has_come(uint64_t bytes)
{
    ck_assert_uint_lt(link_pending(session_link(session)), PENDING_MAX);
    return peer->body_bytes >= bytes;
}

static void until_bytes(uint64_t bytes)
{
    peer_until(loop, has_come(bytes));
    ck_assert_uint_eq(peer->body_bytes, bytes);
}

START_TEST(test_part_by_part)
{
    kit_publisher_ready();
    send_large("a");
    ck_assert_uint_lt(link_pending(session_link(session)), PENDING_MAX);
    kit_send_keys("b");
    send_large("c");
    ck_assert_uint_eq(publisher_unconfirmed(publisher), 1);
    until_bytes(2 * LARGE + 4);
    ck_assert_str_eq(broker.keys, "a b c");
    ck_assert_uint_eq(peer->contents, 3);
    kit_ack(3, true);
    peer_until(loop, seen.outcomes == 3);
    ck_assert_str_eq(seen.outcome_text, "a=1 b=1 c=1");
    ck_assert_uint_eq(seen.high, seen.low);
}
END_TEST

/* Confirmed before it is there: that confirms nothing. */
START_TEST(test_confirmed_too_early)
{
    kit_publisher_ready();
    peer->deaf = true;
    send_large("a");
    kit_ack(1, false);
    peer_wait(loop, 20);
    ck_assert_uint_eq(seen.outcomes, 0);
    peer->deaf = false;
    peer_hangup(peer);
    peer_until(loop, noted.lost > 0);
}
END_TEST

START_TEST(test_lost_in_the_middle)
{
    kit_publisher_ready();
    kit_send_keys("a");
    send_large("b");
    kit_send_keys("c");
    peer_until(loop, peer->body_bytes > 1000);
    peer_hangup(peer);
    peer_until(loop, noted.lost > 0);
    publisher_session_lost(publisher);
    ck_assert_uint_eq(publisher_unconfirmed(publisher), 0);
    ck_assert_uint_eq(publisher_waiting(publisher), 3);
    kit_reopen();
    until_bytes(4 + LARGE + 4);
    ck_assert_str_eq(broker.keys, "a b c");
    kit_ack(3, true);
    peer_until(loop, seen.outcomes == 3);
    ck_assert_str_eq(seen.outcome_text, "a=1 b=1 c=1");
}
END_TEST

/* Lost as a whole, as small ones are that were on their way. */
START_TEST(test_lost_without_confirms)
{
    publisher_settings.confirm = false;
    kit_publisher();
    peer_wait(loop, 20);
    send_large("a");
    ck_assert_uint_eq(seen.outcomes, 0);
    peer_until(loop, peer->body_bytes > 1000);
    peer_hangup(peer);
    peer_until(loop, noted.lost > 0);
    publisher_session_lost(publisher);
    ck_assert_str_eq(seen.outcome_text, "a=1");
    ck_assert_uint_eq(publisher_waiting(publisher), 0);
}
END_TEST

/* Who hears of it may send more at once: there is nothing to put it on. */
START_TEST(test_lost_and_more_sent)
{
    publisher_settings.confirm = false;
    kit_publisher();
    peer_wait(loop, 20);
    send_large("a");
    seen.emit_again = "b";
    peer_until(loop, peer->body_bytes > 1000);
    peer_hangup(peer);
    peer_until(loop, noted.lost > 0);
    publisher_session_lost(publisher);
    ck_assert_str_eq(seen.outcome_text, "a=1");
    ck_assert_uint_eq(publisher_waiting(publisher), 1);
    kit_reopen();
    peer_until(loop, seen.outcomes == 2);
    ck_assert_str_eq(seen.outcome_text, "a=1 b=1");
}
END_TEST

/* RabbitMQ closes the connection for a close-ok within a content. */
START_TEST(test_channel_closed_in_the_middle)
{
    kit_publisher_ready();
    kit_send_keys("a");
    send_large("b");
    peer_until(loop, peer->body_bytes > 1000);
    kit_close(1);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD) == 1);
    ck_assert_uint_eq(peer->body_bytes, 4 + LARGE);
    peer_until(loop, peer->body_bytes == 4 + LARGE + 4); /* one at a time from here on */
    kit_ack(1, false);
    until_bytes(4 + LARGE + 4 + LARGE);
    kit_ack(2, false);
    peer_until(loop, seen.outcomes == 2);
    ck_assert_str_eq(seen.outcome_text, "a=1 b=1");
    ck_assert_uint_eq(noted.lost, 0);
}
END_TEST

START_TEST(test_freed_in_the_middle)
{
    kit_publisher_ready();
    peer->deaf = true;
    send_large("a");
    publisher_free(publisher);
    publisher = NULL;
    ck_assert_str_eq(seen.outcome_text, "a=5");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("publisher");
    TCase *all = tcase_create("large");

    tcase_add_checked_fixture(all, setup, teardown);
    tcase_set_timeout(all, 60);
    tcase_add_test(all, test_part_by_part);
    tcase_add_test(all, test_confirmed_too_early);
    tcase_add_test(all, test_lost_in_the_middle);
    tcase_add_test(all, test_lost_without_confirms);
    tcase_add_test(all, test_lost_and_more_sent);
    tcase_add_test(all, test_channel_closed_in_the_middle);
    tcase_add_test(all, test_freed_in_the_middle);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
