/* SPDX-License-Identifier: MIT */
/*
 * From a connected stream to an open connection (AMQP 0-9-1, 2.2.4): a table {state, method} -> step.
 */
#include "base/log.h"
#include "client/session_private.h"

#include <stdio.h>
#include <stdlib.h>

#ifndef HARK_VERSION
#define HARK_VERSION "unknown"
#endif

static amqp_table_entry_t handshake_string(const char *name, const char *value)
{
    return (amqp_table_entry_t){
        .key = amqp_span(span_str(name)),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value = {.bytes = amqp_span(span_str(value))}},
    };
}

static amqp_table_entry_t handshake_true(const char *name)
{
    return (amqp_table_entry_t){
        .key = amqp_span(span_str(name)),
        .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value = {.boolean = 1}},
    };
}

/* One of the words in a list separated by blanks. */
static bool handshake_offers(amqp_bytes_t list, const char *word)
{
    struct span rest = span_amqp(list);

    while (rest.length > 0) {
        const uint8_t *end = memchr(rest.data, ' ', rest.length);
        size_t length = end != NULL ? (size_t)(end - rest.data) : rest.length;

        if (span_is(span_of(rest.data, length), word))
            return true;
        length += end != NULL;
        rest = span_of(rest.data + length, rest.length - length);
    }
    return false;
}

void handshake_begin(struct session *session)
{
    link_set_frame_max(session->link, FRAME_UNTUNED_MAX);
    frame_put_protocol_header(link_out(session->link));
    link_send(session->link);
    session_set_state(session, SESSION_START);
    session_set_timer(session, session->connect_timeout);
}

static struct span handshake_property(const amqp_table_t *table, const char *name)
{
    for (int i = 0; i < table->num_entries; i++) {
        const amqp_table_entry_t *entry = &table->entries[i];

        if (entry->value.kind == AMQP_FIELD_KIND_UTF8 && span_is(span_amqp(entry->key), name))
            return span_amqp(entry->value.value.bytes);
    }
    return span_str("?");
}

static void handshake_note_server(struct session *session, const amqp_table_t *properties)
{
    struct span product = handshake_property(properties, "product"),
                version = handshake_property(properties, "version");

    /* harkd's own broker calls itself RabbitMQ, for the sake of other clients. */
    if (span_is(handshake_property(properties, "platform"), "hark")) {
        snprintf(session->server, sizeof(session->server), "hark's own broker");
        return;
    }
    snprintf(session->server, sizeof(session->server), "%.*s %.*s", (int)product.length, (const char *)product.data,
             (int)version.length, (const char *)version.data);
}

static void handshake_start(struct session *session, const void *decoded)
{
    const amqp_connection_start_t *start = decoded;
    const char *mechanism = session->external ? "EXTERNAL" : "PLAIN";
    amqp_table_entry_t capabilities[] = {
        handshake_true("publisher_confirms"), handshake_true("exchange_exchange_bindings"),
        handshake_true("basic.nack"),         handshake_true("consumer_cancel_notify"),
        handshake_true("connection.blocked"), handshake_true("authentication_failure_close"),
        handshake_true("per_consumer_qos"),
    };
    amqp_table_entry_t properties[] = {
        handshake_string("product", "hark"),
        handshake_string("version", HARK_VERSION),
        handshake_string("platform", "C"),
        handshake_string("connection_name", session->label),
        {.key = amqp_span(span_str("capabilities")),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value = {.table = {.num_entries = HARK_COUNT(capabilities), .entries = capabilities}}}},
    };
    size_t user = strlen(session->user), password = strlen(session->password);
    struct buf response = {0};
    amqp_connection_start_ok_t ok = {
        .client_properties = {.num_entries = HARK_COUNT(properties), .entries = properties},
        .mechanism = amqp_span(span_str(mechanism)),
        .locale = amqp_span(span_str("en_US")),
    };

    if (start->version_major != 0 || start->version_minor != 9) {
        session_lose(session, NULL, "the server speaks AMQP %u-%u, hark speaks 0-9-1", start->version_major,
                     start->version_minor);
        return;
    }
    if (!handshake_offers(start->mechanisms, mechanism)) {
        session_lose(session, NULL, "the server does not offer the login mechanism %s, only: %.*s (see `auth`)",
                     mechanism, (int)start->mechanisms.len, (const char *)start->mechanisms.bytes);
        return;
    }
    handshake_note_server(session, &start->server_properties);
    if (!session->external) {
        buf_put_u8(&response, 0);
        buf_put(&response, session->user, user);
        buf_put_u8(&response, 0);
        buf_put(&response, session->password, password);
    }
    ok.response = amqp_span(buf_span(&response));
    session_send(session, AMQP_CONNECTION_START_OK_METHOD, &ok);
    if (response.data != NULL)
        explicit_bzero(response.data, response.capacity);
    buf_free(&response);
    session_set_state(session, SESSION_TUNE);
    session_set_timer(session, session->connect_timeout);
}

/* 0 means "no limit" on either side. */
static uint32_t handshake_smaller(uint32_t ours, uint32_t theirs)
{
    if (ours == 0 || theirs == 0)
        return ours + theirs;
    return ours < theirs ? ours : theirs;
}

static void handshake_tune(struct session *session, const void *decoded)
{
    const amqp_connection_tune_t *tune = decoded;
    uint32_t frame_max = handshake_smaller(session->proposed_frame_max, tune->frame_max);
    uint32_t channel_max = handshake_smaller(UINT16_MAX, tune->channel_max);
    uint32_t heartbeat = handshake_smaller(session->heartbeat, tune->heartbeat);
    amqp_connection_tune_ok_t ok;
    amqp_connection_open_t open = {.virtual_host = amqp_span(span_str(session->vhost))};

    if (session->heartbeat == 0)
        heartbeat = 0;
    if (frame_max < FRAME_MIN_MAX) {
        session_lose(session, NULL, "the server proposes frames of %u bytes at most, AMQP demands %d or more",
                     frame_max, FRAME_MIN_MAX);
        return;
    }
    session->frame_max = frame_max;
    session->channel_max = (uint16_t)channel_max;
    link_set_frame_max(session->link, frame_max);
    ok = (amqp_connection_tune_ok_t){
        .channel_max = session->channel_max, .frame_max = frame_max, .heartbeat = (uint16_t)heartbeat};
    session_send(session, AMQP_CONNECTION_TUNE_OK_METHOD, &ok);
    link_set_heartbeat(session->link, heartbeat);
    session_send(session, AMQP_CONNECTION_OPEN_METHOD, &open);
    session_set_state(session, SESSION_OPENING);
    session_set_timer(session, session->connect_timeout);
}

static void handshake_open_ok(struct session *session, const void *decoded)
{
    (void)decoded;
    evtimer_del(session->timer);
    session_set_state(session, SESSION_OPEN);
    session->opened++;
    session->opened_at = loop_now(session->loop);
    log_info("%s: connected to %s (%s)", session->label, session->peer, session->server);
    session->ops->opened(session->arg);
}

static const struct {
    enum session_state state;
    amqp_method_number_t method;
    void (*step)(struct session *session, const void *decoded);
} handshake_steps[] = {
    {SESSION_START, AMQP_CONNECTION_START_METHOD, handshake_start},
    {SESSION_TUNE, AMQP_CONNECTION_TUNE_METHOD, handshake_tune},
    {SESSION_OPENING, AMQP_CONNECTION_OPEN_OK_METHOD, handshake_open_ok},
};

void handshake_method(struct session *session, const amqp_method_t *method)
{
    struct reply error;

    for (size_t i = 0; i < HARK_COUNT(handshake_steps); i++) {
        if (handshake_steps[i].state == session->state && handshake_steps[i].method == method->id) {
            handshake_steps[i].step(session, method->decoded);
            return;
        }
    }
    reply_set(&error, REPLY_COMMAND_INVALID, method->id, "%s was not expected during the handshake",
              method_name(method->id));
    session_abort(session, &error);
}

const char *handshake_advice(enum session_state state, uint16_t code)
{
    if (state < SESSION_OPEN && code == REPLY_ACCESS_REFUSED)
        return " (check the user in `url`, the password, and whether this user may log in from here)";
    if (state < SESSION_OPEN && code == REPLY_NOT_ALLOWED)
        return " (check the virtual host in `url`, and that the user has permissions on it)";
    if (code == REPLY_SUCCESS && state == SESSION_START)
        return " (check host and port in `url`, and whether it is amqp:// or amqps://)";
    if (code == REPLY_SUCCESS && state == SESSION_TUNE)
        return ", after the login, which some brokers refuse by hanging up (check user and password)";
    return "";
}
