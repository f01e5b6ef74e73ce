/* SPDX-License-Identifier: MIT */
#include "dispatch/parts.h"

#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define DELIVERY_SPARES 1024

struct delivery *delivery_new(struct dispatch_queue *queue, const struct dispatch_ticket *ticket, bool redelivered,
                              struct message *message, uint16_t events)
{
    struct dispatcher *dispatcher = queue->dispatcher;
    struct delivery *delivery;

    if (events <= 1 && dispatcher->spare != NULL) {
        delivery = dispatcher->spare;
        dispatcher->spare = delivery->next;
        dispatcher->spare_count--;
    } else {
        delivery = malloc(sizeof(*delivery) + (events > 1 ? events : 1) * sizeof(delivery->events[0]));
        if (delivery == NULL)
            return NULL;
    }
    memset(delivery, 0, offsetof(struct delivery, id));
    delivery->queue = queue;
    delivery->ticket = *ticket;
    delivery->message = delivery->carrier = message;
    delivery->redelivered = redelivered;
    delivery->attempt = 1;
    delivery->event_count = events;
    delivery->pending = 1 + (uint32_t)events;
    delivery->next = dispatcher->in_hand;
    if (delivery->next != NULL)
        delivery->next->previous = delivery;
    dispatcher->in_hand = delivery;
    dispatcher->counters.in_hand++;
    return delivery;
}

void delivery_dispose(struct delivery *delivery)
{
    struct dispatcher *dispatcher = delivery->queue->dispatcher;

    if (delivery->previous != NULL)
        delivery->previous->next = delivery->next;
    else
        dispatcher->in_hand = delivery->next;
    if (delivery->next != NULL)
        delivery->next->previous = delivery->previous;
    dispatcher->counters.in_hand--;
    if (delivery->carrier != delivery->message)
        message_drop(delivery->carrier);
    message_drop(delivery->message);
    free(delivery->meant_for);
#ifndef HARK_CHECKED /* so that a sanitizer sees who comes too late */
    if (delivery->event_count <= 1 && dispatcher->spare_count < DELIVERY_SPARES) {
        delivery->next = dispatcher->spare;
        dispatcher->spare = delivery;
        dispatcher->spare_count++;
        return;
    }
#endif
    free(delivery);
}

void delivery_free_spares(struct dispatcher *dispatcher)
{
    while (dispatcher->spare != NULL) {
        struct delivery *delivery = dispatcher->spare;

        dispatcher->spare = delivery->next;
        free(delivery);
    }
    dispatcher->spare_count = 0;
}

void delivery_release(struct delivery *delivery)
{
    struct dispatcher *dispatcher = delivery->queue->dispatcher;

    if (--delivery->pending > 0)
        return;
    if (!delivery->abandoned) {
        dispatcher->counters.acked++;
        dispatcher->ports.ack(dispatcher->ports.arg, &delivery->ticket);
    } else if (delivery->postponed) {
        dispatcher->ports.postpone(dispatcher->ports.arg, &delivery->ticket);
    }
    if (delivery->dedup_hash != 0)
        duplicates_end(delivery, !delivery->abandoned);
    delivery_dispose(delivery);
    if (HARK_UNLIKELY(dispatcher->draining))
        dispatcher_check_drained(dispatcher);
}

struct span delivery_id(struct delivery *delivery)
{
    struct span own = message_id(delivery->message);

    if (own.length > 0)
        return own;
    if (delivery->id_length == 0) {
        emit_random_id(delivery->queue->dispatcher, delivery->id);
        delivery->id_length = DISPATCH_ID_SIZE;
    }
    return span_of(delivery->id, delivery->id_length);
}

uint64_t delivery_hash(struct delivery *delivery)
{
    const struct message *message = delivery->message;
    struct span queue = delivery->queue->name;
    struct span id = message_id(message);

    if (delivery->hashed)
        return delivery->hash;
    delivery->hashed = true;
    delivery->hash = XXH3_64bits(queue.data, queue.length);
    if (id.length == 0 && delivery->id_length > 0)
        id = span_of(delivery->id, delivery->id_length);
    if (id.length > 0) {
        delivery->hash = XXH3_64bits_withSeed(id.data, id.length, delivery->hash);
        return delivery->hash;
    }
    /* Equal messages without an id count as one: they crash a listener all alike. */
    delivery->hash = XXH3_64bits_withSeed(message->routing_key.data, message->routing_key.length, delivery->hash);
    delivery->hash = XXH3_64bits_withSeed(message->raw_properties.data, message->raw_properties.length, delivery->hash);
    delivery->hash = XXH3_64bits_withSeed(message->body.data, message->body.length, delivery->hash);
    return delivery->hash;
}
