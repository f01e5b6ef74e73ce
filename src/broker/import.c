/* SPDX-License-Identifier: MIT */
/* RabbitMQ's export of definitions, applied: what is there already and equal is left alone. */
#include "broker/broker_private.h"
#include "broker/definitions.h"
#include "broker/queue.h"

#include <stdio.h>

static int import_reply(const struct reply *reply, char *error, size_t size)
{
    snprintf(error, size, "%s", reply->text);
    return -1;
}

static struct vhost *import_find_vhost(struct broker *broker, const char *name, char *error, size_t size)
{
    struct vhost *vhost = broker_vhost(broker, span_str(name));

    if (vhost == NULL)
        snprintf(error, size, "there is no virtual host '%s'", name);
    return vhost;
}

static int import_vhost(void *arg, const char *name, char *error, size_t size)
{
    if (broker_add_vhost(arg, name) == 0)
        return 0;
    snprintf(error, size, "no memory");
    return -1;
}

static int import_user(void *arg, const struct user_options *user, char *error, size_t size)
{
    struct broker *broker = arg;
    struct user_options options = *user;

    options.loopback_only |= strcmp(options.name, "guest") == 0; /* the export does not say; RabbitMQ's default */
    return users_put(broker->users, &options, error, size);
}

static int import_permission(void *arg, const struct definitions_permission *permission, char *error, size_t size)
{
    struct broker *broker = arg;

    return users_permit(broker->users, permission->user, permission->vhost, permission->configure, permission->write,
                        permission->read, error, size);
}

static int import_exchange(void *arg, const struct definitions_exchange *given, char *error, size_t size)
{
    struct vhost *vhost = import_find_vhost(arg, given->vhost, error, size);
    struct exchange_options options = {
        .name = span_str(given->name),
        .arguments = given->arguments,
        .type = exchange_type_find(span_str(given->type)),
        .durable = given->durable,
        .auto_delete = given->auto_delete,
        .internal = given->internal,
    };
    struct exchange *exchange;
    struct reply reply;

    if (vhost == NULL)
        return -1;
    if (options.type == NULL) {
        snprintf(error, size, "there is no exchange type '%s' here: direct, fanout, topic and headers", given->type);
        return -1;
    }
    exchange = vhost_exchange(vhost, options.name);
    if (exchange != NULL)
        return exchange_equals(exchange, &options, &reply) == 0 ? 0 : import_reply(&reply, error, size);
    if (exchange_new(vhost, &options, true) != NULL)
        return 0;
    snprintf(error, size, "no memory");
    return -1;
}

static int import_queue(void *arg, const struct definitions_queue *given, char *error, size_t size)
{
    struct vhost *vhost = import_find_vhost(arg, given->vhost, error, size);
    struct queue_options options = {
        .name = span_str(given->name),
        .arguments = given->arguments,
        .durable = given->durable,
        .auto_delete = given->auto_delete,
    };
    struct queue_policy policy;
    struct queue *queue;
    struct reply reply;

    if (vhost == NULL)
        return -1;
    queue = vhost_queue(vhost, options.name);
    if (queue != NULL)
        return queue_equals(queue, &options, &reply) == 0 ? 0 : import_reply(&reply, error, size);
    if (queue_policy_read(&options, given->vhost, &policy, &reply) != 0)
        return import_reply(&reply, error, size);
    if (queue_new(vhost, &options, &policy, 0) != NULL)
        return 0;
    snprintf(error, size, "no memory");
    return -1;
}

static int import_binding(void *arg, const struct definitions_binding *given, char *error, size_t size)
{
    struct vhost *vhost = import_find_vhost(arg, given->vhost, error, size);
    struct exchange *source, *exchange = NULL;
    struct queue *queue = NULL;
    struct reply reply;

    if (vhost == NULL)
        return -1;
    source = vhost_exchange(vhost, span_str(given->source));
    if (given->to_exchange)
        exchange = vhost_exchange(vhost, span_str(given->destination));
    else
        queue = vhost_queue(vhost, span_str(given->destination));
    if (source == NULL || (exchange == NULL && queue == NULL)) {
        snprintf(error, size, "there is no %s '%s' in virtual host '%s'",
                 source == NULL || given->to_exchange ? "exchange" : "queue",
                 source == NULL ? given->source : given->destination, given->vhost);
        return -1;
    }
    if (source->type->check != NULL && source->type->check(given->arguments, &reply) != 0)
        return import_reply(&reply, error, size);
    if (binding_add(source, queue, exchange, span_str(given->routing_key), given->arguments, true) == 0)
        return 0;
    snprintf(error, size, "no memory");
    return -1;
}

int broker_import(struct broker *broker, const char *file, char *error, size_t size)
{
    static const struct definitions_ops ops = {
        .vhost = import_vhost,
        .user = import_user,
        .permission = import_permission,
        .exchange = import_exchange,
        .queue = import_queue,
        .binding = import_binding,
    };

    return definitions_load(file, &ops, broker, error, size);
}
