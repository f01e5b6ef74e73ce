/* SPDX-License-Identifier: MIT */
/*
 * Rows: one message of one queue each.
 *
 *   key:     queue 8, rank 1, position 8
 *   value:   flags 1, deliveries 2, expires 8, then the content, or of a shared message its number
 *            8 and the size of its body 8
 *   content: length of exchange 2, of routing key 2, of properties 4, these three, body
 *
 * All numbers are big-endian, so that keys are in order.
 */
#include "broker/store_private.h"

#include <errno.h>

#define ROW_HEAD 11
#define ROW_SHARED (ROW_HEAD + 16)
#define CONTENT_HEAD 8

enum row_flag { ROW_REDELIVERED = 1, ROW_IS_SHARED = 2 };

size_t store_content_size(const struct message *message)
{
    return CONTENT_HEAD + message->exchange.length + message->routing_key.length + message->raw_properties.length +
           message->body.length;
}

static uint8_t *store_put_span(uint8_t *to, struct span from)
{
    if (from.length > 0)
        memcpy(to, from.data, from.length);
    return to + from.length;
}

void store_content_put(uint8_t *to, const struct message *message)
{
    /* Both are AMQP's short strings. */
    put_u16(to, (uint16_t)message->exchange.length);
    put_u16(to + 2, (uint16_t)message->routing_key.length);
    put_u32(to + 4, (uint32_t)message->raw_properties.length);
    to = store_put_span(to + CONTENT_HEAD, message->exchange);
    to = store_put_span(to, message->routing_key);
    to = store_put_span(to, message->raw_properties);
    store_put_span(to, message->body);
}

/* The sizes of the three parts before the body; -1: they do not fit. */
static int store_content_parse(struct span content, struct span parts[4])
{
    size_t at = CONTENT_HEAD;

    if (content.length < CONTENT_HEAD)
        return -1;
    parts[0].length = get_u16(content.data);
    parts[1].length = get_u16(content.data + 2);
    parts[2].length = get_u32(content.data + 4);
    for (int i = 0; i < 3; i++) {
        if (parts[i].length > content.length - at)
            return -1;
        parts[i].data = content.data + at;
        at += parts[i].length;
    }
    parts[3] = span_of(content.data + at, content.length - at);
    return 0;
}

struct message *store_content_get(struct span content)
{
    struct span parts[4];
    struct message *message;
    struct reply error;

    if (store_content_parse(content, parts) != 0)
        return NULL;
    message = message_new(parts[0], parts[1], parts[2], parts[3].length, &error);
    if (message != NULL)
        store_put_span(message_body_bytes(message), parts[3]);
    return message;
}

int store_row_parse(struct span bytes, struct store_row_value *row)
{
    struct span parts[4];
    uint8_t flags;

    if (bytes.length < ROW_HEAD)
        return -1;
    flags = bytes.data[0];
    row->redelivered = flags & ROW_REDELIVERED;
    row->deliveries = get_u16(bytes.data + 1);
    row->expires = (int64_t)get_u64(bytes.data + 3);
    row->content = span_of(bytes.data + ROW_HEAD, bytes.length - ROW_HEAD);
    if (flags & ROW_IS_SHARED) {
        if (bytes.length != ROW_SHARED)
            return -1;
        row->shared = get_u64(bytes.data + ROW_HEAD);
        row->bytes = get_u64(bytes.data + ROW_HEAD + 8);
        return 0;
    }
    if (store_content_parse(row->content, parts) != 0)
        return -1;
    row->shared = 0;
    row->bytes = parts[3].length;
    return 0;
}

static void store_row_put_head(uint8_t *to, const struct store_entry *entry)
{
    to[0] = (entry->redelivered ? ROW_REDELIVERED : 0) | (entry->shared != 0 ? ROW_IS_SHARED : 0);
    put_u16(to + 1, entry->deliveries);
    put_u64(to + 3, (uint64_t)entry->expires);
}

/* A row that goes: what it counted for, and its reference to a shared message. `gone`: a purge has
 * taken it out of the figures already. One that cannot be read goes like the others. */
static int store_row_uncount(struct store_env *env, struct store_queue_state *state, MDB_val old, bool gone)
{
    struct store_row_value row;

    if (store_row_parse(span_of(old.mv_data, old.mv_size), &row) != 0)
        row.shared = row.bytes = 0;
    if (!gone && state != NULL) {
        state->figures.count -= state->figures.count > 0;
        state->figures.bytes -= row.bytes < state->figures.bytes ? row.bytes : state->figures.bytes;
    }
    return row.shared != 0 ? store_share_change(env, row.shared, -1, NULL) : 0;
}

static struct store_env *store_row_env(struct store_db *db, const struct store_entry *entry)
{
    return entry->transient ? &db->transient : &db->durable;
}

/* A purged row that is still there where another comes to stand, in the other environment. */
static int store_row_erase(struct store_db *db, struct store_env *env, const struct store_entry *entry)
{
    uint8_t bytes[STORE_KEY];
    MDB_val key = store_val(bytes, sizeof(bytes)), value;
    int code = store_env_is_there(env) ? store_env_begin(db, env) : MDB_NOTFOUND;

    store_key_put(bytes, entry->queue, entry->rank, entry->position);
    if (code == 0)
        code = mdb_cursor_get(env->find, &key, &value, MDB_SET);
    if (code == 0)
        code = store_row_uncount(env, NULL, value, true);
    if (code == 0)
        code = mdb_cursor_del(env->find, 0);
    return code == MDB_NOTFOUND ? 0 : code;
}

/* The queue of an addition, with everything noted but the count. */
static int store_row_queue(struct store_db *db, const struct store_entry *entry, struct store_queue **queue, bool *gone)
{
    struct store_figures *figures;
    uint64_t to;
    int code = 0;

    *queue = store_queue_make(db, entry->queue);
    if (*queue == NULL)
        return ENOMEM;
    *gone = store_queue_gone(*queue, entry->rank, entry->position, &to);
    if (*gone)
        code = store_queue_keep(db, *queue, entry->rank, entry->position);
    if (*gone && code == 0)
        code = store_row_erase(db, entry->transient ? &db->durable : &db->transient, entry);
    if (code == 0 && !entry->transient)
        code = store_queue_touch(db, *queue);
    if (code != 0)
        return code;
    if (entry->transient) {
        if (entry->position >= (*queue)->next_transient)
            (*queue)->next_transient = entry->position + 1;
        return 0;
    }
    figures = &(*queue)->now.figures;
    (*queue)->now.known = true;
    if (entry->position >= figures->next_position)
        figures->next_position = entry->position + 1;
    return 0;
}

int store_row_add(struct store_db *db, const struct store_entry *entry, const struct message *message)
{
    struct store_env *env = store_row_env(db, entry);
    size_t size = entry->shared != 0 ? ROW_SHARED : ROW_HEAD + store_content_size(message);
    uint8_t bytes[STORE_KEY];
    MDB_val key = store_val(bytes, sizeof(bytes)), value = store_val(NULL, size);
    struct store_queue *queue;
    bool gone, behind;
    int code = store_env_begin(db, env);

    if (code == 0)
        code = store_row_queue(db, entry, &queue, &gone);
    if (code != 0)
        return code;

    /* Appending leaves full pages behind instead of half full ones, but may be done at the end only. */
    store_key_put(bytes, entry->queue, entry->rank, entry->position);
    behind = memcmp(bytes, env->last, STORE_KEY) > 0;
    code = mdb_cursor_put(env->put, &key, &value, MDB_RESERVE | (behind ? MDB_APPEND : MDB_NOOVERWRITE));
    if (code == MDB_KEYEXIST && !behind) {
        code = store_row_uncount(env, entry->transient ? NULL : &queue->now, value, gone);
        value = store_val(NULL, size);
        if (code == 0)
            code = mdb_cursor_put(env->put, &key, &value, MDB_RESERVE);
    }
    if (code != 0)
        return code;
    if (behind)
        memcpy(env->last, bytes, STORE_KEY);

    store_row_put_head(value.mv_data, entry);
    if (!entry->transient) {
        queue->now.figures.count++;
        queue->now.figures.bytes += message->body.length;
    }
    if (entry->shared == 0) {
        store_content_put((uint8_t *)value.mv_data + ROW_HEAD, message);
        return 0;
    }
    put_u64((uint8_t *)value.mv_data + ROW_HEAD, entry->shared);
    put_u64((uint8_t *)value.mv_data + ROW_HEAD + 8, message->body.length);
    return store_share_change(env, entry->shared, 1, message);
}

/* Puts env->find on the row. MDB_NOTFOUND also for one that is only waiting to be purged. */
static int store_row_find(struct store_db *db, const struct store_entry *entry, struct store_queue **queue,
                          MDB_val *value)
{
    struct store_env *env = store_row_env(db, entry);
    uint8_t bytes[STORE_KEY];
    MDB_val key = store_val(bytes, sizeof(bytes));
    uint64_t to;
    int code;

    *queue = store_queue_find(db, entry->queue);
    if (*queue == NULL || store_queue_gone(*queue, entry->rank, entry->position, &to))
        return MDB_NOTFOUND;
    if (entry->transient && !store_env_is_there(env))
        return MDB_NOTFOUND;
    code = store_env_begin(db, env);
    if (code != 0)
        return code;
    store_key_put(bytes, entry->queue, entry->rank, entry->position);
    return mdb_cursor_get(env->find, &key, value, MDB_SET);
}

int store_row_remove(struct store_db *db, const struct store_entry *entry, bool *found)
{
    struct store_env *env = store_row_env(db, entry);
    struct store_queue *queue;
    MDB_val value;
    int code = store_row_find(db, entry, &queue, &value);

    if (found != NULL)
        *found = code == 0;
    if (code != 0)
        return code == MDB_NOTFOUND ? 0 : code;
    if (!entry->transient)
        code = store_queue_touch(db, queue);
    if (code == 0)
        code = store_row_uncount(env, entry->transient ? NULL : &queue->now, value, false);
    return code == 0 ? mdb_cursor_del(env->find, 0) : code;
}

int store_row_update(struct store_db *db, const struct store_entry *entry)
{
    struct store_env *env = store_row_env(db, entry);
    struct store_queue *queue;
    uint8_t bytes[STORE_KEY];
    MDB_val key = store_val(bytes, sizeof(bytes)), value;
    int code = store_row_find(db, entry, &queue, &value);
    uint8_t *copy;

    if (code != 0)
        return code == MDB_NOTFOUND ? 0 : code;
    if (value.mv_size < ROW_HEAD)
        return 0; /* nobody can read it anyway */
    buf_clear(&db->scratch);
    buf_put(&db->scratch, value.mv_data, value.mv_size);
    if (db->scratch.failed)
        return ENOMEM;
    copy = db->scratch.data + db->scratch.start;
    copy[0] = (copy[0] & ~ROW_REDELIVERED) | (entry->redelivered ? ROW_REDELIVERED : 0);
    put_u16(copy + 1, entry->deliveries);
    store_key_put(bytes, entry->queue, entry->rank, entry->position);
    value = store_val(copy, value.mv_size);
    code = mdb_cursor_put(env->find, &key, &value, MDB_CURRENT);
    buf_clear(&db->scratch);
    buf_trim(&db->scratch, 64 * 1024);
    return code;
}
