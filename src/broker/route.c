/* SPDX-License-Identifier: MIT */
#include "broker/route.h"

#include "broker/queue.h"
#include "wire/method.h"
#include "wire/table.h"

#include <stdlib.h>

static void route_grow(struct route *route, void *array, size_t *capacity, size_t element)
{
    size_t more = *capacity == 0 ? 16 : 2 * *capacity;
    void *grown;
    void **at = array;

    grown = realloc(*at, more * element);
    if (grown == NULL) {
        route->failed = true;
        return;
    }
    *at = grown;
    *capacity = more;
}

static void route_to_queue(struct route *route, struct queue *queue)
{
    if (queue->stamp == route->stamp)
        return;
    if (route->count == route->capacity)
        route_grow(route, &route->queues, &route->capacity, sizeof(struct queue *));
    if (route->failed)
        return;
    queue->stamp = route->stamp;
    route->queues[route->count++] = queue;
}

static void route_to_exchange(struct route *route, struct exchange *exchange)
{
    if (exchange->stamp == route->stamp)
        return;
    if (route->pending == route->room)
        route_grow(route, &route->worklist, &route->room, sizeof(struct exchange *));
    if (route->failed)
        return;
    exchange->stamp = route->stamp;
    route->worklist[route->pending++] = exchange;
}

static void route_chosen(void *arg, struct binding *binding)
{
    struct route *route = arg;

    route->chosen++;
    if (binding->queue != NULL)
        route_to_queue(route, binding->queue);
    else
        route_to_exchange(route, binding->exchange);
}

static void route_by_key(struct route *route, struct exchange *exchange, const struct message *message, struct span key)
{
    struct queue *queue;

    if (exchange->name.length > 0) {
        exchange->type->choose(exchange, message, key, route_chosen, route);
        return;
    }
    queue = vhost_queue(exchange->vhost, key);
    if (queue != NULL) {
        route->chosen++;
        route_to_queue(route, queue);
    }
}

static void route_by_keys(struct route *route, struct exchange *exchange, const struct message *message,
                          struct span keys)
{
    struct table_entry key;
    size_t cursor = 0;

    while (table_next_item(keys, &cursor, &key))
        if (key.kind == 'S')
            route_by_key(route, exchange, message, key.value);
}

/* CC or BCC. */
static struct span route_more_keys(const struct message *message, const char *name)
{
    struct table_entry header;

    if (!table_find(message->properties.headers, span_str(name), &header) || header.kind != 'A')
        return span_of(NULL, 0);
    return header.value;
}

int route_message(struct route *route, struct exchange *exchange, const struct message *message)
{
    struct span cc = {0}, bcc = {0};

    if (message->properties.headers.length > 0) {
        cc = route_more_keys(message, "CC");
        bcc = route_more_keys(message, "BCC");
    }
    route->count = route->pending = 0;
    route->failed = false;
    route->stamp++;
    route_to_exchange(route, exchange);
    for (size_t at = 0; at < route->pending && !route->failed; at++) {
        struct exchange *next = route->worklist[at], *alternate;

        route->chosen = 0;
        route_by_key(route, next, message, message->routing_key);
        if (HARK_UNLIKELY(cc.length + bcc.length > 0 && !next->type->keyless)) {
            route_by_keys(route, next, message, cc);
            route_by_keys(route, next, message, bcc);
        }
        if (HARK_UNLIKELY(route->chosen == 0 && next->alternate.length > 0)) {
            alternate = vhost_exchange(next->vhost, next->alternate);
            if (alternate != NULL)
                route_to_exchange(route, alternate);
        }
    }
    return route->failed ? -1 : 0;
}

void route_free(struct route *route)
{
    free(route->queues);
    free(route->worklist);
}

static int route_check_header(const struct message *message, const char *name, bool *there, struct reply *error)
{
    struct table_entry header, key;
    size_t cursor = 0;

    *there = table_find(message->properties.headers, span_str(name), &header);
    if (!*there)
        return 0;
    if (header.kind != 'A')
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH_METHOD,
                         "invalid '%s' header: a %c, expected an array of strings", name, header.kind);
    while (table_next_item(header.value, &cursor, &key))
        if (key.kind != 'S')
            return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH_METHOD,
                             "invalid '%s' header: a %c in the array, expected strings", name, key.kind);
    return 0;
}

int route_check(const struct message *message, bool *bcc, struct reply *error)
{
    bool cc;

    *bcc = false;
    if (HARK_LIKELY(message->properties.headers.length == 0))
        return 0;
    if (route_check_header(message, "CC", &cc, error) != 0)
        return -1;
    return route_check_header(message, "BCC", bcc, error);
}
