/* SPDX-License-Identifier: MIT */
/*
 * The two LMDB environments: the durable one with LMDB's own guarantees (copy on write, one sync
 * per commit), the transient one without any sync. Both are used by one thread only, so LMDB's
 * lock file and table of readers are left out: the folder's lock keeps other processes away.
 */
#include "base/log.h"
#include "broker/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM_STEP (8u << 20)
#define MAP_SMALLEST (64u << 20)
#define GIVE_BACK (64u << 20) /* a transient file that is smaller may stay */

/* What LMDB finds broken while it works it reports by an assertion: going on would make it worse. */
static void store_env_broken(MDB_env *env, const char *what)
{
    const char *path = "?";

    mdb_env_get_path(env, &path);
    log_error("store %s: the file is damaged (%s): stop harkd and restore it from a backup", path, what);
    log_flush(2000);
    abort();
}

static int store_env_try(struct store_db *db, struct store_env *env, uint64_t map_size)
{
    bool durable = env == &db->durable;
    unsigned flags = MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS | (durable ? 0 : MDB_NOSYNC | MDB_NOMETASYNC);
    int code = mdb_env_create(&env->env);

    if (code != 0)
        return code;
    code = mdb_env_set_maxdbs(env->env, 8);
    if (code == 0)
        code = mdb_env_set_mapsize(env->env, map_size);
    if (code == 0)
        code = mdb_env_set_assert(env->env, store_env_broken);
    if (code == 0)
        code = mdb_env_open(env->env, env->path, flags, 0600);
    if (code != 0)
        store_env_close(env);
    return code;
}

/* Pages that the database counts on but the file does not have would be a bus error later. */
static int store_env_whole(struct store_env *env)
{
    struct stat stat_buf;
    MDB_envinfo info;
    MDB_stat stat;
    int code = mdb_env_info(env->env, &info), fd;

    if (code == 0)
        code = mdb_env_stat(env->env, &stat);
    if (code == 0)
        code = mdb_env_get_fd(env->env, &fd);
    if (code == 0 && fstat(fd, &stat_buf) != 0)
        code = errno;
    /* New: only the two meta pages, which LMDB writes first. */
    if (code != 0 || info.me_last_pgno <= 1)
        return code;
    return (uint64_t)stat_buf.st_size < (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize ? MDB_PAGE_NOTFOUND : 0;
}

/* Looks at the version before anything else is touched; a new database gets ours. */
static int store_env_version(struct store_db *db, MDB_txn *txn)
{
    uint8_t bytes[4];
    MDB_val key = store_val("version", 7), value;
    MDB_dbi all;
    MDB_stat stat;
    int code = mdb_dbi_open(txn, "meta", 0, &db->meta);

    if (code == 0)
        code = mdb_get(txn, db->meta, &key, &value);
    if (code == 0) {
        db->version = value.mv_size == 4 ? get_u32(value.mv_data) : 0;
        return db->version == STORE_VERSION ? 0 : MDB_INCOMPATIBLE;
    }
    if (code != MDB_NOTFOUND)
        return code;
    code = mdb_dbi_open(txn, NULL, 0, &all);
    if (code == 0)
        code = mdb_stat(txn, all, &stat);
    if (code == 0 && stat.ms_entries > 0)
        return MDB_INVALID; /* somebody else's */
    if (code == 0)
        code = mdb_dbi_open(txn, "meta", MDB_CREATE, &db->meta);
    put_u32(bytes, STORE_VERSION);
    value = store_val(bytes, sizeof(bytes));
    return code == 0 ? mdb_put(txn, db->meta, &key, &value, 0) : code;
}

static int store_env_tables(struct store_db *db, struct store_env *env)
{
    struct {
        const char *name;
        MDB_dbi *dbi;
        bool durable;
    } tables[] = {
        {"rows", &env->rows, false},         {"counts", &env->counts, false},
        {"messages", &env->messages, false}, {"definitions", &db->definitions, true},
        {"figures", &db->figures, true},     {"purges", &db->purges, true},
    };
    bool durable = env == &db->durable;
    int code = durable ? store_env_version(db, env->txn) : 0;

    for (size_t i = 0; i < HARK_COUNT(tables) && code == 0; i++) {
        if (durable || !tables[i].durable)
            code = mdb_dbi_open(env->txn, tables[i].name, MDB_CREATE, tables[i].dbi);
    }
    return code;
}

static int store_env_schema(struct store_db *db, struct store_env *env)
{
    int code = mdb_txn_begin(env->env, NULL, 0, &env->txn);

    if (code != 0)
        return code;
    code = store_env_tables(db, env);
    if (code == 0)
        code = mdb_txn_commit(env->txn);
    else
        mdb_txn_abort(env->txn);
    env->txn = NULL;
    return code;
}

/* LMDB makes a file that is not there, and takes an empty one for new: not this one, which store_create() has made. */
static int store_env_there(const struct store_db *db, const struct store_env *env)
{
    struct stat stat_buf;

    if (env->path != db->durable_path)
        return 0;
    if (stat(env->path, &stat_buf) != 0)
        return errno;
    return stat_buf.st_size == 0 ? MDB_PAGE_NOTFOUND : 0;
}

int store_env_open(struct store_db *db, struct store_env *env)
{
    uint64_t map_size = env->map_size;
    int code = store_env_there(db, env);

    if (code == 0)
        code = store_env_try(db, env, map_size);

    /* A limit of address space (ulimit -v; valgrind calls it EINVAL): less will do for a while. */
    while ((code == ENOMEM || code == EINVAL) && map_size / 2 >= MAP_SMALLEST) {
        map_size /= 2;
        code = store_env_try(db, env, map_size);
    }
    if (code != 0)
        return code;
    if (map_size != env->map_size) {
        log_warning("store %s: no address space for %llu MiB, so it cannot grow beyond %llu MiB (see ulimit -v)",
                    env->path, (unsigned long long)(env->map_size >> 20), (unsigned long long)(map_size >> 20));
        env->map_size = map_size;
    }
    code = env == &db->durable ? store_env_whole(env) : 0;
    if (code == 0)
        code = store_env_schema(db, env);
    if (code != 0)
        store_env_close(env);
    return code;
}

void store_env_close(struct store_env *env)
{
    if (env->txn != NULL)
        mdb_txn_abort(env->txn);
    if (env->env != NULL)
        mdb_env_close(env->env);
    env->txn = NULL;
    env->env = NULL;
    free(env->shares);
    env->shares = NULL;
    env->share_count = env->share_capacity = 0;
}

void store_env_give_back(struct store_db *db)
{
    struct store_env *env = &db->transient;
    MDB_stat stat = {.ms_entries = 1};
    MDB_envinfo info;
    MDB_txn *txn;

    if (env->env == NULL || mdb_env_info(env->env, &info) != 0 || mdb_env_stat(env->env, &stat) != 0 ||
        info.me_last_pgno * (uint64_t)stat.ms_psize < GIVE_BACK || mdb_txn_begin(env->env, NULL, MDB_RDONLY, &txn) != 0)
        return;
    if (mdb_stat(txn, env->rows, &stat) != 0)
        stat.ms_entries = 1;
    mdb_txn_abort(txn);
    if (stat.ms_entries > 0)
        return;
    store_env_close(env);
    unlink(env->path); /* the next one that comes makes it again */
}

bool store_env_is_there(const struct store_env *env)
{
    return env->env != NULL || access(env->path, F_OK) == 0;
}

static int store_env_cursors(struct store_env *env)
{
    MDB_val key, value;
    int code = mdb_cursor_open(env->txn, env->rows, &env->put);

    if (code == 0)
        code = mdb_cursor_open(env->txn, env->rows, &env->find);
    if (code != 0)
        return code;
    memset(env->last, 0, sizeof(env->last));
    code = mdb_cursor_get(env->put, &key, &value, MDB_LAST);
    if (code == 0 && key.mv_size == STORE_KEY)
        memcpy(env->last, key.mv_data, STORE_KEY);
    return code == MDB_NOTFOUND ? 0 : code;
}

int store_env_begin(struct store_db *db, struct store_env *env)
{
    int code = 0;

    if (HARK_LIKELY(env->txn != NULL))
        return 0;
    if (env->env == NULL)
        code = store_env_open(db, env);
    if (code == 0)
        code = mdb_txn_begin(env->env, NULL, 0, &env->txn);
    if (code == 0)
        code = store_env_cursors(env);
    return code;
}

int store_env_begin_read(struct store_db *db, struct store_env *env)
{
    int code = 0;

    if (env->txn != NULL)
        return 0;
    if (!store_env_is_there(env))
        return 0;
    if (env->env == NULL)
        code = store_env_open(db, env);
    if (code != 0)
        return code;
    return mdb_txn_begin(env->env, NULL, MDB_RDONLY, &env->txn);
}

void store_env_unmap(struct store_db *db)
{
    struct store_env *envs[] = {&db->transient, &db->durable};
    char text[512];

    for (size_t i = 0; i < HARK_COUNT(envs); i++) {
        int code = envs[i]->env != NULL ? mdb_env_set_mapsize(envs[i]->env, envs[i]->map_size) : 0;

        if (code == 0)
            continue;
        store_env_close(envs[i]); /* now nothing is mapped */
        code = store_env_open(db, envs[i]);
        if (code != 0)
            log_error("%s", store_db_error(db, code, text, sizeof(text)));
    }
}

/* Bytes within the file that nothing stands in any more. LMDB lists them in its table 0: transaction to pages, of which
 * the first word is the number. */
static uint64_t store_env_unused(struct store_env *env, unsigned page)
{
    uint64_t pages = 0;
    MDB_cursor *cursor;
    MDB_val key, value;
    size_t count;
    MDB_txn *txn;

    if (mdb_txn_begin(env->env, NULL, MDB_RDONLY, &txn) != 0)
        return 0;
    if (mdb_cursor_open(txn, 0, &cursor) == 0) {
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            memcpy(&count, value.mv_data, sizeof(count));
            pages += count;
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return pages * page;
}

uint64_t store_env_spare(struct store_db *db)
{
    MDB_envinfo info;
    uint64_t used;
    MDB_stat stat;

    if (db->durable.env == NULL || mdb_env_info(db->durable.env, &info) != 0 ||
        mdb_env_stat(db->durable.env, &stat) != 0)
        return 0;
    used = (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize;
    return store_env_unused(&db->durable, stat.ms_psize) + (db->allocated > used ? db->allocated - used : 0);
}

/* The file grows ahead of its use: a full disk is noticed before anything is written, and what is
 * set aside lets removals go on. It also spares most syncs a change of the file's size. */
int store_env_make_room(struct store_db *db, size_t bytes)
{
    struct store_env *env = &db->durable;
    uint64_t want, more;
    MDB_envinfo info;
    MDB_stat stat;
    int code = env->env == NULL ? store_env_open(db, env) : 0, fd;

    if (code == 0)
        code = mdb_env_info(env->env, &info);
    if (code == 0)
        code = mdb_env_stat(env->env, &stat);
    if (code == 0)
        code = mdb_env_get_fd(env->env, &fd);
    if (code != 0)
        return code;
    want = (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize + 2 * (uint64_t)bytes + STORE_RESERVE;
    if (want > env->map_size)
        want = env->map_size;
    if (want <= db->allocated)
        return 0;
    more = want + ROOM_STEP < env->map_size ? want + ROOM_STEP : want;
    if (fallocate(fd, 0, 0, (off_t)more) == 0) {
        db->allocated = more;
        return 0;
    }
    if (errno == ENOSPC && fallocate(fd, 0, 0, (off_t)want) == 0) {
        db->allocated = want;
        return 0;
    }
    code = errno;
    if ((code == ENOSPC || code == EDQUOT || code == EFBIG) &&
        store_env_unused(env, stat.ms_psize) >= 2 * (uint64_t)bytes + STORE_RESERVE)
        return 0; /* removals have made room within the file */
    if (code != EOPNOTSUPP && code != ENOSYS && code != EINTR)
        return code;
    /* A file system that cannot: at least the file is as long as LMDB thinks. */
    return ftruncate(fd, (off_t)want) == 0 ? 0 : errno;
}

int store_env_stretch(struct store_db *db, uint64_t more)
{
    struct store_env *env = &db->durable;
    int code;

    if (env->env == NULL || !db->map_full)
        return env->env == NULL ? ENODEV : 0;
    code = mdb_env_set_mapsize(env->env, env->map_size + more);
    /* Now nothing is mapped. The next transaction opens it again. */
    if (code != 0)
        store_env_close(env);
    return code;
}

int store_db_settle(struct store_db *db)
{
    int code = 0;

    if (db->transient.txn != NULL)
        code = store_share_settle(&db->transient);
    if (code == 0 && db->durable.txn != NULL)
        code = store_share_settle(&db->durable);
    if (code == 0)
        code = store_queue_settle(db);
    return code;
}

int store_db_commit(struct store_db *db)
{
    int code = store_db_settle(db);

    if (code == 0 && db->transient.txn != NULL) {
        code = mdb_txn_commit(db->transient.txn);
        db->transient.txn = NULL;
    }
    if (code == 0 && db->durable.txn != NULL) {
        code = mdb_txn_commit(db->durable.txn);
        db->durable.txn = NULL;
    }
    if (code != 0) {
        store_db_abort(db);
        return code;
    }
    store_queue_committed(db);
    return 0;
}

void store_db_abort(struct store_db *db)
{
    struct store_env *envs[] = {&db->transient, &db->durable};

    for (size_t i = 0; i < HARK_COUNT(envs); i++) {
        if (envs[i]->txn != NULL)
            mdb_txn_abort(envs[i]->txn);
        envs[i]->txn = NULL;
        envs[i]->share_count = 0;
    }
    store_queue_aborted(db);
}

int store_db_reopen(struct store_db *db)
{
    store_env_close(&db->durable);
    /* Transient rows are part of what the queues count on: that file is kept as it is, and opened when it is needed. */
    store_env_close(&db->transient);
    return store_env_open(db, &db->durable);
}

const char *store_db_error(const struct store_db *db, int code, char *text, size_t size)
{
    switch (code) {
    case ENOSPC:
        snprintf(text, size, "store %s: no space left on the disk: make room", db->folder);
        break;
    case EDQUOT:
        snprintf(text, size, "store %s: the disk quota is used up: make room or raise it", db->folder);
        break;
    case MDB_MAP_FULL:
        snprintf(text, size,
                 "store %s: the database has reached its largest size of %llu MiB: consume or purge messages",
                 db->durable_path, (unsigned long long)(db->durable.map_size >> 20));
        break;
    case EIO:
        snprintf(text, size, "store %s: the disk reports an input/output error: see the kernel's log", db->folder);
        break;
    case MDB_INVALID:
        snprintf(text, size, "store %s: not a database of harkd, or damaged: restore it from a backup or move it away",
                 db->durable_path);
        break;
    case MDB_PAGE_NOTFOUND:
        snprintf(
            text, size,
            "store %s: damaged, the file is cut short or points outside itself: restore it from a backup, or move it "
            "away to begin with an empty one",
            db->durable_path);
        break;
    case MDB_CORRUPTED:
        snprintf(text, size,
                 "store %s: the file is damaged: restore it from a backup, or move it away to begin with an empty one",
                 db->durable_path);
        break;
    case MDB_INCOMPATIBLE:
        snprintf(text, size, "store %s: has version %u, this harkd knows version %u: use the harkd that wrote it",
                 db->durable_path, db->version, STORE_VERSION);
        break;
    case MDB_VERSION_MISMATCH:
        snprintf(text, size, "store %s: written by another version of LMDB: use the harkd that wrote it",
                 db->durable_path);
        break;
    default:
        snprintf(text, size, "store %s: %s", db->durable_path, mdb_strerror(code));
    }
    return text;
}
