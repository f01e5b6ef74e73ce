/* SPDX-License-Identifier: MIT */
/* Channels against a fake server: numbers, closing from either side, and contents. */
#include "base/log.h"
#include "session_kit.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

START_TEST(test_channels_open_and_close)
{
    struct channel other = {0};
    uint32_t epoch;

    kit_start_channel();
    ck_assert_uint_eq(channel.number, 1);
    epoch = channel.epoch;
    ck_assert_int_eq(channel_open(&other, session, &kit_channel_ops, NULL), 0);
    ck_assert_uint_eq(other.number, 2);
    peer_until(loop, noted.channel_opened == 2);
    peer->on_method = kit_ignore;
    channel_close(&channel, kit_done, NULL);
    ck_assert(!channel_is_open(&channel));
    /* The number is taken until close-ok. */
    ck_assert_int_eq(channel_open(&channel, session, &kit_channel_ops, NULL), 0);
    ck_assert_uint_eq(channel.number, 3);
    ck_assert_uint_eq(channel.epoch, epoch + 1);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_METHOD) == 1);
    peer_deliver(peer, 1, 1, "late", "body", 4); /* still allowed, and dropped */
    peer_say(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, NULL);
    peer_until(loop, noted.closes_done == 1);
    ck_assert_uint_eq(noted.deliveries, 0);
    ck_assert_uint_eq(noted.channel_closed, 0);
    channel_close(&other, NULL, NULL);
    ck_assert_int_eq(channel_open(&other, session, &kit_channel_ops, NULL), 0);
    ck_assert_uint_eq(other.number, 1);
    ck_assert_uint_eq(noted.lost, 0);
    session_free(session);
    session = NULL;
    ck_assert_uint_eq(noted.channel_closed, 2);
}
END_TEST

/* The server says nothing to a request, while its heartbeats come: the connection is given up. */
START_TEST(test_no_answer)
{
    static const struct {
        uint32_t id;
        const char *why;
    } cases[] = {
        {AMQP_CHANNEL_OPEN_METHOD, "no answer to channel.open on channel 1 for 300 ms"},
        {AMQP_QUEUE_DECLARE_METHOD, "no answer to queue.declare on channel 1 for 300 ms"},
        {AMQP_BASIC_CONSUME_METHOD, "no answer to basic.consume or what was asked before it on channel 1 for 300 ms"},
        {AMQP_CHANNEL_CLOSE_METHOD, "no answer to channel.close on channel 1 for 300 ms"}};
    amqp_queue_declare_t declare = {.queue = amqp_span(span_str("q"))};
    amqp_basic_consume_t consume = {.queue = amqp_span(span_str("q"))};
    amqp_basic_qos_t qos = {0};

    if (cases[_i].id != AMQP_CHANNEL_OPEN_METHOD)
        kit_start_channel();
    else
        kit_start_open();
    peer->on_method = kit_ignore;
    if (cases[_i].id == AMQP_CHANNEL_OPEN_METHOD) {
        ck_assert_int_eq(channel_open(&channel, session, &kit_channel_ops, NULL), 0);
    } else if (cases[_i].id == AMQP_QUEUE_DECLARE_METHOD) {
        channel_send(&channel, cases[_i].id, &declare);
    } else if (cases[_i].id == AMQP_BASIC_CONSUME_METHOD) {
        channel_send(&channel, AMQP_BASIC_QOS_METHOD, &qos);
        channel_send(&channel, cases[_i].id, &consume);
    } else {
        channel_close(&channel, kit_done, NULL);
    }
    peer_wait(loop, 250);
    ck_assert_uint_eq(noted.lost, 0);
    peer_until(loop, noted.lost == 1);
    ck_assert_str_eq(noted.why, cases[_i].why);
    ck_assert_uint_eq(noted.channel_closed + noted.closes_done, 1);
    peer->on_method = NULL;
    peer_until(loop, noted.opened == 2);
}
END_TEST

/* Answered in time, or without anybody who could answer or hear it: it is kept. */
START_TEST(test_answer_may_take_its_time)
{
    amqp_queue_declare_t declare = {.queue = amqp_span(span_str("q"))};
    amqp_connection_blocked_t blocked = {.reason = amqp_span(span_str("low on memory"))};
    amqp_connection_unblocked_t unblocked = {0};
    amqp_queue_declare_ok_t ok = {0};

    kit_start_channel();
    if (_i == 0) { /* nothing is asked */
        peer_wait(loop, 700);
    } else {
        peer->on_method = kit_ignore;
        channel_send(&channel, AMQP_QUEUE_DECLARE_METHOD, &declare);
        if (_i == 1)
            peer_say(peer, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
        else
            link_pause(session_link(session));
        peer_wait(loop, 1000);
        ck_assert_uint_eq(noted.lost, 0);
        if (_i == 1)
            peer_say(peer, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &unblocked);
        else
            link_resume(session_link(session));
        peer_wait(loop, 250);
        peer_say(peer, 1, AMQP_QUEUE_DECLARE_OK_METHOD, &ok);
        peer_until(loop, noted.methods == 1);
        peer_wait(loop, 700);
    }
    ck_assert_uint_eq(noted.lost, 0);
    ck_assert(channel_is_open(&channel));
}
END_TEST

static unsigned lines;

static void on_line(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    if (level == LOG_LEVEL_ERROR && strstr(text, "no channel left") != NULL)
        lines++;
}

/* Said once, however many ask, and however often they try again. */
START_TEST(test_channel_max)
{
    struct channel more = {0};

    log_divert(on_line, NULL);
    peer->channel_max = 1;
    kit_start_channel();
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(channel_open(&more, session, &kit_channel_ops, NULL), -1);
    ck_assert_uint_eq(lines, 1);
    log_divert(NULL, NULL);
}
END_TEST

/* One is just being closed: whoever tries again gets it, so nothing is wrong. */
START_TEST(test_channel_max_for_a_moment)
{
    static struct channel more;

    log_divert(on_line, NULL);
    peer->channel_max = 1;
    kit_start_channel();
    channel_close(&channel, kit_done, NULL);
    ck_assert_int_eq(channel_open(&more, session, &kit_channel_ops, NULL), -1);
    ck_assert_uint_eq(lines, 0);
    peer_until(loop, noted.closes_done == 1);
    ck_assert_int_eq(channel_open(&more, session, &kit_channel_ops, NULL), 0);
    log_divert(NULL, NULL);
}
END_TEST

START_TEST(test_channel_closed_by_server)
{
    amqp_channel_close_t close = {.reply_code = 404,
                                  .reply_text = amqp_span(span_str("NOT_FOUND - no queue 'x'")),
                                  .class_id = 60,
                                  .method_id = 20};

    kit_start_channel();
    peer_say(peer, 1, AMQP_CHANNEL_CLOSE_METHOD, &close);
    peer_until(loop, noted.channel_closed == 1);
    ck_assert_uint_eq(noted.channel_error.code, 404);
    ck_assert_str_eq(noted.channel_error.text, "NOT_FOUND - no queue 'x'");
    ck_assert_uint_eq(noted.channel_error.class_id, 60);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD) == 1);
    ck_assert_int_eq(channel_open(&channel, session, &kit_channel_ops, NULL), 0);
    peer_until(loop, noted.channel_opened == 2);
    ck_assert_uint_eq(channel.number, 1);
    ck_assert_uint_eq(noted.lost, 0);
}
END_TEST

START_TEST(test_both_close_a_channel)
{
    amqp_channel_close_t close = {.reply_code = 406};

    kit_start_channel();
    peer->on_method = kit_ignore;
    channel_close(&channel, kit_done, NULL);
    peer_say(peer, 1, AMQP_CHANNEL_CLOSE_METHOD, &close);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD) == 1);
    ck_assert_uint_eq(noted.closes_done, 0);
    peer_say(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, NULL);
    peer_until(loop, noted.closes_done == 1);
    ck_assert_uint_eq(noted.channel_closed, 0);
}
END_TEST

START_TEST(test_flow)
{
    amqp_channel_flow_t flow = {.active = 0};

    kit_start_channel();
    peer_say(peer, 1, AMQP_CHANNEL_FLOW_METHOD, &flow);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_FLOW_OK_METHOD) == 1);
}
END_TEST

START_TEST(test_deliveries)
{
    char *body = malloc(300000);

    for (size_t i = 0; i < 300000; i++)
        body[i] = (char)(i * 7 / 3);
    kit_start_channel();
    peer->bytewise = _i == 1;
    peer_deliver(peer, 1, 41, "user.signed-up", "hello", 5);
    peer_until(loop, noted.deliveries == 1);
    ck_assert_uint_eq(noted.delivery_tag, 41);
    ck_assert_uint_eq(noted.oversized, 0);
    ck_assert(span_is(noted.message->routing_key, "user.signed-up"));
    ck_assert(span_is(noted.message->body, "hello"));
    peer_deliver(peer, 1, 42, "", "", 0);
    peer_until(loop, noted.deliveries == 2);
    ck_assert_uint_eq(noted.message->body.length, 0);
    peer->bytewise = false;
    peer_deliver(peer, 1, UINT64_MAX, "large", body, 300000);
    peer_until(loop, noted.deliveries == 3);
    ck_assert_uint_eq(noted.message->body.length, 300000);
    ck_assert_mem_eq(noted.message->body.data, body, 300000);
    ck_assert(noted.delivery_tag == UINT64_MAX);
    ck_assert_uint_gt(noted.batches, 0);
    free(body);
}
END_TEST

START_TEST(test_oversized)
{
    char body[1001] = "x";

    options.max_message_size = 1000;
    kit_start_channel();
    peer_deliver(peer, 1, 1, "k", body, 1001);
    peer_until(loop, noted.deliveries == 1);
    ck_assert_uint_eq(noted.oversized, 1001);
    ck_assert_uint_eq(noted.message->body.length, 0);
    peer_deliver(peer, 1, 2, "k", body, 1000);
    peer_until(loop, noted.deliveries == 2);
    ck_assert_uint_eq(noted.oversized, 0);
}
END_TEST

START_TEST(test_returned)
{
    amqp_basic_return_t method = {.reply_code = 312,
                                  .reply_text = amqp_span(span_str("NO_ROUTE")),
                                  .exchange = amqp_span(span_str("events")),
                                  .routing_key = amqp_span(span_str("nobody.home"))};
    amqp_basic_ack_t ack = {.delivery_tag = 1};

    kit_start_channel();
    method_put(&peer->out, 1, AMQP_BASIC_RETURN_METHOD, &method);
    content_put(&peer->out, 1, 4096, span_of("\0\0", 2), span_str("hello"));
    peer_say(peer, 1, AMQP_BASIC_ACK_METHOD, &ack);
    peer_until(loop, noted.methods == 1);
    ck_assert_uint_eq(noted.returns, 1);
    ck_assert_uint_eq(noted.method_id, AMQP_BASIC_ACK_METHOD);
}
END_TEST

/* The connection breaks in the middle of a content: its memory goes, and the next channel starts clean. */
START_TEST(test_broken_content)
{
    kit_start_channel();
    peer_deliver(peer, 1, 1, "k", "hello", 5);
    peer_until(loop, noted.deliveries == 1);
    peer_bytes(peer, "\1\0\1\0\0\0\20\0\74\0\74\0\0\0\0\0\0\0\0\2\0\0\0\xce", 24);
    peer_bytes(peer, "\2\0\1\0\0\0\16\0\74\0\0\0\0\0\0\0\0\0\5\0\0\xce", 22);
    peer_wait(loop, 20);
    ck_assert_uint_eq(noted.lost, 0);
    peer_hangup(peer);
    peer_until(loop, noted.opened == 2);
    ck_assert_int_eq(channel_open(&channel, session, &kit_channel_ops, NULL), 0);
    peer_until(loop, noted.channel_opened == 2);
    peer_deliver(peer, 1, 1, "k", "again", 5);
    peer_until(loop, noted.deliveries == 2);
    ck_assert(span_is(noted.message->body, "again"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel");
    TCase *channels = tcase_create("channels");

    tcase_add_checked_fixture(channels, kit_setup, kit_teardown);
    tcase_add_test(channels, test_channels_open_and_close);
    tcase_add_loop_test(channels, test_no_answer, 0, 4);
    tcase_add_loop_test(channels, test_answer_may_take_its_time, 0, 3);
    tcase_add_test(channels, test_channel_max);
    tcase_add_test(channels, test_channel_max_for_a_moment);
    tcase_add_test(channels, test_channel_closed_by_server);
    tcase_add_test(channels, test_both_close_a_channel);
    tcase_add_test(channels, test_flow);
    tcase_add_loop_test(channels, test_deliveries, 0, 2);
    tcase_add_test(channels, test_oversized);
    tcase_add_test(channels, test_returned);
    tcase_add_test(channels, test_broken_content);
    suite_add_tcase(suite, channels);

    return suite_run(suite);
}
