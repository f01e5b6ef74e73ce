/* SPDX-License-Identifier: MIT */
/* From the protocol header to connection.open-ok. Each step is allowed in one state only. */
#include "broker/broker_private.h"
#include "broker/peer.h"
#include "broker/sasl.h"
#include "wire/method.h"
#include "wire/table.h"

#include "base/log.h"

#include <stdio.h>

#define HANDSHAKE_SILENCE 3000 /* ms, as RabbitMQ */
/* Clients choose by these two how they ask, as for the meaning of basic.qos's `global`, and mean RabbitMQ's ways by a product
 * of that name alone: as a browser says Mozilla. What it is stands beside them. */
#define HANDSHAKE_PRODUCT "RabbitMQ"
#define HANDSHAKE_COMPATIBLE "3.10.8"

static const char *const handshake_capabilities[] = {
    "publisher_confirms",           "exchange_exchange_bindings", "basic.nack",
    "consumer_cancel_notify",       "connection.blocked",         "consumer_priorities",
    "authentication_failure_close", "per_consumer_qos",           "direct_reply_to",
};

static struct sasl_peer handshake_sasl(const struct peer *peer)
{
    return (struct sasl_peer){
        .loopback = link_is_loopback(peer->link),
        .trusted = peer->trusted,
        .certificate_name = link_peer_name(peer->link),
    };
}

void peer_greet(struct peer *peer)
{
    struct sasl_peer sasl = handshake_sasl(peer);
    struct span mechanisms = span_str(sasl_mechanisms(peer->broker->users, &sasl)), locales = span_str("en_US");
    struct buf *out = peer_out(peer);
    struct span name = span_str("capabilities");
    size_t frame, properties, capabilities;

    frame = frame_begin(out, FRAME_METHOD, 0);
    buf_put_u32(out, AMQP_CONNECTION_START_METHOD);
    buf_put_u8(out, 0);
    buf_put_u8(out, 9);
    properties = table_begin(out);
    buf_put_u8(out, (uint8_t)name.length);
    buf_put_span(out, name);
    buf_put_u8(out, 'F');
    capabilities = table_begin(out);
    for (size_t i = 0; i < HARK_COUNT(handshake_capabilities); i++)
        table_put_boolean(out, span_str(handshake_capabilities[i]), true);
    table_end(out, capabilities);
    table_put_string(out, span_str("cluster_name"), span_str("hark"));
    table_put_string(out, span_str("information"), span_str("The embedded broker of harkd " HARK_VERSION));
    table_put_string(out, span_str("platform"), span_str("hark"));
    table_put_string(out, span_str("product"), span_str(HANDSHAKE_PRODUCT));
    table_put_string(out, span_str("version"), span_str(HANDSHAKE_COMPATIBLE));
    table_end(out, properties);
    buf_put_u32(out, (uint32_t)mechanisms.length);
    buf_put_span(out, mechanisms);
    buf_put_u32(out, (uint32_t)locales.length);
    buf_put_span(out, locales);
    frame_finish(out, frame);
    peer_send(peer);
    peer_set_state(peer, PEER_STARTING);
}

/* One capability of the client's. */
static bool handshake_capable(const amqp_table_t *properties, const char *name)
{
    for (int i = 0; i < properties->num_entries; i++) {
        const amqp_table_entry_t *entry = &properties->entries[i];

        if (!span_is(span_amqp(entry->key), "capabilities") || entry->value.kind != AMQP_FIELD_KIND_TABLE)
            continue;
        for (int j = 0; j < entry->value.value.table.num_entries; j++) {
            const amqp_table_entry_t *capability = &entry->value.value.table.entries[j];

            if (span_is(span_amqp(capability->key), name))
                return capability->value.kind == AMQP_FIELD_KIND_BOOLEAN && capability->value.value.boolean;
        }
    }
    return false;
}

/* A client that can be told is told, and left at once. */
static void handshake_tell(struct peer *peer, const struct reply *error)
{
    amqp_connection_close_t close = {
        .reply_code = error->code,
        .reply_text = amqp_span(span_str(error->text)),
        .class_id = error->class_id,
        .method_id = error->method_id,
    };

    peer_put(peer, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    peer_finish(peer, HANDSHAKE_SILENCE);
}

/* Any other has to wait, so that guessing is slow, and hears nothing. */
static void handshake_be_silent(struct peer *peer)
{
    link_pause(peer->link);
    peer_set_timer(peer, HANDSHAKE_SILENCE);
}

/* Who has logged in may say who it is: its log lines tell. */
static void handshake_name(struct peer *peer, const amqp_table_t *properties)
{
    size_t length = strlen(peer->name);

    for (int i = 0; i < properties->num_entries; i++) {
        const amqp_table_entry_t *entry = &properties->entries[i];
        amqp_bytes_t name = entry->value.value.bytes;

        if (!span_is(span_amqp(entry->key), "connection_name") || entry->value.kind != AMQP_FIELD_KIND_UTF8 ||
            name.len == 0 || name.len > FRAME_MIN_MAX || length + 4 > sizeof(peer->name))
            continue;
        snprintf(peer->name + length, sizeof(peer->name) - length, " - %.*s", (int)name.len, (const char *)name.bytes);
        peer->client_name = peer->name + length + 3;
        return;
    }
}

static int handshake_start_ok(struct peer *peer, const amqp_connection_start_ok_t *start, struct reply *error)
{
    struct broker *broker = peer->broker;
    struct sasl_peer sasl = handshake_sasl(peer);
    amqp_connection_tune_t tune = {
        .channel_max = broker->options.channel_max,
        .frame_max = broker->options.frame_max,
        .heartbeat = broker->options.heartbeat,
    };
    char who[256];

    peer->tells_failure = handshake_capable(&start->client_properties, "authentication_failure_close");
    peer->takes_cancel = handshake_capable(&start->client_properties, "consumer_cancel_notify");
    peer->takes_blocked = handshake_capable(&start->client_properties, "connection.blocked");
    peer->user = sasl_login(broker->users, &sasl, span_amqp(start->mechanism), span_amqp(start->response), who,
                            sizeof(who), error);
    if (peer->user == NULL) {
        log_warning("connection %s: login refused: %s%s%s", peer->name, who, who[0] != '\0' ? ": " : "", error->text);
        if (peer->tells_failure && error->code == REPLY_ACCESS_REFUSED)
            handshake_tell(peer, error);
        else
            handshake_be_silent(peer);
        return 0;
    }
    handshake_name(peer, &start->client_properties);
    peer_put(peer, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
    peer_set_state(peer, PEER_TUNING);
    return 0;
}

static int handshake_limit(const char *name, uint32_t asked, uint32_t most, uint32_t least, struct reply *error)
{
    if (asked != 0 && asked < least)
        return reply_set(error, REPLY_NOT_ALLOWED, AMQP_CONNECTION_TUNE_OK_METHOD,
                         "negotiated %s = %u is lower than the minimum permitted value (%u)", name, asked, least);
    if (most != 0 && (asked == 0 || asked > most))
        return reply_set(error, REPLY_NOT_ALLOWED, AMQP_CONNECTION_TUNE_OK_METHOD,
                         "negotiated %s = %u%s is higher than the maximum permitted value (%u)", name, asked,
                         asked == 0 ? " (no limit)" : "", most);
    return 0;
}

static int handshake_tune_ok(struct peer *peer, const amqp_connection_tune_ok_t *tune, struct reply *error)
{
    const struct broker_options *options = &peer->broker->options;

    if (handshake_limit("frame_max", tune->frame_max, options->frame_max, FRAME_MIN_MAX, error) != 0 ||
        handshake_limit("channel_max", tune->channel_max, options->channel_max, 1, error) != 0)
        return -1;
    peer->frame_max = tune->frame_max;
    peer->channel_max = tune->channel_max;
    /* RabbitMQ bears with clients to whom frame_max is the size of a payload. */
    link_set_frame_max(peer->link, peer->frame_max + FRAME_OVERHEAD);
    link_set_heartbeat(peer->link, tune->heartbeat);
    peer_set_state(peer, PEER_OPENING);
    return 0;
}

static int handshake_open(struct peer *peer, const amqp_connection_open_t *open, struct reply *error)
{
    amqp_connection_open_ok_t ok = {0};
    struct span name = span_amqp(open->virtual_host);

    peer->vhost = broker_vhost(peer->broker, name);
    if (peer->vhost == NULL)
        return reply_set(error, REPLY_NOT_ALLOWED, AMQP_CONNECTION_OPEN_METHOD, "vhost %.*s not found",
                         (int)name.length, (const char *)name.data);
    if (!user_may_enter(peer->user, peer->vhost->name))
        return reply_set(error, REPLY_NOT_ALLOWED, AMQP_CONNECTION_OPEN_METHOD,
                         "access to vhost '%s' refused for user '%s'", peer->vhost->name, user_name(peer->user));
    peer_put(peer, 0, AMQP_CONNECTION_OPEN_OK_METHOD, &ok);
    peer_set_timer(peer, 0);
    peer_set_state(peer, PEER_OPEN);
    log_info("connection %s: user '%s' in vhost '%s'", peer->name, user_name(peer->user), peer->vhost->name);
    return 0;
}

int peer_handshake(struct peer *peer, const amqp_method_t *method, struct reply *error)
{
    if (method->id == AMQP_CONNECTION_START_OK_METHOD && peer->state == PEER_STARTING)
        return handshake_start_ok(peer, method->decoded, error);
    if (method->id == AMQP_CONNECTION_TUNE_OK_METHOD && peer->state == PEER_TUNING)
        return handshake_tune_ok(peer, method->decoded, error);
    if (method->id == AMQP_CONNECTION_OPEN_METHOD && peer->state == PEER_OPENING)
        return handshake_open(peer, method->decoded, error);
    return reply_set(error, REPLY_COMMAND_INVALID, method->id, "unexpected %s while %s", method_name(method->id),
                     peer_doing(peer));
}
