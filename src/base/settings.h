/* SPDX-License-Identifier: MIT */
/*
 * Fills a struct from a settings table (<hark/setting.h>): the one place that parses, checks, shows
 * and frees typed values. Errors are texts without file and line; the caller, who knows them, adds
 * them.
 */
#ifndef BASE_SETTINGS_H
#define BASE_SETTINGS_H

#include "base/base.h"
#include <hark/setting.h>
#include <stdio.h>

#define SETTINGS_MAX 64 /* rows of one table */

/* One struct being filled. `seen` remembers which rows were set, and on which line first. */
struct settings {
    const struct hark_setting *table;
    void *into;
    int line[SETTINGS_MAX]; /* 0: not set; otherwise the line given to settings_set */
};

/* `into` must be zeroed. Nothing is allocated that settings_free does not free. */
void settings_init(struct settings *settings, const struct hark_setting *table, void *into);

/* The row for a key (for HARK_MAP: the prefix matches), or NULL. */
const struct hark_setting *settings_find(const struct hark_setting *table, const char *key);

/* 0; -1 with a message in error: not of the type, out of range, not one of the words, set twice.
 * `quoted`: the whole value stood in double quotes. An unknown key is also an error, see
 * settings_nearest. */
int settings_set(struct settings *settings, const char *key, const char *value, bool quoted, int line, char *error,
                 size_t size) HARK_MUSTCHECK;

/* Fills in the fallbacks of all rows not set. -1: a required key is missing, or (a bug in a table,
 * found by every unit test) a fallback does not parse. */
int settings_finish(struct settings *settings, char *error, size_t size) HARK_MUSTCHECK;
void settings_free(const struct hark_setting *table, void *into);

/* The known name nearest to `key` among the tables' (NULL at the end of the array), or NULL if none
 * is near. */
const char *settings_nearest(const struct hark_setting *const *tables, const char *key);
/* Likewise among plain words. */
const char *settings_nearest_word(const char *const *words, size_t count, const char *word);

/* One row as `harkd --defaults` prints it: help as comments, then `key = fallback` (commented when
 * there is none). */
void settings_print(const struct hark_setting *setting, FILE *to);
/* "duration", "list of words" ...: for messages and documentation. */
const char *settings_type_name(enum hark_setting_type type);
/* A number as an ini file would write it, in the largest unit that is exact: 60000 ms are "1m".
 * Returns `to`. */
const char *settings_show_number(enum hark_setting_type type, int64_t value, char *to, size_t size);

/* Parsers on their own; 0 or -1 with a message that names what was expected. */
int settings_parse_duration(const char *text, int64_t *ms, char *error, size_t size) HARK_MUSTCHECK;
int settings_parse_size(const char *text, int64_t *bytes, char *error, size_t size) HARK_MUSTCHECK;
int settings_parse_integer(const char *text, int64_t *value, char *error, size_t size) HARK_MUSTCHECK;
int settings_parse_words(const char *text, struct hark_list *list, char *error, size_t size) HARK_MUSTCHECK;

#endif
