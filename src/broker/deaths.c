/* SPDX-License-Identifier: MIT */
#include "broker/deaths.h"

#include "broker/publish.h"
#include "broker/queue_private.h"
#include "wire/table.h"

#include "base/log.h"

#include <stdlib.h>

#define DEATHS_AT_ONCE 2000 /* then it is the others' turn */

static const char *const death_reasons[] = {
    [DEATH_REJECTED] = "rejected",
    [DEATH_EXPIRED] = "expired",
    [DEATH_MAXLEN] = "maxlen",
    [DEATH_DELIVERY_LIMIT] = "delivery_limit",
};

/* ---- the line ---- */

void deaths_add(struct queue *queue, const struct entry *entry, enum death_reason reason)
{
    struct deaths *deaths = &queue_broker(queue)->deaths;
    struct death *death;

    if (!queue->policy.has_dead_exchange || queue->deleted) {
        struct entry gone = *entry;

        queue_forget_entry(queue, &gone);
        return;
    }
    if (deaths->end == deaths->capacity) {
        size_t capacity = deaths->capacity == 0 ? 64 : 2 * deaths->capacity;
        struct death *items = realloc(deaths->items, capacity * sizeof(*items));

        if (items == NULL) {
            struct entry gone = *entry;

            log_error("queue '%.*s': no memory for a dead letter: it is lost", (int)queue->name.length,
                      (const char *)queue->name.data);
            queue_forget_entry(queue, &gone);
            return;
        }
        deaths->items = items;
        deaths->capacity = capacity;
    }
    death = &deaths->items[deaths->end++];
    death->queue = queue;
    death->entry = *entry;
    death->reason = reason;
    queue->references++;
}

void deaths_forget(struct broker *broker, const struct vhost *vhost)
{
    struct deaths *deaths = &broker->deaths;
    size_t kept = 0;

    for (size_t i = 0; i < deaths->end; i++) {
        struct death *death = &deaths->items[i];

        if (vhost != NULL && death->queue->vhost != vhost) {
            deaths->items[kept++] = *death;
            continue;
        }
        queue_drop_entry(death->queue, &death->entry);
        queue_release(death->queue);
    }
    deaths->end = deaths->turned = kept;
    if (kept > 0)
        return;
    free(deaths->items);
    deaths->items = NULL;
    deaths->capacity = 0;
}

/* ---- the header x-death ---- */

/* True if this x-death entry is of that queue and reason; *queue is whose it is. */
static bool death_is_of(struct span record, struct span *queue, struct span *reason)
{
    struct table_entry field;

    if (!table_find(record, span_str("queue"), &field) || field.kind != 'S')
        return false;
    *queue = field.value;
    if (!table_find(record, span_str("reason"), &field) || field.kind != 'S')
        return false;
    *reason = field.value;
    return true;
}

static void death_put_keys(struct buf *out, const struct message *message)
{
    struct table_entry header, key;
    size_t position, cursor = 0;
    struct span name = span_str("routing-keys");

    buf_put_u8(out, (uint8_t)name.length);
    buf_put_span(out, name);
    buf_put_u8(out, 'A');
    position = table_begin(out);
    buf_put_u8(out, 'S');
    buf_put_u32(out, (uint32_t)message->routing_key.length);
    buf_put_span(out, message->routing_key);
    if (table_find(message->properties.headers, span_str("CC"), &header) && header.kind == 'A')
        while (table_next_item(header.value, &cursor, &key))
            if (key.kind == 'S') {
                buf_put_u8(out, 'S');
                buf_put_u32(out, (uint32_t)key.value.length);
                buf_put_span(out, key.value);
            }
    table_end(out, position);
}

/* The record of this death, as one item of the array: the first of its kind, or an earlier one counted up. */
static void death_put_record(struct buf *out, const struct death *death, const struct table_entry *earlier)
{
    const struct message *message = death->entry.message;
    struct properties properties;
    struct table_entry field;
    size_t position, cursor = 0;
    int64_t count;

    buf_put_u8(out, 'F');
    position = table_begin(out);
    if (earlier != NULL) {
        while (table_next(earlier->value, &cursor, &field)) {
            if (span_is(field.name, "count") && table_integer(&field, &count))
                table_put_long(out, field.name, count < INT64_MAX ? count + 1 : count);
            else
                buf_put_span(out, field.whole);
        }
    } else {
        table_put_long(out, span_str("count"), 1);
        table_put_string(out, span_str("exchange"), message->exchange);
        message_properties(message, &properties);
        if ((properties.flags & PROPERTY_EXPIRATION) != 0)
            table_put_string(out, span_str("original-expiration"), properties.expiration);
        table_put_string(out, span_str("queue"), death->queue->name);
        table_put_string(out, span_str("reason"), span_str(death_reasons[death->reason]));
        death_put_keys(out, message);
        table_put_time(out, span_str("time"), (uint64_t)(loop_wall(death->queue->vhost->broker->loop) / 1000));
    }
    table_end(out, position);
}

static void death_put_array(struct buf *out, const struct death *death, const struct table_entry *deaths)
{
    struct table_entry item, mine = {0};
    struct span name = span_str("x-death"), queue, reason;
    size_t position, cursor = 0;
    bool found = false;

    while (deaths != NULL && !found && table_next_item(deaths->value, &cursor, &item))
        if (item.kind == 'F' && death_is_of(item.value, &queue, &reason) && span_equal(queue, death->queue->name) &&
            span_is(reason, death_reasons[death->reason])) {
            mine = item;
            found = true;
        }
    buf_put_u8(out, (uint8_t)name.length);
    buf_put_span(out, name);
    buf_put_u8(out, 'A');
    position = table_begin(out);
    death_put_record(out, death, found ? &mine : NULL);
    cursor = 0;
    while (deaths != NULL && table_next_item(deaths->value, &cursor, &item))
        if (!found || item.value.data != mine.value.data)
            buf_put_span(out, item.whole);
    table_end(out, position);
}

static void death_put_headers(struct buf *out, const struct death *death)
{
    struct span headers = death->entry.message->properties.headers;
    struct table_entry field, deaths;
    bool before = table_find(headers, span_str("x-death"), &deaths) && deaths.kind == 'A';
    bool first = !table_find(headers, span_str("x-first-death-reason"), &field);
    size_t cursor = 0;

    while (table_next(headers, &cursor, &field)) {
        if (span_is(field.name, "x-death") || (death->queue->policy.has_dead_key && span_is(field.name, "CC")))
            continue;
        buf_put_span(out, field.whole);
    }
    death_put_array(out, death, before ? &deaths : NULL);
    if (first) {
        table_put_string(out, span_str("x-first-death-exchange"), death->entry.message->exchange);
        table_put_string(out, span_str("x-first-death-queue"), death->queue->name);
        table_put_string(out, span_str("x-first-death-reason"), span_str(death_reasons[death->reason]));
    }
}

/* ---- where it goes ---- */

/* A message that has already died in this queue, and never by being rejected since, goes round in circles. */
static bool death_is_cycle(const struct queue *queue, struct span headers)
{
    struct table_entry deaths, item;
    struct span name, reason;
    size_t cursor = 0;

    if (!table_find(headers, span_str("x-death"), &deaths) || deaths.kind != 'A')
        return false;
    while (table_next_item(deaths.value, &cursor, &item)) {
        if (item.kind != 'F' || !death_is_of(item.value, &name, &reason))
            continue;
        if (span_is(reason, "rejected"))
            return false;
        if (span_equal(name, queue->name))
            return true;
    }
    return false;
}

static struct message *death_message(const struct death *death)
{
    const struct message *message = death->entry.message;
    const struct queue_policy *policy = &death->queue->policy;
    struct buf headers = {0}, raw = {0};
    struct message *letter = NULL;
    struct properties properties;
    struct reply error;

    message_properties(message, &properties);
    death_put_headers(&headers, death);
    properties.headers = buf_span(&headers);
    properties.flags |= PROPERTY_HEADERS;
    properties.flags &= (uint16_t)~PROPERTY_EXPIRATION;
    properties_put(&raw, &properties);
    if (!headers.failed && !raw.failed)
        letter = message_new(policy->dead_exchange, policy->has_dead_key ? policy->dead_key : message->routing_key,
                             buf_span(&raw), message->body.length, &error);
    if (letter != NULL && message->body.length > 0)
        memcpy(message_body_bytes(letter), message->body.data, message->body.length);
    buf_free(&headers);
    buf_free(&raw);
    return letter;
}

static void death_publish(struct broker *broker, const struct death *death)
{
    struct exchange *exchange = vhost_exchange(death->queue->vhost, death->queue->policy.dead_exchange);
    struct route *route = &broker->route;
    struct published published;
    struct message *letter;
    size_t kept = 0;

    if (exchange == NULL)
        return;
    letter = death_message(death);
    if (letter == NULL || route_message(route, exchange, letter) != 0) {
        log_error("queue '%.*s': no memory for a dead letter: it is lost", (int)death->queue->name.length,
                  (const char *)death->queue->name.data);
        message_drop(letter);
        return;
    }
    for (size_t i = 0; i < route->count; i++)
        if (death->reason == DEATH_REJECTED || !death_is_cycle(route->queues[i], letter->properties.headers))
            route->queues[kept++] = route->queues[i];
    publish_to(broker, route->queues, kept, letter, &published);
    message_drop(letter);
}

/* What has been added since: the first of it is next. */
static void deaths_turn(struct deaths *deaths)
{
    for (size_t low = deaths->turned, high = deaths->end; low + 1 < high; low++, high--) {
        struct death other = deaths->items[low];

        deaths->items[low] = deaths->items[high - 1];
        deaths->items[high - 1] = other;
    }
    deaths->turned = deaths->end;
}

void deaths_run(struct broker *broker)
{
    struct deaths *deaths = &broker->deaths;
    unsigned left = DEATHS_AT_ONCE;

    if (HARK_LIKELY(deaths->end == 0) || deaths->running || deaths->resting)
        return;
    deaths->running = true;
    for (deaths_turn(deaths); deaths->end > 0 && left > 0; left--, deaths_turn(deaths)) {
        struct death death = deaths->items[--deaths->end];

        deaths->turned = deaths->end;
        if (!death.queue->deleted)
            death_publish(broker, &death);
        broker->replacing = true;
        queue_forget_entry(death.queue, &death.entry);
        broker->replacing = false;
        queue_release(death.queue);
    }
    deaths->running = false;
    if (deaths->end > 0) {
        deaths->resting = true;
        evtimer_add(deaths->rest, &(struct timeval){0});
    } else if (deaths->capacity > 4096) { /* a crowd has passed */
        free(deaths->items);
        deaths->items = NULL;
        deaths->capacity = 0;
    }
}
