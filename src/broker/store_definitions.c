/* SPDX-License-Identifier: MIT */
/*
 * Definitions: kind and name to value. LMDB's keys are at most 511 bytes, so a long name stands in
 * the value, under its hash and a number that tells names of one hash apart.
 *
 *   short: kind 1, 0, name                 -> value
 *   long:  kind 1, 1, hash 16, number 4    -> length of the name 4, name, value
 */
#include "broker/store_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SHORT_NAME 400
#define LONG_PREFIX 18
#define LONG_KEY 22

void store_definition_hash(struct span name, uint8_t hash[16])
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits(name.data, name.length));
    memcpy(hash, canonical.digest, 16);
}

static size_t store_definition_key(struct store_db *db, enum store_kind kind, struct span name, uint8_t *key)
{
    key[0] = (uint8_t)kind;
    key[1] = name.length > SHORT_NAME;
    if (key[1]) {
        db->hash(name, key + 2);
        put_u32(key + LONG_PREFIX, 0);
        return LONG_KEY;
    }
    if (name.length > 0)
        memcpy(key + 2, name.data, name.length);
    return name.length + 2;
}

/* -1: the value is not that of a long name. */
static int store_definition_split(MDB_val stored, struct span *name, struct span *value)
{
    struct span all = span_of(stored.mv_data, stored.mv_size);

    if (all.length < 4 || get_u32(all.data) > all.length - 4)
        return -1;
    *name = span_of(all.data + 4, get_u32(all.data));
    *value = span_of(name->data + name->length, all.length - 4 - name->length);
    return 0;
}

/* Finds the number of a long name, or (MDB_NOTFOUND) one that is free. */
static int store_definition_find(struct store_db *db, struct span name, uint8_t *bytes, size_t length)
{
    uint8_t prefix[LONG_PREFIX];
    MDB_val key = store_val(bytes, length), stored;
    uint32_t number = 0;
    MDB_cursor *cursor;
    int code = mdb_cursor_open(db->durable.txn, db->definitions, &cursor);

    if (code != 0)
        return code;
    memcpy(prefix, bytes, LONG_PREFIX);
    for (code = mdb_cursor_get(cursor, &key, &stored, MDB_SET_RANGE); code == 0;
         code = mdb_cursor_get(cursor, &key, &stored, MDB_NEXT)) {
        struct span known, value;

        if (key.mv_size != LONG_KEY || memcmp(key.mv_data, prefix, LONG_PREFIX) != 0) {
            code = MDB_NOTFOUND;
            break;
        }
        if (store_definition_split(stored, &known, &value) == 0 && span_equal(known, name)) {
            memcpy(bytes, key.mv_data, LONG_KEY);
            break;
        }
        number = get_u32((uint8_t *)key.mv_data + LONG_PREFIX) + 1;
    }
    mdb_cursor_close(cursor);
    if (code == MDB_NOTFOUND)
        put_u32(bytes + LONG_PREFIX, number);
    return code;
}

int store_definition_put(struct store_db *db, enum store_kind kind, struct span name, struct span value)
{
    uint8_t bytes[SHORT_NAME + 2];
    MDB_val key = store_val(bytes, store_definition_key(db, kind, name, bytes)), stored;
    uint8_t *to;
    int code = store_env_begin(db, &db->durable);

    if (code != 0)
        return code;
    if (!bytes[1]) {
        stored = store_val(value.data, value.length);
        return mdb_put(db->durable.txn, db->definitions, &key, &stored, 0);
    }
    code = store_definition_find(db, name, bytes, key.mv_size);
    if (code != 0 && code != MDB_NOTFOUND)
        return code;
    stored = store_val(NULL, 4 + name.length + value.length);
    code = mdb_put(db->durable.txn, db->definitions, &key, &stored, MDB_RESERVE);
    if (code != 0)
        return code;
    to = stored.mv_data;
    put_u32(to, (uint32_t)name.length);
    memcpy(to + 4, name.data, name.length);
    if (value.length > 0)
        memcpy(to + 4 + name.length, value.data, value.length);
    return 0;
}

int store_definition_forget(struct store_db *db, enum store_kind kind, struct span name)
{
    uint8_t bytes[SHORT_NAME + 2];
    MDB_val key = store_val(bytes, store_definition_key(db, kind, name, bytes));
    int code = store_env_begin(db, &db->durable);

    if (code == 0 && bytes[1])
        code = store_definition_find(db, name, bytes, key.mv_size);
    if (code == 0)
        code = mdb_del(db->durable.txn, db->definitions, &key, NULL);
    return code == MDB_NOTFOUND ? 0 : code;
}

int store_definition_each(struct store_db *db, const struct store_recovery *recovery, void *arg)
{
    MDB_cursor *cursor;
    MDB_val key, stored;
    int code = mdb_cursor_open(db->durable.txn, db->definitions, &cursor);

    if (code != 0)
        return code;
    while ((code = mdb_cursor_get(cursor, &key, &stored, MDB_NEXT)) == 0) {
        const uint8_t *bytes = key.mv_data;
        struct span name, value;

        if (key.mv_size < 2 || (bytes[1] && store_definition_split(stored, &name, &value) != 0)) {
            code = MDB_CORRUPTED;
            break;
        }
        if (!bytes[1]) {
            name = span_of(bytes + 2, key.mv_size - 2);
            value = span_of(stored.mv_data, stored.mv_size);
        }
        recovery->record(arg, (enum store_kind)bytes[0], name, value);
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}
