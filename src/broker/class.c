/* SPDX-License-Identifier: MIT */
#include "broker/class.h"

#include "broker/broker_private.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>

int class_arguments(struct buf *out, const amqp_table_t *arguments, struct reply *error)
{
    size_t room = 256;
    size_t offset;

    if (arguments->num_entries == 0)
        return 0;
    for (;;) {
        amqp_bytes_t to = {.len = room, .bytes = buf_reserve(out, room)};
        amqp_table_t table = *arguments;

        offset = 0;
        if (to.bytes == NULL)
            return class_no_memory(error);
        if (amqp_encode_table(to, &table, &offset) == AMQP_STATUS_OK)
            break;
        room *= 2;
        if (room > 2 * FRAME_LIMIT)
            return class_no_memory(error);
    }
    out->end += offset;
    out->start += 4; /* without the length */
    return 0;
}

bool class_is_reserved(struct span name)
{
    return name.length >= 4 && memcmp(name.data, "amq.", 4) == 0;
}

struct span class_random_name(char *to, size_t size, const char *prefix)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[22];
    size_t at = (size_t)snprintf(to, size, "%s", prefix);

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        for (size_t i = 0; i < sizeof(random); i++) /* never with a kernel that has booted */
            random[i] = (uint8_t)((uint64_t)time(NULL) >> (i % 8));
    for (size_t i = 0; i < sizeof(random) && at + 1 < size; i++)
        to[at++] = digits[random[i] & 63];
    to[at] = '\0';
    return span_of(to, at);
}

struct span class_stripped_name(char to[UINT8_MAX], amqp_bytes_t name)
{
    const char *bytes = name.bytes;
    size_t length = 0;

    if (HARK_LIKELY(name.len == 0 || (memchr(bytes, '\r', name.len) == NULL && memchr(bytes, '\n', name.len) == NULL)))
        return span_amqp(name);
    for (size_t i = 0; i < name.len && length < UINT8_MAX; i++)
        if (bytes[i] != '\r' && bytes[i] != '\n')
            to[length++] = bytes[i];
    return span_of(to, length);
}

int class_no_exchange(struct peer_channel *channel, struct span name, struct reply *error)
{
    return reply_set(error, REPLY_NOT_FOUND, 0, "no exchange '%.*s' in vhost '%s'", (int)name.length,
                     (const char *)name.data, channel->peer->vhost->name);
}

int class_no_queue(struct peer_channel *channel, struct span name, struct reply *error)
{
    return reply_set(error, REPLY_NOT_FOUND, 0, "no queue '%.*s' in vhost '%s'", (int)name.length,
                     (const char *)name.data, channel->peer->vhost->name);
}

int class_locked(struct peer_channel *channel, struct span name, struct reply *error)
{
    return reply_set(error, REPLY_RESOURCE_LOCKED, 0,
                     "cannot obtain exclusive access to locked queue '%.*s' in vhost '%s'. It could be originally "
                     "declared on another connection or the exclusive property value does not match that of the "
                     "original declaration.",
                     (int)(name.length < 100 ? name.length : 100), (const char *)name.data, channel->peer->vhost->name);
}

int class_default_exchange(struct reply *error)
{
    return reply_set(error, REPLY_ACCESS_REFUSED, 0, "operation not permitted on the default exchange");
}

int class_no_memory(struct reply *error)
{
    return reply_set(error, REPLY_RESOURCE_ERROR, 0, "out of memory");
}

struct queue *class_readable_queue(struct peer_channel *channel, struct span name, struct reply *error)
{
    struct span meant = name.length > 0 ? name : channel->last_queue;

    if (meant.length > 0 && peer_may(channel->peer, PERMISSION_READ, "queue", meant, error) != 0)
        return NULL;
    return class_find_queue(channel, name, error);
}

struct queue *class_find_queue(struct peer_channel *channel, struct span name, struct reply *error)
{
    struct queue *queue;

    if (name.length == 0) {
        name = channel->last_queue;
        if (name.length == 0) {
            reply_set(error, REPLY_NOT_FOUND, 0, "no previously declared queue");
            return NULL;
        }
    }
    queue = vhost_queue(channel->peer->vhost, name);
    if (queue == NULL) {
        class_no_queue(channel, name, error);
        return NULL;
    }
    if (queue->exclusive && queue->owner != channel->peer) {
        class_locked(channel, name, error);
        return NULL;
    }
    queue_catch_up(queue);
    return queue;
}

int class_bind(struct peer_channel *channel, struct exchange *source, struct queue *queue, struct exchange *exchange,
               struct span key, struct span arguments, bool add, struct reply *error)
{
    struct binding *binding = binding_find(source, queue, exchange, key, arguments);
    bool durable = source->durable && (queue != NULL ? queue->durable : exchange->durable);

    if (add) {
        if (binding != NULL)
            return 0;
        if (source->type->check != NULL && source->type->check(arguments, error) != 0)
            return -1;
        if (binding_add(source, queue, exchange, key, arguments, true) != 0)
            return class_no_memory(error);
    } else {
        if (binding == NULL)
            return 0;
        binding_remove(binding);
    }
    if (durable)
        peer_hold(channel->peer);
    return 0;
}
