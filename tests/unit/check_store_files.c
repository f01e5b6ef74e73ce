/* SPDX-License-Identifier: MIT */
/* The folder of the store: a second process, files that are not what they should be. */
#include "base/log.h"
#include "unit/store_kit.h"
#include "suite.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static struct store_kit kit;

static void set_up(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    stored_begin(&kit);
}

static void quiet(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    (void)level;
    (void)text;
}

static void tear_down(void)
{
    stored_end(&kit);
}

static void add(uint64_t queue, uint64_t position, size_t body)
{
    struct store_entry entry = {.queue = queue, .position = position};

    stored_add(&kit, &entry, body);
}

static void take(uint64_t queue, uint64_t position)
{
    struct store_entry entry = {.queue = queue, .position = position};

    store_remove(kit.store, &entry, NULL);
}

static void path_of(char path[128], const char *name)
{
    snprintf(path, 128, "%s/%s", kit.folder, name);
}

static void check_refused(const char *why)
{
    ck_assert(!stored_try_open(&kit));
    ck_assert_msg(strstr(kit.error, why) != NULL, "%s", kit.error);
    ck_assert_msg(strstr(kit.error, kit.folder) != NULL, "%s", kit.error);
}

START_TEST(opened_twice)
{
    struct store_kit other = {.limit = 0};
    char pid[32];

    stored_open(&kit);
    snprintf(other.folder, sizeof(other.folder), "%s", kit.folder);
    ck_assert(!stored_try_open(&other));
    snprintf(pid, sizeof(pid), "process, %d:", (int)getpid());
    ck_assert_msg(strstr(other.error, pid) != NULL, "%s", other.error);
    stored_close(&kit);
    ck_assert(stored_try_open(&other));
    stored_close(&other);
}
END_TEST

START_TEST(folders)
{
    char folder[sizeof(kit.folder)], path[128];
    struct stat made;

    memcpy(folder, kit.folder, sizeof(folder));
    path_of(path, "new");
    snprintf(kit.folder, sizeof(kit.folder), "%.60s", path);
    stored_open(&kit);
    ck_assert_int_eq(stat(path, &made), 0);
    ck_assert_uint_eq(made.st_mode & 0777, 0700);
    stored_close(&kit);
    snprintf(kit.folder, sizeof(kit.folder), "%.50s/none/new", folder);
    check_refused("No such file");
    snprintf(kit.folder, sizeof(kit.folder), "%.50s/new/lock", folder);
    check_refused("not a folder");
    memcpy(kit.folder, folder, sizeof(folder));
}
END_TEST

static void write_at(off_t at, const void *bytes, size_t length)
{
    char path[128];
    int fd;

    path_of(path, "store.mdb");
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, bytes, length, at), (ssize_t)length);
    close(fd);
}

START_TEST(damaged)
{
    static uint8_t garbage[20000];
    char path[128];

    memset(garbage, 0xa5, sizeof(garbage));
    write_at(0, garbage, sizeof(garbage));
    check_refused("not a database");

    path_of(path, "store.mdb");
    ck_assert_int_eq(unlink(path), 0);
    stored_open(&kit);
    for (uint64_t i = 0; i < 100; i++)
        add(1, i, 1000);
    stored_close(&kit);
    ck_assert_int_eq(truncate(path, 40000), 0);
    check_refused("damaged");
}
END_TEST

/* A file that has lost all it had is not a new one. */
START_TEST(emptied)
{
    char path[128], new[128];

    path_of(path, "store.mdb");
    path_of(new, "store.mdb.new");
    stored_open(&kit);
    add(1, 0, 1000);
    stored_close(&kit);
    ck_assert_int_eq(truncate(path, 0), 0);
    check_refused("damaged");
    check_refused("move it away");
    check_refused(path);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/dev/full", new), 0); /* what an attempt to make it has left */
    stored_open(&kit);
    add(1, 0, 1000);
    stored_close(&kit);
    ck_assert_int_ne(access(new, F_OK), 0);
}
END_TEST

/* What fails to be made leaves nothing that looks like a store. */
START_TEST(not_made)
{
    char path[128];
    struct rlimit limit = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};

    path_of(path, "store.mdb");
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    check_refused("store");
    ck_assert_int_ne(access(path, F_OK), 0);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    stored_open(&kit);
}
END_TEST

static void put(const char *table, MDB_val key, MDB_val value)
{
    char path[128];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    path_of(path, "store.mdb");
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 8), 0);
    ck_assert_int_eq(mdb_env_set_mapsize(env, 1 << 30), 0);
    ck_assert_int_eq(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, table, MDB_CREATE, &dbi), 0);
    ck_assert_int_eq(mdb_put(txn, dbi, &key, &value, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

START_TEST(unknown_version)
{
    static const uint8_t nine[4] = {0, 0, 0, 9};

    stored_open(&kit);
    stored_close(&kit);
    put("meta", store_val("version", 7), store_val(nine, sizeof(nine)));
    check_refused("version 9, this harkd knows version 1");
}
END_TEST

START_TEST(foreign)
{
    put("addresses", store_val("somebody", 8), store_val("else", 4));
    check_refused("not a database of harkd");
}
END_TEST

START_TEST(unreadable_row)
{
    uint8_t key[STORE_KEY];

    log_divert(quiet, NULL);
    stored_open(&kit);
    for (uint64_t i = 0; i < 3; i++)
        add(1, i, 10);
    stored_close(&kit);
    store_key_put(key, 1, 0, 1);
    put("rows", store_val(key, sizeof(key)), store_val("?", 1));
    stored_open(&kit);
    stored_read(&kit, 1, 0, 0, 10, 10000);
    ck_assert_uint_eq(kit.row_count, 2);
    ck_assert(kit.end);
    take(1, 1); /* nor does it stand in anybody's way */
    add(1, 3, 10);
    stored_sync(&kit);
    stored_read(&kit, 1, 0, 0, 10, 10000);
    ck_assert_uint_eq(kit.row_count, 3);
}
END_TEST

static char said[1024];

static void hear(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    if (level == LOG_LEVEL_ERROR)
        snprintf(said, sizeof(said), "%s", text);
}

static void never(void *arg, struct store_row *rows, size_t count, bool end)
{
    (void)arg;
    (void)rows;
    (void)count;
    (void)end;
    ck_abort_msg("an answer");
}

/* What is found damaged later: nobody is told that nothing is lost. */
START_TEST(damaged_within)
{
    uint8_t key[STORE_KEY + 1] = {0};

    log_divert(hear, NULL);
    stored_open(&kit);
    add(1, 0, 10);
    stored_close(&kit);
    store_key_put(key, 1, 0, 0);
    put("rows", store_val(key, sizeof(key)), store_val("?", 1));
    stored_open(&kit);
    ck_assert_ptr_nonnull(store_read(kit.store, 1, 0, 0, 10, 1000, never, NULL));
    while (kit.lows == 0)
        ck_assert_int_eq(loop_turn(kit.loop, true), 0);
    ck_assert_msg(strstr(kit.why, "store.mdb: the file is damaged: restore it") != NULL, "%s", kit.why);
    ck_assert_msg(strstr(said, "nothing is lost") == NULL, "%s", said);
}
END_TEST

static size_t rows_of(struct store_db *db)
{
    struct store_read read = {.queue = 1, .count = 10, .bytes = 1000};

    ck_assert_int_eq(store_read_run(db, &read), 0);
    for (size_t i = 0; i < read.row_count; i++)
        message_drop(read.rows[i].message);
    free(read.rows);
    return read.row_count;
}

static void add_transient(struct store_db *db, const struct store_entry *entry)
{
    struct message *message = stored_message("key", 10);

    ck_assert_int_eq(store_row_add(db, entry, message), 0);
    ck_assert_int_eq(store_db_commit(db), 0);
    message_drop(message);
    store_env_close(&db->transient);
}

/* Its file was closed to be mapped anew, and there was no memory for that just then. Without the thread. */
START_TEST(transient_is_opened_again)
{
    struct store_options options = {.folder = kit.folder};
    struct store_entry entry = {.queue = 1, .transient = true};
    struct store_db db = {0};
    bool found;

    stored_close(&kit);
    ck_assert_int_eq(store_db_open(&db, &options, kit.error, sizeof(kit.error)), 0);
    add_transient(&db, &entry);
    ck_assert_uint_eq(rows_of(&db), 1);
    store_env_close(&db.transient);
    ck_assert_int_eq(store_purge_mark(&db, 1, 0, 0), 0);
    ck_assert_int_eq(store_db_commit(&db), 0);
    ck_assert_uint_eq(rows_of(&db), 0);
    entry.position = 1;
    add_transient(&db, &entry);
    ck_assert_int_eq(store_row_remove(&db, &entry, &found), 0);
    ck_assert(found);
    ck_assert_int_eq(store_db_commit(&db), 0);
    ck_assert_uint_eq(rows_of(&db), 0);
    store_db_close(&db);
}
END_TEST

START_TEST(little_address_space)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    struct rlimit limit = {.rlim_cur = (rlim_t)4 << 30, .rlim_max = RLIM_INFINITY};

    log_divert(quiet, NULL);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
#endif
    stored_open(&kit);
    add(1, 0, 10);
    stored_sync(&kit);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_files");
    TCase *tcase = tcase_create("store_files");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, opened_twice);
    tcase_add_test(tcase, folders);
    tcase_add_test(tcase, damaged);
    tcase_add_test(tcase, emptied);
    tcase_add_test(tcase, not_made);
    tcase_add_test(tcase, unknown_version);
    tcase_add_test(tcase, foreign);
    tcase_add_test(tcase, unreadable_row);
    tcase_add_test(tcase, damaged_within);
    tcase_add_test(tcase, transient_is_opened_again);
    tcase_add_test(tcase, little_address_space);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
