/* SPDX-License-Identifier: MIT */
/* Header values between the wire and <hark/listener.h>. */
#include "dispatch/parts.h"

bool value_get(const struct table_entry *entry, struct hark_value *value)
{
    const uint8_t *data = entry->value.data;

    *value = (struct hark_value){.kind = entry->kind};
    switch (entry->kind) {
    case 't':
        value->boolean = data[0] != 0;
        return true;
    case 'b':
        value->integer = (int8_t)data[0];
        return true;
    case 'B':
        value->integer = data[0];
        return true;
    case 'U': /* as some clients write s */
        value->kind = 's';
        value->integer = (int16_t)get_u16(data);
        return true;
    case 's':
        value->integer = (int16_t)get_u16(data);
        return true;
    case 'u':
        value->integer = get_u16(data);
        return true;
    case 'I':
        value->integer = (int32_t)get_u32(data);
        return true;
    case 'i':
        value->integer = get_u32(data);
        return true;
    case 'l':
    case 'T':
        value->integer = (int64_t)get_u64(data);
        return true;
    case 'L':
        value->natural = get_u64(data);
        return true;
    case 'f': {
        uint32_t bits = get_u32(data);
        float number;

        memcpy(&number, &bits, sizeof(number));
        value->number = (double)number;
        return true;
    }
    case 'd': {
        uint64_t bits = get_u64(data);

        memcpy(&value->number, &bits, sizeof(bits));
        return true;
    }
    case 'V':
        return true;
    case 'S':
    case 'x':
    case 'F':
    case 'A':
    case 'D':
        value->str = hark_span(entry->value);
        return true;
    default:
        return false;
    }
}

/* `bytes` low bytes of a number, the high one first. */
static struct span value_number(uint8_t *to, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(number >> (8 * (bytes - 1 - i)));
    return span_of(to, bytes);
}

void value_put(struct buf *out, struct span name, const struct hark_value *value)
{
    uint8_t bytes[8];
    uint64_t bits = 0;

    switch (value->kind) {
    case 't':
        table_put_boolean(out, name, value->boolean);
        return;
    case 'b':
    case 'B':
        table_put_value(out, name, value->kind, value_number(bytes, (uint64_t)value->integer, 1));
        return;
    case 's':
    case 'u':
        table_put_value(out, name, value->kind, value_number(bytes, (uint64_t)value->integer, 2));
        return;
    case 'I':
    case 'i':
        table_put_value(out, name, value->kind, value_number(bytes, (uint64_t)value->integer, 4));
        return;
    case 'l':
    case 'T':
        table_put_value(out, name, value->kind, value_number(bytes, (uint64_t)value->integer, 8));
        return;
    case 'L':
        table_put_value(out, name, value->kind, value_number(bytes, value->natural, 8));
        return;
    case 'f': {
        float number = (float)value->number;
        uint32_t word;

        memcpy(&word, &number, sizeof(word));
        table_put_value(out, name, value->kind, value_number(bytes, word, 4));
        return;
    }
    case 'd':
        memcpy(&bits, &value->number, sizeof(bits));
        table_put_value(out, name, value->kind, value_number(bytes, bits, 8));
        return;
    case 'V':
        table_put_value(out, name, value->kind, span_of(NULL, 0));
        return;
    case 'D':
        out->failed |= value->str.length != 5;
        table_put_value(out, name, value->kind, span_hark(value->str));
        return;
    case 'F':
        out->failed |= table_check(span_hark(value->str), PROPERTIES_TABLE_DEPTH - 1) != 0;
        table_put_value(out, name, value->kind, span_hark(value->str));
        return;
    case 'S':
    case 'x':
    case 'A':
        table_put_value(out, name, value->kind, span_hark(value->str));
        return;
    default:
        out->failed = true;
    }
}
