/* SPDX-License-Identifier: MIT */
/*
 * Wrapping: a message on its way to a retry queue or to the dead letters carries where it came from in headers of ours;
 * unwrapping restores it, byte for byte, when it comes back.
 *
 * What the broker would act upon on the way is moved aside: the user_id property (accepted only from its owner), expiration
 * (it would cut the wait short), CC and BCC (they would multiply it), x-death and its kin (two rounds through the
 * same queues look like a cycle, which RabbitMQ drops). A header that has one of our names already is moved aside too,
 * so that wraps can be nested.
 */
#include "dispatch/parts.h"

#include <stdio.h>
#include <time.h>

#define WRAP_PREFIX "x-hark-"
#define WRAP_KEPT "x-hark-kept-"
#define WRAP_ERROR_MAX 512

static bool span_starts(struct span span, const char *prefix)
{
    size_t length = strlen(prefix);

    return span.length >= length && memcmp(span.data, prefix, length) == 0;
}

static bool wrap_is_brokers(struct span name)
{
    return span_is(name, "x-death") || span_starts(name, "x-first-death-") || span_starts(name, "x-last-death-");
}

/* Must this header of the message be moved aside? Cause and hops are the message's own. */
static bool wrap_is_aside(struct span name)
{
    if (name.length < 2)
        return false;
    if (span_starts(name, WRAP_PREFIX))
        return !span_is(name, "x-hark-cause") && !span_is(name, "x-hark-hops");
    return span_is(name, "CC") || span_is(name, "BCC") || wrap_is_brokers(name);
}

/* The message's own headers, as many as fit into `room` bytes; returns how many did not. */
static size_t wrap_put_headers(struct buf *out, struct span headers, size_t room)
{
    struct table_entry entry;
    size_t cursor = 0, dropped = 0;

    while (table_next(headers, &cursor, &entry)) {
        bool aside = wrap_is_aside(entry.name);
        size_t size = entry.whole.length + (aside ? sizeof(WRAP_KEPT) - 1 : 0);
        size_t name_length = entry.name.length + sizeof(WRAP_KEPT) - 1;

        if (buf_length(out) + size > room || (aside && name_length > 255)) {
            dropped++;
        } else if (aside) {
            char name[255];

            memcpy(name, WRAP_KEPT, sizeof(WRAP_KEPT) - 1);
            memcpy(name + sizeof(WRAP_KEPT) - 1, entry.name.data, entry.name.length);
            table_put_value(out, span_of(name, name_length), entry.kind, entry.value);
        } else {
            buf_put_span(out, entry.whole);
        }
    }
    return dropped;
}

static struct span wrap_cut(const char *text)
{
    struct span span = span_str(text != NULL ? text : "");

    if (span.length > WRAP_ERROR_MAX) {
        span.length = WRAP_ERROR_MAX;
        while (span.length > 0 && (span.data[span.length] & 0xC0) == 0x80) /* not within a UTF-8 character */
            span.length--;
    }
    return span;
}

/* What both kinds say. */
static void wrap_put_origin(struct buf *out, struct hark_event *event, struct properties *properties)
{
    struct delivery *delivery = event->delivery;
    const struct message *message = delivery->message;

    table_put_string(out, span_str("x-hark-exchange"), message->exchange);
    table_put_string(out, span_str("x-hark-key"), message->routing_key);
    if (event->instance != NULL)
        table_put_string(out, span_str("x-hark-listener"), event->instance->name);
    else if (delivery->meant_for != NULL) /* or a replay would run all the others */
        table_put_string(out, span_str("x-hark-listener"), span_str(delivery->meant_for));
    if (event->why != NULL)
        table_put_string(out, span_str("x-hark-error"), wrap_cut(event->why));
    if (message_id(message).length == 0)
        table_put_string(out, span_str("x-hark-id"), delivery_id(delivery));
    if ((properties->flags & PROPERTY_USER_ID) != 0)
        table_put_string(out, span_str("x-hark-user-id"), properties->user_id);
    if ((properties->flags & PROPERTY_EXPIRATION) != 0)
        table_put_string(out, span_str("x-hark-expiration"), properties->expiration);
    properties->flags &= (uint16_t) ~(PROPERTY_USER_ID | PROPERTY_EXPIRATION);
}

static struct outgoing *wrap_finish(struct dispatcher *dispatcher, struct properties *properties, struct span exchange,
                                    struct span key, const struct delivery *delivery)
{
    struct buf *out = &dispatcher->properties;
    struct span raw;

    properties->headers = buf_span(&dispatcher->headers);
    properties->flags |= PROPERTY_HEADERS;
    buf_clear(out);
    properties_put(out, properties);
    raw = buf_span(out);
    if (dispatcher->headers.failed || out->failed || raw.length > emit_header_room(dispatcher))
        return NULL;
    return outgoing_new(exchange, key, raw, delivery->message->body, delivery->carrier);
}

/* The delivery's body, as it is or as it comes. */
static struct outgoing *wrap_stream(const struct delivery *delivery, struct outgoing *outgoing)
{
    if (outgoing != NULL)
        outgoing->streamed = delivery->oversized;
    return outgoing;
}

/* Room for headers beside the other properties. */
static size_t wrap_room(const struct dispatcher *dispatcher, const struct properties *properties)
{
    size_t others = 2 + 4 + 11 + 10 /* flags, table length, numbers, string lengths */
                    + properties->content_type.length + properties->content_encoding.length +
                    properties->correlation_id.length + properties->reply_to.length + properties->message_id.length +
                    properties->type.length + properties->app_id.length + properties->cluster_id.length;
    size_t room = emit_header_room(dispatcher);

    return room > others ? room - others : 0;
}

struct outgoing *wrap_retry(struct hark_event *event, int64_t delay, bool cut)
{
    struct delivery *delivery = event->delivery;
    struct dispatcher *dispatcher = delivery->queue->dispatcher;
    struct span headers = delivery->message->properties.headers;
    struct buf *out = &dispatcher->headers;
    struct properties properties;
    char exchange[48];

    message_properties(delivery->message, &properties);
    snprintf(exchange, sizeof(exchange), "hark.retry.%lld", (long long)delay);
    buf_clear(out);
    wrap_put_origin(out, event, &properties);
    table_put_integer(out, span_str("x-hark-attempt"), delivery->attempt);
    if (delivery->round > 0)
        table_put_integer(out, span_str("x-hark-round"), delivery->round);
    if (wrap_put_headers(out, headers, wrap_room(dispatcher, &properties)) > 0 && !cut)
        return NULL; /* it would not come back as it was */
    return wrap_stream(delivery,
                       wrap_finish(dispatcher, &properties, span_str(exchange), delivery->queue->name, delivery));
}

struct outgoing *wrap_dead_letter(struct hark_event *event, const char *reason)
{
    struct delivery *delivery = event->delivery;
    struct dispatcher *dispatcher = delivery->queue->dispatcher;
    struct span headers = delivery->message->properties.headers;
    struct buf *out = &dispatcher->headers;
    struct properties properties;
    size_t dropped, room;

    message_properties(delivery->message, &properties);
    buf_clear(out);
    wrap_put_origin(out, event, &properties);
    table_put_string(out, span_str("x-hark-reason"), span_str(reason));
    table_put_string(out, span_str("x-hark-queue"), delivery->queue->name);
    table_put_integer(out, span_str("x-hark-attempts"), delivery->attempt);
    table_put_integer(out, span_str("x-hark-round"), delivery->round + 1);
    table_put_time(out, span_str("x-hark-time"), (uint64_t)time(NULL));
    if (delivery->oversized > 0)
        table_put_integer(out, span_str("x-hark-body-size"), (int64_t)delivery->oversized);
    properties.delivery_mode = 2;
    properties.flags |= PROPERTY_DELIVERY_MODE;
    room = wrap_room(dispatcher, &properties);
    dropped = wrap_put_headers(out, headers, room > 64 ? room - 64 : 0);
    if (dropped > 0)
        table_put_integer(out, span_str("x-hark-dropped-headers"), (int64_t)dropped);
    return wrap_stream(delivery, wrap_finish(dispatcher, &properties, span_str(dispatcher->options.dead_letter),
                                             delivery->message->routing_key, delivery));
}

/* ---- and back ---- */

/* Takes one of our headers out of the wrap. True if it was one. */
static bool wrap_take(struct table_entry *entry, struct span *exchange, struct span *key, struct properties *properties,
                      struct unwrapped *unwrapped)
{
    struct span name = entry->name;

    if (!span_starts(name, WRAP_PREFIX))
        return wrap_is_brokers(name); /* put there while it waited */
    if (span_is(name, "x-hark-cause") || span_is(name, "x-hark-hops"))
        return false;
    if (span_is(name, "x-hark-attempt")) {
        if (!table_integer(entry, &unwrapped->attempts) || unwrapped->attempts < 0)
            unwrapped->attempts = 0;
        return true;
    }
    if (span_is(name, "x-hark-round")) {
        if (!table_integer(entry, &unwrapped->round) || unwrapped->round < 0 || unwrapped->round > UINT32_MAX)
            unwrapped->round = 0;
        return true;
    }
    if (entry->kind != 'S')
        return true;
    if (span_is(name, "x-hark-exchange")) {
        *exchange = entry->value;
    } else if (span_is(name, "x-hark-key")) {
        *key = entry->value;
    } else if (span_is(name, "x-hark-listener")) {
        unwrapped->listener = entry->value;
    } else if (span_is(name, "x-hark-id")) {
        unwrapped->id = entry->value;
    } else if (span_is(name, "x-hark-user-id")) {
        properties->user_id = entry->value;
        properties->flags |= PROPERTY_USER_ID;
    } else if (span_is(name, "x-hark-expiration")) {
        properties->expiration = entry->value;
        properties->flags |= PROPERTY_EXPIRATION;
    }
    return true;
}

struct message *wrap_open(const struct dispatch_queue *queue, const struct message *message,
                          struct unwrapped *unwrapped)
{
    struct dispatcher *dispatcher = queue->dispatcher;
    struct buf *out = &dispatcher->headers, *raw = &dispatcher->properties;
    struct properties properties;
    struct span exchange = {0}, key = {0};
    struct table_entry entry;
    struct message *opened;
    struct reply error;
    size_t cursor = 0;

    *unwrapped = (struct unwrapped){0};
    /* Wraps come through the default exchange to this queue by name, and say where they were first. */
    if (message->exchange.length != 0 || !span_equal(message->routing_key, queue->name) ||
        !table_find(message->properties.headers, span_str("x-hark-exchange"), &entry))
        return NULL;
    message_properties(message, &properties);
    buf_clear(out);
    while (table_next(properties.headers, &cursor, &entry)) {
        if (span_starts(entry.name, WRAP_KEPT))
            table_put_value(out,
                            span_of(entry.name.data + sizeof(WRAP_KEPT) - 1, entry.name.length - sizeof(WRAP_KEPT) + 1),
                            entry.kind, entry.value);
        else if (!wrap_take(&entry, &exchange, &key, &properties, unwrapped))
            buf_put_span(out, entry.whole);
    }
    if (exchange.length > NAME_MAX_LENGTH || key.length > NAME_MAX_LENGTH ||
        properties.user_id.length > NAME_MAX_LENGTH || properties.expiration.length > NAME_MAX_LENGTH)
        return NULL;
    properties.headers = buf_span(out);
    if (properties.headers.length == 0)
        properties.flags &= (uint16_t)~PROPERTY_HEADERS;
    buf_clear(raw);
    properties_put(raw, &properties);
    opened = out->failed || raw->failed ? NULL : message_new(exchange, key, buf_span(raw), 0, &error);
    if (opened != NULL)
        opened->body = message->body;
    else
        unwrapped->no_memory = true;
    return opened;
}
