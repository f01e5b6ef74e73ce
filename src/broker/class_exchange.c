/* SPDX-License-Identifier: MIT */
/* Class exchange: declare, delete, bind, unbind. */
#include "broker/arguments.h"
#include "broker/broker_private.h"
#include "broker/class.h"

static int class_exchange_declare(struct peer_channel *channel, const amqp_exchange_declare_t *declare,
                                  struct span arguments, struct reply *error)
{
    struct peer *peer = channel->peer;
    char stripped[UINT8_MAX];
    struct exchange_options options = {
        .name = class_stripped_name(stripped, declare->exchange),
        .arguments = arguments,
        .type = exchange_type_find(span_amqp(declare->type)),
        .durable = declare->durable,
        .auto_delete = declare->auto_delete,
        .internal = declare->internal,
    };
    struct exchange *exchange = vhost_exchange(peer->vhost, options.name);
    struct span type = span_amqp(declare->type);
    struct table_entry alternate;

    if (declare->passive) {
        if (options.name.length == 0)
            return class_default_exchange(error);
        if (exchange == NULL)
            return class_no_exchange(channel, options.name, error);
        return 0;
    }
    if (options.type == NULL) /* RabbitMQ asks for it first, even before the name */
        return reply_set(error, REPLY_COMMAND_INVALID, AMQP_EXCHANGE_DECLARE_METHOD, "%s exchange type '%.*s'",
                         type.length > 0 ? "unknown" : "invalid", (int)type.length, (const char *)type.data);
    if (options.name.length == 0)
        return class_default_exchange(error);
    if (peer_may(peer, PERMISSION_CONFIGURE, "exchange", options.name, error) != 0)
        return -1;
    if (exchange != NULL)
        return exchange_equals(exchange, &options, error);
    if (class_is_reserved(options.name))
        return reply_set(error, REPLY_ACCESS_REFUSED, AMQP_EXCHANGE_DECLARE_METHOD,
                         "exchange name '%.*s' contains reserved prefix 'amq.*'", (int)options.name.length,
                         (const char *)options.name.data);
    if (table_find(arguments, span_str("alternate-exchange"), &alternate)) {
        if (alternate.kind != 'S' || alternate.value.length > UINT8_MAX)
            return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_EXCHANGE_DECLARE_METHOD,
                             "invalid type '%s' for arg 'alternate-exchange' in exchange '%.*s' in vhost '%s'",
                             arguments_type(alternate.kind), (int)options.name.length, (const char *)options.name.data,
                             peer->vhost->name);
        if (peer_may(peer, PERMISSION_READ, "exchange", options.name, error) != 0 ||
            peer_may(peer, PERMISSION_WRITE, "exchange", alternate.value, error) != 0)
            return -1;
    }
    if (exchange_new(peer->vhost, &options, true) == NULL)
        return class_no_memory(error);
    if (options.durable)
        peer_hold(peer);
    return 0;
}

static int class_exchange_delete(struct peer_channel *channel, const amqp_exchange_delete_t *delete,
                                 struct reply *error)
{
    char stripped[UINT8_MAX];
    struct span name = class_stripped_name(stripped, delete->exchange);
    struct exchange *exchange = vhost_exchange(channel->peer->vhost, name);
    bool durable;

    if (name.length == 0)
        return class_default_exchange(error);
    if (class_is_reserved(name))
        return reply_set(error, REPLY_ACCESS_REFUSED, AMQP_EXCHANGE_DELETE_METHOD,
                         "deletion of system exchange '%.*s' in vhost '%s' not allowed", (int)name.length,
                         (const char *)name.data, channel->peer->vhost->name);
    if (peer_may(channel->peer, PERMISSION_CONFIGURE, "exchange", name, error) != 0)
        return -1;
    if (exchange == NULL)
        return 0;
    if (delete->if_unused && exchange_is_used(exchange))
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_EXCHANGE_DELETE_METHOD,
                         "exchange '%.*s' in vhost '%s' in use", (int)name.length, (const char *)name.data,
                         channel->peer->vhost->name);
    durable = exchange->durable;
    exchange_delete(exchange);
    if (durable)
        peer_hold(channel->peer);
    return 0;
}

/* bind and unbind have the same arguments. */
static int class_exchange_bind(struct peer_channel *channel, const amqp_exchange_bind_t *bind, bool add,
                               struct span arguments, struct reply *error)
{
    struct vhost *vhost = channel->peer->vhost;
    char stripped_to[UINT8_MAX], stripped_from[UINT8_MAX];
    struct span to = class_stripped_name(stripped_to, bind->destination);
    struct span from = class_stripped_name(stripped_from, bind->source);
    struct exchange *destination = vhost_exchange(vhost, to), *source = vhost_exchange(vhost, from);

    if (to.length == 0 || from.length == 0)
        return class_default_exchange(error);
    if (peer_may(channel->peer, PERMISSION_WRITE, "exchange", to, error) != 0 ||
        peer_may(channel->peer, PERMISSION_READ, "exchange", from, error) != 0)
        return -1;
    if ((source == NULL || destination == NULL) && !add)
        return 0;
    if (source == NULL)
        return class_no_exchange(channel, from, error);
    if (destination == NULL)
        return class_no_exchange(channel, to, error);
    return class_bind(channel, source, NULL, destination, span_amqp(bind->routing_key), arguments, add, error);
}

int class_exchange(struct peer_channel *channel, const amqp_method_t *method, struct reply *error)
{
    struct buf arguments = {0};
    bool no_wait = false;
    uint32_t answer = 0;
    int result = -1;

    switch (method->id) {
    case AMQP_EXCHANGE_DECLARE_METHOD: {
        const amqp_exchange_declare_t *declare = method->decoded;

        if (class_arguments(&arguments, &declare->arguments, error) != 0)
            break;
        no_wait = declare->nowait;
        answer = AMQP_EXCHANGE_DECLARE_OK_METHOD;
        result = class_exchange_declare(channel, declare, buf_span(&arguments), error);
        break;
    }
    case AMQP_EXCHANGE_DELETE_METHOD: {
        const amqp_exchange_delete_t *delete = method->decoded;

        no_wait = delete->nowait;
        answer = AMQP_EXCHANGE_DELETE_OK_METHOD;
        result = class_exchange_delete(channel, delete, error);
        break;
    }
    case AMQP_EXCHANGE_BIND_METHOD:
    case AMQP_EXCHANGE_UNBIND_METHOD: {
        const amqp_exchange_bind_t *bind = method->decoded;
        bool add = method->id == AMQP_EXCHANGE_BIND_METHOD;

        if (class_arguments(&arguments, &bind->arguments, error) != 0)
            break;
        no_wait = bind->nowait;
        answer = add ? AMQP_EXCHANGE_BIND_OK_METHOD : AMQP_EXCHANGE_UNBIND_OK_METHOD;
        result = class_exchange_bind(channel, bind, add, buf_span(&arguments), error);
        break;
    }
    default:
        reply_set(error, REPLY_NOT_IMPLEMENTED, method->id, "%s is not implemented", method_name(method->id));
    }
    buf_free(&arguments);
    if (result == 0)
        peer_channel_answer(channel, no_wait, answer, &(amqp_exchange_declare_ok_t){0});
    return result;
}
