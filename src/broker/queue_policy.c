/* SPDX-License-Identifier: MIT */
/* What the arguments of queue.declare ask for; the limits of each are RabbitMQ's. */
#include "broker/arguments.h"
#include "broker/queue.h"

#include <stdio.h>

/* What is being read, for the texts of errors. */
struct policy_reader {
    struct queue_policy *policy;
    struct reply *error;
    char where[200]; /* "queue 'q' in vhost '/'" */
};

static int policy_wrong(struct policy_reader *reader, const struct table_entry *entry, const char *why)
{
    return reply_set(reader->error, REPLY_PRECONDITION_FAILED, AMQP_QUEUE_DECLARE_METHOD, "invalid arg '%.*s' for %s%s",
                     (int)(entry->name.length < 100 ? entry->name.length : 100), (const char *)entry->name.data,
                     reader->where, why);
}

static int policy_number(const struct table_entry *entry, int64_t low, int64_t high, int64_t *to,
                         struct policy_reader *reader)
{
    if (entry->kind == 't' || entry->kind == 'T' || !table_integer(entry, to))
        return policy_wrong(reader, entry, ": expected an integer");
    if (*to < low)
        return policy_wrong(reader, entry, low > 0 ? ": it must be above 0" : ": it must not be negative");
    if (*to > high)
        return policy_wrong(reader, entry, ": it is too large");
    return 0;
}

static int policy_text(const struct table_entry *entry, struct span *to, bool *has, struct policy_reader *reader)
{
    if (entry->kind != 'S')
        return policy_wrong(reader, entry, ": expected a string");
    if (entry->value.length > UINT8_MAX)
        return policy_wrong(reader, entry, ": a name has at most 255 bytes");
    *to = entry->value;
    *has = true;
    return 0;
}

static int policy_overflow(const struct table_entry *entry, struct policy_reader *reader)
{
    if (entry->kind == 'S' && span_is(entry->value, "drop-head"))
        reader->policy->overflow = QUEUE_DROP_HEAD;
    else if (entry->kind == 'S' && span_is(entry->value, "reject-publish"))
        reader->policy->overflow = QUEUE_REJECT_PUBLISH;
    else if (entry->kind == 'S' && span_is(entry->value, "reject-publish-dlx"))
        reader->policy->overflow = QUEUE_REJECT_PUBLISH_DLX;
    else
        return policy_wrong(reader, entry, ": expected drop-head, reject-publish or reject-publish-dlx");
    return 0;
}

static int policy_type(const struct table_entry *entry, struct policy_reader *reader)
{
    if (entry->kind == 'S' && span_is(entry->value, "quorum"))
        reader->policy->quorum = true;
    else if (entry->kind != 'S' || !span_is(entry->value, "classic"))
        return policy_wrong(reader, entry, ": this broker has classic and quorum queues");
    return 0;
}

static int policy_entry(const struct table_entry *entry, struct policy_reader *reader)
{
    int64_t number;

    if (span_is(entry->name, "x-message-ttl"))
        return policy_number(entry, 0, QUEUE_TIME_MAX, &reader->policy->message_ttl, reader);
    if (span_is(entry->name, "x-expires"))
        return policy_number(entry, 1, QUEUE_TIME_MAX, &reader->policy->expires, reader);
    if (span_is(entry->name, "x-max-length"))
        return policy_number(entry, 0, INT64_MAX, &reader->policy->max_length, reader);
    if (span_is(entry->name, "x-max-length-bytes"))
        return policy_number(entry, 0, INT64_MAX, &reader->policy->max_bytes, reader);
    if (span_is(entry->name, "x-delivery-limit"))
        return policy_number(entry, 0, UINT16_MAX - 1, &reader->policy->delivery_limit, reader);
    if (span_is(entry->name, "x-dead-letter-exchange"))
        return policy_text(entry, &reader->policy->dead_exchange, &reader->policy->has_dead_exchange, reader);
    if (span_is(entry->name, "x-dead-letter-routing-key"))
        return policy_text(entry, &reader->policy->dead_key, &reader->policy->has_dead_key, reader);
    if (span_is(entry->name, "x-overflow"))
        return policy_overflow(entry, reader);
    if (span_is(entry->name, "x-queue-type"))
        return policy_type(entry, reader);
    if (span_is(entry->name, "x-queue-mode") &&
        (entry->kind != 'S' || (!span_is(entry->value, "lazy") && !span_is(entry->value, "default"))))
        return policy_wrong(reader, entry, ": expected lazy or default");
    if (span_is(entry->name, "x-max-priority")) {
        if (policy_number(entry, 0, UINT8_MAX, &number, reader) != 0)
            return -1;
        reader->policy->max_priority = (uint8_t)number;
    } else if (span_is(entry->name, "x-single-active-consumer")) {
        if (entry->kind != 't')
            return policy_wrong(reader, entry, ": expected a boolean");
        reader->policy->single_active = entry->value.data[0] != 0;
    }
    return 0;
}

/* RabbitMQ's quorum queues are durable and everybody's. */
static int policy_check_quorum(const struct queue_options *options, struct policy_reader *reader)
{
    const char *wrong = options->auto_delete ? "auto-delete"
                        : options->exclusive ? "exclusive-owner"
                        : !options->durable  ? "non-durable"
                                             : NULL;

    if (!reader->policy->quorum || wrong == NULL)
        return 0;
    return reply_set(reader->error, REPLY_PRECONDITION_FAILED, AMQP_QUEUE_DECLARE_METHOD,
                     "invalid property '%s' for %s", wrong, reader->where);
}

int queue_policy_read(const struct queue_options *options, const char *vhost, struct queue_policy *policy,
                      struct reply *error)
{
    struct policy_reader reader = {.policy = policy, .error = error};
    struct table_entry entry;
    size_t cursor = 0;

    snprintf(reader.where, sizeof(reader.where), "queue '%.*s' in vhost '%s'",
             (int)(options->name.length < 100 ? options->name.length : 100), (const char *)options->name.data, vhost);
    *policy = (struct queue_policy){
        .message_ttl = -1, .expires = -1, .max_length = -1, .max_bytes = -1, .delivery_limit = -1};
    while (table_next(options->arguments, &cursor, &entry))
        if (policy_entry(&entry, &reader) != 0)
            return -1;
    if (policy->has_dead_key && !policy->has_dead_exchange) {
        entry.name = span_str("x-dead-letter-routing-key");
        return policy_wrong(&reader, &entry, ": routing_key_but_no_dlx_defined");
    }
    return policy_check_quorum(options, &reader);
}
