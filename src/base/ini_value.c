/* SPDX-License-Identifier: MIT */
#include "base/ini_value.h"

#include "base/ini.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

static int fail(char *error, size_t size, const char *text)
{
    snprintf(error, size, "%s", text);
    return -1;
}

/* The closing quote of the text whose opening one is at `from`, or NULL. */
static const char *closing(const char *from)
{
    for (from++; *from != 0; from++) {
        if (*from == '"')
            return from;
        if (*from == '\\' && from[1] != 0)
            from++;
    }
    return NULL;
}

/* `${NAME}`, `${NAME:-text}` or `$$` at *from, which is moved behind it. Any other dollar stands
 * for itself. */
static int expand(const char **from, struct buf *to, char *error, size_t size)
{
    const char *start = *from + 2, *end, *name_end = start, *value;
    bool has_default;
    char name[128];

    if ((*from)[1] != '{') {
        *from += (*from)[1] == '$' ? 2 : 1;
        buf_put_u8(to, '$');
        return 0;
    }
    end = strchr(start, '}');
    if (end == NULL)
        return fail(error, size, "${ is not closed; a dollar is written $$");
    while (isalnum((unsigned char)*name_end) || *name_end == '_')
        name_end++;
    has_default = name_end[0] == ':' && name_end[1] == '-';
    if (name_end == start || isdigit((unsigned char)*start) || (name_end != end && !has_default) ||
        (size_t)(name_end - start) >= sizeof(name))
        return fail(error, size, "expected ${NAME} or ${NAME:-default}; a dollar is written $$");
    memcpy(name, start, (size_t)(name_end - start));
    name[name_end - start] = 0;
    *from = end + 1;
    value = getenv(name);
    if (has_default && (value == NULL || value[0] == 0)) {
        buf_put(to, name_end + 2, (size_t)(end - name_end - 2));
    } else if (value == NULL) {
        snprintf(error, size, "the environment variable %s is not set; ${%s:-text} would give a default", name, name);
        return -1;
    } else {
        buf_put(to, value, strlen(value));
    }
    return 0;
}

/* The inside of quotes, from..end. */
static int unquote(const char *from, const char *end, bool environment, struct buf *to, char *error, size_t size)
{
    while (from < end) {
        if (*from == '$' && environment) {
            if (expand(&from, to, error, size) != 0)
                return -1;
            if (from > end)
                return fail(error, size, "${ is not closed; a dollar is written $$");
            continue;
        }
        if (*from == '\\') {
            from++;
            if (strchr("\"\\nt", *from) == NULL)
                return fail(error, size, "in double quotes a backslash stands before \", \\, n or t only");
            buf_put_u8(to, *from == 'n' ? '\n' : *from == 't' ? '\t' : (uint8_t)*from);
        } else {
            buf_put_u8(to, (uint8_t)*from);
        }
        from++;
    }
    return 0;
}

int ini_quoted(const char *raw, struct buf *to, const char **rest, char *error, size_t size)
{
    const char *end = raw[0] == '"' ? closing(raw) : NULL;

    if (end == NULL)
        return fail(error, size, "a double quote is not closed");
    *rest = end + 1;
    return unquote(raw + 1, end, false, to, error, size);
}

/* What a `#` behind a blank can be: see the header. */
static bool wildcard(const char *hash)
{
    const char *next = hash + 1;

    if (*next == '.')
        return true;
    while (blank(*next))
        next++;
    return *next == 0 || *next == ';';
}

/* Where the value ends and only blanks and a comment follow. NULL with a message. */
static const char *value_end(const char *raw, char *error, size_t size)
{
    const char *end = raw;

    for (const char *c = raw; *c != 0; c++) {
        bool starts = c == raw || blank(c[-1]);

        if (starts && *c == ';')
            break;
        if (starts && *c == '#' && !wildcard(c)) {
            fail(error, size,
                 "\"#\" starts a comment at the start of a line only: put \";\" before a comment behind a "
                 "value, and double quotes around a value with \"#\" in it");
            return NULL;
        }
        if (*c == '"') {
            c = closing(c);
            if (c == NULL) {
                fail(error, size, "a double quote is not closed");
                return NULL;
            }
        }
        if (!blank(*c))
            end = c + 1;
    }
    return end;
}

int ini_value(const char *raw, struct buf *to, bool *quoted, char *error, size_t size)
{
    const char *end, *close = NULL;

    while (blank(*raw))
        raw++;
    end = value_end(raw, error, size);
    if (end == NULL)
        return -1;
    if (raw[0] == '"')
        close = closing(raw);
    *quoted = close != NULL && close + 1 == end;
    if (*quoted)
        return unquote(raw + 1, close, true, to, error, size);
    while (raw < end) {
        if (*raw != '$') {
            buf_put_u8(to, (uint8_t)*raw++);
        } else {
            if (expand(&raw, to, error, size) != 0)
                return -1;
            if (raw > end)
                return fail(error, size, "${ is not closed; a dollar is written $$");
        }
    }
    return 0;
}
