/* SPDX-License-Identifier: MIT */
#include "session_kit.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct loop *loop;
struct peer *peer;
struct session *session;
struct session_host host;
struct session_options options;
struct channel channel;
struct noted noted;

/* ---- what the session says ---- */

static void on_opened(void *arg)
{
    (void)arg;
    noted.opened++;
}

static void on_lost(void *arg, const char *text)
{
    (void)arg;
    noted.lost++;
    snprintf(noted.why, sizeof(noted.why), "%s", text);
}

static void on_blocked(void *arg, bool now, const char *reason)
{
    (void)arg;
    if (now)
        ck_assert_str_eq(reason, "low on memory");
    *(now ? &noted.blocked : &noted.unblocked) += 1;
}

static const struct session_ops ops = {.opened = on_opened, .lost = on_lost, .blocked = on_blocked};

/* ---- a channel ---- */

static void on_channel_opened(void *arg)
{
    (void)arg;
    noted.channel_opened++;
}

static void on_channel_closed(void *arg, const struct reply *error)
{
    (void)arg;
    noted.channel_closed++;
    noted.channel_error = *error;
}

static void on_delivery(void *arg, const struct method_deliver *deliver, struct message *whole, uint64_t size)
{
    (void)arg;
    ck_assert(span_is(deliver->consumer_tag, "the-tag"));
    ck_assert(span_is(deliver->exchange, "events"));
    ck_assert(span_equal(deliver->routing_key, whole->routing_key));
    noted.deliveries++;
    noted.delivery_tag = deliver->delivery_tag;
    noted.oversized = size;
    message_drop(noted.message);
    noted.message = whole;
}

static void on_returned(void *arg, const amqp_basic_return_t *method, const struct message *whole, uint64_t size)
{
    (void)arg;
    ck_assert_uint_eq(size, whole->body.length);
    ck_assert_uint_eq(method->reply_code, 312);
    ck_assert(span_is(span_amqp(method->reply_text), "NO_ROUTE"));
    ck_assert(span_is(span_amqp(method->exchange), "events"));
    ck_assert(span_is(whole->routing_key, "nobody.home"));
    ck_assert(span_is(whole->body, "hello"));
    noted.returns++;
}

static void on_method(void *arg, const amqp_method_t *method)
{
    (void)arg;
    noted.methods++;
    noted.method_id = method->id;
}

static void on_batch(void *arg, bool full)
{
    (void)arg;
    (void)full;
    noted.batches++;
}

const struct channel_ops kit_channel_ops = {
    .opened = on_channel_opened,
    .closed = on_channel_closed,
    .delivery = on_delivery,
    .returned = on_returned,
    .method = on_method,
    .batch = on_batch,
};

void kit_done(void *arg)
{
    (void)arg;
    noted.closes_done++;
}

/* ---- fixture ---- */

void kit_setup(void)
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

void kit_teardown(void)
{
    message_drop(noted.message);
    if (session != NULL)
        session_free(session);
    peer_free(peer);
    peer_loop_free(loop);
    free(host.host);
}

void kit_start(void)
{
    session = session_new(loop, &options, &ops, NULL);
    ck_assert_ptr_nonnull(session);
    session_start(session);
}

void kit_start_open(void)
{
    kit_start();
    peer_until(loop, noted.opened == 1);
}

void kit_start_channel(void)
{
    kit_start_open();
    ck_assert_int_eq(channel_open(&channel, session, &kit_channel_ops, NULL), 0);
    ck_assert(!channel_is_open(&channel));
    peer_until(loop, noted.channel_opened == 1);
    ck_assert(channel_is_open(&channel));
}

bool kit_ignore(void *arg, uint16_t number, const amqp_method_t *method)
{
    (void)arg;
    (void)number;
    (void)method;
    return true;
}
