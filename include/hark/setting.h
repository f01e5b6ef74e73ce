/* SPDX-License-Identifier: MIT */
/*
 * Typed settings.
 *
 * A module (and hark itself) describes the keys of an ini section with a table of rows. From that one
 * table hark parses and checks the section, fills in the defaults, prints `harkd --defaults`, finds the
 * nearest name for a mistyped key, and frees what it allocated. A row names a member of the owner's own
 * struct by its offset, so there are no globals:
 *
 *     struct mail { char *relay; int64_t patience; bool tls; };
 *
 *     static const struct hark_setting settings[] = {
 *         {.name = "relay", .type = HARK_STRING, .offset = offsetof(struct mail, relay),
 *          .required = true, .help = "host that takes the mail"},
 *         {.name = "patience", .type = HARK_DURATION, .offset = offsetof(struct mail, patience),
 *          .fallback = "30s", .min = 1, .help = "how long to wait for the relay"},
 *         {.name = "tls", .type = HARK_BOOLEAN, .offset = offsetof(struct mail, tls),
 *          .fallback = "yes", .help = "encrypt"},
 *         {0},
 *     };
 *
 * Everything a member points to is owned by hark and lives as long as the struct.
 */
#ifndef HARK_SETTING_H
#define HARK_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hark_setting_type {
    HARK_END = 0,   /* ends a table */
    HARK_STRING,    /* char *              NULL when neither set nor given a fallback */
    HARK_INTEGER,   /* int64_t             decimal, within min..max */
    HARK_SIZE,      /* int64_t, bytes      65536, 64K, 16M, 1G: powers of 1024 */
    HARK_DURATION,  /* int64_t, ms         100ms, 5s, 2m, 1h, 1d; a bare 0 */
    HARK_BOOLEAN,   /* bool                yes/no, true/false, on/off */
    HARK_ENUM,      /* int                 index into `words` */
    HARK_LIST,      /* struct hark_list    words, "quotes honoured"; a repeated key appends */
    HARK_LINES,     /* struct hark_list    one item per line of the key, as written */
    HARK_DURATIONS, /* struct hark_durations  like HARK_LIST; an empty value empties it */
    HARK_MAP,       /* struct hark_map     `name` ends in a dot: argument.x = 1 gives {"x", "1"} */
};

struct hark_list {
    size_t count;
    char **items; /* a NULL stands behind the last; itself NULL when there are none */
};

struct hark_durations {
    size_t count;
    int64_t *ms;
};

struct hark_pair {
    char *name;
    char *value;
    bool quoted; /* the value stood in double quotes: a string even if it looks like a number */
};

struct hark_map {
    size_t count;
    struct hark_pair *pairs;
};

struct hark_setting {
    const char *name;
    enum hark_setting_type type;
    size_t offset;
    const char *fallback; /* the default as an ini file would write it; NULL: none, zero */
    bool required;
    bool secret;              /* never shown nor logged */
    const char *const *words; /* HARK_ENUM: the allowed words, NULL at the end */
    int64_t min, max;         /* numbers and durations (each of a list), inclusive; both 0: any >= 0 */
    const char *help;         /* one sentence, no full stop */
};

#endif
