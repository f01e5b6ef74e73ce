/* SPDX-License-Identifier: MIT */
/* Sessions against a fake server: the handshake, all that can go wrong in it and later, and coming back. */
#include "session_kit.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

/* ---- the handshake ---- */

START_TEST(test_opens)
{
    peer->channel_max = 100;
    peer->frame_max = 65536;
    peer->heartbeat = 60;
    peer->bytewise = _i == 1;
    kit_start_open();
    ck_assert(session_is_open(session));
    ck_assert_ptr_nonnull(session_link(session));
    ck_assert_str_eq(peer->login, "PLAIN|:guest:secret");
    ck_assert_str_eq(peer->vhost, "/");
    ck_assert_uint_eq(peer->tune_channel_max, 100);
    ck_assert_uint_eq(peer->tune_frame_max, 65536);
    ck_assert_uint_eq(peer->tune_heartbeat, 20);
    ck_assert_uint_eq(session_frame_max(session), 65536);
    ck_assert_ptr_nonnull(strstr(peer->properties, "product=hark "));
    ck_assert_ptr_nonnull(strstr(peer->properties, "connection_name=test "));
    ck_assert_ptr_nonnull(strstr(peer->properties, "publisher_confirms=true "));
    ck_assert_ptr_nonnull(strstr(peer->properties, "exchange_exchange_bindings=true "));
    ck_assert_ptr_nonnull(strstr(peer->properties, "basic.nack=true "));
    ck_assert_ptr_nonnull(strstr(peer->properties, "consumer_cancel_notify=true "));
    ck_assert_ptr_nonnull(strstr(peer->properties, "connection.blocked=true "));
    ck_assert_ptr_nonnull(strstr(peer->properties, "authentication_failure_close=true "));
    ck_assert_ptr_nonnull(strstr(session_peer(session), "/%2f"));
    ck_assert_uint_eq(noted.lost, 0);
}
END_TEST

START_TEST(test_no_limits)
{
    peer->frame_max = 0;
    kit_start_open();
    ck_assert_uint_eq(peer->tune_frame_max, FRAME_LIMIT);
    ck_assert_uint_eq(peer->tune_channel_max, 65535);
    ck_assert_uint_eq(peer->tune_heartbeat, 20);
}
END_TEST

START_TEST(test_external)
{
    options.external = true;
    kit_start_open();
    ck_assert_str_eq(peer->login, "EXTERNAL|");
}
END_TEST

/* What the server does wrong, where, and what the session says about it; it must then try again and succeed. */
static const struct {
    enum peer_step at;
    enum peer_trouble trouble;
    uint16_t code;
    const char *why;
    uint16_t told; /* connection.close that the server must get */
} troubles[] = {
    {PEER_ACCEPT, PEER_HANGUP, 0, "closed the connection (check host and port", 0},
    {PEER_ACCEPT, PEER_SILENCE, 0, NULL, 0}, /* only a silent accept: the header is answered as usual */
    {PEER_HEADER, PEER_SILENCE, 0, "waiting for connection.start: the server said nothing for 300 ms", 0},
    {PEER_HEADER, PEER_HANGUP, 0, "check host and port", 0},
    {PEER_HEADER, PEER_GARBAGE, 0, "unknown frame type 72", 0},
    {PEER_HEADER, PEER_REFUSE, 0, "the peer speaks AMQP 1.0.0, not 0.9.1", 0},
    {PEER_HEADER, PEER_EARLY, 0, "connection.open-ok was not expected", 0},
    {PEER_HEADER, PEER_WRONG, 0, "on channel 1", 0},
    {PEER_HEADER, PEER_CLOSE, 541, "closed by the server: 541 because I say so", 0},
    {PEER_START_OK, PEER_SILENCE, 0, "waiting for connection.tune: the server said nothing for 300 ms", 0},
    {PEER_START_OK, PEER_HANGUP, 0, "some brokers refuse by hanging up (check user and password", 0},
    {PEER_START_OK, PEER_GARBAGE, 0, "unknown frame type 72", 501},
    {PEER_START_OK, PEER_EARLY, 0, "connection.open-ok was not expected", 503},
    {PEER_START_OK, PEER_WRONG, 0, "on channel 1", 504},
    {PEER_START_OK, PEER_CLOSE, 403, "403 because I say so (check the user", 0},
    {PEER_OPEN, PEER_SILENCE, 0, "waiting for connection.open-ok: the server said nothing for 300 ms", 0},
    {PEER_OPEN, PEER_HANGUP, 0, "the peer closed the connection", 0},
    {PEER_OPEN, PEER_GARBAGE, 0, "unknown frame type 72", 501},
    {PEER_OPEN, PEER_EARLY, 0, "connection.open-ok was not expected", 503},
    {PEER_OPEN, PEER_WRONG, 0, "on channel 1", 504},
    {PEER_OPEN, PEER_CLOSE, 530, "530 because I say so (check the virtual host", 0},
};

START_TEST(test_trouble)
{
    peer->at = troubles[_i].at;
    peer->trouble = troubles[_i].trouble;
    peer->close_code = troubles[_i].code;
    kit_start();
    if (troubles[_i].why == NULL) {
        peer_until(loop, noted.opened == 1);
        return;
    }
    peer_until(loop, noted.lost == 1);
    ck_assert_msg(strstr(noted.why, troubles[_i].why) != NULL, "said: %s", noted.why);
    ck_assert_ptr_null(strstr(noted.why, "secret"));
    if (troubles[_i].told != 0) {
        /* The next attempt is not before 5 ms. */
        peer_until(loop, peer->closed_code != 0 || peer->accepted > 1);
        ck_assert_uint_eq(peer->closed_code, troubles[_i].told);
    }
    peer->at = PEER_NEVER;
    peer_until(loop, session_is_open(session));
}
END_TEST

START_TEST(test_mechanism)
{
    peer->mechanisms = "AMQPLAIN PLAINER";
    kit_start();
    peer_until(loop, noted.lost == 1);
    ck_assert_ptr_nonnull(strstr(noted.why, "does not offer the login mechanism PLAIN, only: AMQPLAIN PLAINER"));
}
END_TEST

START_TEST(test_version)
{
    peer->version_minor = 8;
    kit_start();
    peer_until(loop, noted.lost == 1);
    ck_assert_ptr_nonnull(strstr(noted.why, "the server speaks AMQP 0-8, hark speaks 0-9-1"));
}
END_TEST

START_TEST(test_small_frames)
{
    peer->frame_max = 4095;
    kit_start();
    peer_until(loop, noted.lost == 1);
    ck_assert_ptr_nonnull(strstr(noted.why, "frames of 4095 bytes at most, AMQP demands 4096"));
}
END_TEST

START_TEST(test_refused_connection)
{
    peer_hangup(peer);
    event_del(peer->listener);
    evutil_closesocket(peer->listen_fd);
    peer->listen_fd = -1;
    kit_start();
    peer_until(loop, noted.lost == 3);
    ck_assert_str_eq(noted.why, "while connecting: Connection refused");
}
END_TEST

/* Two hosts, one of them dead: the other is reached whichever is tried first. */
START_TEST(test_failover)
{
    struct session_host hosts[2] = {{.host = host.host, .port = 1}, host};

    options.hosts = hosts;
    options.host_count = 2;
    kit_start_open();
    ck_assert_uint_le(noted.lost, 1);
    peer_hangup(peer);
    peer_until(loop, noted.opened == 2);
    ck_assert_uint_eq(session_reconnects(session), 1);
}
END_TEST

/* ---- life ---- */

START_TEST(test_server_closes)
{
    amqp_connection_close_t close = {.reply_code = 320, .reply_text = amqp_span(span_str("shutdown"))};

    kit_start_channel();
    peer_say(peer, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    peer_until(loop, noted.lost == 1);
    ck_assert_str_eq(noted.why, "closed by the server: 320 shutdown");
    ck_assert_uint_eq(noted.channel_closed, 1);
    ck_assert_uint_eq(noted.channel_error.code, 320);
    ck_assert_uint_eq(channel.number, 0);
    peer_until(loop, noted.opened == 2);
}
END_TEST

START_TEST(test_close)
{
    kit_start_channel();
    session_close(session, 5000, kit_done, NULL);
    ck_assert_uint_eq(noted.channel_closed, 1);
    ck_assert_uint_eq(noted.channel_error.code, 0);
    ck_assert(!session_is_open(session));
    peer_deliver(peer, 1, 1, "late", "", 0);
    peer_until(loop, noted.closes_done == 1);
    ck_assert_uint_eq(peer->closed_code, 200);
    peer_until(loop, peer->ended);
    peer_wait(loop, 100);
    ck_assert_uint_eq(peer->accepted, 1);
    ck_assert_uint_eq(noted.lost, 0);
    ck_assert_uint_eq(noted.deliveries, 0);
}
END_TEST

START_TEST(test_close_unanswered)
{
    kit_start_open();
    peer->on_method = kit_ignore;
    session_close(session, 50, kit_done, NULL);
    ck_assert_uint_eq(noted.closes_done, 0);
    peer_until(loop, noted.closes_done == 1);
}
END_TEST

START_TEST(test_close_while_trying)
{
    peer->at = PEER_START_OK;
    kit_start();
    peer_until(loop, peer_saw(peer, 0, AMQP_CONNECTION_START_OK_METHOD) == 1);
    session_close(session, 1000, kit_done, NULL);
    ck_assert_uint_eq(noted.closes_done, 1);
    peer_wait(loop, 50);
    ck_assert_uint_eq(noted.lost, 0);
    ck_assert_uint_eq(peer->accepted, 1);
}
END_TEST

START_TEST(test_blocked)
{
    amqp_connection_blocked_t method = {.reason = amqp_span(span_str("low on memory"))};

    kit_start_open();
    peer_say(peer, 0, AMQP_CONNECTION_BLOCKED_METHOD, &method);
    peer_until(loop, noted.blocked == 1);
    ck_assert(session_is_blocked(session));
    peer_say(peer, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &method);
    peer_until(loop, noted.unblocked == 1);
    ck_assert(!session_is_blocked(session));
    peer_say(peer, 0, AMQP_CONNECTION_BLOCKED_METHOD, &method);
    peer_until(loop, noted.blocked == 2);
    peer_hangup(peer);
    peer_until(loop, noted.opened == 2);
    ck_assert(!session_is_blocked(session));
}
END_TEST

START_TEST(test_heartbeats)
{
    options.heartbeat = 1;
    peer->ticking = true;
    kit_start_open();
    peer_wait(loop, 2600);
    ck_assert_uint_ge(peer->heartbeats, 4);
    ck_assert_uint_eq(noted.lost, 0);
    peer->ticking = false;
    peer_until(loop, noted.lost == 1);
    ck_assert_str_eq(noted.why, "while waiting for a heartbeat: nothing arrived for 2 s");
}
END_TEST

/* What must not come on an open connection, and what the server is told. */
START_TEST(test_violations)
{
    static const uint8_t nothing[64];
    static const uint16_t told[] = {504, 505, 503, 505, 502, 501, 501, 505, 540, 503};

    kit_start_channel();
    switch (_i) {
    case 0: /* a channel that nobody opened */
        peer_say(peer, 7, AMQP_QUEUE_PURGE_OK_METHOD, nothing);
        break;
    case 1: /* content on channel 0 */
        peer_bytes(peer, "\2\0\0\0\0\0\16\0\74\0\0\0\0\0\0\0\0\0\0\0\0\xce", 22);
        break;
    case 2: /* of the handshake */
        peer_say(peer, 0, AMQP_CONNECTION_OPEN_OK_METHOD, nothing);
        break;
    case 3: /* a body without a method */
        peer_bytes(peer, "\3\0\1\0\0\0\1x\xce", 9);
        break;
    case 4: /* a deliver that ends too early */
        peer_bytes(peer, "\1\0\1\0\0\0\5\0\74\0\74\7\xce", 13);
        break;
    case 5: /* a frame larger than agreed */
        peer_bytes(peer, "\3\0\1\x7f\xff\xff\xff", 7);
        break;
    case 6: /* no frame end */
        peer_bytes(peer, "\3\0\1\0\0\0\1xy", 9);
        break;
    case 7: /* a method within a content */
        peer_bytes(peer, "\1\0\1\0\0\0\20\0\74\0\74\0\0\0\0\0\0\0\0\1\0\0\0\xce", 24);
        peer_say(peer, 1, AMQP_BASIC_QOS_OK_METHOD, nothing);
        break;
    case 8: /* a method that AMQP does not know */
        peer_bytes(peer, "\1\0\1\0\0\0\4\0\74\3\350\xce", 12);
        break;
    case 9: /* a second open-ok */
        peer_say(peer, 1, AMQP_CHANNEL_OPEN_OK_METHOD, nothing);
        break;
    }
    peer_until(loop, noted.lost == 1);
    ck_assert_ptr_nonnull(strstr(noted.why, "the server broke the protocol"));
    ck_assert_uint_eq(noted.channel_closed, 1);
    ck_assert_uint_eq(noted.channel_error.code, 0);
    peer_until(loop, peer->closed_code != 0 || peer->accepted > 1);
    ck_assert_uint_eq(peer->closed_code, told[_i]);
    peer_until(loop, noted.opened == 2);
}
END_TEST

/* Whatever the session is doing, it can be freed. */
START_TEST(test_free_anywhere)
{
    peer->at = (enum peer_step)_i;
    kit_start();
    peer_wait(loop, 30);
    session_free(session);
    session = NULL;
    peer_wait(loop, 30);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *handshake = tcase_create("handshake"), *life = tcase_create("life");

    tcase_add_checked_fixture(handshake, kit_setup, kit_teardown);
    tcase_add_loop_test(handshake, test_opens, 0, 2);
    tcase_add_test(handshake, test_no_limits);
    tcase_add_test(handshake, test_external);
    tcase_add_loop_test(handshake, test_trouble, 0, (int)HARK_COUNT(troubles));
    tcase_add_test(handshake, test_mechanism);
    tcase_add_test(handshake, test_version);
    tcase_add_test(handshake, test_small_frames);
    tcase_add_test(handshake, test_refused_connection);
    tcase_add_test(handshake, test_failover);
    suite_add_tcase(suite, handshake);

    tcase_add_checked_fixture(life, kit_setup, kit_teardown);
    tcase_set_timeout(life, 15);
    tcase_add_test(life, test_server_closes);
    tcase_add_test(life, test_close);
    tcase_add_test(life, test_close_unanswered);
    tcase_add_test(life, test_close_while_trying);
    tcase_add_test(life, test_blocked);
    tcase_add_test(life, test_heartbeats);
    tcase_add_loop_test(life, test_violations, 0, 10);
    tcase_add_loop_test(life, test_free_anywhere, PEER_NEVER, PEER_AFTER + 1);
    suite_add_tcase(suite, life);

    return suite_run(suite);
}
