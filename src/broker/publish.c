/* SPDX-License-Identifier: MIT */
#include "broker/publish.h"

#include "broker/broker_private.h"
#include "broker/queue.h"

#include <stdlib.h>

/* The property expiration, in ms; checked when the message came in. 0: none. */
static int64_t publish_expires(struct broker *broker, const struct message *message)
{
    struct properties properties;
    struct span text;
    int64_t ms = 0;

    if (HARK_LIKELY((message->properties.flags & PROPERTY_EXPIRATION) == 0))
        return 0;
    message_properties(message, &properties);
    text = properties.expiration;
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || ms > QUEUE_TIME_MAX)
            return 0;
        ms = ms * 10 + (text.data[i] - '0');
    }
    return loop_wall(broker->loop) + ms;
}

void publish_to(struct broker *broker, struct queue **queues, size_t count, struct message *message,
                struct published *published)
{
    bool persistent = (message->properties.flags & PROPERTY_DELIVERY_MODE) != 0 &&
                      message->properties.delivery_mode == 2;
    struct queue_addition addition = {.message = message, .persistent = persistent};
    size_t durable = 0;

    *published = (struct published){.queues = count};
    if (count == 0)
        return;
    addition.expires = publish_expires(broker, message);
    if (count > 1) {
        for (size_t i = 0; persistent && i < count; i++)
            durable += queues[i]->durable;
        if (durable > 1)
            addition.shared = store_new_shared(broker->store);
    }
    for (size_t i = 0; i < count; i++) {
        if (HARK_UNLIKELY(queue_add(queues[i], &addition) == QUEUE_REJECTED))
            published->rejected = true;
        else if (addition.stored)
            published->batch = store_batch(broker->store);
    }
    broker->published++;
}

int publish_message(struct exchange *exchange, struct message *message, struct published *published)
{
    struct broker *broker = exchange->vhost->broker;

    if (HARK_UNLIKELY(route_message(&broker->route, exchange, message) != 0))
        return -1;
    publish_to(broker, broker->route.queues, broker->route.count, message, published);
    return 0;
}
