/* SPDX-License-Identifier: MIT */
#include "base/log.h"
#include "client/session_private.h"

#include <stdio.h>
#include <stdlib.h>

enum channel_state { CHANNEL_CLOSED, CHANNEL_OPENING, CHANNEL_OPEN };

static struct channel_slot *channel_slot(struct session *session, uint16_t number)
{
    return number < session->slot_count ? session->slots[number] : NULL;
}

/* ---- requests and their answers ---- */

/* In the numbers of AMQP 0-9-1 an answer is its request plus one, and nothing else is odd. */
static bool channel_is_answer(uint32_t method_id)
{
    return (method_id & 1) != 0;
}

static void channel_asks(struct session *session, uint16_t number, uint32_t method_id)
{
    struct channel_slot *slot = session->slots[number];

    if (channel_is_answer(method_id) || method_find(method_id + 1) == NULL)
        return;
    if (slot->asked++ == 0)
        slot->silent = 0;
    slot->asked_for = method_id;
    if (!evtimer_pending(session->timer, NULL))
        session_set_timer(session, session->connect_timeout / 2);
}

/* Not while the server has blocked us, and does not read, or while we do not read: then it cannot be heard. Three ticks
 * and not one interval by the clock: after a loop that stood still, what has arrived is read between two of them. */
void channels_tick(struct session *session)
{
    bool deaf = session->blocked || link_is_paused(session->link), due = false;

    for (size_t i = 1; i < session->slot_count; i++) {
        struct channel_slot *slot = session->slots[i];

        if (slot == NULL || slot->asked == 0)
            continue;
        due = true;
        slot->silent = deaf ? 0 : slot->silent + 1;
        if (slot->silent < 3)
            continue;
        session->opened_at = loop_now(session->loop); /* such a connection is no good one, however long it lasts */
        session_lose(session, NULL, "no answer to %s%s on channel %zu for %lld ms", method_name(slot->asked_for),
                     slot->asked > 1 ? " or what was asked before it" : "", i, (long long)session->connect_timeout);
        return;
    }
    if (due)
        session_set_timer(session, session->connect_timeout / 2);
}

/* ---- opening and closing by us ---- */

/* A free number, with a slot. 0: none. */
static uint16_t channel_number(struct session *session)
{
    size_t number = 1;

    while (number < session->slot_count && session->slots[number] != NULL &&
           (session->slots[number]->channel != NULL || session->slots[number]->closing))
        number++;
    if (session->channel_max != 0 && number > session->channel_max)
        return 0;
    if (number >= session->slot_count) {
        size_t count = number + 8;
        struct channel_slot **slots = realloc(session->slots, count * sizeof(*slots));

        if (slots == NULL)
            return 0;
        memset(slots + session->slot_count, 0, (count - session->slot_count) * sizeof(*slots));
        session->slots = slots;
        session->slot_count = count;
    }
    if (session->slots[number] == NULL)
        session->slots[number] = calloc(1, sizeof(struct channel_slot));
    return session->slots[number] != NULL ? (uint16_t)number : 0;
}

/* One is being closed: its number will be free in a moment. */
static bool channel_is_leaving(const struct session *session)
{
    for (size_t i = 1; i < session->slot_count; i++)
        if (session->slots[i] != NULL && session->slots[i]->closing)
            return true;
    return false;
}

/* That there is none is not the fault of the broker's limit while one is being closed. */
static void channel_say_none(struct session *session)
{
    char text[200];

    if (channel_is_leaving(session))
        return;
    snprintf(text, sizeof(text),
             "no channel left: the broker allows %u on a connection (channel_max), and each queue takes one",
             session->channel_max);
    if (complaint_is_news(&session->channels_complaint, session->common, text, loop_now(session->loop)))
        log_error("%s: %s", session->label, text);
}

int channel_open(struct channel *channel, struct session *session, const struct channel_ops *ops, void *arg)
{
    amqp_channel_open_t open = {0};
    uint16_t number;

    if (!session_is_open(session))
        return -1;
    number = channel_number(session);
    if (number == 0) {
        channel_say_none(session);
        return -1;
    }
    channel->session = session;
    channel->ops = ops;
    channel->arg = arg;
    channel->number = number;
    channel->epoch++;
    channel->state = CHANNEL_OPENING;
    session->slots[number]->channel = channel;
    channel_send(channel, AMQP_CHANNEL_OPEN_METHOD, &open);
    return 0;
}

void channel_close(struct channel *channel, void (*done)(void *arg), void *arg)
{
    amqp_channel_close_t close = {.reply_code = REPLY_SUCCESS, .reply_text = amqp_span(span_str("Goodbye"))};
    struct channel_slot *slot;

    if (channel->state == CHANNEL_CLOSED) {
        if (done != NULL)
            done(arg);
        return;
    }
    slot = channel_slot(channel->session, channel->number);
    channel_send(channel, AMQP_CHANNEL_CLOSE_METHOD, &close);
    slot->channel = NULL;
    slot->closing = true;
    slot->done = done;
    slot->arg = arg;
    channel->state = CHANNEL_CLOSED;
    channel->number = 0;
}

bool channel_is_open(const struct channel *channel)
{
    /* Not while the loss of the connection is being told: another channel's owner may ask. */
    return channel->state == CHANNEL_OPEN && session_link(channel->session) != NULL;
}

void channel_send(struct channel *channel, uint32_t method_id, const void *decoded)
{
    if (channel->state == CHANNEL_CLOSED || session_link(channel->session) == NULL)
        return;
    method_put(link_out(channel->session->link), channel->number, method_id, decoded);
    link_send(channel->session->link);
    channel_asks(channel->session, channel->number, method_id);
}

struct buf *channel_out(struct channel *channel)
{
    return link_out(channel->session->link);
}

/* ---- closing by the server, or with the connection ---- */

static void channel_gone(struct channel_slot *slot, const struct reply *error)
{
    struct channel *channel = slot->channel;
    void (*done)(void *) = slot->done;
    void *arg = slot->arg;

    content_reset(&slot->content);
    slot->channel = NULL;
    slot->closing = false;
    slot->done = NULL;
    slot->asked = slot->silent = 0;
    if (channel != NULL) {
        channel->state = CHANNEL_CLOSED;
        channel->number = 0;
        channel->ops->closed(channel->arg, error);
    } else if (done != NULL) {
        done(arg);
    }
}

void channels_lost(struct session *session, const struct reply *error)
{
    for (size_t i = 1; i < session->slot_count; i++)
        if (session->slots[i] != NULL)
            channel_gone(session->slots[i], error);
}

static void channel_closed_by_server(struct session *session, struct channel_slot *slot, uint16_t number,
                                     const amqp_channel_close_t *close)
{
    amqp_channel_close_ok_t ok = {0};
    struct reply error = {.code = close->reply_code, .class_id = close->class_id, .method_id = close->method_id};

    snprintf(error.text, sizeof(error.text), "%.*s", (int)close->reply_text.len, (const char *)close->reply_text.bytes);
    if (!slot->closing && slot->channel->ops->closing != NULL)
        slot->channel->ops->closing(slot->channel->arg);
    method_put(link_out(session->link), number, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    link_send(session->link);
    if (!slot->closing) /* otherwise both closed at once, and our close-ok is still to come */
        channel_gone(slot, &error);
}

/* ---- frames ---- */

static void channel_deliver(struct channel_slot *slot, struct message *message, uint64_t oversized)
{
    struct channel *channel = slot->channel;

    slot->deliver.exchange = message->exchange;
    slot->deliver.routing_key = message->routing_key;
    channel->batching = true;
    if (channel->ops->delivery != NULL)
        channel->ops->delivery(channel->arg, &slot->deliver, message, oversized);
    else
        message_drop(message);
}

/* Too large to be kept: handed over at its header, then part by part. */
static void channel_oversized(struct channel_slot *slot, const struct frame *frame, struct message *whole)
{
    struct channel *channel = slot->channel;

    if (frame->type == FRAME_HEADER)
        channel_deliver(slot, message_hold(slot->content.message), slot->content.size);
    else if (channel->ops->body != NULL)
        channel->ops->body(channel->arg, frame->payload, whole != NULL);
    message_drop(whole);
}

static void channel_content_done(struct channel_slot *slot, struct message *message)
{
    struct channel *channel = slot->channel;

    if (!slot->is_return) {
        channel_deliver(slot, message, 0);
        return;
    }
    if (channel->ops->returned != NULL) {
        amqp_basic_return_t method = {
            .reply_code = slot->return_code,
            .reply_text = amqp_span(span_of(slot->return_text, slot->return_text_length)),
            .exchange = amqp_span(message->exchange),
            .routing_key = amqp_span(message->routing_key),
        };

        channel->ops->returned(channel->arg, &method, message, slot->content.size);
    }
    message_drop(message);
}

static void channel_returned(struct session *session, struct channel_slot *slot, const amqp_basic_return_t *method)
{
    struct reply error;

    if (content_begin(&slot->content, span_amqp(method->exchange), span_amqp(method->routing_key), &error) != 0) {
        session_abort(session, &error);
        return;
    }
    slot->is_return = true;
    slot->return_code = method->reply_code;
    slot->return_text_length = (uint8_t)(method->reply_text.len < 255 ? method->reply_text.len : 255);
    memcpy(slot->return_text, method->reply_text.bytes, slot->return_text_length);
}

static void channel_method(struct session *session, struct channel_slot *slot, uint16_t number,
                           const amqp_method_t *method)
{
    struct channel *channel = slot->channel;
    struct reply error;

    if (channel_is_answer(method->id) && slot->asked > 0) {
        slot->asked--;
        slot->silent = 0;
    }
    if (method->id == AMQP_CHANNEL_CLOSE_METHOD) {
        channel_closed_by_server(session, slot, number, method->decoded);
        return;
    }
    if (slot->closing) {
        if (method->id == AMQP_CHANNEL_CLOSE_OK_METHOD)
            channel_gone(slot, NULL);
        return;
    }
    if (!content_is_idle(&slot->content)) {
        reply_set(&error, REPLY_UNEXPECTED_FRAME, method->id, "%s within a content", method_name(method->id));
        session_abort(session, &error);
        return;
    }
    switch (method->id) {
    case AMQP_CHANNEL_OPEN_OK_METHOD:
        if (channel->state == CHANNEL_OPENING) {
            channel->state = CHANNEL_OPEN;
            channel->ops->opened(channel->arg);
            return;
        }
        break;
    case AMQP_CHANNEL_FLOW_METHOD: {
        const amqp_channel_flow_t *flow = method->decoded;
        amqp_channel_flow_ok_t ok = {.active = flow->active};

        if (link_is_full(session->link)) { /* or a peer that reads slowly would make us hold ever more */
            reply_set(&error, REPLY_RESOURCE_ERROR, method->id, "the peer asks and does not read the answers");
            session_abort(session, &error);
            return;
        }
        channel_send(channel, AMQP_CHANNEL_FLOW_OK_METHOD, &ok);
        return;
    }
    case AMQP_BASIC_RETURN_METHOD:
        channel_returned(session, slot, method->decoded);
        return;
    default:
        if (channel->state == CHANNEL_OPEN) {
            channel->batching = true;
            channel->ops->method(channel->arg, method);
            return;
        }
        break;
    }
    reply_set(&error, REPLY_COMMAND_INVALID, method->id, "%s was not expected", method_name(method->id));
    session_abort(session, &error);
}

/* The fast path. */
static void channel_delivered(struct session *session, struct channel_slot *slot, struct span payload)
{
    struct method_deliver *deliver = &slot->deliver;
    struct reply error;

    if (slot->closing)
        return;
    if (HARK_UNLIKELY(slot->channel->state != CHANNEL_OPEN)) {
        reply_set(&error, REPLY_COMMAND_INVALID, AMQP_BASIC_DELIVER_METHOD, "basic.deliver before channel.open-ok");
        session_abort(session, &error);
        return;
    }
    if (method_get_deliver(payload, deliver, &error) != 0 ||
        content_begin(&slot->content, deliver->exchange, deliver->routing_key, &error) != 0) {
        session_abort(session, &error);
        return;
    }
    slot->is_return = false;
    memcpy(slot->consumer_tag, deliver->consumer_tag.data, deliver->consumer_tag.length);
    deliver->consumer_tag.data = slot->consumer_tag;
}

static void channel_method_frame(struct session *session, struct channel_slot *slot, const struct frame *frame)
{
    struct reply error;
    amqp_method_t method;

    if (get_u32(frame->payload.data) == AMQP_BASIC_DELIVER_METHOD) {
        channel_delivered(session, slot, frame->payload);
        return;
    }
    if (method_decode(frame, METHOD_FROM_SERVER, &session->pool, &method, &error) != 0)
        session_abort(session, &error);
    else
        channel_method(session, slot, frame->channel, &method);
    recycle_amqp_pool(&session->pool);
}

void channels_frame(struct session *session, const struct frame *frame)
{
    struct channel_slot *slot = channel_slot(session, frame->channel);
    struct message *message = NULL;
    struct reply error;
    int result;

    if (HARK_UNLIKELY(slot == NULL || (slot->channel == NULL && !slot->closing))) {
        reply_set(&error, REPLY_CHANNEL_ERROR, 0, "a frame on channel %u, which is not open", frame->channel);
        session_abort(session, &error);
        return;
    }
    if (frame->type == FRAME_METHOD) {
        channel_method_frame(session, slot, frame);
        return;
    }
    if (slot->closing)
        return;
    result = content_frame(&slot->content, frame, session->max_message_size, &message, &error);
    if (result < 0)
        session_abort(session, &error);
    else if (HARK_UNLIKELY(slot->content.oversized && !slot->is_return))
        channel_oversized(slot, frame, message);
    else if (result > 0)
        channel_content_done(slot, message);
}

void channels_batch(struct session *session, bool full)
{
    for (size_t i = 1; i < session->slot_count; i++) {
        struct channel *channel = session->slots[i] != NULL ? session->slots[i]->channel : NULL;

        if (channel == NULL || !channel->batching)
            continue;
        channel->batching = false;
        if (channel->ops->batch != NULL)
            channel->ops->batch(channel->arg, full);
    }
}

void channels_drained(struct session *session)
{
    for (size_t i = 1; i < session->slot_count; i++) {
        struct channel *channel = session->slots[i] != NULL ? session->slots[i]->channel : NULL;

        if (channel != NULL && channel->state == CHANNEL_OPEN && channel->ops->drained != NULL)
            channel->ops->drained(channel->arg);
    }
}
