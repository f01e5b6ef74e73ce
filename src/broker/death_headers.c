/* SPDX-License-Identifier: MIT */
#include "broker/deaths.h"

#include "broker/queue_private.h"
#include "wire/table.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const char *const death_reasons[] = {
    [DEATH_REJECTED] = "rejected",
    [DEATH_EXPIRED] = "expired",
    [DEATH_MAXLEN] = "maxlen",
    [DEATH_DELIVERY_LIMIT] = "delivery_limit",
};

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

/* The record of this death, as one item of the array. */
static void death_put_record(struct buf *out, const struct death *death)
{
    const struct message *message = death->entry.message;
    struct properties properties;
    size_t position;

    buf_put_u8(out, 'F');
    position = table_begin(out);
    table_put_long(out, span_str("count"), 1);
    table_put_string(out, span_str("exchange"), message->exchange);
    message_properties(message, &properties);
    if ((properties.flags & PROPERTY_EXPIRATION) != 0)
        table_put_string(out, span_str("original-expiration"), properties.expiration);
    table_put_string(out, span_str("queue"), death->queue->name);
    table_put_string(out, span_str("reason"), span_str(death_reasons[death->reason]));
    death_put_keys(out, message);
    table_put_time(out, span_str("time"), (uint64_t)(loop_wall(death->queue->vhost->broker->loop) / 1000));
    table_end(out, position);
}

/* The records of one queue and reason, or an item that is no record. */
struct death_kind {
    struct table_entry first;
    bool record;
    struct span queue, reason;
    uint64_t hash;
    int64_t times; /* how many: what counts if the first one has no count */
};

/* Where the number of its kind stands, from 1; or 0, where it is to stand: a table of open addresses, for whoever
 * publishes may claim thousands of deaths. */
static uint32_t *death_place(uint32_t *places, size_t mask, const struct death_kind *kinds,
                             const struct death_kind *kind)
{
    size_t at = kind->hash & mask;

    for (; places[at] != 0; at = (at + 1) & mask) {
        const struct death_kind *other = &kinds[places[at] - 1];

        if (other->hash == kind->hash && span_equal(other->queue, kind->queue) &&
            span_equal(other->reason, kind->reason))
            break;
    }
    return &places[at];
}

/* What an array of records has, each kind once: RabbitMQ before 3.5 wrote a record for each death, without a count.
 * Returns how many there are; *kinds is the caller's to free, NULL without memory. */
static size_t death_kinds(struct span records, struct death_kind **kinds)
{
    struct death_kind kind = {0};
    size_t items = 0, count = 0, cursor = 0, room = 8;
    uint32_t *places, *place;

    while (table_next_item(records, &cursor, &kind.first))
        items++;
    while (room < 2 * items)
        room *= 2;
    places = calloc(room, sizeof(*places));
    *kinds = places != NULL ? calloc(items + 1, sizeof(**kinds)) : NULL;
    cursor = 0;
    while (*kinds != NULL && table_next_item(records, &cursor, &kind.first)) {
        kind.record = kind.first.kind == 'F' && death_is_of(kind.first.value, &kind.queue, &kind.reason);
        kind.times = items > 1; /* a lone one without a count stays so, as in RabbitMQ */
        if (kind.record)
            kind.hash = XXH3_64bits_withSeed(kind.queue.data, kind.queue.length,
                                             XXH3_64bits(kind.reason.data, kind.reason.length));
        place = kind.record ? death_place(places, room - 1, *kinds, &kind) : NULL;
        if (place != NULL && *place != 0) {
            (*kinds)[*place - 1].times++;
            continue;
        }
        (*kinds)[count++] = kind;
        if (place != NULL)
            *place = (uint32_t)count;
    }
    free(places);
    return count;
}

/* A kind as one record, counted up by `more`. */
static void death_put_kind(struct buf *out, const struct death_kind *kind, int64_t more)
{
    struct table_entry field;
    size_t position, cursor = 0;
    bool counted = false;
    int64_t count;

    buf_put_u8(out, 'F');
    position = table_begin(out);
    while (table_next(kind->first.value, &cursor, &field)) {
        bool is_count = span_is(field.name, "count");

        counted = counted || is_count;
        if (is_count && table_integer(&field, &count) && more > 0)
            table_put_long(out, field.name, count < INT64_MAX ? count + more : count);
        else
            buf_put_span(out, field.whole);
    }
    if (!counted && kind->times + more > 0)
        table_put_long(out, span_str("count"), kind->times + more);
    table_end(out, position);
}

static void death_put_array(struct buf *out, const struct death *death, struct span records)
{
    struct span name = span_str("x-death");
    struct death_kind *kinds, *mine = NULL;
    size_t position, count = death_kinds(records, &kinds);

    if (kinds == NULL) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (kinds[i].record && span_equal(kinds[i].queue, death->queue->name) &&
            span_is(kinds[i].reason, death_reasons[death->reason]))
            mine = &kinds[i];
    buf_put_u8(out, (uint8_t)name.length);
    buf_put_span(out, name);
    buf_put_u8(out, 'A');
    position = table_begin(out);
    if (mine != NULL)
        death_put_kind(out, mine, 1);
    else
        death_put_record(out, death);
    for (size_t i = 0; i < count; i++)
        if (!kinds[i].record)
            buf_put_span(out, kinds[i].first.whole);
        else if (&kinds[i] != mine)
            death_put_kind(out, &kinds[i], 0);
    table_end(out, position);
    free(kinds);
}

static bool death_is_first_header(struct span name)
{
    return span_is(name, "x-first-death-exchange") || span_is(name, "x-first-death-queue") ||
           span_is(name, "x-first-death-reason");
}

void death_put_headers(struct buf *out, const struct death *death)
{
    struct span headers = death->entry.message->properties.headers;
    struct table_entry field, deaths;
    bool first = !table_find(headers, span_str("x-death"), &deaths);
    size_t cursor = 0;

    while (table_next(headers, &cursor, &field)) {
        if (span_is(field.name, "x-death") || (first && death_is_first_header(field.name)) ||
            (death->queue->policy.has_dead_key && span_is(field.name, "CC")))
            continue;
        buf_put_span(out, field.whole);
    }
    death_put_array(out, death, !first && deaths.kind == 'A' ? deaths.value : (struct span){0});
    if (first) {
        table_put_string(out, span_str("x-first-death-exchange"), death->entry.message->exchange);
        table_put_string(out, span_str("x-first-death-queue"), death->queue->name);
        table_put_string(out, span_str("x-first-death-reason"), span_str(death_reasons[death->reason]));
    }
}

bool death_is_cycle(const struct queue *queue, struct span headers)
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
