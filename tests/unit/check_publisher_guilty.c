/* SPDX-License-Identifier: MIT */
/* Messages that the broker closes the channel or the connection over: found, refused, and nobody
 * else's loss. */
#include "publisher_kit.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(test_guilty_one_is_found)
{
    char wanted[256] = "", *at;

    kit_publisher_ready();
    broker.bad = "X";
    broker.code = 406;
    kit_send_keys("abcdefghXijklmnop");
    peer_until(loop, broker.channels >= 2);
    broker.answers = true; /* the first time, none was confirmed before the channel closed */
    peer_until(loop, seen.outcomes == 17);
    for (const char *key = "abcdefghijklmnop"; *key != '\0'; key++) {
        snprintf(wanted, sizeof(wanted), "%c=1", *key);
        ck_assert_msg(strstr(seen.outcome_text, wanted) != NULL, "%s: %s", wanted, seen.outcome_text);
    }
    at = strstr(seen.outcome_text, "X=4");
    ck_assert_ptr_nonnull(at);
    ck_assert_uint_le(broker.bad_seen, 4);
    kit_send_keys("q");
    peer_until(loop, seen.outcomes == 18);
    ck_assert_uint_eq(noted.lost, 0);
}
END_TEST

START_TEST(test_why_is_the_brokers_text)
{
    kit_publisher_ready();
    broker.bad = "X";
    kit_send_keys("X");
    peer_until(loop, seen.outcomes == 1);
    ck_assert_str_eq(seen.outcome_text, "X=4");
    ck_assert_str_eq(seen.last_why, "NOT_FOUND - no exchange");
    ck_assert_uint_eq(broker.bad_seen, 1);
    /* More of the kind need not cost the channel each. */
    peer_until(loop, broker.channels == 2);
    peer_wait(loop, 10);
    kit_send_keys("XY");
    peer_until(loop, seen.outcomes == 3);
    ck_assert_str_eq(seen.last_why, "NOT_FOUND - no exchange");
    ck_assert_uint_eq(broker.published, 0);
    ck_assert_uint_eq(broker.channels, 2);
}
END_TEST

/* A message about which the server closes the whole connection, as RabbitMQ does when it fails
 * itself. */
START_TEST(test_guilty_one_costs_the_connection)
{
    unsigned connections = 0;

    kit_publisher_ready();
    broker.bad = "X";
    broker.code = 541;
    broker.answers = true;
    kit_send_keys("abXc");
    while (seen.outcomes < 4) {
        peer_until(loop, seen.outcomes == 4 || noted.lost > 0);
        if (noted.lost == 0)
            break;
        publisher_session_lost(publisher);
        kit_reopen();
        ck_assert_uint_lt(++connections, 8);
    }
    ck_assert_str_eq(seen.outcome_text, "a=1 b=1 X=4 c=1");
    ck_assert_uint_eq(broker.bad_seen, 4); /* once in company, three times alone */
}
END_TEST

START_TEST(test_channel_closed_without_reason)
{
    kit_publisher_ready();
    kit_close(1);
    peer_until(loop, broker.channels == 2);
    broker.answers = true;
    kit_send_keys("a");
    peer_until(loop, seen.outcomes == 1);
    ck_assert_str_eq(seen.outcome_text, "a=1");
}
END_TEST

START_TEST(test_what_cannot_be_sent)
{
    static uint8_t properties[FRAME_LIMIT];
    static const char name[256] = {[0 ... 255] = 'n'};

    kit_publisher_ready();
    broker.answers = true;
    kit_send_keys("a");
    kit_send("events", span_of(name, 256), span_of("\0\0", 2), span_str(""));
    kit_send("events", span_str("large"), span_of(properties, sizeof(properties)), span_str(""));
    kit_send_keys("b");
    peer_until(loop, seen.outcomes == 4);
    ck_assert_str_eq(seen.outcome_text, "nnnnnnnnnnnnnnnnnnnn=4 large=4 a=1 b=1");
    ck_assert_uint_eq(noted.lost, 0);
    ck_assert_uint_eq(broker.channels, 1);
    kit_send("events", span_of(name, 255), span_of(properties, peer->tune_frame_max - FRAME_OVERHEAD - 12),
             span_str(""));
    peer_until(loop, seen.outcomes == 5); /* what just fits is sent */
    ck_assert_ptr_nonnull(strstr(seen.outcome_text, "n=1"));
    ck_assert_uint_eq(noted.lost, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("publisher_guilty");
    TCase *all = tcase_create("publisher_guilty");

    tcase_add_checked_fixture(all, publisher_kit_setup, publisher_kit_teardown);
    tcase_add_test(all, test_guilty_one_is_found);
    tcase_add_test(all, test_why_is_the_brokers_text);
    tcase_add_test(all, test_guilty_one_costs_the_connection);
    tcase_add_test(all, test_channel_closed_without_reason);
    tcase_add_test(all, test_what_cannot_be_sent);
    suite_add_tcase(suite, all);

    return suite_run(suite);
}
