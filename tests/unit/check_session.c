/* SPDX-License-Identifier: MIT */
/* Sessions and channels against a fake server: the handshake, all that can go wrong in it, and coming back. */
#include "base/log.h"
#include "client/session.h"
#include "peer.h"

#include <stdlib.h>

static struct loop *loop;
static struct peer *peer;
static struct session *session;
static struct session_host host;
static struct session_options options;
static unsigned opened, lost, blocked, unblocked;
static char why[512];

static void on_opened(void *arg)
{
    (void)arg;
    opened++;
}

static void on_lost(void *arg, const char *text)
{
    (void)arg;
    lost++;
    snprintf(why, sizeof(why), "%s", text);
}

static void on_blocked(void *arg, bool now, const char *reason)
{
    (void)arg;
    if (now)
        ck_assert_str_eq(reason, "low on memory");
    *(now ? &blocked : &unblocked) += 1;
}

static const struct session_ops ops = {.opened = on_opened, .lost = on_lost, .blocked = on_blocked};

/* ---- a channel that notes what happens ---- */

static struct channel channel;
static unsigned channel_opened, channel_closed, deliveries, returns, methods, batches, closes_done;
static struct reply channel_error;
static struct message *message;
static uint64_t oversized, delivery_tag;
static uint32_t method_id;

static void on_channel_opened(void *arg)
{
    (void)arg;
    channel_opened++;
}

static void on_channel_closed(void *arg, const struct reply *error)
{
    (void)arg;
    channel_closed++;
    channel_error = *error;
}

static void on_delivery(void *arg, const struct method_deliver *deliver, struct message *whole, uint64_t size)
{
    (void)arg;
    ck_assert(span_is(deliver->consumer_tag, "the-tag"));
    ck_assert(span_is(deliver->exchange, "events"));
    ck_assert(span_equal(deliver->routing_key, whole->routing_key));
    deliveries++;
    delivery_tag = deliver->delivery_tag;
    oversized = size;
    message_drop(message);
    message = whole;
}

static void on_returned(void *arg, const amqp_basic_return_t *method, const struct message *whole)
{
    (void)arg;
    ck_assert_uint_eq(method->reply_code, 312);
    ck_assert(span_is(span_amqp(method->reply_text), "NO_ROUTE"));
    ck_assert(span_is(span_amqp(method->exchange), "events"));
    ck_assert(span_is(whole->routing_key, "nobody.home"));
    ck_assert(span_is(whole->body, "hello"));
    returns++;
}

static void on_method(void *arg, const amqp_method_t *method)
{
    (void)arg;
    methods++;
    method_id = method->id;
}

static void on_batch(void *arg, bool full)
{
    (void)arg;
    (void)full;
    batches++;
}

static const struct channel_ops channel_ops = {
    .opened = on_channel_opened,
    .closed = on_channel_closed,
    .delivery = on_delivery,
    .returned = on_returned,
    .method = on_method,
    .batch = on_batch,
};

static void on_done(void *arg)
{
    (void)arg;
    closes_done++;
}

/* ---- fixture ---- */

static void setup(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    loop = peer_loop();
    peer = peer_new(loop);
    host = (struct session_host){.host = strdup("127.0.0.1"), .port = peer->port};
    options = (struct session_options){
        .label = "test",
        .hosts = &host,
        .host_count = 1,
        .vhost = "/",
        .user = "guest",
        .password = "secret",
        .connect_timeout = 300,
        .reconnect_min = 10,
        .reconnect_max = 40,
        .heartbeat = 20,
        .frame_max = FRAME_LIMIT,
        .max_message_size = 1000000,
    };
}

static void teardown(void)
{
    message_drop(message);
    if (session != NULL)
        session_free(session);
    peer_free(peer);
    peer_loop_free(loop);
    free(host.host);
}

static void start(void)
{
    session = session_new(loop, &options, &ops, NULL);
    ck_assert_ptr_nonnull(session);
    session_start(session);
}

static void start_open(void)
{
    start();
    peer_until(loop, opened == 1);
}

static void start_channel(void)
{
    start_open();
    ck_assert_int_eq(channel_open(&channel, session, &channel_ops, NULL), 0);
    ck_assert(!channel_is_open(&channel));
    peer_until(loop, channel_opened == 1);
    ck_assert(channel_is_open(&channel));
}

/* ---- the handshake ---- */

START_TEST(test_opens)
{
    peer->channel_max = 100;
    peer->frame_max = 65536;
    peer->heartbeat = 60;
    peer->bytewise = _i == 1;
    start_open();
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
    ck_assert_uint_eq(lost, 0);
}
END_TEST

START_TEST(test_no_limits)
{
    peer->frame_max = 0;
    start_open();
    ck_assert_uint_eq(peer->tune_frame_max, FRAME_LIMIT);
    ck_assert_uint_eq(peer->tune_channel_max, 65535);
    ck_assert_uint_eq(peer->tune_heartbeat, 20);
}
END_TEST

START_TEST(test_external)
{
    options.external = true;
    start_open();
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
    {PEER_ACCEPT, PEER_HANGUP, 0, "closed the connection: check host and port", 0},
    {PEER_ACCEPT, PEER_SILENCE, 0, NULL, 0}, /* only a silent accept: the header is answered as usual */
    {PEER_HEADER, PEER_SILENCE, 0, "waiting for connection.start: the server said nothing for 300 ms", 0},
    {PEER_HEADER, PEER_HANGUP, 0, "check host and port", 0},
    {PEER_HEADER, PEER_GARBAGE, 0, "unknown frame type 72", 0},
    {PEER_HEADER, PEER_REFUSE, 0, "the peer speaks AMQP 1.0.0, not 0.9.1", 0},
    {PEER_HEADER, PEER_EARLY, 0, "connection.open-ok was not expected", 0},
    {PEER_HEADER, PEER_WRONG, 0, "on channel 1", 0},
    {PEER_HEADER, PEER_CLOSE, 541, "closed by the server: 541 because I say so", 0},
    {PEER_START_OK, PEER_SILENCE, 0, "waiting for connection.tune: the server said nothing for 300 ms", 0},
    {PEER_START_OK, PEER_HANGUP, 0, "some brokers refuse by hanging up: check user and password", 0},
    {PEER_START_OK, PEER_GARBAGE, 0, "unknown frame type 72", 501},
    {PEER_START_OK, PEER_EARLY, 0, "connection.open-ok was not expected", 503},
    {PEER_START_OK, PEER_WRONG, 0, "on channel 1", 504},
    {PEER_START_OK, PEER_CLOSE, 403, "403 because I say so: check the user", 0},
    {PEER_OPEN, PEER_SILENCE, 0, "waiting for connection.open-ok: the server said nothing for 300 ms", 0},
    {PEER_OPEN, PEER_HANGUP, 0, "the peer closed the connection", 0},
    {PEER_OPEN, PEER_GARBAGE, 0, "unknown frame type 72", 501},
    {PEER_OPEN, PEER_EARLY, 0, "connection.open-ok was not expected", 503},
    {PEER_OPEN, PEER_WRONG, 0, "on channel 1", 504},
    {PEER_OPEN, PEER_CLOSE, 530, "530 because I say so: check the virtual host", 0},
};

START_TEST(test_trouble)
{
    peer->at = troubles[_i].at;
    peer->trouble = troubles[_i].trouble;
    peer->close_code = troubles[_i].code;
    start();
    if (troubles[_i].why == NULL) {
        peer_until(loop, opened == 1);
        return;
    }
    peer_until(loop, lost == 1);
    ck_assert_msg(strstr(why, troubles[_i].why) != NULL, "said: %s", why);
    ck_assert_ptr_null(strstr(why, "secret"));
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
    start();
    peer_until(loop, lost == 1);
    ck_assert_ptr_nonnull(strstr(why, "does not offer the login mechanism PLAIN, only: AMQPLAIN PLAINER"));
}
END_TEST

START_TEST(test_version)
{
    peer->version_minor = 8;
    start();
    peer_until(loop, lost == 1);
    ck_assert_ptr_nonnull(strstr(why, "the server speaks AMQP 0-8, hark speaks 0-9-1"));
}
END_TEST

START_TEST(test_small_frames)
{
    peer->frame_max = 4095;
    start();
    peer_until(loop, lost == 1);
    ck_assert_ptr_nonnull(strstr(why, "frames of 4095 bytes at most, AMQP demands 4096"));
}
END_TEST

START_TEST(test_refused_connection)
{
    peer_hangup(peer);
    event_del(peer->listener);
    evutil_closesocket(peer->listen_fd);
    peer->listen_fd = -1;
    start();
    peer_until(loop, lost == 3);
    ck_assert_str_eq(why, "while connecting: Connection refused");
}
END_TEST

/* Two hosts, one of them dead: the other is reached whichever is tried first. */
START_TEST(test_failover)
{
    struct session_host hosts[2] = {{.host = host.host, .port = 1}, host};

    options.hosts = hosts;
    options.host_count = 2;
    start_open();
    ck_assert_uint_le(lost, 1);
    peer_hangup(peer);
    peer_until(loop, opened == 2);
    ck_assert_uint_eq(session_reconnects(session), 1);
}
END_TEST

/* ---- life ---- */

START_TEST(test_server_closes)
{
    amqp_connection_close_t close = {.reply_code = 320, .reply_text = amqp_span(span_str("shutdown"))};

    start_channel();
    peer_send(peer, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    peer_until(loop, lost == 1);
    ck_assert_str_eq(why, "closed by the server: 320 shutdown");
    ck_assert_uint_eq(channel_closed, 1);
    ck_assert_uint_eq(channel_error.code, 320);
    ck_assert_uint_eq(channel.number, 0);
    peer_until(loop, opened == 2);
}
END_TEST

START_TEST(test_close)
{
    start_channel();
    session_close(session, 5000, on_done, NULL);
    ck_assert_uint_eq(channel_closed, 1);
    ck_assert_uint_eq(channel_error.code, 0);
    ck_assert(!session_is_open(session));
    peer_deliver(peer, 1, 1, "late", "", 0);
    peer_until(loop, closes_done == 1);
    ck_assert_uint_eq(peer->closed_code, 200);
    peer_until(loop, peer->ended);
    peer_wait(loop, 100);
    ck_assert_uint_eq(peer->accepted, 1);
    ck_assert_uint_eq(lost, 0);
    ck_assert_uint_eq(deliveries, 0);
}
END_TEST

static bool ignore(void *arg, uint16_t number, const amqp_method_t *method)
{
    (void)arg;
    (void)number;
    (void)method;
    return true;
}

START_TEST(test_close_unanswered)
{
    start_open();
    peer->on_method = ignore;
    session_close(session, 50, on_done, NULL);
    ck_assert_uint_eq(closes_done, 0);
    peer_until(loop, closes_done == 1);
}
END_TEST

START_TEST(test_close_while_trying)
{
    peer->at = PEER_START_OK;
    start();
    peer_until(loop, peer_saw(peer, 0, AMQP_CONNECTION_START_OK_METHOD) == 1);
    session_close(session, 1000, on_done, NULL);
    ck_assert_uint_eq(closes_done, 1);
    peer_wait(loop, 50);
    ck_assert_uint_eq(lost, 0);
    ck_assert_uint_eq(peer->accepted, 1);
}
END_TEST

START_TEST(test_blocked)
{
    amqp_connection_blocked_t method = {.reason = amqp_span(span_str("low on memory"))};

    start_open();
    peer_send(peer, 0, AMQP_CONNECTION_BLOCKED_METHOD, &method);
    peer_until(loop, blocked == 1);
    ck_assert(session_is_blocked(session));
    peer_send(peer, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &method);
    peer_until(loop, unblocked == 1);
    ck_assert(!session_is_blocked(session));
    peer_send(peer, 0, AMQP_CONNECTION_BLOCKED_METHOD, &method);
    peer_until(loop, blocked == 2);
    peer_hangup(peer);
    peer_until(loop, opened == 2);
    ck_assert(!session_is_blocked(session));
}
END_TEST

START_TEST(test_heartbeats)
{
    options.heartbeat = 1;
    peer->ticking = true;
    start_open();
    peer_wait(loop, 2600);
    ck_assert_uint_ge(peer->heartbeats, 4);
    ck_assert_uint_eq(lost, 0);
    peer->ticking = false;
    peer_until(loop, lost == 1);
    ck_assert_str_eq(why, "while waiting for a heartbeat: nothing arrived for 2 s");
}
END_TEST

/* What must not come on an open connection, and what the server is told. */
START_TEST(test_violations)
{
    static const uint8_t nothing[64];
    static const uint16_t told[] = {504, 505, 503, 505, 502, 501, 501, 505, 540, 503};

    start_channel();
    switch (_i) {
    case 0: /* a channel that nobody opened */
        peer_send(peer, 7, AMQP_QUEUE_PURGE_OK_METHOD, nothing);
        break;
    case 1: /* content on channel 0 */
        peer_bytes(peer, "\2\0\0\0\0\0\16\0\74\0\0\0\0\0\0\0\0\0\0\0\0\xce", 22);
        break;
    case 2: /* of the handshake */
        peer_send(peer, 0, AMQP_CONNECTION_OPEN_OK_METHOD, nothing);
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
        peer_send(peer, 1, AMQP_BASIC_QOS_OK_METHOD, nothing);
        break;
    case 8: /* a method that AMQP does not know */
        peer_bytes(peer, "\1\0\1\0\0\0\4\0\74\3\350\xce", 12);
        break;
    case 9: /* a second open-ok */
        peer_send(peer, 1, AMQP_CHANNEL_OPEN_OK_METHOD, nothing);
        break;
    }
    peer_until(loop, lost == 1);
    ck_assert_ptr_nonnull(strstr(why, "the server broke the protocol"));
    ck_assert_uint_eq(channel_closed, 1);
    ck_assert_uint_eq(channel_error.code, 0);
    peer_until(loop, peer->closed_code != 0 || peer->accepted > 1);
    ck_assert_uint_eq(peer->closed_code, told[_i]);
    peer_until(loop, opened == 2);
}
END_TEST

/* ---- channels ---- */

START_TEST(test_channels_open_and_close)
{
    struct channel other = {0};
    uint32_t epoch;

    start_channel();
    ck_assert_uint_eq(channel.number, 1);
    epoch = channel.epoch;
    ck_assert_int_eq(channel_open(&other, session, &channel_ops, NULL), 0);
    ck_assert_uint_eq(other.number, 2);
    peer_until(loop, channel_opened == 2);
    peer->on_method = ignore;
    channel_close(&channel, on_done, NULL);
    ck_assert(!channel_is_open(&channel));
    /* The number is taken until close-ok. */
    ck_assert_int_eq(channel_open(&channel, session, &channel_ops, NULL), 0);
    ck_assert_uint_eq(channel.number, 3);
    ck_assert_uint_eq(channel.epoch, epoch + 1);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_METHOD) == 1);
    peer_deliver(peer, 1, 1, "late", "body", 4); /* still allowed, and dropped */
    peer_send(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, NULL);
    peer_until(loop, closes_done == 1);
    ck_assert_uint_eq(deliveries, 0);
    ck_assert_uint_eq(channel_closed, 0);
    channel_close(&other, NULL, NULL);
    ck_assert_int_eq(channel_open(&other, session, &channel_ops, NULL), 0);
    ck_assert_uint_eq(other.number, 1);
    ck_assert_uint_eq(lost, 0);
    session_free(session);
    session = NULL;
    ck_assert_uint_eq(channel_closed, 2);
}
END_TEST

START_TEST(test_channel_max)
{
    struct channel more = {0};

    peer->channel_max = 1;
    start_channel();
    ck_assert_int_eq(channel_open(&more, session, &channel_ops, NULL), -1);
}
END_TEST

START_TEST(test_channel_closed_by_server)
{
    amqp_channel_close_t close = {
        .reply_code = 404, .reply_text = amqp_span(span_str("NOT_FOUND - no queue 'x'")), .class_id = 60, .method_id = 20};

    start_channel();
    peer_send(peer, 1, AMQP_CHANNEL_CLOSE_METHOD, &close);
    peer_until(loop, channel_closed == 1);
    ck_assert_uint_eq(channel_error.code, 404);
    ck_assert_str_eq(channel_error.text, "NOT_FOUND - no queue 'x'");
    ck_assert_uint_eq(channel_error.class_id, 60);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD) == 1);
    ck_assert_int_eq(channel_open(&channel, session, &channel_ops, NULL), 0);
    peer_until(loop, channel_opened == 2);
    ck_assert_uint_eq(channel.number, 1);
    ck_assert_uint_eq(lost, 0);
}
END_TEST

START_TEST(test_both_close_a_channel)
{
    amqp_channel_close_t close = {.reply_code = 406};

    start_channel();
    peer->on_method = ignore;
    channel_close(&channel, on_done, NULL);
    peer_send(peer, 1, AMQP_CHANNEL_CLOSE_METHOD, &close);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD) == 1);
    ck_assert_uint_eq(closes_done, 0);
    peer_send(peer, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, NULL);
    peer_until(loop, closes_done == 1);
    ck_assert_uint_eq(channel_closed, 0);
}
END_TEST

START_TEST(test_flow)
{
    amqp_channel_flow_t flow = {.active = 0};

    start_channel();
    peer_send(peer, 1, AMQP_CHANNEL_FLOW_METHOD, &flow);
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_FLOW_OK_METHOD) == 1);
}
END_TEST

START_TEST(test_deliveries)
{
    char *body = malloc(300000);

    for (size_t i = 0; i < 300000; i++)
        body[i] = (char)(i * 7 / 3);
    start_channel();
    peer->bytewise = _i == 1;
    peer_deliver(peer, 1, 41, "user.signed-up", "hello", 5);
    peer_until(loop, deliveries == 1);
    ck_assert_uint_eq(delivery_tag, 41);
    ck_assert_uint_eq(oversized, 0);
    ck_assert(span_is(message->routing_key, "user.signed-up"));
    ck_assert(span_is(message->body, "hello"));
    peer_deliver(peer, 1, 42, "", "", 0);
    peer_until(loop, deliveries == 2);
    ck_assert_uint_eq(message->body.length, 0);
    peer->bytewise = false;
    peer_deliver(peer, 1, UINT64_MAX, "large", body, 300000);
    peer_until(loop, deliveries == 3);
    ck_assert_uint_eq(message->body.length, 300000);
    ck_assert_mem_eq(message->body.data, body, 300000);
    ck_assert(delivery_tag == UINT64_MAX);
    ck_assert_uint_gt(batches, 0);
    free(body);
}
END_TEST

START_TEST(test_oversized)
{
    char body[1001] = "x";

    options.max_message_size = 1000;
    start_channel();
    peer_deliver(peer, 1, 1, "k", body, 1001);
    peer_until(loop, deliveries == 1);
    ck_assert_uint_eq(oversized, 1001);
    ck_assert_uint_eq(message->body.length, 0);
    peer_deliver(peer, 1, 2, "k", body, 1000);
    peer_until(loop, deliveries == 2);
    ck_assert_uint_eq(oversized, 0);
}
END_TEST

START_TEST(test_returned)
{
    amqp_basic_return_t method = {.reply_code = 312,
                                  .reply_text = amqp_span(span_str("NO_ROUTE")),
                                  .exchange = amqp_span(span_str("events")),
                                  .routing_key = amqp_span(span_str("nobody.home"))};
    amqp_basic_ack_t ack = {.delivery_tag = 1};

    start_channel();
    method_put(&peer->out, 1, AMQP_BASIC_RETURN_METHOD, &method);
    content_put(&peer->out, 1, 4096, span_of("\0\0", 2), span_str("hello"));
    peer_send(peer, 1, AMQP_BASIC_ACK_METHOD, &ack);
    peer_until(loop, methods == 1);
    ck_assert_uint_eq(returns, 1);
    ck_assert_uint_eq(method_id, AMQP_BASIC_ACK_METHOD);
}
END_TEST

/* The connection breaks in the middle of a content: its memory goes, and the next channel starts clean. */
START_TEST(test_broken_content)
{
    start_channel();
    peer_deliver(peer, 1, 1, "k", "hello", 5);
    peer_until(loop, deliveries == 1);
    peer_bytes(peer, "\1\0\1\0\0\0\20\0\74\0\74\0\0\0\0\0\0\0\0\2\0\0\0\xce", 24);
    peer_bytes(peer, "\2\0\1\0\0\0\16\0\74\0\0\0\0\0\0\0\0\0\5\0\0\xce", 22);
    peer_wait(loop, 20);
    ck_assert_uint_eq(lost, 0);
    peer_hangup(peer);
    peer_until(loop, opened == 2);
    ck_assert_int_eq(channel_open(&channel, session, &channel_ops, NULL), 0);
    peer_until(loop, channel_opened == 2);
    peer_deliver(peer, 1, 1, "k", "again", 5);
    peer_until(loop, deliveries == 2);
    ck_assert(span_is(message->body, "again"));
}
END_TEST

/* Whatever the session is doing, it can be freed. */
START_TEST(test_free_anywhere)
{
    peer->at = (enum peer_step)_i;
    start();
    peer_wait(loop, 30);
    session_free(session);
    session = NULL;
    peer_wait(loop, 30);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *handshake = tcase_create("handshake"), *life = tcase_create("life"), *channels = tcase_create("channels");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(handshake, setup, teardown);
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

    tcase_add_checked_fixture(life, setup, teardown);
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

    tcase_add_checked_fixture(channels, setup, teardown);
    tcase_add_test(channels, test_channels_open_and_close);
    tcase_add_test(channels, test_channel_max);
    tcase_add_test(channels, test_channel_closed_by_server);
    tcase_add_test(channels, test_both_close_a_channel);
    tcase_add_test(channels, test_flow);
    tcase_add_loop_test(channels, test_deliveries, 0, 2);
    tcase_add_test(channels, test_oversized);
    tcase_add_test(channels, test_returned);
    tcase_add_test(channels, test_broken_content);
    suite_add_tcase(suite, channels);

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
