/* SPDX-License-Identifier: MIT */
#include "wire/message.h"

#include <stdlib.h>

static uint8_t *message_copy(uint8_t *to, struct span from, struct span *view)
{
    if (from.length > 0)
        memcpy(to, from.data, from.length);
    *view = span_of(to, from.length);
    return to + from.length;
}

static int message_read(struct message *message, struct reply *error)
{
    struct message_brief *brief = &message->properties;
    struct properties all;

    if (properties_parse(message->raw_properties, &all, error) != 0)
        return -1;
    brief->flags = all.flags;
    brief->delivery_mode = all.delivery_mode;
    brief->priority = all.priority;
    brief->headers = all.headers;
    brief->id_length = (uint8_t)all.message_id.length;
    brief->id_at = brief->id_length > 0 ? (uint32_t)(all.message_id.data - message->raw_properties.data) : 0;
    return 0;
}

struct message *message_new(struct span exchange, struct span routing_key, struct span raw_properties, size_t body_size,
                            struct reply *error)
{
    size_t fixed = sizeof(struct message) + exchange.length + routing_key.length + raw_properties.length + 2;
    struct message *message = NULL;
    uint8_t *at;

    if (body_size <= PTRDIFF_MAX - fixed)
        message = malloc(fixed + body_size);
    if (message == NULL) {
        reply_set(error, REPLY_RESOURCE_ERROR, 0, "no memory for a message of %zu bytes", body_size);
        return NULL;
    }
    message->references = 1;
    message->entries = 0;
    at = message_copy(message->bytes, exchange, &message->exchange);
    *at++ = 0;
    at = message_copy(at, routing_key, &message->routing_key);
    *at++ = 0;
    at = message_copy(at, raw_properties, &message->raw_properties);
    message->body = span_of(at, body_size);
    if (message_read(message, error) != 0) {
        free(message);
        return NULL;
    }
    return message;
}

void message_properties(const struct message *message, struct properties *properties)
{
    properties_view(message->raw_properties, properties);
}

uint8_t *message_body_bytes(struct message *message)
{
    return message->bytes + (message->body.data - message->bytes);
}

struct message *message_hold(struct message *message)
{
    message->references++;
    return message;
}

void message_drop(struct message *message)
{
    if (message != NULL && --message->references == 0)
        free(message);
}
