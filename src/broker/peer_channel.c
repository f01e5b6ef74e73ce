/* SPDX-License-Identifier: MIT */
#include "broker/peer_channel.h"

#include "base/log.h"
#include "broker/broker_private.h"
#include "wire/table.h"

#include <stdlib.h>
#include <utlist.h>

struct peer_channel *peer_channel_open(struct peer *peer, uint16_t number)
{
    struct peer_channel *channel = calloc(1, sizeof(*channel));

    if (channel == NULL)
        return NULL;
    channel->peer = peer;
    channel->number = number;
    return channel;
}

/* What has come of a message's body counts for the broker's memory. */
static void peer_channel_gather(struct peer_channel *channel)
{
    const struct content *content = &channel->content;
    size_t now = content_is_idle(content) || content->oversized ? 0 : (size_t)content->filled;

    if (HARK_LIKELY(now == channel->gathered))
        return;
    broker_gather(channel->peer->broker, (int64_t)(now - channel->gathered));
    channel->gathered = now;
    if (HARK_UNLIKELY(now > 0 && broker_is_blocked(channel->peer->broker)))
        peer_published(channel->peer);
}

/* ---- the end ---- */

/* What the client has and what it was to get: everything goes back or away. */
static void peer_channel_clear(struct peer_channel *channel)
{
    struct broker *broker = channel->peer->broker;
    struct queue_consumer *consumer, *next;

    channel->closing = true; /* no more deliveries from here on */
    if (channel->getter.queue != NULL) {
        queue_wait_no_more(&channel->getter);
        link_resume(channel->peer->link);
    }
    transaction_free(channel);
    settle_up_to(channel, UINT64_MAX, SETTLE_REQUEUE);
    HASH_ITER (hh, channel->consumers, consumer, next) {
        class_basic_end_consumer(consumer);
    }
    if (channel->in_confirming)
        DL_DELETE2(broker->confirming, channel, confirm_prev, confirm_next);
    channel->in_confirming = false;
    channel->confirm_count = 0;
    content_reset(&channel->content);
    peer_channel_gather(channel);
}

void peer_channel_free(struct peer_channel *channel)
{
    peer_channel_clear(channel);
    peer_forget_channel(channel->peer, channel);
    free(channel->outstanding.items);
    free(channel->confirms);
    free(channel);
}

void peer_channel_fail(struct peer_channel *channel, const struct reply *error)
{
    amqp_channel_close_t close = {
        .reply_code = error->code,
        .reply_text = amqp_span(span_str(error->text)),
        .class_id = error->class_id,
        .method_id = error->method_id,
    };

    if (reply_is_hard(error->code)) {
        peer_fail(channel->peer, error);
        return;
    }
    log_warning("connection %s, channel %u closed: %u %s", channel->peer->name, channel->number, error->code,
                error->text);
    peer_channel_clear(channel);
    peer_put(channel->peer, channel->number, AMQP_CHANNEL_CLOSE_METHOD, &close);
}

/* ---- methods ---- */

static int channel_closed(struct peer_channel *channel)
{
    struct peer *peer = channel->peer;
    amqp_channel_close_ok_t ok = {0};
    uint16_t number = channel->number;

    confirms_send(channel);
    peer_channel_free(channel);
    peer_put(peer, number, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    return 0;
}

static int class_channel(struct peer_channel *channel, const amqp_method_t *method, struct reply *error)
{
    const amqp_channel_flow_t *flow = method->decoded;
    amqp_channel_flow_ok_t ok;

    switch (method->id) {
    case AMQP_CHANNEL_CLOSE_METHOD:
        return channel_closed(channel);
    case AMQP_CHANNEL_FLOW_METHOD:
        if (!flow->active)
            return reply_set(error, REPLY_NOT_IMPLEMENTED, method->id, "active=false");
        ok.active = flow->active;
        peer_channel_answer(channel, false, AMQP_CHANNEL_FLOW_OK_METHOD, &ok);
        return 0;
    case AMQP_CHANNEL_OPEN_METHOD:
        return reply_set(error, REPLY_CHANNEL_ERROR, method->id, "second 'channel.open' seen");
    default: /* flow-ok, a late close-ok */
        return 0;
    }
}

static int peer_channel_method(struct peer_channel *channel, const struct frame *frame, struct reply *error)
{
    amqp_method_t method;
    int result = -1;

    if (method_decode(frame, METHOD_FROM_CLIENT, &channel->peer->broker->pool, &method, error) != 0)
        return -1;
    switch (method.id >> 16) {
    case 20:
        return class_channel(channel, &method, error);
    case 30: /* realms of AMQP 0-8: everybody may, as with RabbitMQ; permissions are looked at later */
        peer_channel_answer(channel, false, AMQP_ACCESS_REQUEST_OK_METHOD, &(amqp_access_request_ok_t){.ticket = 1});
        return 0;
    case 40:
        result = class_exchange(channel, &method, error);
        break;
    case 50:
        result = class_queue(channel, &method, error);
        break;
    case 60:
        result = class_basic(channel, &method, error);
        break;
    case 85:
    case 90:
        result = class_tx(channel, &method, error);
        break;
    default:
        reply_set(error, REPLY_NOT_IMPLEMENTED, method.id, "%s is not implemented", method_name(method.id));
    }
    return result;
}

/* basic.ack, nack and reject. */
static int peer_channel_settle(struct peer_channel *channel, uint32_t id, struct span payload, struct reply *error)
{
    enum settlement settlement = SETTLE_ACK;
    bool multiple = false;
    uint64_t tag;
    uint8_t bits;

    if (method_get_settle(payload, &tag, &bits, error) != 0)
        return -1;
    if (id == AMQP_BASIC_REJECT_METHOD) {
        settlement = (bits & 1) != 0 ? SETTLE_REQUEUE : SETTLE_REJECT;
    } else {
        multiple = (bits & 1) != 0;
        if (id == AMQP_BASIC_NACK_METHOD)
            settlement = (bits & 2) != 0 ? SETTLE_REQUEUE : SETTLE_REJECT;
    }
    if (HARK_UNLIKELY(channel->transaction != NULL))
        return transaction_add_settle(channel, tag, multiple, settlement, error);
    return settle_deliveries(channel, tag, multiple, settlement, error);
}

/* Content is being received: nothing but its frames may come. */
static int peer_channel_content(struct peer_channel *channel, const struct frame *frame, struct reply *error)
{
    struct message *message;
    int result = content_frame(&channel->content, frame, channel->peer->broker->options.max_message_size, &message,
                               error);

    peer_channel_gather(channel);
    return result <= 0 ? result : class_publish(channel, message, error);
}

void peer_channel_frame(struct peer_channel *channel, const struct frame *frame)
{
    struct peer *peer = channel->peer;
    struct reply error;
    uint32_t id = 0;
    int result;

    if (HARK_UNLIKELY(channel->closing)) {
        id = frame->type == FRAME_METHOD ? get_u32(frame->payload.data) : 0;
        if (id == AMQP_CHANNEL_CLOSE_OK_METHOD)
            peer_channel_free(channel);
        else if (id == AMQP_CHANNEL_CLOSE_METHOD)
            channel_closed(channel);
        return;
    }
    error.class_id = error.method_id = 0;
    if (HARK_UNLIKELY(frame->type != FRAME_METHOD || !content_is_idle(&channel->content))) {
        if (!content_is_idle(&channel->content))
            id = AMQP_BASIC_PUBLISH_METHOD;
        result = peer_channel_content(channel, frame, &error);
    } else {
        id = get_u32(frame->payload.data);
        if (HARK_LIKELY(id == AMQP_BASIC_PUBLISH_METHOD)) {
            result = class_publish_begin(channel, frame->payload, &error);
        } else if (HARK_LIKELY(id == AMQP_BASIC_ACK_METHOD || id == AMQP_BASIC_NACK_METHOD ||
                               id == AMQP_BASIC_REJECT_METHOD)) {
            result = peer_channel_settle(channel, id, frame->payload, &error);
        } else {
            result = peer_channel_method(channel, frame, &error);
            recycle_amqp_pool(&peer->broker->pool);
        }
    }
    if (HARK_LIKELY(result == 0))
        return;
    if (error.class_id == 0) {
        error.class_id = (uint16_t)(id >> 16);
        error.method_id = (uint16_t)id;
    }
    peer_channel_fail(channel, &error);
}

void peer_channel_answer(struct peer_channel *channel, bool no_wait, uint32_t id, const void *decoded)
{
    if (!no_wait)
        peer_put(channel->peer, channel->number, id, decoded);
}

void peer_channel_put_content(struct peer_channel *channel, struct span raw_properties, struct span body)
{
    uint32_t frame_max = channel->peer->frame_max;

    /* A header frame cannot be split. One that a client with larger frames has sent goes out as it is: RabbitMQ does
     * the same, and no other choice would deliver the message. */
    if (HARK_UNLIKELY(!content_header_fits(frame_max, raw_properties)))
        content_put(peer_out(channel->peer), channel->number, FRAME_LIMIT + FRAME_LIMIT, raw_properties, body);
    else
        content_put(peer_out(channel->peer), channel->number, frame_max, raw_properties, body);
    peer_send(channel->peer);
}

/* ---- deliveries ---- */

bool peer_channel_may_deliver(struct queue_consumer *consumer)
{
    struct peer_channel *channel = consumer->channel;

    if (HARK_UNLIKELY(channel->closing || channel->broken || channel->peer->state != PEER_OPEN))
        return false;
    if (consumer->prefetch > 0 && consumer->unacked >= consumer->prefetch)
        return false;
    /* RabbitMQ lets those wait too that acknowledge nothing. */
    if (channel->channel_prefetch > 0 && channel->unacked >= channel->channel_prefetch)
        return false;
    return !peer_is_full(channel->peer);
}

/* Quorum queues say how often a message has come back. */
static bool peer_channel_count_deliveries(const struct queue *queue, const struct entry *entry, struct buf *raw)
{
    struct properties properties;
    struct table_entry field;
    struct buf headers = {0};
    size_t cursor = 0;

    if (HARK_LIKELY(!queue->policy.quorum || entry->deliveries == 0))
        return false;
    message_properties(entry->message, &properties);
    while (table_next(properties.headers, &cursor, &field))
        if (!span_is(field.name, "x-delivery-count"))
            buf_put_span(&headers, field.whole);
    table_put_long(&headers, span_str("x-delivery-count"), entry->deliveries);
    properties.headers = buf_span(&headers);
    properties.flags |= PROPERTY_HEADERS;
    properties_put(raw, &properties);
    buf_free(&headers);
    if (!raw->failed)
        return true;
    buf_free(raw);
    return false;
}

void peer_channel_put_entry(struct peer_channel *channel, const struct queue *queue, const struct entry *entry)
{
    const struct message *message = entry->message;
    struct buf raw = {0};

    if (HARK_LIKELY(!peer_channel_count_deliveries(queue, entry, &raw))) {
        peer_channel_put_content(channel, message->raw_properties, message->body);
        return;
    }
    peer_channel_put_content(channel, buf_span(&raw), message->body);
    buf_free(&raw);
}

void peer_channel_deliver(struct queue_consumer *consumer, struct entry *entry)
{
    struct peer_channel *channel = consumer->channel;
    struct queue *queue = consumer->queue;
    struct message *message = entry->message;
    struct outstanding *outstanding = NULL;
    struct method_deliver deliver;

    if (HARK_LIKELY(!consumer->no_ack)) {
        outstanding = outstanding_add(&channel->outstanding, channel->last_tag + 1);
        if (HARK_UNLIKELY(outstanding == NULL)) {
            log_error("connection %s: no memory for a delivery: it ends, the message stays in its queue",
                      channel->peer->name);
            channel->broken = true; /* or the queue would try the same again, without end */
            peer_out(channel->peer)->failed = true;
            peer_send(channel->peer);
            queue_requeue(queue, entry);
            return;
        }
    }
    deliver = (struct method_deliver){
        .consumer_tag = consumer->tag,
        .exchange = message->exchange,
        .routing_key = message->routing_key,
        .delivery_tag = ++channel->last_tag,
        .redelivered = entry->redelivered,
    };
    method_put_deliver(peer_out(channel->peer), channel->number, &deliver);
    peer_channel_put_entry(channel, queue, entry);
    if (HARK_UNLIKELY(outstanding == NULL)) {
        queue_acknowledged(queue, entry);
        return;
    }
    channel->served = consumer;
    outstanding->queue = queue;
    outstanding->consumer = consumer;
    outstanding->counted = true;
    outstanding->entry = *entry;
    consumer->unacked++;
    channel->unacked++;
}

void peer_channel_cancelled(struct queue_consumer *consumer)
{
    struct peer_channel *channel = consumer->channel;
    amqp_basic_cancel_t cancel = {.consumer_tag = amqp_span(consumer->tag), .nowait = 1};

    if (channel->peer->takes_cancel && !channel->closing)
        peer_put(channel->peer, channel->number, AMQP_BASIC_CANCEL_METHOD, &cancel);
    class_basic_end_consumer(consumer);
}

void peer_channel_get(struct queue_getter *getter, struct queue *queue)
{
    struct peer_channel *channel = HARK_CONTAINER(getter, struct peer_channel, getter);
    amqp_basic_get_empty_t empty = {0};

    if (!class_basic_get(channel, queue, getter->no_ack)) {
        if (!queue->deleted && queue_wait(queue, getter))
            return;
        peer_channel_answer(channel, false, AMQP_BASIC_GET_EMPTY_METHOD, &empty);
    }
    link_resume(channel->peer->link);
}

void peer_channel_wake(struct peer_channel *channel)
{
    const struct queue_consumer *served = channel->served;
    struct queue_consumer *first = served != NULL && served->hh.next != NULL ? served->hh.next : channel->consumers;
    struct queue_consumer *consumer = first;

    while (consumer != NULL) {
        queue_consumer_ready(consumer);
        consumer = consumer->hh.next != NULL ? consumer->hh.next : channel->consumers;
        if (consumer == first)
            break;
    }
}
