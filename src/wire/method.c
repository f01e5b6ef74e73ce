/* SPDX-License-Identifier: MIT */
#include "wire/method.h"

#include "wire/table.h"

/* Room for the first attempt at encoding; most methods are smaller. */
#define METHOD_PUT_FIRST 512

/* Walks the arguments by the signature. 0 if they fill the bytes exactly. */
static int method_check(const char *signature, struct span arguments)
{
    const uint8_t *at = arguments.data;
    size_t left = arguments.length, size;

    for (; *signature != '\0'; signature++) {
        switch (*signature) {
        case 'b':
            size = 1;
            break;
        case '.': /* up to eight bits in a row share an octet */
            for (int bits = 1; bits < 8 && signature[1] == '.'; bits++)
                signature++;
            size = 1;
            break;
        case 's':
            size = 2;
            break;
        case 'l':
            size = 4;
            break;
        case 'L':
            size = 8;
            break;
        case 'S':
            size = left > 0 ? (size_t)*at + 1 : 1;
            break;
        default: /* X, T */
            size = left >= 4 ? (size_t)get_u32(at) + 4 : 4;
            break;
        }
        if (left < size)
            return -1;
        if (*signature == 'T' && table_check(span_of(at + 4, size - 4), METHOD_TABLE_DEPTH) != 0)
            return -1;
        at += size;
        left -= size;
    }
    return left == 0 ? 0 : -1;
}

int method_decode(const struct frame *frame, enum method_from from, amqp_pool_t *pool, amqp_method_t *method,
                  struct reply *error)
{
    const struct method_info *info;
    struct span arguments;
    uint32_t id;

    if (frame->payload.length < 4)
        return reply_set(error, REPLY_SYNTAX_ERROR, 0, "a method frame of %zu bytes", frame->payload.length);
    id = get_u32(frame->payload.data);
    arguments = span_of(frame->payload.data + 4, frame->payload.length - 4);
    info = method_find(id);
    if (info == NULL)
        return reply_set(error, REPLY_NOT_IMPLEMENTED, id, "unknown method %u of class %u", id & 0xffff, id >> 16);
    if ((info->from & from) == 0)
        return reply_set(error, REPLY_COMMAND_INVALID, id, "%s is not for a %s to send", info->name,
                         from == METHOD_FROM_CLIENT ? "client" : "server");
    if (info->connection != (frame->channel == 0))
        return reply_set(error, frame->channel == 0 ? REPLY_CHANNEL_ERROR : REPLY_COMMAND_INVALID, id,
                         "%s on channel %u", info->name, frame->channel);
    if (method_check(info->signature, arguments) != 0)
        return reply_set(error, REPLY_SYNTAX_ERROR, id, "the arguments of %s are malformed", info->name);
    method->id = id;
    switch (amqp_decode_method(id, pool, amqp_span(arguments), &method->decoded)) {
    case AMQP_STATUS_OK:
        return 0;
    case AMQP_STATUS_UNKNOWN_METHOD:
        return reply_set(error, REPLY_NOT_IMPLEMENTED, id, "%s is not implemented", info->name);
    case AMQP_STATUS_NO_MEMORY:
        return reply_set(error, REPLY_RESOURCE_ERROR, id, "no memory for %s", info->name);
    default:
        return reply_set(error, REPLY_SYNTAX_ERROR, id, "the arguments of %s cannot be decoded", info->name);
    }
}

/* The codec cuts names over 255 bytes to what their length octet holds. True if there are none. */
static bool method_table_fits(const amqp_table_t *table, int depth)
{
    if (depth < 0)
        return false;
    for (int i = 0; i < table->num_entries; i++) {
        const amqp_table_entry_t *entry = &table->entries[i];

        if (entry->key.len > UINT8_MAX)
            return false;
        if (entry->value.kind == AMQP_FIELD_KIND_TABLE && !method_table_fits(&entry->value.value.table, depth - 1))
            return false;
        if (entry->value.kind == AMQP_FIELD_KIND_ARRAY) {
            const amqp_array_t *array = &entry->value.value.array;

            for (int j = 0; j < array->num_entries; j++)
                if (array->entries[j].kind == AMQP_FIELD_KIND_TABLE &&
                    !method_table_fits(&array->entries[j].value.table, depth - 2))
                    return false;
        }
    }
    return true;
}

/* The codec takes what it encodes as not const, and leaves it alone. */
static void *method_unconst(const void *decoded)
{
    union {
        const void *in;
        void *out;
    } pointer = {.in = decoded};

    return pointer.out;
}

void method_put(struct buf *out, uint16_t channel, uint32_t id, const void *decoded)
{
    const struct method_info *info = method_find(id);
    size_t position = frame_begin(out, FRAME_METHOD, channel);
    int length = -1;

    buf_put_u32(out, id);
    if (info == NULL || (info->table != METHOD_NO_TABLE &&
                         !method_table_fits((const amqp_table_t *)(const void *)((const char *)decoded + info->table),
                                            METHOD_TABLE_DEPTH)))
        out->failed = true;
    for (size_t room = METHOD_PUT_FIRST; length < 0 && room <= FRAME_LIMIT; room *= 2) {
        amqp_bytes_t to = {.len = room, .bytes = buf_reserve(out, room)};

        if (to.bytes == NULL)
            return;
        length = amqp_encode_method(id, method_unconst(decoded), to);
    }
    if (length < 0) {
        out->failed = true;
        return;
    }
    out->end += (size_t)length;
    frame_finish(out, position);
}
