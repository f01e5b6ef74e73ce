/* SPDX-License-Identifier: MIT */
#include "broker/exchange.h"

#include "broker/arguments.h"
#include "broker/records.h"

#include <stdlib.h>
#include <utlist.h>

struct exchange *exchange_new(struct vhost *vhost, const struct exchange_options *options, bool record)
{
    size_t name = options->name.length, arguments = options->arguments.length;
    struct exchange *exchange = calloc(1, sizeof(*exchange) + name + arguments);
    struct table_entry entry;

    if (exchange == NULL)
        return NULL;
    exchange->vhost = vhost;
    exchange->type = options->type;
    exchange->durable = options->durable;
    exchange->auto_delete = options->auto_delete;
    exchange->internal = options->internal;
    if (name > 0)
        memcpy(exchange->bytes, options->name.data, name);
    if (arguments > 0)
        memcpy(exchange->bytes + name, options->arguments.data, arguments);
    exchange->name = span_of(exchange->bytes, name);
    exchange->arguments = span_of(exchange->bytes + name, arguments);
    if (table_find(exchange->arguments, span_str("alternate-exchange"), &entry) && entry.kind == 'S')
        exchange->alternate = entry.value;
    HASH_ADD_KEYPTR(hh, vhost->exchanges, exchange->bytes, name, exchange);
    if (exchange->hh.tbl == NULL) {
        free(exchange);
        return NULL;
    }
    vhost->generation++;
    if (record && exchange->durable)
        record_exchange(exchange, true);
    return exchange;
}

bool exchange_is_used(const struct exchange *exchange)
{
    return exchange->bindings != NULL;
}

void exchange_free(struct exchange *exchange)
{
    struct binding *binding, *next;

    HASH_CLEAR(hh, exchange->known);
    for (binding = exchange->bindings; binding != NULL; binding = next) {
        next = binding->next;
        free(binding);
    }
    if (exchange->type->free != NULL)
        exchange->type->free(exchange);
    HASH_DELETE(hh, exchange->vhost->exchanges, exchange);
    free(exchange);
}

static void exchange_end(struct exchange *exchange)
{
    exchange->auto_delete = false; /* or the last binding would delete it a second time */
    while (exchange->bindings != NULL)
        binding_unlink(exchange->bindings);
    while (exchange->incoming != NULL)
        binding_unlink(exchange->incoming);
    if (exchange->durable)
        record_exchange(exchange, false);
    exchange->vhost->generation++;
    exchange_free(exchange);
}

void exchange_delete_unbound(struct vhost *vhost)
{
    struct exchange *exchange;

    while ((exchange = vhost->unbound) != NULL) {
        LL_DELETE2(vhost->unbound, exchange, next_unbound);
        exchange_end(exchange);
    }
}

void exchange_delete(struct exchange *exchange)
{
    struct vhost *vhost = exchange->vhost;

    exchange_end(exchange);
    exchange_delete_unbound(vhost);
}

int exchange_equals(const struct exchange *exchange, const struct exchange_options *options, struct reply *error)
{
    char what[300];

    snprintf(what, sizeof(what), "exchange '%.*s'", (int)exchange->name.length, (const char *)exchange->name.data);
    if (exchange->type != options->type)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_EXCHANGE_DECLARE_METHOD,
                         "inequivalent arg 'type' for %s in vhost '%s': received '%s' but current is '%s'", what,
                         exchange->vhost->name, options->type->name, exchange->type->name);
    if (arguments_same_flag("durable", what, exchange->vhost->name, options->durable, exchange->durable, error) != 0 ||
        arguments_same_flag("auto_delete", what, exchange->vhost->name, options->auto_delete, exchange->auto_delete,
                            error) != 0 ||
        arguments_same_flag("internal", what, exchange->vhost->name, options->internal, exchange->internal, error) !=
            0 ||
        arguments_same("alternate-exchange", what, exchange->vhost->name, options->arguments, exchange->arguments,
                       error) != 0)
        return -1;
    return 0;
}
