/* SPDX-License-Identifier: MIT */
/* basic.publish: checked, routed, returned, confirmed. */
#include "broker/broker_private.h"
#include "broker/class.h"
#include "broker/publish.h"

#define REPLY_TO "amq.rabbitmq.reply-to"

int class_publish_begin(struct peer_channel *channel, struct span payload, struct reply *error)
{
    struct method_publish publish;

    if (method_get_publish(payload, &publish, error) != 0)
        return -1;
    if (HARK_UNLIKELY(broker_is_blocked(channel->peer->broker)))
        peer_published(channel->peer); /* its content waits in the socket */
    channel->publishing.mandatory = publish.mandatory;
    channel->publishing.immediate = publish.immediate;
    return content_begin(&channel->content, publish.exchange, publish.routing_key, error);
}

/* The exchange, if this user may publish to it. What was found out about the one before is remembered. */
static struct exchange *publish_exchange(struct peer_channel *channel, struct span name, struct reply *error)
{
    struct peer *peer = channel->peer;
    uint64_t users = users_generation(peer->broker->users);
    struct exchange *exchange = channel->exchange;

    if (HARK_LIKELY(exchange != NULL && channel->exchange_generation == peer->vhost->generation &&
                    channel->users_generation == users && span_equal(exchange->name, name)))
        return exchange;
    if (peer_may(peer, PERMISSION_WRITE, "exchange", name, error) != 0)
        return NULL;
    exchange = vhost_exchange(peer->vhost, name);
    if (exchange == NULL) {
        class_no_exchange(channel, name, error);
        return NULL;
    }
    if (exchange->internal) {
        reply_set(error, REPLY_ACCESS_REFUSED, AMQP_BASIC_PUBLISH_METHOD,
                  "cannot publish to internal exchange '%.*s' in vhost '%s'", (int)name.length, (const char *)name.data,
                  peer->vhost->name);
        return NULL;
    }
    channel->exchange = exchange;
    channel->exchange_generation = peer->vhost->generation;
    channel->users_generation = users;
    return exchange;
}

static int publish_check_expiration(struct span text, struct reply *error)
{
    int64_t ms = 0;
    bool good = text.length > 0;

    for (size_t i = 0; good && i < text.length; i++) {
        good = text.data[i] >= '0' && text.data[i] <= '9';
        ms = ms * 10 + (text.data[i] - '0');
        good &= ms <= QUEUE_TIME_MAX;
    }
    if (good)
        return 0;
    return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH_METHOD,
                     "invalid expiration '%.*s': expected milliseconds, 0 to %lld",
                     (int)(text.length < 60 ? text.length : 60), (const char *)text.data, QUEUE_TIME_MAX);
}

static int publish_check(struct peer_channel *channel, const struct message *message, struct reply *error)
{
    uint64_t most = channel->peer->broker->options.max_message_size;
    const char *user = user_name(channel->peer->user);
    struct properties properties;

    if (HARK_UNLIKELY(channel->publishing.immediate))
        return reply_set(error, REPLY_NOT_IMPLEMENTED, AMQP_BASIC_PUBLISH_METHOD, "immediate=true");
    if (HARK_UNLIKELY(channel->content.oversized))
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH_METHOD,
                         "message size %llu is larger than configured max size %llu",
                         (unsigned long long)channel->content.size, (unsigned long long)most);
    if (HARK_LIKELY((message->properties.flags & (PROPERTY_USER_ID | PROPERTY_EXPIRATION)) == 0))
        return 0;
    message_properties(message, &properties);
    if ((properties.flags & PROPERTY_USER_ID) != 0 && !span_is(properties.user_id, user) &&
        !user_has_tag(channel->peer->user, "impersonator"))
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH_METHOD,
                         "user_id property set to '%.*s' but authenticated user was '%s'",
                         (int)(properties.user_id.length < 80 ? properties.user_id.length : 80),
                         (const char *)properties.user_id.data, user);
    return (properties.flags & PROPERTY_EXPIRATION) != 0 ? publish_check_expiration(properties.expiration, error) : 0;
}

/* The same message with other properties. NULL: no memory. */
static struct message *publish_copy(const struct message *message, const struct properties *properties)
{
    struct buf raw = {0};
    struct message *copy = NULL;
    struct reply error;

    properties_put(&raw, properties);
    if (!raw.failed)
        copy = message_new(message->exchange, message->routing_key, buf_span(&raw), message->body.length, &error);
    if (copy != NULL && message->body.length > 0)
        memcpy(message_body_bytes(copy), message->body.data, message->body.length);
    buf_free(&raw);
    return copy;
}

static struct message *publish_without_bcc(const struct message *message)
{
    struct properties properties;
    struct table_entry field;
    struct buf headers = {0};
    struct message *copy;
    size_t cursor = 0;

    message_properties(message, &properties);
    while (table_next(properties.headers, &cursor, &field))
        if (!span_is(field.name, "BCC"))
            buf_put_span(&headers, field.whole);
    properties.headers = buf_span(&headers);
    copy = headers.failed ? NULL : publish_copy(message, &properties);
    buf_free(&headers);
    return copy;
}

static void publish_return(struct peer_channel *channel, const struct message *message)
{
    amqp_basic_return_t returned = {
        .reply_code = REPLY_NO_ROUTE,
        .reply_text = amqp_span(span_str("NO_ROUTE")),
        .exchange = amqp_span(message->exchange),
        .routing_key = amqp_span(message->routing_key),
    };

    peer_put(channel->peer, channel->number, AMQP_BASIC_RETURN_METHOD, &returned);
    peer_channel_put_content(channel, message->raw_properties, message->body);
    peer_answered(channel->peer, message->body.length + message->raw_properties.length);
}

/* ---- direct reply-to ---- */

static bool publish_is_reply(const struct message *message)
{
    return message->exchange.length == 0 && message->routing_key.length > sizeof(REPLY_TO) &&
           memcmp(message->routing_key.data, REPLY_TO ".", sizeof(REPLY_TO)) == 0;
}

/* True if somebody waits for it. */
static bool publish_reply(struct peer_channel *from, const struct message *message)
{
    struct method_deliver deliver = {.exchange = message->exchange, .routing_key = message->routing_key};
    struct peer_channel *to;

    HASH_FIND(hh, from->peer->broker->replies, message->routing_key.data, message->routing_key.length, to);
    if (to == NULL || to->closing || peer_is_full(to->peer))
        return false; /* whoever asks and does not read gets no answer: nothing may pile up */
    deliver.consumer_tag = to->reply_consumer->tag;
    deliver.delivery_tag = ++to->last_tag;
    method_put_deliver(peer_out(to->peer), to->number, &deliver);
    peer_channel_put_content(to, message->raw_properties, message->body);
    return true;
}

/* reply_to = amq.rabbitmq.reply-to becomes the name that leads back to this channel. 0; -1 with error. The message is
 * exchanged for another if need be. */
static int publish_name_reply(struct peer_channel *channel, struct message **message, struct reply *error)
{
    struct properties properties;
    struct message *copy;

    if (HARK_LIKELY(((*message)->properties.flags & PROPERTY_REPLY_TO) == 0))
        return 0;
    message_properties(*message, &properties);
    if (!span_is(properties.reply_to, REPLY_TO))
        return 0;
    if (channel->reply_consumer == NULL)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH_METHOD,
                         "fast reply consumer does not exist");
    properties.reply_to = span_str(channel->reply_token);
    copy = publish_copy(*message, &properties);
    if (copy == NULL)
        return class_no_memory(error);
    message_drop(*message);
    *message = copy;
    return 0;
}

/* ---- the whole ---- */

/* Its BCC header says where it goes, and nobody sees it: not in the queues, and not in what is returned. 0; -1
 * without memory. */
static int publish_blind(struct peer_channel *channel, struct exchange *exchange, const struct message *message,
                         bool mandatory, struct published *published)
{
    struct broker *broker = channel->peer->broker;
    struct message *without = publish_without_bcc(message);

    if (without == NULL)
        return -1;
    if (route_message(&broker->route, exchange, message) != 0) {
        message_drop(without);
        return -1;
    }
    publish_to(broker, broker->route.queues, broker->route.count, without, published);
    if (published->queues == 0 && mandatory)
        publish_return(channel, without);
    message_drop(without);
    return 0;
}

static int publish_seen(struct peer_channel *channel, struct exchange *exchange, struct message *message,
                        bool mandatory, struct published *published)
{
    if (HARK_UNLIKELY(publish_is_reply(message)))
        published->queues = publish_reply(channel, message);
    else if (HARK_UNLIKELY(publish_message(exchange, message, published) != 0))
        return -1;
    if (HARK_UNLIKELY(published->queues == 0 && mandatory))
        publish_return(channel, message);
    return 0;
}

int class_publish_now(struct peer_channel *channel, struct exchange *exchange, struct message *message, bool mandatory,
                      uint64_t *batch, struct reply *error)
{
    struct published published = {0};
    bool bcc;
    int result;

    if (route_check(message, &bcc, error) != 0)
        return -1;
    if (HARK_UNLIKELY(bcc && !publish_is_reply(message)))
        result = publish_blind(channel, exchange, message, mandatory, &published);
    else
        result = publish_seen(channel, exchange, message, mandatory, &published);
    if (HARK_UNLIKELY(result != 0))
        return class_no_memory(error);
    if (published.batch > *batch)
        *batch = published.batch;
    if (channel->confirming)
        confirms_add(channel, published.batch, published.rejected);
    return 0;
}

int class_publish(struct peer_channel *channel, struct message *message, struct reply *error)
{
    struct exchange *exchange = publish_exchange(channel, message->exchange, error);
    uint64_t batch = 0;
    int result = -1;

    if (exchange != NULL && publish_check(channel, message, error) == 0 &&
        publish_name_reply(channel, &message, error) == 0) {
        if (HARK_UNLIKELY(channel->transaction != NULL))
            result = transaction_add_publish(channel, exchange, message, channel->publishing.mandatory, error);
        else
            result = class_publish_now(channel, exchange, message, channel->publishing.mandatory, &batch, error);
    }
    message_drop(message);
    broker_watch_store(channel->peer->broker);
    if (HARK_UNLIKELY(channel->peer->broker->slow_disk || broker_is_blocked(channel->peer->broker)))
        peer_published(channel->peer);
    return result;
}
