/* SPDX-License-Identifier: MIT */
/* What the arguments of queue.declare ask for; the limits of each are RabbitMQ's. */
#include "broker/arguments.h"
#include "broker/queue.h"

#define POLICY_EXPIRES_MAX 4294967295LL /* (2^32 - 1) ms */

static int policy_wrong(struct reply *error, const struct table_entry *entry, const char *why)
{
    return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_QUEUE_DECLARE_METHOD,
                     "invalid arg '%.*s' for queue.declare: %s", (int)(entry->name.length < 100 ? entry->name.length : 100),
                     (const char *)entry->name.data, why);
}

static int policy_number(const struct table_entry *entry, int64_t low, int64_t high, int64_t *to, struct reply *error)
{
    if (entry->kind == 't' || entry->kind == 'T' || !table_integer(entry, to))
        return policy_wrong(error, entry, "expected an integer");
    if (*to < low)
        return policy_wrong(error, entry, low > 0 ? "it must be above 0" : "it must not be negative");
    if (*to > high)
        return policy_wrong(error, entry, "it is too large");
    return 0;
}

static int policy_text(const struct table_entry *entry, struct span *to, bool *has, struct reply *error)
{
    if (entry->kind != 'S')
        return policy_wrong(error, entry, "expected a string");
    if (entry->value.length > UINT8_MAX)
        return policy_wrong(error, entry, "a name has at most 255 bytes");
    *to = entry->value;
    *has = true;
    return 0;
}

static int policy_overflow(const struct table_entry *entry, struct queue_policy *policy, struct reply *error)
{
    if (entry->kind == 'S' && span_is(entry->value, "drop-head"))
        policy->overflow = QUEUE_DROP_HEAD;
    else if (entry->kind == 'S' && span_is(entry->value, "reject-publish"))
        policy->overflow = QUEUE_REJECT_PUBLISH;
    else if (entry->kind == 'S' && span_is(entry->value, "reject-publish-dlx"))
        policy->overflow = QUEUE_REJECT_PUBLISH_DLX;
    else
        return policy_wrong(error, entry, "expected drop-head, reject-publish or reject-publish-dlx");
    return 0;
}

static int policy_type(const struct table_entry *entry, struct queue_policy *policy, struct reply *error)
{
    if (entry->kind == 'S' && span_is(entry->value, "quorum"))
        policy->quorum = true;
    else if (entry->kind != 'S' || !span_is(entry->value, "classic"))
        return policy_wrong(error, entry, "this broker has classic and quorum queues");
    return 0;
}

static int policy_entry(const struct table_entry *entry, struct queue_policy *policy, struct reply *error)
{
    int64_t number;

    if (span_is(entry->name, "x-message-ttl"))
        return policy_number(entry, 0, POLICY_EXPIRES_MAX, &policy->message_ttl, error);
    if (span_is(entry->name, "x-expires"))
        return policy_number(entry, 1, POLICY_EXPIRES_MAX, &policy->expires, error);
    if (span_is(entry->name, "x-max-length"))
        return policy_number(entry, 0, INT64_MAX, &policy->max_length, error);
    if (span_is(entry->name, "x-max-length-bytes"))
        return policy_number(entry, 0, INT64_MAX, &policy->max_bytes, error);
    if (span_is(entry->name, "x-delivery-limit"))
        return policy_number(entry, 0, UINT16_MAX - 1, &policy->delivery_limit, error);
    if (span_is(entry->name, "x-dead-letter-exchange"))
        return policy_text(entry, &policy->dead_exchange, &policy->has_dead_exchange, error);
    if (span_is(entry->name, "x-dead-letter-routing-key"))
        return policy_text(entry, &policy->dead_key, &policy->has_dead_key, error);
    if (span_is(entry->name, "x-overflow"))
        return policy_overflow(entry, policy, error);
    if (span_is(entry->name, "x-queue-type"))
        return policy_type(entry, policy, error);
    if (span_is(entry->name, "x-max-priority")) {
        if (policy_number(entry, 0, UINT8_MAX, &number, error) != 0)
            return -1;
        policy->max_priority = (uint8_t)number;
    } else if (span_is(entry->name, "x-single-active-consumer")) {
        if (entry->kind != 't')
            return policy_wrong(error, entry, "expected a boolean");
        policy->single_active = entry->value.data[0] != 0;
    }
    return 0;
}

int queue_policy_read(struct span arguments, struct queue_policy *policy, struct reply *error)
{
    struct table_entry entry;
    size_t cursor = 0;

    *policy = (struct queue_policy){
        .message_ttl = -1, .expires = -1, .max_length = -1, .max_bytes = -1, .delivery_limit = -1};
    while (table_next(arguments, &cursor, &entry))
        if (policy_entry(&entry, policy, error) != 0)
            return -1;
    if (policy->has_dead_key && !policy->has_dead_exchange)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_QUEUE_DECLARE_METHOD,
                         "invalid arg 'x-dead-letter-routing-key' for queue.declare: routing_key_but_no_dlx_defined");
    return 0;
}
