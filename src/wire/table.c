/* SPDX-License-Identifier: MIT */
#include "wire/table.h"

#define TABLE_DEPTH_LIMIT 32

enum { KIND_UNKNOWN = 0, KIND_STRING = 100, KIND_NESTED, KIND_VOID };

/* By type letter: the number of value bytes, or how to find it. */
static const uint8_t kinds[256] = {
    ['t'] = 1,           ['b'] = 1,           ['B'] = 1,           ['s'] = 2,           ['U'] = 2,
    ['u'] = 2,           ['I'] = 4,           ['i'] = 4,           ['f'] = 4,           ['l'] = 8,
    ['L'] = 8,           ['d'] = 8,           ['T'] = 8,           ['D'] = 5,           ['V'] = KIND_VOID,
    ['S'] = KIND_STRING, ['x'] = KIND_STRING, ['A'] = KIND_NESTED, ['F'] = KIND_NESTED,
};

int table_check(struct span table, int depth)
{
    /* What surrounds the table or array being read: where it ends, and whether its values have
     * names. */
    struct {
        const uint8_t *end;
        bool named;
    } outer[TABLE_DEPTH_LIMIT];
    const uint8_t *at = table.data, *end;
    bool named = true;
    int level = 0;

    if (table.length == 0)
        return 0;
    end = at + table.length;
    if (depth > TABLE_DEPTH_LIMIT)
        depth = TABLE_DEPTH_LIMIT;
    for (;;) {
        uint8_t kind;
        size_t size;

        while (at == end) {
            if (level == 0)
                return 0;
            level--;
            end = outer[level].end;
            named = outer[level].named;
        }
        if (named) {
            size = *at++;
            if ((size_t)(end - at) <= size)
                return -1;
            at += size;
        }
        kind = *at++;
        size = kinds[kind];
        if (size < KIND_STRING) {
            if (size == KIND_UNKNOWN || (size_t)(end - at) < size)
                return -1;
            at += size;
        } else if (size != KIND_VOID) {
            if (end - at < 4)
                return -1;
            size = get_u32(at);
            at += 4;
            if ((size_t)(end - at) < size)
                return -1;
            if (kinds[kind] == KIND_STRING) {
                at += size;
                continue;
            }
            if (level >= depth)
                return -1;
            outer[level].end = end;
            outer[level].named = named;
            level++;
            named = kind == 'F';
            end = at + size;
        }
    }
}

/* The value at `at`, whose letter comes first, in bytes known to be sound. Returns what follows it.
 */
static const uint8_t *table_value(const uint8_t *at, struct table_entry *entry)
{
    size_t size;

    entry->kind = (char)*at;
    size = kinds[*at++];
    if (size == KIND_VOID) {
        size = 0;
    } else if (size >= KIND_STRING) {
        size = get_u32(at);
        at += 4;
    }
    entry->value = span_of(at, size);
    return at + size;
}

bool table_next(struct span table, size_t *cursor, struct table_entry *entry)
{
    const uint8_t *start, *end;

    if (*cursor >= table.length)
        return false;
    start = table.data + *cursor;
    entry->name = span_of(start + 1, *start);
    end = table_value(start + 1 + *start, entry);
    entry->whole = span_of(start, (size_t)(end - start));
    *cursor = (size_t)(end - table.data);
    return true;
}

bool table_next_item(struct span array, size_t *cursor, struct table_entry *entry)
{
    const uint8_t *start, *end;

    if (*cursor >= array.length)
        return false;
    start = array.data + *cursor;
    entry->name = span_of(start, 0);
    end = table_value(start, entry);
    entry->whole = span_of(start, (size_t)(end - start));
    *cursor = (size_t)(end - array.data);
    return true;
}

bool table_find(struct span table, struct span name, struct table_entry *entry)
{
    size_t cursor = 0;

    while (table_next(table, &cursor, entry))
        if (span_equal(entry->name, name))
            return true;
    return false;
}

bool table_integer(const struct table_entry *entry, int64_t *value)
{
    const uint8_t *data = entry->value.data;

    switch (entry->kind) {
    case 't':
        *value = data[0] != 0;
        return true;
    case 'b':
        *value = (int8_t)data[0];
        return true;
    case 'B':
        *value = data[0];
        return true;
    case 's':
    case 'U':
        *value = (int16_t)get_u16(data);
        return true;
    case 'u':
        *value = get_u16(data);
        return true;
    case 'I':
        *value = (int32_t)get_u32(data);
        return true;
    case 'i':
        *value = get_u32(data);
        return true;
    case 'l':
        *value = (int64_t)get_u64(data);
        return true;
    case 'L':
    case 'T':
        if (get_u64(data) > INT64_MAX)
            return false;
        *value = (int64_t)get_u64(data);
        return true;
    default:
        return false;
    }
}

size_t table_begin(struct buf *out)
{
    size_t position = buf_length(out);

    buf_put_u32(out, 0);
    return position;
}

void table_end(struct buf *out, size_t position)
{
    if (!out->failed)
        buf_set_u32(out, position, (uint32_t)(buf_length(out) - position - 4));
}

static void table_put_name(struct buf *out, struct span name, char kind)
{
    if (name.length > UINT8_MAX) {
        out->failed = true;
        return;
    }
    buf_put_u8(out, (uint8_t)name.length);
    buf_put_span(out, name);
    buf_put_u8(out, (uint8_t)kind);
}

void table_put_string(struct buf *out, struct span name, struct span value)
{
    table_put_value(out, name, 'S', value);
}

void table_put_integer(struct buf *out, struct span name, int64_t value)
{
    if (value < INT32_MIN || value > INT32_MAX) {
        table_put_long(out, name, value);
        return;
    }
    table_put_name(out, name, 'I');
    buf_put_u32(out, (uint32_t)(int32_t)value);
}

void table_put_long(struct buf *out, struct span name, int64_t value)
{
    table_put_name(out, name, 'l');
    buf_put_u64(out, (uint64_t)value);
}

void table_put_boolean(struct buf *out, struct span name, bool value)
{
    table_put_name(out, name, 't');
    buf_put_u8(out, value);
}

void table_put_time(struct buf *out, struct span name, uint64_t seconds)
{
    table_put_name(out, name, 'T');
    buf_put_u64(out, seconds);
}

void table_put_value(struct buf *out, struct span name, char kind, struct span value)
{
    size_t size = kinds[(uint8_t)kind];
    bool counted = size == KIND_STRING || size == KIND_NESTED;

    if (size == KIND_VOID)
        size = 0;
    if (value.length > UINT32_MAX || kinds[(uint8_t)kind] == KIND_UNKNOWN || (!counted && size != value.length)) {
        out->failed = true;
        return;
    }
    table_put_name(out, name, kind);
    if (counted)
        buf_put_u32(out, (uint32_t)value.length);
    buf_put_span(out, value);
}
