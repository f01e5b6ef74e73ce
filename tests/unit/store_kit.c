/* SPDX-License-Identifier: MIT */
#include "unit/store_kit.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void on_committed(void *arg, uint64_t batch)
{
    struct store_kit *kit = arg;

    ck_assert_uint_gt(batch, kit->committed);
    kit->committed = batch;
}

static void on_low(void *arg, const char *why)
{
    struct store_kit *kit = arg;

    if (why == NULL) {
        kit->wells++;
        return;
    }
    kit->lows++;
    snprintf(kit->why, sizeof(kit->why), "%s", why);
}

static void on_record(void *arg, enum store_kind kind, struct span name, struct span value)
{
    struct store_kit *kit = arg;

    kit->record_count++;
    buf_printf(&kit->records, "%d ", kind);
    buf_put_span(&kit->records, name);
    buf_put_u8(&kit->records, '=');
    buf_put_span(&kit->records, value);
    buf_put_u8(&kit->records, '\n');
}

static void on_figures(void *arg, const struct store_figures *figures)
{
    struct store_kit *kit = arg;

    ck_assert_uint_lt(kit->figure_count, KIT_QUEUES);
    kit->figures[kit->figure_count++] = *figures;
}

void stored_begin(struct store_kit *kit)
{
    snprintf(kit->folder, sizeof(kit->folder), "/tmp/check_store.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(kit->folder));
}

bool stored_try_open(struct store_kit *kit)
{
    struct store_options options = {.folder = kit->folder, .map_size = kit->map_size, .disk_free_limit = kit->limit};
    struct store_ops ops = {.committed = on_committed, .low = on_low};
    struct store_recovery recovery = {.record = on_record, .figures = on_figures};

    kit->committed = 0;
    kit->figure_count = kit->record_count = 0;
    buf_clear(&kit->records);
    kit->loop = loop_new();
    ck_assert_ptr_nonnull(kit->loop);
    kit->store = store_open(kit->loop, &options, &ops, kit, kit->error, sizeof(kit->error));
    if (kit->store != NULL && kit->purge_rows != 0)
        kit->store->purge_rows = kit->purge_rows;
    if (kit->store != NULL && kit->retry_ms != 0)
        kit->store->retry_ms = kit->retry_ms;
    if (kit->store != NULL && store_recover(kit->store, &recovery, kit, kit->error, sizeof(kit->error)) == 0)
        return true;
    store_close(kit->store, 0);
    kit->store = NULL;
    loop_free(kit->loop);
    return false;
}

void stored_open(struct store_kit *kit)
{
    ck_assert_msg(stored_try_open(kit), "%s", kit->error);
}

static void kit_drop_rows(struct store_kit *kit)
{
    for (size_t i = 0; i < kit->row_count; i++)
        message_drop(kit->rows[i].message);
    kit->row_count = 0;
}

void stored_close(struct store_kit *kit)
{
    kit_drop_rows(kit);
    store_close(kit->store, 10000);
    loop_free(kit->loop);
    kit->store = NULL;
}

void stored_end(struct store_kit *kit)
{
    char command[128];

    if (kit->store != NULL)
        stored_close(kit);
    buf_free(&kit->records);
    snprintf(command, sizeof(command), "rm -r %s", kit->folder);
    ck_assert_int_eq(system(command), 0);
}

void stored_turn(struct store_kit *kit)
{
    ck_assert_int_eq(loop_turn(kit->loop, false), 0);
}

void stored_sync(struct store_kit *kit)
{
    uint64_t batch = store_batch(kit->store);

    while (store_committed(kit->store) < batch)
        ck_assert_int_eq(loop_turn(kit->loop, true), 0);
    ck_assert_uint_eq(kit->committed, store_committed(kit->store));
}

struct store_figures stored_figures(const struct store_kit *kit, uint64_t queue)
{
    for (size_t i = 0; i < kit->figure_count; i++) {
        if (kit->figures[i].queue == queue)
            return kit->figures[i];
    }
    return (struct store_figures){0};
}

size_t stored_entries(const struct store_kit *kit, const char *table)
{
    char path[128];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_stat stat;

    snprintf(path, sizeof(path), "%s/store.mdb", kit->folder);
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 8), 0);
    ck_assert_int_eq(mdb_env_set_mapsize(env, 1 << 30), 0); /* the file says 1 TiB, more than ThreadSanitizer has */
    ck_assert_int_eq(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_RDONLY, 0), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_stat(txn, dbi, &stat), 0);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return stat.ms_entries;
}

struct message *stored_message(const char *key, size_t body_size)
{
    static const uint8_t properties[] = {0x10, 0, 2};
    struct reply error;
    struct message *message = message_new(span_str("events"), span_str(key), span_of(properties, sizeof(properties)),
                                          body_size, &error);

    ck_assert_ptr_nonnull(message);
    memset(message_body_bytes(message), 'x', body_size);
    return message;
}

void stored_add(struct store_kit *kit, const struct store_entry *entry, size_t body_size)
{
    char key[32];
    struct message *message;

    snprintf(key, sizeof(key), "%llu", (unsigned long long)entry->position);
    message = stored_message(key, body_size);
    store_add(kit->store, entry, message, NULL);
    message_drop(message);
}

static void on_rows(void *arg, struct store_row *rows, size_t count, bool end)
{
    struct store_kit *kit = arg;

    ck_assert(!kit->answered);
    ck_assert_uint_le(count, HARK_COUNT(kit->rows));
    if (count > 0)
        memcpy(kit->rows, rows, count * sizeof(*rows));
    kit->row_count = count;
    kit->end = end;
    kit->answered = true;
}

void stored_read(struct store_kit *kit, uint64_t queue, uint8_t rank, uint64_t position, size_t count, size_t bytes)
{
    kit_drop_rows(kit);
    kit->answered = false;
    ck_assert_ptr_nonnull(store_read(kit->store, queue, rank, position, count, bytes, on_rows, kit));
    while (!kit->answered)
        ck_assert_int_eq(loop_turn(kit->loop, true), 0);
}
