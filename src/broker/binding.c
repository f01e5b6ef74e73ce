/* SPDX-License-Identifier: MIT */
#include "broker/exchange.h"
#include "broker/queue.h"
#include "broker/records.h"

#include <stdlib.h>
#include <utlist.h>

enum { BINDING_TO_QUEUE = 'q', BINDING_TO_EXCHANGE = 'e' };

static struct span binding_destination(struct queue *queue, struct exchange *exchange)
{
    return queue != NULL ? queue->name : exchange->name;
}

/* kind, destination, key, arguments: names have at most 255 bytes. Returns the length. */
static size_t binding_identity(uint8_t *to, struct queue *queue, struct exchange *exchange, struct span key,
                               struct span arguments)
{
    struct span destination = binding_destination(queue, exchange);
    uint8_t *at = to;

    *at++ = queue != NULL ? BINDING_TO_QUEUE : BINDING_TO_EXCHANGE;
    *at++ = (uint8_t)destination.length;
    if (destination.length > 0)
        memcpy(at, destination.data, destination.length);
    at += destination.length;
    *at++ = (uint8_t)key.length;
    if (key.length > 0)
        memcpy(at, key.data, key.length);
    at += key.length;
    if (arguments.length > 0)
        memcpy(at, arguments.data, arguments.length);
    return (size_t)(at - to) + arguments.length;
}

static struct binding *binding_new(struct exchange *source, struct queue *queue, struct exchange *exchange,
                                   struct span key, struct span arguments)
{
    size_t length = 3 + binding_destination(queue, exchange).length + key.length + arguments.length;
    struct binding *binding = calloc(1, sizeof(*binding) + length);

    if (binding == NULL)
        return NULL;
    binding->source = source;
    binding->queue = queue;
    binding->exchange = exchange;
    binding->identity = span_of(binding->bytes, binding_identity(binding->bytes, queue, exchange, key, arguments));
    binding->arguments = span_of(binding->bytes + length - arguments.length, arguments.length);
    binding->key = span_of(binding->bytes + length - arguments.length - key.length, key.length);
    /* An exclusive queue does not outlive its connection, let alone the process. */
    binding->durable = source->durable && (queue != NULL ? queue->durable && !queue->exclusive : exchange->durable);
    return binding;
}

struct binding *binding_find(struct exchange *source, struct queue *queue, struct exchange *exchange, struct span key,
                             struct span arguments)
{
    struct binding *known, *wanted;

    wanted = binding_new(source, queue, exchange, key, arguments);
    if (wanted == NULL)
        return NULL;
    HASH_FIND(hh, source->known, wanted->identity.data, wanted->identity.length, known);
    free(wanted);
    return known;
}

static struct binding **binding_incoming(struct binding *binding)
{
    return binding->queue != NULL ? &binding->queue->bindings : &binding->exchange->incoming;
}

int binding_add(struct exchange *source, struct queue *queue, struct exchange *exchange, struct span key,
                struct span arguments, bool record)
{
    struct binding *binding = binding_new(source, queue, exchange, key, arguments), *known, **incoming;

    if (binding == NULL)
        return -1;
    HASH_FIND(hh, source->known, binding->identity.data, binding->identity.length, known);
    if (known != NULL) {
        free(binding);
        return 0;
    }
    HASH_ADD_KEYPTR(hh, source->known, binding->bytes, binding->identity.length, binding);
    if (binding->hh.tbl == NULL) {
        free(binding);
        return -1;
    }
    if (source->type->add != NULL && source->type->add(source, binding) != 0) {
        HASH_DELETE(hh, source->known, binding);
        free(binding);
        return -1;
    }
    DL_APPEND(source->bindings, binding);
    incoming = binding_incoming(binding);
    DL_APPEND2(*incoming, binding, in_prev, in_next);
    source->binding_count++;
    source->bound = true;
    source->vhost->generation++;
    if (record && binding->durable)
        record_binding(binding, true);
    return 0;
}

void binding_unlink(struct binding *binding)
{
    struct exchange *source = binding->source;
    struct binding **incoming = binding_incoming(binding);

    if (source->type->remove != NULL)
        source->type->remove(source, binding);
    HASH_DELETE(hh, source->known, binding);
    DL_DELETE(source->bindings, binding);
    DL_DELETE2(*incoming, binding, in_prev, in_next);
    source->binding_count--;
    source->vhost->generation++;
    if (binding->durable)
        record_binding(binding, false);
    free(binding);
    if (source->auto_delete && source->bindings == NULL) {
        source->auto_delete = false; /* once */
        LL_PREPEND2(source->vhost->unbound, source, next_unbound);
    }
}

void binding_remove(struct binding *binding)
{
    struct vhost *vhost = binding->source->vhost;

    binding_unlink(binding);
    exchange_delete_unbound(vhost);
}

void binding_remove_all(struct binding **incoming)
{
    while (*incoming != NULL)
        binding_remove(*incoming);
}
