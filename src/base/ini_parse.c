/* SPDX-License-Identifier: MIT */
/* Lines into sections and entries. */
#include "base/ini_reader.h"
#include "base/ini_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The next physical line without its end, or false at the end of the file. */
static bool next_line(struct ini_source *source, const char **line, size_t *length)
{
    const char *end;

    if (source->text == source->end)
        return false;
    end = memchr(source->text, '\n', (size_t)(source->end - source->text));
    *line = source->text;
    *length = (size_t)((end ? end : source->end) - source->text);
    source->text = end ? end + 1 : source->end;
    source->next_line++;
    if (*length > 0 && (*line)[*length - 1] == '\r')
        --*length;
    return true;
}

static bool continues(const char *line, size_t length)
{
    size_t backslashes = 0;

    while (backslashes < length && line[length - 1 - backslashes] == '\\')
        backslashes++;
    return backslashes % 2 == 1;
}

/* One logical line into reader->joined: leading blanks gone, continued lines joined by a blank. */
static bool join(struct ini_reader *reader, struct ini_source *source)
{
    struct buf *joined = &reader->joined;
    const char *line;
    size_t length;
    bool more;

    source->line = source->next_line;
    buf_clear(joined);
    if (!next_line(source, &line, &length))
        return false;
    do {
        while (length > 0 && blank(*line)) {
            line++;
            length--;
        }
        more = continues(line, length) && (buf_length(joined) > 0 || strchr(";#[", *line) == NULL);
        if (length > INI_LINE_MAX || buf_length(joined) + length > INI_LINE_MAX) {
            ini_stop(reader, source, "the line is too long");
            return false;
        }
        buf_put(joined, line, more ? length - 1 : length);
        if (more)
            buf_put_u8(joined, ' ');
    } while (more && next_line(source, &line, &length));
    length = buf_length(joined);
    buf_put_u8(joined, 0);
    if (joined->failed) {
        ini_stop(reader, source, "out of memory");
        return false;
    }
    for (const char *c = (char *)joined->data; length > 0; c++, length--) {
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f) {
            ini_complain(reader, source, "a control character; in double quotes, a new line is written \\n, a tab \\t");
            joined->data[0] = 0;
            break;
        }
    }
    return true;
}

static char *copy(const char *text, size_t length)
{
    char *to = malloc(length + 1);

    if (to != NULL) {
        if (length > 0)
            memcpy(to, text, length);
        to[length] = 0;
    }
    return to;
}

/* Appends a section; takes kind and name, which may be NULL for no memory. */
static int add_section(struct ini_reader *reader, struct ini_source *source, char *kind, char *name)
{
    struct ini *ini = reader->ini;
    char *label = NULL;

    if (ini->section_count == INI_SECTIONS_MAX) {
        ini_stop(reader, source, "too many sections");
        goto fail;
    }
    if (ini->section_count == ini->section_capacity) {
        size_t capacity = ini->section_capacity ? 2 * ini->section_capacity : 16;
        struct ini_section *grown = realloc(ini->sections, capacity * sizeof(*grown));

        if (grown == NULL) {
            ini_stop(reader, source, "out of memory");
            goto fail;
        }
        ini->sections = grown;
        ini->section_capacity = capacity;
    }
    if (kind == NULL || name == NULL || asprintf(&label, name[0] ? "[%s %s]" : "[%s]", kind, name) < 0) {
        ini_stop(reader, source, "out of memory");
        goto fail;
    }
    source->in_section = true;
    source->section = ini->section_count++;
    ini->sections[source->section] = (struct ini_section){
        .kind = kind, .name = name, .label = label, .file = source->file, .line = source->line};
    return 0;
fail:
    free(kind);
    free(name);
    return -1;
}

/* `[kind]`, `[kind name]` or `[kind "name"]`. */
static int parse_section(struct ini_reader *reader, struct ini_source *source, const char *line)
{
    const char *kind = line + 1, *kind_end, *name, *rest;
    struct buf *value = &reader->value;
    char error[200];

    source->in_section = false;
    buf_clear(value);
    while (blank(*kind))
        kind++;
    for (kind_end = kind; *kind_end != 0 && !blank(*kind_end) && strchr("]\"", *kind_end) == NULL;)
        kind_end++;
    for (name = kind_end; blank(*name);)
        name++;
    if (*name == '"') {
        if (ini_quoted(name, value, &rest, error, sizeof(error)) != 0) {
            ini_complain(reader, source, error);
            return -1;
        }
        while (blank(*rest))
            rest++;
    } else {
        size_t length;

        rest = strchr(name, ']');
        length = rest ? (size_t)(rest - name) : 0;
        while (length > 0 && blank(name[length - 1]))
            length--;
        buf_put(value, name, length);
    }
    if (kind_end == kind || rest == NULL || *rest != ']') {
        ini_complain(reader, source, "expected a section such as [queue signups]");
        return -1;
    }
    for (rest++; blank(*rest);)
        rest++;
    if (*rest != 0 && *rest != ';' && *rest != '#') {
        ini_complain(reader, source, "something follows the section's \"]\"");
        return -1;
    }
    if (buf_length(value) > INI_NAME_MAX || (size_t)(kind_end - kind) > INI_NAME_MAX) {
        ini_complain(reader, source, "a name has more than 255 bytes");
        return -1;
    }
    return add_section(reader, source, copy(kind, (size_t)(kind_end - kind)),
                       copy((char *)value->data, buf_length(value)));
}

static void add_entry(struct ini_reader *reader, const struct ini_source *source, struct ini_entry entry)
{
    struct ini_section *section = ini_current(reader, source);

    if (reader->ini->entry_count++ == INI_ENTRIES_MAX) {
        ini_stop(reader, source, "too many keys");
        goto fail;
    }
    if (section->count == section->capacity) {
        size_t capacity = section->capacity ? 2 * section->capacity : 8;
        struct ini_entry *grown = realloc(section->entries, capacity * sizeof(*grown));

        if (grown == NULL) {
            ini_stop(reader, source, "out of memory");
            goto fail;
        }
        section->entries = grown;
        section->capacity = capacity;
    }
    if (entry.key == NULL || entry.value == NULL) {
        ini_stop(reader, source, "out of memory");
        goto fail;
    }
    section->entries[section->count++] = entry;
    return;
fail:
    free(entry.key);
    free(entry.value);
}

static void parse_entry(struct ini_reader *reader, struct ini_source *source, const char *line)
{
    const char *equals = strchr(line, '=');
    size_t length = equals ? (size_t)(equals - line) : 0;
    const struct ini_section *section = ini_current(reader, source);
    char error[400], key[INI_NAME_MAX + 1];
    bool quoted;

    while (length > 0 && blank(line[length - 1]))
        length--;
    if (length == 0) {
        ini_complain(reader, source, "expected \"key = value\"");
        return;
    }
    if (length > INI_NAME_MAX || memchr(line, ' ', length) != NULL || memchr(line, '\t', length) != NULL ||
        memchr(line, '"', length) != NULL) {
        ini_complain(reader, source, "expected \"key = value\"; a key is one word of at most 255 bytes without quotes");
        return;
    }
    memcpy(key, line, length);
    key[length] = 0;
    buf_clear(&reader->value);
    if (ini_value(equals + 1, &reader->value, &quoted, error, sizeof(error)) != 0) {
        ini_error(reader->errors, source->file, source->line, section ? section->label : NULL, "%s: %s", key, error);
        return;
    }
    if (buf_length(&reader->value) > INI_LINE_MAX) {
        ini_error(reader->errors, source->file, source->line, section ? section->label : NULL,
                  "%s: the value is too long", key);
        return;
    }
    buf_put_u8(&reader->value, 0);
    if (reader->value.failed) {
        ini_stop(reader, source, "out of memory");
    } else if (strcmp(key, "include") == 0 && (section == NULL || strcmp(section->kind, "hark") == 0)) {
        char *pattern = strdup((char *)reader->value.data);

        if (pattern == NULL)
            ini_stop(reader, source, "out of memory");
        else
            ini_include(reader, source, pattern);
        free(pattern);
    } else if (section == NULL) {
        ini_error(reader->errors, source->file, source->line, NULL, "%s: a key stands in a section such as [hark]",
                  key);
    } else {
        add_entry(reader, source,
                  (struct ini_entry){.key = strdup(key),
                                     .value = strdup((char *)reader->value.data),
                                     .quoted = quoted,
                                     .line = source->line});
    }
}

void ini_read_text(struct ini_reader *reader, struct ini_source *source)
{
    bool skip = false; /* the keys of a section whose header is broken are not judged */

    source->next_line = 1;
    if (source->end - source->text >= 3 && memcmp(source->text, "\xef\xbb\xbf", 3) == 0)
        source->text += 3;
    while (!reader->full && join(reader, source)) {
        const char *line = (char *)reader->joined.data;

        if (*line == '[')
            skip = parse_section(reader, source, line) != 0;
        else if (*line != 0 && *line != ';' && *line != '#' && !skip)
            parse_entry(reader, source, line);
    }
}
