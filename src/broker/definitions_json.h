/* SPDX-License-Identifier: MIT */
/*
 * Values of a JSON document with the path to where we are, so that what is wrong is told with its place. For
 * definitions.c alone.
 */
#ifndef BROKER_DEFINITIONS_JSON_H
#define BROKER_DEFINITIONS_JSON_H

#include "base/buf.h"
#include <cjson/cJSON.h>

struct json_place {
    const char *file;
    char path[256]; /* "queues[3].arguments"; cut when it is longer */
    size_t length;
    char *error;
    size_t size;
};

/* Goes deeper, to a key or an item, and returns what json_leave() takes to come back. */
size_t json_enter_key(struct json_place *place, const char *key);
size_t json_enter_item(struct json_place *place, unsigned index);
void json_leave(struct json_place *place, size_t back);
/* Writes "FILE: PATH: ..." and returns -1. */
int json_fail(struct json_place *place, const char *format, ...) HARK_PRINTF(2, 3);

/* The whole document; NULL with a message that has line and column. Strings in it hold no byte 0. */
cJSON *json_parse(struct json_place *place, const char *text, size_t length) HARK_MUSTCHECK;

/* Of an object's entries. Optional ones that are missing or null leave *value alone. */
int json_string(struct json_place *place, const cJSON *object, const char *key, const char **value) HARK_MUSTCHECK;
int json_optional_string(struct json_place *place, const cJSON *object, const char *key,
                         const char **value) HARK_MUSTCHECK;
/* A string of 1 to 255 bytes. */
int json_name(struct json_place *place, const cJSON *object, const char *key, const char **value) HARK_MUSTCHECK;
int json_optional_boolean(struct json_place *place, const cJSON *object, const char *key, bool *value) HARK_MUSTCHECK;

/* Puts the content of a field table that says the same as the object: whole numbers l, others d, strings S, true and
 * false t, null V, arrays A, objects F. An empty array is an empty table, as Erlang cannot tell them apart. */
int json_table(struct json_place *place, const cJSON *object, const char *key, struct buf *to) HARK_MUSTCHECK;

#endif
