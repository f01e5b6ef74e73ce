/* SPDX-License-Identifier: MIT */
#include "base/ini_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void ini_error(struct ini_errors *errors, const char *file, int line, const char *label, const char *format, ...)
{
    struct buf buf = {0};
    char text[2048];
    va_list args;

    if (errors->count++ >= INI_ERRORS_MAX)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (line > 0)
        buf_printf(&buf, "%s:%d: ", file, line);
    else
        buf_printf(&buf, "%s: ", file);
    if (label != NULL)
        buf_printf(&buf, "%s ", label);
    for (const char *c = text; *c != 0; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            buf_printf(&buf, "\\x%02x", (unsigned char)*c);
        else
            buf_put_u8(&buf, (uint8_t)*c);
    }
    buf_put_u8(&buf, 0);
    errors->lines[errors->count - 1] = buf.failed ? NULL : strdup((char *)buf.data + buf.start);
    if (errors->lines[errors->count - 1] == NULL)
        errors->lines[errors->count - 1] = strdup("out of memory");
    buf_free(&buf);
}

void ini_errors_free(struct ini_errors *errors)
{
    for (size_t i = 0; i < errors->count && i < INI_ERRORS_MAX; i++)
        free(errors->lines[i]);
    *errors = (struct ini_errors){0};
}

struct ini_section *ini_current(struct ini_reader *reader, const struct ini_source *source)
{
    return source->in_section ? &reader->ini->sections[source->section] : NULL;
}

void ini_complain(struct ini_reader *reader, const struct ini_source *source, const char *text)
{
    const struct ini_section *section = ini_current(reader, source);

    ini_error(reader->errors, source->file, source->line, section ? section->label : NULL, "%s", text);
}

void ini_stop(struct ini_reader *reader, const struct ini_source *source, const char *text)
{
    ini_complain(reader, source, text);
    reader->full = true;
}

/* The whole of an open file, at most INI_FILE_MAX. 0; -1 with errno. */
static int slurp(int file, struct buf *to)
{
    for (;;) {
        uint8_t *room = buf_reserve(to, 16384);
        ssize_t got = room ? read(file, room, 16384) : -1;

        if (room == NULL)
            errno = ENOMEM;
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return (int)got;
        to->end += (size_t)got;
        if (buf_length(to) > INI_FILE_MAX) {
            errno = EFBIG;
            return -1;
        }
    }
}

/* 0; -1 with errno if it cannot be read: the caller complains. Mistakes in it are reported from
 * here. */
static int read_file(struct ini_reader *reader, const struct ini_source *parent, const char *path)
{
    struct ini_source source = {.parent = parent, .depth = parent ? parent->depth + 1 : 0};
    struct buf text = {0};
    struct stat status;
    int file, result = -1, error;

    if (reader->ini->file_count == INI_FILES_MAX) {
        errno = EMFILE;
        return -1;
    }
    file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (file < 0)
        return -1;
    if (fstat(file, &status) != 0)
        goto out;
    source.device = status.st_dev;
    source.inode = status.st_ino;
    for (const struct ini_source *above = parent; above != NULL; above = above->parent) {
        if (above->device == source.device && above->inode == source.inode) {
            ini_complain(reader, parent, "include: the file includes itself");
            result = 0;
            goto out;
        }
    }
    if (slurp(file, &text) != 0)
        goto out;
    reader->ini->files[reader->ini->file_count] = strdup(path);
    source.file = reader->ini->files[reader->ini->file_count];
    if (source.file == NULL)
        goto out;
    reader->ini->file_count++;
    source.text = (char *)text.data + text.start;
    source.end = source.text + buf_length(&text);
    if (text.data != NULL)
        ini_read_text(reader, &source);
    result = 0;
out:
    error = errno;
    buf_free(&text);
    close(file);
    errno = error;
    return result;
}

void ini_include(struct ini_reader *reader, const struct ini_source *source, const char *pattern)
{
    const char *slash = strrchr(source->file, '/');
    bool magic = strpbrk(pattern, "*?[") != NULL;
    glob_t found = {0};
    char *full = NULL;

    if (pattern[0] == 0 || source->memory) {
        ini_complain(reader, source, pattern[0] ? "include works in files only" : "include = : expected a file name");
        return;
    }
    if (source->depth == INI_DEPTH_MAX) {
        ini_complain(reader, source, "includes are nested too deep");
        return;
    }
    if (pattern[0] == '/' || slash == NULL)
        full = strdup(pattern);
    else if (asprintf(&full, "%.*s/%s", (int)(slash - source->file), source->file, pattern) < 0)
        full = NULL;
    if (full == NULL) {
        ini_stop(reader, source, "out of memory");
        return;
    }
    if (!magic) {
        if (read_file(reader, source, full) != 0) {
            char text[512];

            snprintf(text, sizeof(text), "include = %.200s: %s", pattern, strerror(errno));
            ini_complain(reader, source, text);
        }
    } else {
        int result = glob(full, GLOB_ERR, NULL, &found);

        if (result != 0 && result != GLOB_NOMATCH)
            ini_complain(reader, source, "include: cannot read the directory");
        for (size_t i = 0; result == 0 && i < found.gl_pathc && !reader->full; i++)
            if (read_file(reader, source, found.gl_pathv[i]) != 0)
                ini_error(reader->errors, found.gl_pathv[i], 0, NULL, "%s", strerror(errno));
        globfree(&found);
    }
    free(full);
}

static int by_label(const void *left, const void *right)
{
    const struct ini_section *const *a = left, *const *b = right;
    int order = strcmp((*a)->label, (*b)->label);

    return order != 0 ? order : (*a > *b) - (*a < *b);
}

static void find_twins(struct ini *ini, struct ini_errors *errors)
{
    const struct ini_section **sorted = malloc((ini->section_count + 1) * sizeof(const struct ini_section *));
    const struct ini_section *first;

    if (sorted == NULL) {
        ini_error(errors, ini->files[0], 0, NULL, "out of memory");
        return;
    }
    for (size_t i = 0; i < ini->section_count; i++)
        sorted[i] = &ini->sections[i];
    qsort(sorted, ini->section_count, sizeof(const struct ini_section *), by_label);
    first = sorted[0];
    for (size_t i = 1; i < ini->section_count; i++) {
        if (strcmp(sorted[i]->label, first->label) != 0)
            first = sorted[i];
        else
            ini_error(errors, sorted[i]->file, sorted[i]->line, sorted[i]->label, "the section stands already in %s:%d",
                      first->file, first->line);
    }
    free(sorted);
}

static struct ini *finish(struct ini_reader *reader)
{
    if (reader->ini->section_count > 0)
        find_twins(reader->ini, reader->errors);
    buf_free(&reader->joined);
    buf_free(&reader->value);
    return reader->ini;
}

struct ini *ini_read(const char *path, struct ini_errors *errors)
{
    struct ini_reader reader = {.ini = calloc(1, sizeof(struct ini)), .errors = errors};

    if (reader.ini == NULL)
        return NULL;
    if (read_file(&reader, NULL, path) != 0)
        ini_error(errors, path, 0, NULL, "%s", strerror(errno));
    return finish(&reader);
}

struct ini *ini_parse(const char *name, const char *text, size_t length, struct ini_errors *errors)
{
    struct ini_reader reader = {.ini = calloc(1, sizeof(struct ini)), .errors = errors};
    struct ini_source source = {.text = text, .end = text + length, .memory = true};

    if (reader.ini == NULL)
        return NULL;
    source.file = reader.ini->files[0] = strdup(name);
    if (source.file == NULL) {
        ini_free(reader.ini);
        return NULL;
    }
    reader.ini->file_count = 1;
    if (length > INI_FILE_MAX)
        ini_complain(&reader, &source, strerror(EFBIG));
    else
        ini_read_text(&reader, &source);
    return finish(&reader);
}

void ini_free(struct ini *ini)
{
    if (ini == NULL)
        return;
    for (size_t i = 0; i < ini->section_count; i++) {
        struct ini_section *section = &ini->sections[i];

        for (size_t j = 0; j < section->count; j++) {
            free(section->entries[j].key);
            free(section->entries[j].value);
        }
        free(section->entries);
        free(section->kind);
        free(section->name);
        free(section->label);
    }
    for (size_t i = 0; i < ini->file_count; i++)
        free(ini->files[i]);
    free(ini->sections);
    free(ini);
}
