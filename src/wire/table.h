/* SPDX-License-Identifier: MIT */
/*
 * Field tables (AMQP 0-9-1, 4.2.5.5, with RabbitMQ's type letters), read and written in place: a
 * table that passes through hark is never rebuilt, so every type and every byte of it arrives as it
 * was sent.
 *
 * "A table" here is the content without its 4 length bytes.
 */
#ifndef WIRE_TABLE_H
#define WIRE_TABLE_H

#include "base/buf.h"

/* 0 if every name, type and length in it is sound and at most `depth` tables and arrays (32 at the
 * very most) stand one in the other within it; -1 otherwise. Not recursive. Everything else here
 * trusts a table that has passed. */
int table_check(struct span table, int depth) HARK_MUSTCHECK;

struct table_entry {
    struct span name;
    char kind;         /* t b B u s I i l L f d D S x A T F V (also U as s, as some clients write it) */
    struct span value; /* after the type letter; for S x A F without the 4 length bytes */
    struct span whole; /* name, letter and value as they stand */
};

/* Entries in order: start with *cursor = 0; false at the end. */
bool table_next(struct span table, size_t *cursor, struct table_entry *entry);
/* The same for an array (kind A), whose values have no names. */
bool table_next_item(struct span array, size_t *cursor, struct table_entry *entry);
/* The first entry of that name. */
bool table_find(struct span table, struct span name, struct table_entry *entry);
/* The value as a number, for t b B u s I i l L T. False: not a number (or L above INT64_MAX). */
bool table_integer(const struct table_entry *entry, int64_t *value);

/* Writing: table_begin leaves room for the length and returns its position. Names over 255 bytes
 * turn the buffer `failed`: they would be cut silently. */
size_t table_begin(struct buf *out);
void table_end(struct buf *out, size_t position);
void table_put_string(struct buf *out, struct span name, struct span value); /* S */
void table_put_integer(struct buf *out, struct span name, int64_t value);    /* I if it fits, otherwise l */
void table_put_long(struct buf *out, struct span name, int64_t value);       /* l */
void table_put_boolean(struct buf *out, struct span name, bool value);       /* t */
void table_put_time(struct buf *out, struct span name, uint64_t seconds);    /* T */
/* Any kind, from the value bytes as table_entry gives them; a length that is not the kind's turns
 * it `failed`. */
void table_put_value(struct buf *out, struct span name, char kind, struct span value);

#endif
