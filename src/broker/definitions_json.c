/* SPDX-License-Identifier: MIT */
#include "broker/definitions_json.h"

#include "base/log.h"
#include "broker/definitions.h"
#include "wire/table.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define JSON_NAME_MAX 255
#define JSON_TABLE_DEPTH 16
#define JSON_WHOLE_MAX 9007199254740992.0 /* 2^53: cJSON holds numbers as double */

/* ---- where we are ---- */

static size_t HARK_PRINTF(2, 3) json_enter(struct json_place *place, const char *format, ...)
{
    size_t back = place->length, room = sizeof(place->path) - back;
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(place->path + back, room, format, args);
    va_end(args);
    if (length > 0)
        place->length += (size_t)length < room ? (size_t)length : room - 1;
    return back;
}

size_t json_enter_key(struct json_place *place, const char *key)
{
    char escaped[128];

    log_escape(escaped, sizeof(escaped), span_str(key));
    return json_enter(place, place->length > 0 ? ".%s" : "%s", escaped);
}

size_t json_enter_item(struct json_place *place, unsigned index)
{
    return json_enter(place, "[%u]", index);
}

void json_leave(struct json_place *place, size_t back)
{
    place->length = back;
    place->path[back] = 0;
}

int json_fail(struct json_place *place, const char *format, ...)
{
    int length = snprintf(place->error, place->size, "%s: %s%s", place->file, place->path,
                          place->length > 0 ? ": " : "");
    va_list args;

    if (length < 0 || (size_t)length >= place->size)
        return -1;
    va_start(args, format);
    vsnprintf(place->error + length, place->size - (size_t)length, format, args);
    va_end(args);
    return -1;
}

/* ---- the document ---- */

static int json_fail_at(struct json_place *place, const char *text, const char *at, const char *what)
{
    const char *start = text;
    unsigned line = 1;

    for (const char *c = text; c < at; c++)
        if (*c == '\n') {
            line++;
            start = c + 1;
        }
    return json_fail(place, "line %u, column %zu: %s", line, (size_t)(at - start) + 1, what);
}

/* cJSON ends strings at a byte 0, so it must not come to that. */
static const char *json_find_zero(const char *text, size_t length)
{
    const char *end = text + length;

    if (memchr(text, 0, length) != NULL)
        return memchr(text, 0, length);
    for (const char *at = text; (at = memchr(at, '\\', (size_t)(end - at))) != NULL && end - at >= 6; at += 2)
        if (memcmp(at, "\\u0000", 6) == 0)
            return at;
    return NULL;
}

cJSON *json_parse(struct json_place *place, const char *text, size_t length)
{
    const char *at = json_find_zero(text, length);
    cJSON *document;

    if (at != NULL) {
        json_fail_at(place, text, at, "a byte 0");
        return NULL;
    }
    document = cJSON_ParseWithLengthOpts(text, length + 1, &at, true);
    if (document == NULL)
        json_fail_at(place, text, at != NULL && at < text + length ? at : text + length,
                     "this is not JSON (or memory is short)");
    return document;
}

/* ---- entries ---- */

/* NULL: missing or null. */
static const cJSON *json_get(const cJSON *object, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsNull(value) ? NULL : value;
}

/* json_fail() at the entry of the object, with the path as it was afterwards. */
static int json_fail_key(struct json_place *place, const char *key, const char *what)
{
    size_t back = json_enter_key(place, key);

    json_fail(place, "%s", what);
    json_leave(place, back);
    return -1;
}

int json_optional_string(struct json_place *place, const cJSON *object, const char *key, const char **value)
{
    const cJSON *found = json_get(object, key);

    if (found == NULL)
        return 0;
    if (!cJSON_IsString(found))
        return json_fail_key(place, key, "expected a string");
    *value = found->valuestring;
    return 0;
}

int json_string(struct json_place *place, const cJSON *object, const char *key, const char **value)
{
    *value = NULL;
    if (json_optional_string(place, object, key, value) != 0)
        return -1;
    return *value != NULL ? 0 : json_fail_key(place, key, "expected a string, found none");
}

int json_name(struct json_place *place, const cJSON *object, const char *key, const char **value)
{
    if (json_string(place, object, key, value) != 0)
        return -1;
    if ((*value)[0] == 0 || strlen(*value) > JSON_NAME_MAX)
        return json_fail_key(place, key, "expected a name of 1 to 255 bytes");
    return 0;
}

int json_optional_boolean(struct json_place *place, const cJSON *object, const char *key, bool *value)
{
    const cJSON *found = json_get(object, key);

    if (found == NULL)
        return 0;
    if (!cJSON_IsBool(found))
        return json_fail_key(place, key, "expected true or false");
    *value = cJSON_IsTrue(found);
    return 0;
}

/* ---- tables ---- */

/* A value of an array: its letter, then its bytes. Arrays and tables leave room for their length and say where. */
static void json_put_kind(struct buf *to, const cJSON *value, char kind)
{
    if (value->string != NULL) {
        buf_put_u8(to, (uint8_t)strlen(value->string));
        buf_put_span(to, span_str(value->string));
    }
    buf_put_u8(to, (uint8_t)kind);
}

static int json_put_number(struct json_place *place, const cJSON *value, struct buf *to)
{
    double number = value->valuedouble;
    uint64_t bits;

    if (!isfinite(number))
        return json_fail(place, "the number is too large");
    if (number > JSON_WHOLE_MAX || number < -JSON_WHOLE_MAX || number == (double)(int64_t)number) {
        if (number >= JSON_WHOLE_MAX || number <= -JSON_WHOLE_MAX)
            return json_fail(place, "expected a whole number below 2^53 (larger ones are not read exactly)");
        json_put_kind(to, value, 'l');
        buf_put_u64(to, (uint64_t)(int64_t)number);
        return 0;
    }
    memcpy(&bits, &number, sizeof(bits));
    json_put_kind(to, value, 'd');
    buf_put_u64(to, bits);
    return 0;
}

static int json_put_entries(struct json_place *place, const cJSON *values, struct buf *to, int depth);

static int json_put(struct json_place *place, const cJSON *value, struct buf *to, int depth)
{
    size_t position;

    if (value->string != NULL && strlen(value->string) > JSON_NAME_MAX)
        return json_fail(place, "expected a name of at most 255 bytes");
    if (cJSON_IsNumber(value))
        return json_put_number(place, value, to);
    if (cJSON_IsString(value)) {
        json_put_kind(to, value, 'S');
        buf_put_u32(to, (uint32_t)strlen(value->valuestring));
        buf_put_span(to, span_str(value->valuestring));
    } else if (cJSON_IsBool(value)) {
        json_put_kind(to, value, 't');
        buf_put_u8(to, cJSON_IsTrue(value));
    } else if (cJSON_IsNull(value)) {
        json_put_kind(to, value, 'V');
    } else {
        if (depth == 0)
            return json_fail(place, "expected at most %d arrays and objects one in the other", JSON_TABLE_DEPTH);
        json_put_kind(to, value, cJSON_IsArray(value) ? 'A' : 'F');
        position = table_begin(to);
        if (json_put_entries(place, value, to, depth - 1) != 0)
            return -1;
        table_end(to, position);
    }
    return 0;
}

static int json_put_entries(struct json_place *place, const cJSON *values, struct buf *to, int depth)
{
    const cJSON *value;
    unsigned index = 0;

    cJSON_ArrayForEach(value, values)
    {
        size_t back = value->string != NULL ? json_enter_key(place, value->string) : json_enter_item(place, index++);

        if (json_put(place, value, to, depth) != 0)
            return -1;
        json_leave(place, back);
        if (to->failed)
            return json_fail(place, "out of memory");
        if (buf_length(to) > DEFINITIONS_ARGUMENTS_MAX)
            return json_fail(place, "expected arguments of at most %d KiB", DEFINITIONS_ARGUMENTS_MAX / 1024);
    }
    return 0;
}

int json_table(struct json_place *place, const cJSON *object, const char *key, struct buf *to)
{
    const cJSON *table = json_get(object, key);
    size_t back = json_enter_key(place, key);
    int result = 0;

    buf_clear(to);
    if (table != NULL && !cJSON_IsObject(table) && !(cJSON_IsArray(table) && table->child == NULL))
        result = json_fail(place, "expected an object");
    else if (table != NULL)
        result = json_put_entries(place, table, to, JSON_TABLE_DEPTH);
    json_leave(place, back);
    return result;
}
