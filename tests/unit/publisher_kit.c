/* SPDX-License-Identifier: MIT */
#include "publisher_kit.h"

#include <stdio.h>
#include <string.h>

struct publisher *publisher;
struct publisher_options publisher_settings;
struct publisher_seen seen;
struct publisher_broker broker;

/* ---- messages ---- */

static void on_outcome(struct outgoing *outgoing, enum outcome outcome, const char *why)
{
    size_t at = strlen(seen.outcome_text);

    ck_assert_ptr_nonnull(why);
    snprintf(seen.last_why, sizeof(seen.last_why), "%s", why);
    snprintf(seen.outcome_text + at, sizeof(seen.outcome_text) - at, "%s%.*s=%d", at > 0 ? " " : "",
             (int)(outgoing->routing_key.length < 20 ? outgoing->routing_key.length : 20),
             (const char *)outgoing->routing_key.data, (int)outcome);
    seen.outcomes++;
    outgoing_free(outgoing);
    if (seen.emit_again != NULL) {
        struct outgoing *more = outgoing_new(span_str("events"), span_str(seen.emit_again), span_of("\0\0", 2),
                                             span_str(""), NULL);

        seen.emit_again = NULL;
        more->done = on_outcome;
        publisher_send(publisher, more);
    }
}

void kit_send(const char *exchange, struct span key, struct span properties, struct span body)
{
    struct outgoing *outgoing = outgoing_new(span_str(exchange), key, properties, body, NULL);
    unsigned before = seen.outcomes;

    ck_assert_ptr_nonnull(outgoing);
    outgoing->done = on_outcome;
    publisher_send(publisher, outgoing);
    ck_assert(seen.outcomes == before || !publisher_settings.confirm); /* never from within */
}

/* Each letter a message with that key. */
void kit_send_keys(const char *keys)
{
    for (; *keys != '\0'; keys++)
        kit_send("events", span_of(keys, 1), span_of("\0\0", 2), span_str("body"));
}

static void on_pressure(void *arg, bool now)
{
    ck_assert_ptr_eq(arg, &publisher);
    ck_assert_uint_eq(seen.high - seen.low, now ? 0 : 1); /* on changes only */
    *(now ? &seen.high : &seen.low) += 1;
}

const struct publisher_ops kit_publisher_ops = {.pressure = on_pressure};

/* ---- the server ---- */

void kit_ack(uint64_t tag, bool multiple)
{
    amqp_basic_ack_t method = {.delivery_tag = tag, .multiple = multiple};

    peer_say(peer, 1, AMQP_BASIC_ACK_METHOD, &method);
}

void kit_nack(uint64_t tag, bool multiple)
{
    amqp_basic_nack_t method = {.delivery_tag = tag, .multiple = multiple};

    peer_say(peer, 1, AMQP_BASIC_NACK_METHOD, &method);
}

void kit_give_back(const char *key, struct span properties, const char *body)
{
    amqp_basic_return_t method = {.reply_code = 312,
                                  .reply_text = amqp_span(span_str("NO_ROUTE")),
                                  .exchange = amqp_span(span_str("events")),
                                  .routing_key = amqp_span(span_str(key))};

    method_put(&peer->out, 1, AMQP_BASIC_RETURN_METHOD, &method);
    content_put(&peer->out, 1, peer->tune_frame_max, properties, span_str(body));
    peer_bytes(peer, NULL, 0);
}

void kit_close(uint16_t number)
{
    amqp_channel_close_t close = {.reply_code = broker.code,
                                  .reply_text = amqp_span(span_str("NOT_FOUND - no exchange")),
                                  .class_id = 60,
                                  .method_id = 40};
    amqp_connection_close_t end = {.reply_code = broker.code, .reply_text = amqp_span(span_str("INTERNAL_ERROR"))};

    broker.closing = true;
    if (reply_is_hard(broker.code))
        peer_say(peer, 0, AMQP_CONNECTION_CLOSE_METHOD, &end);
    else
        peer_say(peer, number, AMQP_CHANNEL_CLOSE_METHOD, &close);
}

static void on_publish(uint16_t number, const amqp_basic_publish_t *publish)
{
    size_t at = strlen(broker.keys);

    ck_assert(publish->mandatory && !publish->immediate);
    if (broker.closing)
        return;
    broker.published++;
    if (at + publish->routing_key.len + 2 < sizeof(broker.keys))
        snprintf(broker.keys + at, sizeof(broker.keys) - at, "%s%.*s", at > 0 ? " " : "", (int)publish->routing_key.len,
                 (const char *)publish->routing_key.bytes);
    if (broker.bad != NULL && span_is(span_amqp(publish->routing_key), broker.bad)) {
        broker.bad_seen++;
        kit_close(number);
    } else if (broker.answers) {
        kit_ack(broker.published, false);
    }
}

static bool on_method(void *arg, uint16_t number, const amqp_method_t *method)
{
    (void)arg;
    switch (method->id) {
    case AMQP_CHANNEL_OPEN_METHOD:
        broker.keys[0] = '\0';
        broker.published = 0;
        broker.channels++;
        broker.closing = false;
        return false;
    case AMQP_BASIC_PUBLISH_METHOD:
        on_publish(number, method->decoded);
        return true;
    default:
        return false;
    }
}

/* ---- fixture ---- */

void kit_publisher(void)
{
    publisher = publisher_new(session, &publisher_settings, &kit_publisher_ops, &publisher);
    ck_assert_ptr_nonnull(publisher);
    publisher_session_opened(publisher);
}

void kit_publisher_ready(void)
{
    kit_publisher();
    peer_until(loop, peer_saw(peer, 1, AMQP_CONFIRM_SELECT_METHOD) == 1);
    peer_wait(loop, 10);
}

void publisher_kit_setup(void)
{
    kit_setup();
    peer->on_method = on_method;
    publisher_settings = (struct publisher_options){.window = 100, .confirm = true};
    broker.code = 404;
    kit_start_open();
}

void publisher_kit_teardown(void)
{
    if (publisher != NULL)
        publisher_free(publisher);
    kit_teardown();
}

void kit_reopen(void)
{
    peer_until(loop, noted.lost > 0 && session_is_open(session));
    noted.lost = 0;
    publisher_session_opened(publisher);
}
