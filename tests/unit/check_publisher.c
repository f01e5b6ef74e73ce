/* SPDX-License-Identifier: MIT */
/* A publisher against a fake server: every message has one outcome, whatever happens on the way. */
#include "publisher_kit.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

#define LARGE (16 * 1024 * 1024)

/* ---- confirms ---- */

START_TEST(test_confirms)
{
    kit_publisher_ready();
    kit_send_keys("abcdefghij");
    peer_until(loop, broker.published == 10);
    ck_assert_str_eq(broker.keys, "a b c d e f g h i j");
    ck_assert_uint_eq(publisher_unconfirmed(publisher), 10);
    kit_ack(3, false);
    kit_nack(1, false);
    kit_ack(3, false); /* twice, and some that never were */
    kit_ack(77, false);
    kit_ack(5, true);
    kit_nack(7, true);
    kit_ack(0, false);
    kit_ack(9, false);
    kit_ack(0, true); /* all */
    peer_until(loop, seen.outcomes == 10);
    ck_assert_str_eq(seen.outcome_text, "c=1 a=3 b=1 d=1 e=1 f=3 g=3 i=1 h=1 j=1");
    ck_assert_uint_eq(publisher_unconfirmed(publisher), 0);
    ck_assert_uint_eq(seen.high, 0);
    ck_assert_uint_eq(noted.lost, 0);
}
END_TEST

START_TEST(test_window_and_pressure)
{
    publisher_settings.window = 4;
    kit_publisher_ready();
    kit_send_keys("abcdefgh");
    peer_until(loop, broker.published == 4);
    ck_assert_uint_eq(publisher_waiting(publisher), 4);
    ck_assert_uint_eq(seen.high, 0);
    kit_send_keys("i"); /* a window in flight, and more than one waiting */
    ck_assert_uint_eq(seen.high, 1);
    ck_assert(publisher_is_high(publisher));
    peer_wait(loop, 10);
    ck_assert_uint_eq(broker.published, 4);
    kit_ack(2, true);
    peer_until(loop, broker.published == 6);
    ck_assert_uint_eq(seen.low, 0); /* three wait: not yet */
    kit_ack(3, true);
    peer_until(loop, seen.low == 1);
    ck_assert_uint_eq(publisher_waiting(publisher), 2);
    kit_ack(9, true); /* there is no such message yet */
    peer_wait(loop, 10);
    ck_assert_uint_eq(seen.outcomes, 3);
    kit_ack(7, true);
    peer_until(loop, broker.published == 9);
    kit_ack(9, true);
    peer_until(loop, seen.outcomes == 9);
    ck_assert_str_eq(seen.outcome_text, "a=1 b=1 c=1 d=1 e=1 f=1 g=1 h=1 i=1");
}
END_TEST

START_TEST(test_a_late_confirm_stops_nobody)
{
    publisher_settings.window = 4;
    kit_publisher_ready();
    kit_send_keys("L");
    peer_until(loop, broker.published == 1);
    broker.answers = true;
    for (unsigned i = 0; i < 100; i++) {
        kit_send_keys("x");
        peer_until(loop, seen.outcomes == i + 1);
    }
    kit_ack(1, false);
    peer_until(loop, seen.outcomes == 101);
    ck_assert_str_eq(seen.outcome_text + strlen(seen.outcome_text) - 4, " L=1");
}
END_TEST

START_TEST(test_outcomes_send_more)
{
    publisher_settings.window = 2;
    kit_publisher_ready();
    kit_send_keys("ab");
    peer_until(loop, broker.published == 2);
    seen.emit_again = "c";
    kit_ack(2, true);
    peer_until(loop, broker.published == 3);
    kit_ack(3, true);
    peer_until(loop, seen.outcomes == 3);
    ck_assert_str_eq(seen.outcome_text, "a=1 b=1 c=1");
}
END_TEST

/* ---- returns ---- */

static struct span with_id(struct buf *raw, const char *id)
{
    struct properties properties = {.flags = PROPERTY_MESSAGE_ID, .message_id = span_str(id)};

    buf_clear(raw);
    properties_put(raw, &properties);
    return buf_span(raw);
}

START_TEST(test_returns)
{
    struct buf raw = {0};

    kit_publisher_ready();
    kit_send("events", span_str("k"), with_id(&raw, "1"), span_str("same"));
    kit_send("events", span_str("k"), with_id(&raw, "2"), span_str("same"));
    kit_send("events", span_str("j"), span_of("\0\0", 2), span_str("same"));
    peer_until(loop, broker.published == 3);
    kit_give_back("k", with_id(&raw, "2"), "same");
    kit_give_back("nobody's", with_id(&raw, "2"), "same"); /* said in the log, and no more */
    kit_ack(3, true);
    peer_until(loop, seen.outcomes == 3);
    ck_assert_str_eq(seen.outcome_text, "k=1 k=2 j=1");
    buf_free(&raw);
}
END_TEST

/* Larger than what may be received, so it comes back without its body: it is not taken for one that was routed. */
START_TEST(test_large_one_returned)
{
    static const char text[] = "larger than the limit";
    struct buf raw = {0};

    session_free(session);
    options.max_message_size = 10;
    noted.opened = 0;
    kit_start_open();
    kit_publisher_ready();
    kit_send("events", span_str("k"), with_id(&raw, "1"), span_str("larger than the limit, and longer"));
    kit_send("events", span_str("k"), with_id(&raw, "1"), span_str(text));
    kit_send("events", span_str("k"), with_id(&raw, "2"), span_str(text));
    peer_until(loop, broker.published == 3);
    kit_give_back("k", with_id(&raw, "2"), text);
    kit_give_back("k", with_id(&raw, "1"), text);
    kit_ack(3, true);
    peer_until(loop, seen.outcomes == 3);
    ck_assert_str_eq(seen.outcome_text, "k=1 k=2 k=2");
    buf_free(&raw);
}
END_TEST

START_TEST(test_returned_then_lost)
{
    kit_publisher_ready();
    kit_send_keys("a");
    peer_until(loop, broker.published == 1);
    kit_give_back("a", span_of("\0\0", 2), "body");
    peer_wait(loop, 10);
    peer_hangup(peer);
    peer_until(loop, noted.lost > 0);
    publisher_session_lost(publisher);
    ck_assert_uint_eq(seen.high, 1); /* it waits, and there is no channel */
    broker.answers = true;           /* this time it has a queue */
    kit_reopen();
    peer_until(loop, seen.outcomes == 1);
    ck_assert_str_eq(seen.outcome_text, "a=1");
    ck_assert_uint_eq(seen.low, 1);
}
END_TEST

/* ---- lost connections ---- */

START_TEST(test_published_again)
{
    uint64_t bytes;

    kit_publisher_ready();
    kit_send("events", span_str("a"), span_of("\0\0", 2), span_str("one"));
    kit_send("events", span_str("b"), span_of("\0\0", 2), span_str("three"));
    kit_send("events", span_str("c"), span_of("\0\0", 2), span_str("fifteen letters"));
    kit_send("events", span_str("d"), span_of("\0\0", 2), span_str(""));
    peer_until(loop, broker.published == 4);
    kit_ack(2, false);
    peer_until(loop, seen.outcomes == 1);
    peer_hangup(peer);
    peer_until(loop, noted.lost > 0);
    publisher_session_lost(publisher);
    kit_send("events", span_str("e"), span_of("\0\0", 2), span_str("!"));
    ck_assert_uint_eq(publisher_unconfirmed(publisher), 0);
    ck_assert_uint_eq(publisher_waiting(publisher), 4);
    kit_reopen();
    peer_until(loop, broker.published == 4);
    bytes = 3 + 15 + 0 + 1;
    peer_until(loop, peer->body_bytes == bytes);
    ck_assert_str_eq(broker.keys, "a c d e");
    kit_ack(4, true);
    peer_until(loop, seen.outcomes == 5);
    ck_assert_str_eq(seen.outcome_text, "b=1 a=1 c=1 d=1 e=1");
}
END_TEST

START_TEST(test_lost_again_and_again)
{
    kit_publisher_ready();
    kit_send_keys("abc");
    for (unsigned i = 0; i < 6; i++) {
        peer_until(loop, broker.published == 3);
        ck_assert_str_eq(broker.keys, "a b c");
        broker.published = 0;
        peer_hangup(peer);
        peer_until(loop, noted.lost > 0);
        publisher_session_lost(publisher);
        kit_reopen();
    }
    peer_until(loop, broker.published == 3); /* a network that fails is nobody's fault */
    kit_ack(3, true);
    peer_until(loop, seen.outcomes == 3);
    ck_assert_str_eq(seen.outcome_text, "a=1 b=1 c=1");
}
END_TEST

/* ---- without confirms ---- */

START_TEST(test_without_confirms)
{
    publisher_settings.confirm = false;
    publisher_settings.window = 2;
    kit_publisher();
    kit_send_keys("ab");
    ck_assert_uint_eq(seen.outcomes, 0); /* no channel yet */
    ck_assert_uint_eq(seen.high, 1);
    peer_until(loop, seen.outcomes == 2);
    ck_assert_uint_eq(seen.low, 1);
    kit_send_keys("cdefg");
    ck_assert_uint_eq(seen.outcomes, 7);
    peer_until(loop, broker.published == 7);
    ck_assert_str_eq(broker.keys, "a b c d e f g");
    ck_assert_str_eq(seen.outcome_text, "a=1 b=1 c=1 d=1 e=1 f=1 g=1");
    ck_assert_uint_eq(peer_saw(peer, 1, AMQP_CONFIRM_SELECT_METHOD), 0);
    kit_give_back("a", span_of("\0\0", 2), "body");
    broker.bad = "X";
    kit_send_keys("X");
    peer_until(loop, broker.channels == 2);
    peer_wait(loop, 10);
    kit_send_keys("h");
    peer_until(loop, broker.published == 1);
    ck_assert_uint_eq(seen.outcomes, 9);
}
END_TEST

/* ---- pressure ---- */

START_TEST(test_blocked)
{
    amqp_connection_blocked_t blocked = {.reason = amqp_span(span_str("low on memory"))};

    kit_publisher_ready();
    peer_say(peer, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
    peer_until(loop, noted.blocked == 1);
    publisher_session_blocked(publisher, true);
    ck_assert_uint_eq(seen.high, 1);
    kit_send_keys("ab");
    peer_wait(loop, 20);
    ck_assert_uint_eq(broker.published, 0);
    broker.answers = true;
    peer_say(peer, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &broker);
    peer_until(loop, noted.unblocked == 1);
    publisher_session_blocked(publisher, false);
    ck_assert_uint_eq(seen.low, 1);
    peer_until(loop, seen.outcomes == 2);
}
END_TEST

/* Bodies of 16 MB to a server that does not read: the first waits on its way, the others behind it. */
START_TEST(test_large_bodies)
{
    uint8_t *body = calloc(1, LARGE);

    kit_publisher_ready();
    peer->deaf = true;
    for (int i = 0; i < 3; i++)
        kit_send("events", span_str("large"), span_of("\0\0", 2), span_of(body, LARGE));
    peer_wait(loop, 50);
    ck_assert_uint_eq(publisher_waiting(publisher), 2);
    ck_assert_uint_eq(seen.high, 1);
    ck_assert_uint_lt(link_pending(session_link(session)), LARGE / 8);
    peer->deaf = false;
    event_add(peer->event, NULL);
    peer_until(loop, peer->body_bytes == 3 * (uint64_t)LARGE);
    kit_ack(3, true);
    peer_until(loop, seen.outcomes == 3);
    ck_assert_uint_eq(peer->contents, 3);
    ck_assert_uint_eq(seen.low, 1);
    free(body);
}
END_TEST

/* ---- the end ---- */

START_TEST(test_abandoned)
{
    publisher_settings.window = 2;
    kit_publisher_ready();
    kit_send_keys("abcd");
    peer_until(loop, broker.published == 2);
    kit_ack(1, false);
    peer_until(loop, seen.outcomes == 1);
    seen.emit_again = "late"; /* whoever sends meanwhile is told the same */
    publisher_free(publisher);
    publisher = NULL;
    ck_assert_str_eq(seen.outcome_text, "a=1 b=5 late=5 c=5 d=5");
}
END_TEST

START_TEST(test_never_opened)
{
    publisher = publisher_new(session, &publisher_settings, &kit_publisher_ops, &publisher);
    kit_send_keys("ab");
    ck_assert_uint_eq(seen.high, 1);
    publisher_free(publisher);
    publisher = NULL;
    ck_assert_str_eq(seen.outcome_text, "a=5 b=5");
}
END_TEST

/* Who sends again what was refused, from within the outcome, does not keep the loop. */
static unsigned sent_this_turn;

static void send_missing(void);

static void send_again(struct outgoing *outgoing, enum outcome outcome, const char *why)
{
    static int64_t turn;

    (void)why;
    outgoing_free(outgoing);
    if (outcome == OUTCOME_ABANDONED)
        return;
    if (turn != loop_now(loop)) {
        turn = loop_now(loop);
        sent_this_turn = 0;
    }
    ck_assert_uint_lt(++sent_this_turn, 100000);
    send_missing();
}

static void send_missing(void)
{
    struct outgoing *outgoing = outgoing_new(span_str("missing"), span_str("k"), span_of("\0\0", 2), span_str(""),
                                             NULL);

    outgoing->done = send_again;
    publisher_send(publisher, outgoing);
}

START_TEST(test_sent_again_from_its_outcome)
{
    broker.bad = "k";
    kit_publisher_ready();
    send_missing();
    peer_wait(loop, 1500);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("publisher");
    TCase *all = tcase_create("publisher");

    tcase_add_checked_fixture(all, publisher_kit_setup, publisher_kit_teardown);
    tcase_add_test(all, test_confirms);
    tcase_add_test(all, test_window_and_pressure);
    tcase_add_test(all, test_a_late_confirm_stops_nobody);
    tcase_add_test(all, test_outcomes_send_more);
    tcase_add_test(all, test_returns);
    tcase_add_test(all, test_large_one_returned);
    tcase_add_test(all, test_returned_then_lost);
    tcase_add_test(all, test_published_again);
    tcase_add_test(all, test_lost_again_and_again);
    tcase_add_test(all, test_without_confirms);
    tcase_add_test(all, test_blocked);
    tcase_add_test(all, test_large_bodies);
    tcase_add_test(all, test_abandoned);
    tcase_add_test(all, test_never_opened);
    tcase_add_test(all, test_sent_again_from_its_outcome);
    suite_add_tcase(suite, all);

    return suite_run(suite);
}
