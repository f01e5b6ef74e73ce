/* SPDX-License-Identifier: MIT */
/*
 * Emitting: from a `struct hark_message` to the bytes that will be published.
 *
 * Identity and causality: message_id is derived from the parent's id, the listener and the number in the outbox, so the
 * same event emits the same ids however often it is delivered; correlation_id is the id of the first message that had
 * one; x-hark-cause (the parent's id, if it has one) and x-hark-hops say where it comes from; W3C trace headers are
 * passed on.
 */
#include "dispatch/parts.h"
#include "wire/frame.h"

#include <errno.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static const struct {
    struct span cause, hops, user_id, traceparent, tracestate;
} emit_names = {
    .cause = {(const uint8_t *)"x-hark-cause", 12},
    .hops = {(const uint8_t *)"x-hark-hops", 11},
    .user_id = {(const uint8_t *)"x-hark-user-id", 14},
    .traceparent = {(const uint8_t *)"traceparent", 11},
    .tracestate = {(const uint8_t *)"tracestate", 10},
};

static void emit_id(char *to, XXH128_hash_t hash)
{
    static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t words[2] = {hash.low64, hash.high64};

    for (size_t i = 0; i < DISPATCH_ID_SIZE; i++)
        to[i] = characters[words[i / 10] >> (6 * (i % 10)) & 63];
}

void emit_random_id(struct dispatcher *dispatcher, char *id)
{
    uint64_t drawn = ++dispatcher->drawn;

    emit_id(id, XXH3_128bits_withSeed(&drawn, sizeof(drawn), dispatcher->seed[0] ^ (dispatcher->seed[1] + drawn)));
}

static void emit_derived_id(char *id, struct span parent, struct span listener, uint32_t number)
{
    uint8_t bytes[NAME_MAX_LENGTH * 2 + 6];
    size_t at = 0, length = parent.length < NAME_MAX_LENGTH ? parent.length : NAME_MAX_LENGTH;

    memcpy(bytes, parent.data, length);
    at = length;
    bytes[at++] = 0;
    length = listener.length < NAME_MAX_LENGTH ? listener.length : NAME_MAX_LENGTH;
    memcpy(bytes + at, listener.data, length);
    at += length;
    bytes[at++] = 0;
    for (int shift = 24; shift >= 0; shift -= 8)
        bytes[at++] = (uint8_t)(number >> shift);
    emit_id(id, XXH3_128bits(bytes, at));
}

size_t emit_header_room(const struct dispatcher *dispatcher)
{
    return dispatcher->options.frame_max - FRAME_OVERHEAD - 12; /* class, weight, body size */
}

/* ---- headers ---- */

static bool emit_left_out(const struct hark_message *message, struct span name)
{
    if (name.length >= 11 && memcmp(name.data, "x-hark-", 7) == 0 &&
        (span_equal(name, emit_names.cause) || span_equal(name, emit_names.hops) ||
         span_equal(name, emit_names.user_id)))
        return true;
    for (size_t i = 0; i < message->header_count; i++)
        if (span_equal(name, span_hark(message->headers[i].name)))
            return true;
    for (const char *const *without = message->without; without != NULL && *without != NULL; without++)
        if (span_is(name, *without))
            return true;
    return false;
}

static void emit_copy_headers(struct buf *out, struct span headers, const struct hark_message *message)
{
    struct table_entry entry;
    size_t cursor = 0;

    while (table_next(headers, &cursor, &entry))
        if (!emit_left_out(message, entry.name))
            buf_put_span(out, entry.whole);
}

static void emit_pass_on(struct buf *out, struct span headers, const struct hark_message *message, struct span name)
{
    struct table_entry entry;

    if (!emit_left_out(message, name) && table_find(headers, name, &entry))
        buf_put_span(out, entry.whole);
}

static void emit_headers(struct buf *out, struct delivery *parent, const struct hark_message *message)
{
    buf_clear(out);
    if (message->like != NULL) {
        const struct message *like = message->like->delivery->message;

        emit_copy_headers(out, like->properties.headers, message);
        if ((like->properties.flags & PROPERTY_USER_ID) != 0) {
            struct properties all;

            message_properties(like, &all);
            if (all.user_id.length > 0)
                table_put_string(out, emit_names.user_id, all.user_id);
        }
    } else if (parent != NULL && parent->message->properties.headers.length > 0) {
        emit_pass_on(out, parent->message->properties.headers, message, emit_names.traceparent);
        emit_pass_on(out, parent->message->properties.headers, message, emit_names.tracestate);
    }
    for (size_t i = 0; i < message->header_count; i++)
        value_put(out, span_hark(message->headers[i].name), &message->headers[i].value);
    if (parent != NULL) {
        struct span cause = message_id(parent->message);

        if (cause.length > 0)
            table_put_string(out, emit_names.cause, cause);
        table_put_integer(out, emit_names.hops, parent->hops + 1);
    }
}

/* ---- properties ---- */

static void emit_property(struct properties *properties, struct span *value, uint16_t flag, struct hark_str given)
{
    if (given.data == NULL)
        return;
    *value = span_hark(given);
    properties->flags |= flag;
}

/*
 * The id of the first message that had one: the parent's correlation_id, or the parent's own id. Without either, messages
 * that come from the same event are told to belong together: by the id of the first of them (which is then itself the
 * first message that has one, and carries no correlation_id), or by one made for the event if it has several listeners
 * or has been somewhere else in between. `first` is room for an id.
 */
static struct span emit_correlation(struct hark_event *event, char *first)
{
    struct delivery *parent = event->delivery;
    struct properties properties;

    message_properties(parent->message, &properties);
    if (properties.correlation_id.length > 0)
        return properties.correlation_id;
    if (message_id(parent->message).length > 0 || parent->event_count > 1 || parent->named)
        return delivery_id(parent);
    if (event->emitted == 0)
        return span_str("");
    emit_derived_id(first, delivery_id(parent), event->instance->name, 0);
    return span_of(first, DISPATCH_ID_SIZE);
}

static void emit_properties(struct properties *properties, const struct dispatcher *dispatcher,
                            struct hark_event *event, const struct hark_message *message, char *first)
{
    const struct hark_str *given = message->properties;

    if (message->like != NULL)
        message_properties(message->like->delivery->message, properties);
    else
        *properties = (struct properties){0};
    properties->flags &= (uint16_t)~PROPERTY_USER_ID;
    emit_property(properties, &properties->content_type, PROPERTY_CONTENT_TYPE, given[HARK_CONTENT_TYPE]);
    emit_property(properties, &properties->content_encoding, PROPERTY_CONTENT_ENCODING, given[HARK_CONTENT_ENCODING]);
    emit_property(properties, &properties->correlation_id, PROPERTY_CORRELATION_ID, given[HARK_CORRELATION_ID]);
    emit_property(properties, &properties->reply_to, PROPERTY_REPLY_TO, given[HARK_REPLY_TO]);
    emit_property(properties, &properties->expiration, PROPERTY_EXPIRATION, given[HARK_EXPIRATION]);
    emit_property(properties, &properties->type, PROPERTY_TYPE, given[HARK_TYPE]);
    emit_property(properties, &properties->app_id, PROPERTY_APP_ID, given[HARK_APP_ID]);
    if ((properties->flags & PROPERTY_CORRELATION_ID) == 0 && event != NULL) {
        properties->correlation_id = emit_correlation(event, first);
        if (properties->correlation_id.length > 0)
            properties->flags |= PROPERTY_CORRELATION_ID;
    }
    if (message->delivery_mode != 0 || (properties->flags & PROPERTY_DELIVERY_MODE) == 0) {
        properties->delivery_mode = (uint8_t)(message->delivery_mode != 0      ? message->delivery_mode
                                              : dispatcher->options.persistent ? 2
                                                                               : 1);
        properties->flags |= PROPERTY_DELIVERY_MODE;
    }
    if (message->priority != 0) {
        properties->priority = (uint8_t)(message->priority > 0 ? message->priority : 0);
        properties->flags |= PROPERTY_PRIORITY;
    }
    if (message->timestamp != 0) {
        properties->timestamp = (uint64_t)message->timestamp;
        properties->flags |= PROPERTY_TIMESTAMP;
    }
}

/* ---- the whole ---- */

static struct outgoing *emit_build(struct hark_instance *instance, struct hark_event *event,
                                   const struct hark_message *message)
{
    struct dispatcher *dispatcher = instance->dispatcher;
    const struct dispatch_listener *listener = &instance->listener;
    struct delivery *parent = event != NULL ? event->delivery : NULL;
    struct span exchange, key, body = span_hark(message->body), raw;
    struct message *body_owner = NULL;
    struct outgoing *outgoing;
    struct properties properties;
    char id[DISPATCH_ID_SIZE], first[DISPATCH_ID_SIZE];

    if (message->exchange.data != NULL)
        exchange = span_hark(message->exchange);
    else if (message->default_exchange)
        exchange = span_str("");
    else if (listener->emit_exchange != NULL)
        exchange = span_str(listener->emit_exchange);
    else {
        hark_log(instance, HARK_ERROR, "a message was emitted, but neither it nor `emit` names an exchange");
        errno = EINVAL;
        return NULL;
    }
    if (message->routing_key.data != NULL)
        key = span_hark(message->routing_key);
    else if (listener->emit_key != NULL)
        key = span_str(listener->emit_key);
    else
        key = parent != NULL ? parent->message->routing_key : span_str("");
    if (exchange.length > NAME_MAX_LENGTH || key.length > NAME_MAX_LENGTH) {
        hark_log(instance, HARK_ERROR, "a message cannot be emitted: its %s has %zu bytes, AMQP allows 255",
                 key.length > NAME_MAX_LENGTH ? "routing key" : "exchange",
                 key.length > NAME_MAX_LENGTH ? key.length : exchange.length);
        errno = EINVAL;
        return NULL;
    }
    emit_properties(&properties, dispatcher, event, message, first);
    if (parent != NULL)
        emit_derived_id(id, delivery_id(parent), instance->name, event->emitted);
    else
        emit_random_id(dispatcher, id);
    properties.message_id = span_of(id, sizeof(id));
    properties.flags |= PROPERTY_MESSAGE_ID;
    emit_headers(&dispatcher->headers, parent, message);
    properties.headers = buf_span(&dispatcher->headers);
    if (properties.headers.length > 0)
        properties.flags |= PROPERTY_HEADERS;
    else
        properties.flags &= (uint16_t)~PROPERTY_HEADERS;
    buf_clear(&dispatcher->properties);
    properties_put(&dispatcher->properties, &properties);
    raw = buf_span(&dispatcher->properties);
    if (dispatcher->headers.failed || dispatcher->properties.failed || raw.length > emit_header_room(dispatcher)) {
        hark_log(
            instance, HARK_ERROR,
            "a message cannot be emitted: a name or property over 255 bytes, a header of no known kind, or %zu bytes "
            "of properties where a frame holds %zu",
            raw.length, emit_header_room(dispatcher));
        errno = EINVAL;
        return NULL;
    }
    if (message->empty_body) {
        body = span_str("");
    } else if (message->body.data == NULL && message->like != NULL) {
        body_owner = message->like->delivery->carrier;
        body = message->like->delivery->message->body;
    } else if (parent != NULL && body.length > 0 && body.data == parent->message->body.data) {
        body_owner = parent->carrier;
    }
    outgoing = outgoing_new(exchange, key, raw, body, body_owner);
    if (outgoing != NULL)
        return outgoing;
    hark_log(instance, HARK_ERROR, "out of memory for an emitted message of %zu bytes", body.length);
    errno = ENOMEM;
    return NULL;
}

int hark_emit(struct hark_event *event, const struct hark_message *message)
{
    struct outgoing *outgoing;

    if (event->state > EVENT_LATER) {
        log_error("listener[%s]: hark_emit() with a settled event: a bug in module \"%s\"",
                  event->instance->listener.name, event->instance->listener.module->name);
        errno = EINVAL;
        return -1;
    }
    outgoing = emit_build(event->instance, event, message);
    if (outgoing == NULL)
        return -1;
    event->emitted++;
    *event->outbox_end = outgoing;
    event->outbox_end = &outgoing->next;
    return 0;
}

struct emission {
    struct helper helper;
    hark_emit_done done;
    void *arg;
    bool forgotten; /* the instance is closed */
};

static void emission_stop(struct helper *helper)
{
    HARK_CONTAINER(helper, struct emission, helper)->forgotten = true;
}

static void emission_done(struct outgoing *outgoing, enum outcome outcome, const char *why)
{
    struct emission *emission = outgoing->owner;
    struct hark_instance *instance = emission->helper.instance;

    if (!emission->forgotten) {
        instance_remove_helper(&emission->helper);
        if (outcome == OUTCOME_CONFIRMED)
            instance->dispatcher->counters.emitted++;
        if (emission->done != NULL) {
            instance_resume(instance, &emission->helper.about);
            emission->done(emission->arg, outcome == OUTCOME_CONFIRMED, why);
            instance_leave(instance);
        } else if (outcome != OUTCOME_CONFIRMED && outcome != OUTCOME_ABANDONED) {
            hark_log(instance, HARK_ERROR, "an emitted message was not taken by the broker: %s", why);
        }
    }
    free(emission);
    outgoing_free(outgoing);
}

int hark_emit_new(struct hark_instance *instance, const struct hark_message *message, hark_emit_done done, void *arg)
{
    struct dispatch_ports *ports = &instance->dispatcher->ports;
    struct emission *emission = calloc(1, sizeof(*emission));
    struct outgoing *outgoing = emission != NULL ? emit_build(instance, NULL, message) : NULL;

    if (outgoing == NULL) {
        free(emission);
        return -1;
    }
    emission->done = done;
    emission->arg = arg;
    instance_add_helper(instance, &emission->helper, emission_stop);
    outgoing->owner = emission;
    outgoing->done = emission_done;
    ports->publish(ports->arg, outgoing);
    return 0;
}
