/* SPDX-License-Identifier: MIT */
#include "broker/vhost.h"

#include "broker/exchange.h"
#include "broker/queue.h"
#include "broker/records.h"

#include <stdlib.h>

static const struct {
    const char *name, *type;
    bool internal;
} vhost_exchanges[] = {
    {"", "direct", false},
    {"amq.direct", "direct", false},
    {"amq.fanout", "fanout", false},
    {"amq.topic", "topic", false},
    {"amq.headers", "headers", false},
    {"amq.match", "headers", false},
    {"amq.rabbitmq.trace", "topic", true},
};

struct vhost *vhost_new(struct broker *broker, struct span name)
{
    struct vhost *vhost = calloc(1, sizeof(*vhost));

    if (vhost == NULL)
        return NULL;
    vhost->broker = broker;
    vhost->name = strndup((const char *)name.data, name.length);
    if (vhost->name == NULL)
        goto fail;
    for (size_t i = 0; i < HARK_COUNT(vhost_exchanges); i++) {
        struct exchange_options options = {
            .name = span_str(vhost_exchanges[i].name),
            .type = exchange_type_find(span_str(vhost_exchanges[i].type)),
            .durable = true,
            .internal = vhost_exchanges[i].internal,
        };

        if (exchange_new(vhost, &options, false) == NULL)
            goto fail;
    }
    return vhost;

fail:
    vhost_free(vhost);
    return NULL;
}

void vhost_free(struct vhost *vhost)
{
    struct exchange *exchange, *next;
    struct queue *queue, *after;

    HASH_ITER (hh, vhost->queues, queue, after) {
        queue_free(queue);
    }
    HASH_ITER (hh, vhost->exchanges, exchange, next) {
        exchange_free(exchange);
    }
    free(vhost->name);
    free(vhost);
}

void vhost_delete(struct vhost *vhost)
{
    struct exchange *exchange, *next;
    struct queue *queue, *after;

    HASH_ITER (hh, vhost->queues, queue, after) {
        queue_delete(queue);
    }
    /* One at a time from the front: a deletion may take others along. */
    while (vhost->exchanges != NULL) {
        exchange = vhost->exchanges;
        exchange_delete(exchange);
    }
    (void)next;
    record_vhost(vhost, false);
    vhost_free(vhost);
}

struct exchange *vhost_exchange(const struct vhost *vhost, struct span name)
{
    struct exchange *exchange;

    HASH_FIND(hh, vhost->exchanges, name.data, name.length, exchange);
    return exchange;
}

struct queue *vhost_queue(const struct vhost *vhost, struct span name)
{
    struct queue *queue;

    HASH_FIND(hh, vhost->queues, name.data, name.length, queue);
    return queue;
}
