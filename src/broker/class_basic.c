/* SPDX-License-Identifier: MIT */
/* Class basic, but for publishing and settling: qos, consume, cancel, get, recover. */
#include "broker/arguments.h"
#include "broker/broker_private.h"
#include "broker/class.h"

#include <stdlib.h>

#define REPLY_QUEUE "amq.rabbitmq.reply-to"

/* ---- consumers ---- */

void class_basic_end_consumer(struct queue_consumer *consumer)
{
    struct peer_channel *channel = consumer->channel;
    struct outstandings *all = &channel->outstanding;

    /* What it has been given stays with the channel. */
    for (size_t i = all->start; consumer->unacked > 0 && i < all->end; i++)
        if (all->items[i].queue != NULL && all->items[i].consumer == consumer) {
            all->items[i].consumer = NULL;
            consumer->unacked--;
        }
    if (channel->reply_consumer == consumer) {
        HASH_DELETE(hh, channel->peer->broker->replies, channel);
        channel->reply_consumer = NULL;
    }
    if (channel->served == consumer)
        channel->served = consumer->hh.prev;
    HASH_DELETE(hh, channel->consumers, consumer);
    channel->peer->consumer_count--;
    queue_remove_consumer(consumer);
    free(consumer);
}

/* Direct reply-to: no queue, answers come straight to this channel. */
static int class_basic_consume_replies(struct peer_channel *channel, struct queue_consumer *consumer,
                                       struct reply *error)
{
    struct broker *broker = channel->peer->broker;
    struct span token;

    if (channel->reply_consumer != NULL)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_BASIC_CONSUME_METHOD, "reply consumer already set");
    if (!consumer->no_ack)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_BASIC_CONSUME_METHOD,
                         "reply consumer cannot acknowledge");
    token = class_random_name(channel->reply_token, sizeof(channel->reply_token), REPLY_QUEUE ".");
    HASH_ADD_KEYPTR(hh, broker->replies, channel->reply_token, token.length, channel);
    if (channel->hh.tbl == NULL)
        return class_no_memory(error);
    channel->reply_consumer = consumer;
    return 0;
}

static struct queue_consumer *class_basic_consumer_new(struct peer_channel *channel,
                                                       const amqp_basic_consume_t *consume, struct span arguments,
                                                       struct span tag)
{
    struct queue_consumer *consumer = calloc(1, sizeof(*consumer) + tag.length);
    struct table_entry priority;

    if (consumer == NULL)
        return NULL;
    consumer->channel = channel;
    consumer->no_ack = consume->no_ack;
    consumer->exclusive = consume->exclusive;
    consumer->prefetch = channel->prefetch;
    memcpy(consumer->bytes, tag.data, tag.length);
    consumer->tag = span_of(consumer->bytes, tag.length);
    if (table_find(arguments, span_str("x-priority"), &priority))
        table_integer(&priority, &consumer->priority);
    HASH_ADD_KEYPTR(hh, channel->consumers, consumer->bytes, tag.length, consumer);
    if (consumer->hh.tbl == NULL) {
        free(consumer);
        return NULL;
    }
    channel->peer->consumer_count++;
    return consumer;
}

static int class_basic_may_consume(const struct queue *queue, const amqp_basic_consume_t *consume,
                                   struct span arguments, struct reply *error)
{
    struct table_entry priority;
    int64_t number;

    if (table_find(arguments, span_str("x-priority"), &priority) &&
        (priority.kind == 't' || !table_integer(&priority, &number)))
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_BASIC_CONSUME_METHOD,
                         "invalid arg 'x-priority' for queue '%.*s' in vhost '%s': \"expected integer, got %s\"",
                         (int)queue->name.length, (const char *)queue->name.data, queue->vhost->name,
                         arguments_type(priority.kind));
    if ((queue->consumers != NULL && queue->consumers->exclusive) ||
        (consume->exclusive && (queue->consumers != NULL || queue->policy.single_active)))
        return reply_set(error, REPLY_ACCESS_REFUSED, AMQP_BASIC_CONSUME_METHOD,
                         "queue '%.*s' in vhost '%s' in exclusive use", (int)queue->name.length,
                         (const char *)queue->name.data, queue->vhost->name);
    return 0;
}

static int class_basic_consume(struct peer_channel *channel, const amqp_basic_consume_t *consume, struct span arguments,
                               struct reply *error)
{
    struct span tag = span_amqp(consume->consumer_tag);
    bool replies = span_is(span_amqp(consume->queue), REPLY_QUEUE);
    struct queue_consumer *consumer;
    struct queue *queue = NULL;
    amqp_basic_consume_ok_t ok;
    char generated[40];
    int added;

    if (tag.length == 0)
        tag = class_random_name(generated, sizeof(generated), "amq.ctag-");
    HASH_FIND(hh, channel->consumers, tag.data, tag.length, consumer);
    if (consumer != NULL)
        return reply_set(error, REPLY_NOT_ALLOWED, AMQP_BASIC_CONSUME_METHOD, "attempt to reuse consumer tag '%.*s'",
                         (int)tag.length, (const char *)tag.data);
    if (!replies) {
        queue = class_readable_queue(channel, span_amqp(consume->queue), error);
        if (queue == NULL)
            return -1;
    }
    if (channel->peer->consumer_count >= channel->peer->broker->options.consumer_max)
        return reply_set(error, REPLY_NOT_ALLOWED, AMQP_BASIC_CONSUME_METHOD,
                         "reached maximum (%u) of consumers per connection",
                         channel->peer->broker->options.consumer_max);
    if (queue != NULL && class_basic_may_consume(queue, consume, arguments, error) != 0)
        return -1;
    consumer = class_basic_consumer_new(channel, consume, arguments, tag);
    if (consumer == NULL)
        return class_no_memory(error);
    if (replies)
        added = class_basic_consume_replies(channel, consumer, error);
    else if ((added = queue_add_consumer(queue, consumer)) != 0)
        class_no_memory(error);
    if (added != 0) {
        class_basic_end_consumer(consumer);
        return -1;
    }
    ok.consumer_tag = amqp_span(tag);
    peer_channel_answer(channel, consume->nowait, AMQP_BASIC_CONSUME_OK_METHOD, &ok);
    return 0;
}

static int class_basic_cancel(struct peer_channel *channel, const amqp_basic_cancel_t *cancel)
{
    struct span tag = span_amqp(cancel->consumer_tag);
    amqp_basic_cancel_ok_t ok = {.consumer_tag = cancel->consumer_tag};
    struct queue_consumer *consumer;

    HASH_FIND(hh, channel->consumers, tag.data, tag.length, consumer);
    if (consumer != NULL && consumer->queue != NULL)
        queue_catch_up(consumer->queue); /* what was sent before comes before */
    peer_channel_answer(channel, cancel->nowait, AMQP_BASIC_CANCEL_OK_METHOD, &ok);
    if (consumer != NULL)
        class_basic_end_consumer(consumer);
    return 0;
}

/* ---- get ---- */

bool class_basic_get(struct peer_channel *channel, struct queue *queue, bool no_ack)
{
    struct outstanding *outstanding = NULL;
    struct message *message;
    struct entry entry;
    amqp_basic_get_ok_t ok;

    if (queue->deleted || !queue_take(queue, &entry))
        return false;
    message = entry.message;
    if (!no_ack) {
        outstanding = outstanding_add(&channel->outstanding, channel->last_tag + 1);
        if (outstanding == NULL) {
            queue_requeue(queue, &entry);
            return false;
        }
        *outstanding = (struct outstanding){.tag = channel->last_tag + 1, .queue = queue, .entry = entry};
    }
    ok = (amqp_basic_get_ok_t){
        .delivery_tag = ++channel->last_tag,
        .redelivered = entry.redelivered,
        .exchange = amqp_span(message->exchange),
        .routing_key = amqp_span(message->routing_key),
        .message_count = queue->ready_count < UINT32_MAX ? (uint32_t)queue->ready_count : UINT32_MAX,
    };
    peer_put(channel->peer, channel->number, AMQP_BASIC_GET_OK_METHOD, &ok);
    peer_channel_put_entry(channel, queue, &entry);
    peer_answered(channel->peer, message->body.length + message->raw_properties.length);
    if (outstanding == NULL)
        queue_acknowledged(queue, &entry);
    return true;
}

static int class_basic_handle_get(struct peer_channel *channel, const amqp_basic_get_t *get, struct reply *error)
{
    struct queue *queue = class_readable_queue(channel, span_amqp(get->queue), error);
    amqp_basic_get_empty_t empty = {0};

    if (queue == NULL)
        return -1;
    queue_used(queue);
    if (class_basic_get(channel, queue, get->no_ack))
        return 0;
    channel->getter.no_ack = get->no_ack;
    if (queue_wait(queue, &channel->getter))
        link_pause(channel->peer->link); /* its messages are on disk: the answer comes when they have been read */
    else
        peer_channel_answer(channel, false, AMQP_BASIC_GET_EMPTY_METHOD, &empty);
    return 0;
}

/* ---- the rest ---- */

static int class_basic_qos(struct peer_channel *channel, const amqp_basic_qos_t *qos, struct reply *error)
{
    /* A limit for each consumer from now on lifts that of the channel, in RabbitMQ too. */
    uint16_t limit = qos->global ? qos->prefetch_count : 0;

    if (qos->prefetch_size != 0)
        return reply_set(error, REPLY_NOT_IMPLEMENTED, AMQP_BASIC_QOS_METHOD, "prefetch_size!=0 (%u)",
                         qos->prefetch_size);
    if (!qos->global)
        channel->prefetch = qos->prefetch_count;
    if (channel->channel_prefetch != limit) {
        channel->channel_prefetch = limit;
        peer_channel_wake(channel);
    }
    peer_channel_answer(channel, false, AMQP_BASIC_QOS_OK_METHOD, &(amqp_basic_qos_ok_t){0});
    return 0;
}

static int class_basic_recover(struct peer_channel *channel, bool requeue, uint32_t method, struct reply *error)
{
    if (!requeue)
        return reply_set(error, REPLY_NOT_IMPLEMENTED, method, "requeue=false");
    settle_recover(channel);
    peer_channel_answer(channel, method == AMQP_BASIC_RECOVER_ASYNC_METHOD, AMQP_BASIC_RECOVER_OK_METHOD,
                        &(amqp_basic_recover_ok_t){0});
    return 0;
}

int class_basic(struct peer_channel *channel, const amqp_method_t *method, struct reply *error)
{
    struct buf arguments = {0};
    int result = -1;

    switch (method->id) {
    case AMQP_BASIC_QOS_METHOD:
        return class_basic_qos(channel, method->decoded, error);
    case AMQP_BASIC_CONSUME_METHOD: {
        const amqp_basic_consume_t *consume = method->decoded;

        if (class_arguments(&arguments, &consume->arguments, error) == 0)
            result = class_basic_consume(channel, consume, buf_span(&arguments), error);
        buf_free(&arguments);
        return result;
    }
    case AMQP_BASIC_CANCEL_METHOD:
        return class_basic_cancel(channel, method->decoded);
    case AMQP_BASIC_CANCEL_OK_METHOD:
        return 0;
    case AMQP_BASIC_GET_METHOD:
        return class_basic_handle_get(channel, method->decoded, error);
    case AMQP_BASIC_RECOVER_METHOD:
        return class_basic_recover(channel, ((const amqp_basic_recover_t *)method->decoded)->requeue, method->id,
                                   error);
    case AMQP_BASIC_RECOVER_ASYNC_METHOD:
        return class_basic_recover(channel, ((const amqp_basic_recover_async_t *)method->decoded)->requeue, method->id,
                                   error);
    default:
        return reply_set(error, REPLY_NOT_IMPLEMENTED, method->id, "%s is not implemented", method_name(method->id));
    }
}
