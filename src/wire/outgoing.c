/* SPDX-License-Identifier: MIT */
#include "wire/outgoing.h"

#include <stdlib.h>

static struct span outgoing_copy(uint8_t **to, struct span from)
{
    struct span copy = span_of(*to, from.length);

    if (from.length > 0)
        memcpy(*to, from.data, from.length);
    *to += from.length;
    return copy;
}

struct outgoing *outgoing_new(struct span exchange, struct span routing_key, struct span raw_properties,
                              struct span body, struct message *body_owner)
{
    size_t own_body = body_owner != NULL ? 0 : body.length;
    size_t size = exchange.length + routing_key.length + raw_properties.length + own_body;
    struct outgoing *outgoing = malloc(sizeof(*outgoing) + size);
    uint8_t *to;

    if (outgoing == NULL)
        return NULL;
    *outgoing = (struct outgoing){.body = body};
    to = outgoing->bytes;
    outgoing->exchange = outgoing_copy(&to, exchange);
    outgoing->routing_key = outgoing_copy(&to, routing_key);
    outgoing->raw_properties = outgoing_copy(&to, raw_properties);
    if (body_owner != NULL)
        outgoing->body_owner = message_hold(body_owner);
    else
        outgoing->body = outgoing_copy(&to, body);
    return outgoing;
}

void outgoing_free(struct outgoing *outgoing)
{
    message_drop(outgoing->body_owner);
    free(outgoing);
}
