/* SPDX-License-Identifier: MIT */
/*
 * The two halves of the ini reader, known to ini.c (files, includes, what outlives the reading) and
 * ini_parse.c (lines into sections and entries) alone.
 */
#ifndef BASE_INI_READER_H
#define BASE_INI_READER_H

#include "base/buf.h"
#include "base/ini.h"

/* One file being read; the chain upwards is who included whom. */
struct ini_source {
    const struct ini_source *parent;
    const char *file;
    const char *text, *end; /* what is left */
    int next_line;
    int line; /* of what is being looked at */
    int depth;
    bool memory;
    bool in_section;
    size_t section; /* its index, if in_section */
    dev_t device;
    ino_t inode;
};

struct ini_reader {
    struct ini *ini;
    struct ini_errors *errors;
    struct buf joined; /* one logical line, terminated */
    struct buf value;
    bool full; /* a bound was hit and reported: stop */
};

/* All lines of a source. */
void ini_read_text(struct ini_reader *reader, struct ini_source *source);
/* What `include = pattern` asks for. */
void ini_include(struct ini_reader *reader, const struct ini_source *source, const char *pattern);

/* The section that keys belong to now, or NULL. */
struct ini_section *ini_current(struct ini_reader *reader, const struct ini_source *source);
/* An error at the line being looked at. */
void ini_complain(struct ini_reader *reader, const struct ini_source *source, const char *text);
/* Likewise, when a bound was hit: what follows would only repeat it. */
void ini_stop(struct ini_reader *reader, const struct ini_source *source, const char *text);

#endif
