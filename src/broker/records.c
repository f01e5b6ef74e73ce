/* SPDX-License-Identifier: MIT */
#include "broker/records.h"

#include "base/log.h"
#include "broker/broker_private.h"
#include "broker/queue.h"

#include "wire/method.h"
#include "wire/table.h"

#include <stdio.h>
#include <stdlib.h>

#define RECORD_VERSION 1

enum { RECORD_AUTO_DELETE = 1, RECORD_INTERNAL = 2, RECORD_EXCLUSIVE = 4 };

/* ---- writing ---- */

static void record_put_name(struct buf *out, struct span name)
{
    buf_put_u8(out, (uint8_t)name.length);
    buf_put_span(out, name);
}

/* Name and value are the store's copies afterwards. Without memory nothing is written, and whoever waits for the
 * batch is told that it is safe: so this ends the process, which a supervisor starts again with what is on disk. */
static void record_write(struct broker *broker, enum store_kind kind, struct buf *name, struct buf *value, bool there)
{
    if (name->failed || value->failed) {
        log_error("broker: no memory to write a definition");
        log_flush(1000);
        abort();
    }
    if (there)
        store_put(broker->store, kind, buf_span(name), buf_span(value));
    else
        store_forget(broker->store, kind, buf_span(name));
    buf_free(name);
    buf_free(value);
}

void record_vhost(const struct vhost *vhost, bool there)
{
    struct buf name = {0}, value = {0};

    buf_put_span(&name, span_str(vhost->name));
    buf_put_u8(&value, RECORD_VERSION);
    record_write(vhost->broker, STORE_VHOST, &name, &value, there);
}

void record_exchange(const struct exchange *exchange, bool there)
{
    struct buf name = {0}, value = {0};

    record_put_name(&name, span_str(exchange->vhost->name));
    record_put_name(&name, exchange->name);
    buf_put_u8(&value, RECORD_VERSION);
    buf_put_u8(&value, (exchange->auto_delete ? RECORD_AUTO_DELETE : 0) | (exchange->internal ? RECORD_INTERNAL : 0));
    record_put_name(&value, span_str(exchange->type->name));
    buf_put_span(&value, exchange->arguments);
    record_write(exchange->vhost->broker, STORE_EXCHANGE, &name, &value, there);
}

void record_queue(const struct queue *queue, bool there)
{
    struct buf name = {0}, value = {0};

    record_put_name(&name, span_str(queue->vhost->name));
    record_put_name(&name, queue->name);
    buf_put_u8(&value, RECORD_VERSION);
    buf_put_u8(&value, (queue->auto_delete ? RECORD_AUTO_DELETE : 0) | (queue->exclusive ? RECORD_EXCLUSIVE : 0));
    buf_put_u64(&value, queue->id);
    buf_put_span(&value, queue->arguments);
    record_write(queue->vhost->broker, STORE_QUEUE, &name, &value, there);
}

void record_binding(const struct binding *binding, bool there)
{
    struct buf name = {0}, value = {0};

    record_put_name(&name, span_str(binding->source->vhost->name));
    record_put_name(&name, binding->source->name);
    buf_put_span(&name, binding->identity);
    buf_put_u8(&value, RECORD_VERSION);
    record_write(binding->source->vhost->broker, STORE_BINDING, &name, &value, there);
}

/* ---- reading: every read checks what is left ---- */

struct record_reader {
    struct broker *broker;
    struct span name, value;
    bool bad, failed;
    struct queue **queues; /* once the figures begin: by number */
    size_t queue_count;
    bool sorted;
};

static uint8_t record_take_u8(struct span *from, bool *bad)
{
    uint8_t value;

    if (from->length < 1) {
        *bad = true;
        return 0;
    }
    value = *from->data;
    *from = span_of(from->data + 1, from->length - 1);
    return value;
}

static struct span record_take_name(struct span *from, bool *bad)
{
    size_t length = record_take_u8(from, bad);
    struct span name = span_of(from->data, length);

    if (from->length < length) {
        *bad = true;
        return span_of(NULL, 0);
    }
    *from = span_of(from->data + length, from->length - length);
    return name;
}

static struct vhost *record_take_vhost(struct record_reader *reader)
{
    struct vhost *vhost = broker_vhost(reader->broker, record_take_name(&reader->name, &reader->bad));

    reader->bad |= vhost == NULL;
    return vhost;
}

static void record_read_vhost(struct record_reader *reader)
{
    char *name = strndup((const char *)reader->name.data, reader->name.length);

    reader->failed |= name == NULL || broker_add_vhost(reader->broker, name) != 0;
    free(name);
}

static void record_read_exchange(struct record_reader *reader)
{
    struct vhost *vhost = record_take_vhost(reader);
    struct exchange_options options = {.durable = true};
    uint8_t flags = record_take_u8(&reader->value, &reader->bad);

    options.name = record_take_name(&reader->name, &reader->bad);
    options.auto_delete = (flags & RECORD_AUTO_DELETE) != 0;
    options.internal = (flags & RECORD_INTERNAL) != 0;
    options.type = exchange_type_find(record_take_name(&reader->value, &reader->bad));
    options.arguments = reader->value;
    reader->bad |= options.type == NULL || table_check(options.arguments, METHOD_TABLE_DEPTH) != 0;
    if (!reader->bad && vhost_exchange(vhost, options.name) == NULL)
        reader->failed |= exchange_new(vhost, &options, false) == NULL;
}

static void record_read_queue(struct record_reader *reader)
{
    struct vhost *vhost = record_take_vhost(reader);
    struct queue_options options = {.durable = true};
    struct queue_policy policy;
    struct reply error;
    uint8_t flags = record_take_u8(&reader->value, &reader->bad);
    uint64_t id;

    options.name = record_take_name(&reader->name, &reader->bad);
    options.auto_delete = (flags & RECORD_AUTO_DELETE) != 0;
    if (reader->bad || reader->value.length < sizeof(id)) {
        reader->bad = true;
        return;
    }
    id = get_u64(reader->value.data);
    options.arguments = span_of(reader->value.data + sizeof(id), reader->value.length - sizeof(id));
    if (table_check(options.arguments, METHOD_TABLE_DEPTH) != 0 ||
        queue_policy_read(&options, vhost->name, &policy, &error) != 0) {
        reader->bad = true;
        return;
    }
    if (reader->broker->next_queue <= id)
        reader->broker->next_queue = id + 1;
    if ((flags & RECORD_EXCLUSIVE) != 0) { /* whose connection is long gone */
        store_forget(reader->broker->store, STORE_QUEUE, reader->name);
        store_drop_queue(reader->broker->store, id);
        return;
    }
    reader->failed |= queue_new(vhost, &options, &policy, id) == NULL;
}

static void record_read_binding(struct record_reader *reader)
{
    struct vhost *vhost = record_take_vhost(reader);
    struct exchange *source = NULL, *exchange = NULL;
    struct queue *queue = NULL;
    struct span name, key;
    uint8_t kind;

    if (reader->bad)
        return;
    source = vhost_exchange(vhost, record_take_name(&reader->name, &reader->bad));
    kind = record_take_u8(&reader->name, &reader->bad);
    name = record_take_name(&reader->name, &reader->bad);
    key = record_take_name(&reader->name, &reader->bad);
    if (kind == 'q')
        queue = vhost_queue(vhost, name);
    else
        exchange = vhost_exchange(vhost, name);
    if (reader->bad || source == NULL || (queue == NULL && exchange == NULL) ||
        table_check(reader->name, METHOD_TABLE_DEPTH) != 0) {
        reader->bad = true;
        return;
    }
    reader->failed |= binding_add(source, queue, exchange, key, reader->name, false) != 0;
}

static void records_read(void *arg, enum store_kind kind, struct span name, struct span value)
{
    struct record_reader *reader = arg;
    char shown[300];

    reader->name = name;
    reader->value = value;
    reader->bad = false;
    if (kind == STORE_USER || kind == STORE_PERMISSION)
        reader->bad = accounts_recover(reader->broker, kind, name, value) != 0;
    else
        reader->bad = record_take_u8(&reader->value, &reader->bad) != RECORD_VERSION;
    if (!reader->bad && kind == STORE_VHOST)
        record_read_vhost(reader);
    else if (!reader->bad && kind == STORE_EXCHANGE)
        record_read_exchange(reader);
    else if (!reader->bad && kind == STORE_QUEUE)
        record_read_queue(reader);
    else if (!reader->bad && kind == STORE_BINDING)
        record_read_binding(reader);
    if (reader->bad)
        log_error("broker: a definition on disk (kind %d, \"%s\") cannot be read; it is left out", (int)kind,
                  log_escape(shown, sizeof(shown), name));
}

static int records_compare(const void *a, const void *b)
{
    const struct queue *left = *(struct queue *const *)a, *right = *(struct queue *const *)b;

    return (left->id > right->id) - (left->id < right->id);
}

/* All queues by their numbers: there may be as many figures as queues. */
static void records_sort_queues(struct record_reader *reader)
{
    struct vhost *vhost, *next;
    struct queue *queue, *after;

    reader->sorted = true;
    reader->queues = malloc((reader->broker->queue_count + 1) * sizeof(struct queue *));
    if (reader->queues == NULL) {
        reader->failed = true;
        return;
    }
    HASH_ITER (hh, reader->broker->vhosts, vhost, next) {
        HASH_ITER (hh, vhost->queues, queue, after) {
            reader->queues[reader->queue_count++] = queue;
        }
    }
    qsort(reader->queues, reader->queue_count, sizeof(struct queue *), records_compare);
}

static void records_figures(void *arg, const struct store_figures *figures)
{
    struct record_reader *reader = arg;
    size_t low = 0, high;

    if (reader->broker->next_queue <= figures->queue)
        reader->broker->next_queue = figures->queue + 1;
    if (!reader->sorted)
        records_sort_queues(reader);
    if (reader->failed)
        return;
    for (high = reader->queue_count; low < high;) {
        size_t middle = low + (high - low) / 2;

        if (reader->queues[middle]->id < figures->queue)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < reader->queue_count && reader->queues[low]->id == figures->queue)
        queue_restore(reader->queues[low], figures);
    else /* its definition was removed and its messages not yet */
        store_drop_queue(reader->broker->store, figures->queue);
}

int records_recover(struct broker *broker, char *error, size_t size)
{
    static const struct store_recovery recovery = {.record = records_read, .figures = records_figures};
    struct record_reader reader = {.broker = broker};

    int result = store_recover(broker->store, &recovery, &reader, error, size);

    free(reader.queues);
    if (result != 0)
        return -1;
    if (!reader.failed)
        return 0;
    snprintf(error, size, "no memory for the definitions on disk");
    return -1;
}
