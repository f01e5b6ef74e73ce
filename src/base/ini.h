/* SPDX-License-Identifier: MIT */
/*
 * Reads an ini file into sections and entries, each with its file and line.
 *
 *     [kind name]                      ; the name may be "quoted"
 *     key = value                      ; a comment: at the start of a line or after a blank
 *     key = "a value \"quoted\" \n"    # whole value quoted: escapes \" \\ \n \t, `quoted` is set
 *     key = ${HOME}/x ${USER:-nobody}  ; environment; $$ is a dollar; unset without a default: an
 * error
 *     key = one two \
 *           three                      ; a backslash at the end continues the line
 *     include = conf.d/[a-z]*.ini      ; in [hark] or before the first section: see below
 *
 * Knows nothing of which sections and keys exist: that is the caller's. Two rules it does enforce,
 * as they need all files: the same section twice is an error that names the first, and a key stands
 * in a section.
 *
 * `include` takes a glob relative to the including file, read in sorted order. A plain name must
 * exist, a pattern may match nothing. Depth is bounded, and a file that includes itself is an
 * error.
 *
 * Why not inih: Debian's build of it cuts lines at 200 bytes, and tells its handler no line
 * numbers.
 *
 * Every error is one line, `file:line: [section] text`; reading goes on after an error, so that all
 * of them are reported at once. File contents may be hostile: files, lines, sections, entries and
 * errors are bounded.
 */
#ifndef BASE_INI_H
#define BASE_INI_H

#include "base/base.h"

#define INI_FILE_MAX (1024 * 1024)
#define INI_LINE_MAX (64 * 1024) /* after joining continued lines, and after the environment */
#define INI_FILES_MAX 256
#define INI_DEPTH_MAX 8
#define INI_SECTIONS_MAX 20000
#define INI_ENTRIES_MAX 200000
#define INI_NAME_MAX 255 /* of a section: AMQP's short strings */
#define INI_ERRORS_MAX 100

/* Collected errors, one line each, without newline. Zeroed to start with. */
struct ini_errors {
    size_t count; /* how many there were: more than INI_ERRORS_MAX are counted, not kept */
    char *lines[INI_ERRORS_MAX];
};

struct ini_entry {
    char *key;
    char *value;
    bool quoted; /* the whole value stood in double quotes */
    int line;
};

struct ini_section {
    char *kind;
    char *name;  /* "" when the section has none */
    char *label; /* `[kind name]`, for messages */
    const char *file;
    int line;
    size_t count, capacity;
    struct ini_entry *entries;
};

struct ini {
    size_t file_count;
    char *files[INI_FILES_MAX]; /* as named in messages: a section's `file` is one of these */
    size_t section_count, section_capacity;
    struct ini_section *sections;
    size_t entry_count;
};

/* What could be read, also when there were errors; NULL only without memory. The caller looks at
 * errors->count. */
struct ini *ini_read(const char *path, struct ini_errors *errors) HARK_MUSTCHECK;
/* The same from memory; `name` stands for the file in messages. `include` is an error here. */
struct ini *ini_parse(const char *name, const char *text, size_t length, struct ini_errors *errors) HARK_MUSTCHECK;
void ini_free(struct ini *ini);

/* Adds `file:line: [section] text`. line 0: none; label NULL: none. */
void ini_error(struct ini_errors *errors, const char *file, int line, const char *label, const char *format, ...)
    HARK_PRINTF(5, 6);
void ini_errors_free(struct ini_errors *errors);

#endif
