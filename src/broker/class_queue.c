/* SPDX-License-Identifier: MIT */
/* Class queue: declare, bind, unbind, purge, delete. */
#include "broker/broker_private.h"
#include "broker/class.h"

#define REPLY_QUEUE "amq.rabbitmq.reply-to"

static void class_queue_declared(struct peer_channel *channel, struct span name, uint32_t messages, uint32_t consumers,
                                 bool no_wait)
{
    amqp_queue_declare_ok_t ok = {.queue = amqp_span(name), .message_count = messages, .consumer_count = consumers};

    memcpy(channel->last_queue_bytes, name.data, name.length);
    channel->last_queue = span_of(channel->last_queue_bytes, name.length);
    peer_channel_answer(channel, no_wait, AMQP_QUEUE_DECLARE_OK_METHOD, &ok);
}

/* Direct reply-to: whoever is to answer may ask whether somebody still waits. */
static bool class_queue_answers(const struct peer_channel *channel, struct span name)
{
    struct peer_channel *waiting;

    if (span_is(name, REPLY_QUEUE))
        return true;
    HASH_FIND(hh, channel->peer->broker->replies, name.data, name.length, waiting);
    return waiting != NULL;
}

static int class_queue_make(struct peer_channel *channel, const struct queue_options *options, struct reply *error)
{
    struct peer *peer = channel->peer;
    struct vhost *vhost = peer->vhost;
    struct queue_policy policy;

    if (vhost->queue_count >= vhost->broker->options.queue_max)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_QUEUE_DECLARE_METHOD,
                         "cannot declare queue '%.*s': queue limit in vhost '%s' (%u) is reached",
                         (int)(options->name.length < 100 ? options->name.length : 100),
                         (const char *)options->name.data, vhost->name, vhost->broker->options.queue_max);
    if (queue_policy_read(options, vhost->name, &policy, error) != 0)
        return -1;
    if (policy.has_dead_exchange && (peer_may(peer, PERMISSION_READ, "queue", options->name, error) != 0 ||
                                     peer_may(peer, PERMISSION_WRITE, "exchange", policy.dead_exchange, error) != 0))
        return -1;
    if (queue_new(vhost, options, &policy, 0) == NULL)
        return class_no_memory(error);
    if (options->durable)
        peer_hold(peer);
    return 0;
}

static uint32_t class_queue_ready(const struct queue *queue)
{
    return queue->ready_count < UINT32_MAX ? (uint32_t)queue->ready_count : UINT32_MAX;
}

static int class_queue_declare(struct peer_channel *channel, const amqp_queue_declare_t *declare, struct span arguments,
                               struct reply *error)
{
    struct peer *peer = channel->peer;
    char generated[40], stripped[UINT8_MAX];
    struct queue_options options = {
        .name = class_stripped_name(stripped, declare->queue),
        .arguments = arguments,
        .durable = declare->durable && !declare->exclusive, /* one that goes with its connection outlives nothing */
        .auto_delete = declare->auto_delete,
        .exclusive = declare->exclusive,
        .owner = declare->exclusive ? peer : NULL,
    };
    struct queue *queue;

    if (class_queue_answers(channel, options.name)) {
        class_queue_declared(channel, options.name, 0, 1, declare->nowait);
        return 0;
    }
    if (declare->passive) {
        if (options.name.length == 0)
            return class_no_queue(channel, options.name, error); /* the last one is not meant here */
        queue = class_find_queue(channel, options.name, error);
        if (queue == NULL)
            return -1;
        queue_used(queue);
        class_queue_declared(channel, queue->name, class_queue_ready(queue), queue->consumer_count, declare->nowait);
        return 0;
    }
    queue = options.name.length > 0 ? vhost_queue(peer->vhost, options.name) : NULL;
    if (options.name.length == 0)
        options.name = class_random_name(generated, sizeof(generated), "amq.gen-");
    else if (queue == NULL && class_is_reserved(options.name))
        return reply_set(error, REPLY_ACCESS_REFUSED, AMQP_QUEUE_DECLARE_METHOD,
                         "queue name '%.*s' contains reserved prefix 'amq.*'", (int)options.name.length,
                         (const char *)options.name.data);
    if (peer_may(peer, PERMISSION_CONFIGURE, "queue", options.name, error) != 0)
        return -1;
    if (queue != NULL) {
        if (class_find_queue(channel, options.name, error) == NULL)
            return -1;
        if (options.exclusive != queue->exclusive)
            return class_locked(channel, options.name, error);
        if (queue_equals(queue, &options, error) != 0)
            return -1;
    } else {
        if (class_queue_make(channel, &options, error) != 0)
            return -1;
        queue = vhost_queue(peer->vhost, options.name);
    }
    queue_used(queue);
    class_queue_declared(channel, queue->name, class_queue_ready(queue), queue->consumer_count, declare->nowait);
    return 0;
}

/* One of both is not there: an error of bind, not of unbind. */
static int class_queue_bind_nothing(struct peer_channel *channel, struct span name, struct span from, bool add,
                                    struct reply *error)
{
    if (peer_may(channel->peer, PERMISSION_WRITE, "queue", name, error) != 0)
        return -1;
    if (from.length == 0)
        return class_default_exchange(error);
    if (peer_may(channel->peer, PERMISSION_READ, "exchange", from, error) != 0)
        return -1;
    if (!add)
        return 0;
    if (vhost_exchange(channel->peer->vhost, from) == NULL)
        return class_no_exchange(channel, from, error);
    return class_no_queue(channel, name, error);
}

/* bind and unbind have the same arguments, in structs of their own. */
static int class_queue_bind(struct peer_channel *channel, amqp_bytes_t to, amqp_bytes_t source, struct span key,
                            struct span arguments, bool add, struct reply *error)
{
    struct vhost *vhost = channel->peer->vhost;
    char stripped[UINT8_MAX], stripped_source[UINT8_MAX];
    struct span name = class_stripped_name(stripped, to), from = class_stripped_name(stripped_source, source);
    struct exchange *exchange = vhost_exchange(vhost, from);
    struct queue *queue;

    if (to.len > 0 && (exchange == NULL || vhost_queue(vhost, name) == NULL))
        return class_queue_bind_nothing(channel, name, from, add, error);
    queue = class_find_queue(channel, name, error);
    if (queue == NULL)
        return -1;
    if (to.len == 0 && key.length == 0)
        key = queue->name; /* AMQP 0-9-1, queue.bind: both empty */
    if (peer_may(channel->peer, PERMISSION_WRITE, "queue", queue->name, error) != 0)
        return -1;
    if (from.length == 0)
        return class_default_exchange(error);
    if (peer_may(channel->peer, PERMISSION_READ, "exchange", from, error) != 0)
        return -1;
    if (exchange == NULL)
        return add ? class_no_exchange(channel, from, error) : 0;
    return class_bind(channel, exchange, queue, NULL, key, arguments, add, error);
}

static int class_queue_purge(struct peer_channel *channel, const amqp_queue_purge_t *purge, struct reply *error)
{
    struct queue *queue = class_readable_queue(channel, span_amqp(purge->queue), error);
    amqp_queue_purge_ok_t ok;

    if (queue == NULL)
        return -1;
    ok.message_count = (uint32_t)queue_purge(queue);
    peer_channel_answer(channel, purge->nowait, AMQP_QUEUE_PURGE_OK_METHOD, &ok);
    return 0;
}

static int class_queue_delete(struct peer_channel *channel, const amqp_queue_delete_t *delete, struct reply *error)
{
    char stripped[UINT8_MAX];
    struct span name = class_stripped_name(stripped, delete->queue);
    struct queue *queue;
    amqp_queue_delete_ok_t ok = {0};

    if (delete->queue.len == 0)
        name = channel->last_queue;
    if ((delete->queue.len > 0 || name.length > 0) && vhost_queue(channel->peer->vhost, name) == NULL) {
        if (!span_is(name, REPLY_QUEUE) && peer_may(channel->peer, PERMISSION_CONFIGURE, "queue", name, error) != 0)
            return -1;
        peer_channel_answer(channel, delete->nowait, AMQP_QUEUE_DELETE_OK_METHOD, &ok);
        return 0;
    }
    queue = class_find_queue(channel, name, error);
    if (queue == NULL || peer_may(channel->peer, PERMISSION_CONFIGURE, "queue", queue->name, error) != 0)
        return -1;
    if (delete->if_unused && queue->consumers != NULL)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_QUEUE_DELETE_METHOD,
                         "queue '%.*s' in vhost '%s' in use", (int)name.length, (const char *)name.data,
                         channel->peer->vhost->name);
    if (delete->if_empty && queue->ready_count > 0)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_QUEUE_DELETE_METHOD,
                         "queue '%.*s' in vhost '%s' not empty", (int)name.length, (const char *)name.data,
                         channel->peer->vhost->name);
    ok.message_count = class_queue_ready(queue);
    if (queue->durable)
        peer_hold(channel->peer);
    queue_delete(queue);
    peer_channel_answer(channel, delete->nowait, AMQP_QUEUE_DELETE_OK_METHOD, &ok);
    return 0;
}

int class_queue(struct peer_channel *channel, const amqp_method_t *method, struct reply *error)
{
    struct buf arguments = {0};
    int result = -1;

    switch (method->id) {
    case AMQP_QUEUE_DECLARE_METHOD: {
        const amqp_queue_declare_t *declare = method->decoded;

        if (class_arguments(&arguments, &declare->arguments, error) == 0)
            result = class_queue_declare(channel, declare, buf_span(&arguments), error);
        break;
    }
    case AMQP_QUEUE_BIND_METHOD: {
        const amqp_queue_bind_t *bind = method->decoded;

        if (class_arguments(&arguments, &bind->arguments, error) == 0)
            result = class_queue_bind(channel, bind->queue, bind->exchange, span_amqp(bind->routing_key),
                                      buf_span(&arguments), true, error);
        if (result == 0)
            peer_channel_answer(channel, bind->nowait, AMQP_QUEUE_BIND_OK_METHOD, &(amqp_queue_bind_ok_t){0});
        break;
    }
    case AMQP_QUEUE_UNBIND_METHOD: {
        const amqp_queue_unbind_t *unbind = method->decoded;

        if (class_arguments(&arguments, &unbind->arguments, error) == 0)
            result = class_queue_bind(channel, unbind->queue, unbind->exchange, span_amqp(unbind->routing_key),
                                      buf_span(&arguments), false, error);
        if (result == 0)
            peer_channel_answer(channel, false, AMQP_QUEUE_UNBIND_OK_METHOD, &(amqp_queue_unbind_ok_t){0});
        break;
    }
    case AMQP_QUEUE_PURGE_METHOD:
        result = class_queue_purge(channel, method->decoded, error);
        break;
    case AMQP_QUEUE_DELETE_METHOD:
        result = class_queue_delete(channel, method->decoded, error);
        break;
    default:
        reply_set(error, REPLY_NOT_IMPLEMENTED, method->id, "%s is not implemented", method_name(method->id));
    }
    buf_free(&arguments);
    return result;
}
