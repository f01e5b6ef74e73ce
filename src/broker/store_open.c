/* SPDX-License-Identifier: MIT */
/* The folder of the store: made, locked, its files and their version looked at. */
#include "base/log.h"
#include "broker/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_SIZE (UINT64_C(1) << 40)

static int store_fail(char *error, size_t size, const char *what, const char *path, const char *why)
{
    snprintf(error, size, "store %s: %s: %s", path, what, why);
    return -1;
}

static int store_sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), failed;

    if (fd < 0)
        return -1;
    failed = fsync(fd);
    close(fd);
    return failed;
}

/* A folder that is new, made by whomever, has to be on the disk itself: that is the matter of the one above it.
 * Those that may not be read are not ours, and were there before. */
static void store_sync_above(const char *folder)
{
    char path[PATH_MAX];

    if (realpath(folder, path) == NULL) {
        log_warning("store %s: cannot sync the folders above it: %s", folder, strerror(errno));
        return;
    }
    for (char *slash; (slash = strrchr(path, '/')) != NULL && slash[1] != 0;) {
        slash[slash == path] = 0;
        if (store_sync_folder(path) != 0 && errno != EACCES)
            log_warning("store %s: cannot sync the folder %s: %s", folder, path, strerror(errno));
    }
}

static int store_open_folder(struct store_db *db, char *error, size_t size)
{
    struct stat stat_buf;

    if (mkdir(db->folder, 0700) != 0 && errno != EEXIST)
        return store_fail(error, size, "cannot make the folder", db->folder, strerror(errno));
    if (stat(db->folder, &stat_buf) != 0)
        return store_fail(error, size, "cannot use the folder", db->folder, strerror(errno));
    if (!S_ISDIR(stat_buf.st_mode))
        return store_fail(error, size, "cannot use it", db->folder, "not a folder");
    return 0;
}

static int store_open_lock(struct store_db *db, char *error, size_t size)
{
    char path[PATH_MAX], pid[32] = "";
    ssize_t length;

    if ((size_t)snprintf(path, sizeof(path), "%s/lock", db->folder) >= sizeof(path))
        return store_fail(error, size, "cannot use the folder", db->folder, strerror(ENAMETOOLONG));
    db->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (db->lock < 0)
        return store_fail(error, size, "cannot open the lock", path, strerror(errno));
    if (flock(db->lock, LOCK_EX | LOCK_NB) == 0) {
        length = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
        /* For people and for the message below; the lock itself does not depend on it. */
        if (ftruncate(db->lock, 0) != 0 || pwrite(db->lock, pid, (size_t)length, 0) != length)
            log_warning("store %s: cannot write the process's number: %s", path, strerror(errno));
        return 0;
    }
    if (errno != EWOULDBLOCK)
        return store_fail(error, size, "cannot lock", path, strerror(errno));
    length = pread(db->lock, pid, sizeof(pid) - 1, 0);
    pid[length > 0 ? length : 0] = 0;
    pid[strcspn(pid, "\n")] = 0;
    snprintf(error, size, "store %s: in use by another process%s%s: stop it, or choose another folder", db->folder,
             pid[0] != 0 ? ", " : "", pid);
    return -1;
}

static char *store_path(const char *folder, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

/* Under another name until it is whole and on disk: what then has the name and is empty, or has no version, is
 * damaged and not new, whenever we were killed or the power failed. 0, or a code of LMDB. */
static int store_create(struct store_db *db)
{
    char *path = store_path(db->folder, "store.mdb.new");
    int code;

    if (path == NULL || (unlink(path) != 0 && errno != ENOENT)) {
        code = path == NULL ? ENOMEM : errno;
        free(path);
        return code;
    }
    db->durable.path = path;
    code = store_env_open(db, &db->durable);
    store_env_close(&db->durable);
    db->durable.path = db->durable_path;
    if (code == 0)
        store_sync_above(db->folder); /* before there is a store.mdb: with one, nobody looks at them again */
    if (code == 0 && rename(path, db->durable_path) != 0)
        code = errno;
    if (code == 0)
        log_notice("store %s: there was none: it is new and empty", db->durable_path);
    else
        unlink(path);
    free(path);
    return code;
}

static int store_open_files(struct store_db *db, char *error, size_t size)
{
    int code = 0;

    if (unlink(db->transient_path) != 0 && errno != ENOENT)
        return store_fail(error, size, "cannot delete", db->transient_path, strerror(errno));
    if (access(db->durable_path, F_OK) != 0 && errno == ENOENT)
        code = store_create(db);
    if (code == 0)
        code = store_env_open(db, &db->durable);
    if (code != 0) {
        store_db_error(db, code, error, size);
        return -1;
    }
    if (store_sync_folder(db->folder) != 0)
        return store_fail(error, size, "cannot sync the folder", db->folder, strerror(errno));
    return 0;
}

int store_db_open(struct store_db *db, const struct store_options *options, char *error, size_t size)
{
    db->lock = -1;
    db->hash = store_definition_hash;
    db->folder = strdup(options->folder);
    db->durable_path = store_path(options->folder, "store.mdb");
    db->transient_path = store_path(options->folder, "transient.mdb");
    if (db->folder == NULL || db->durable_path == NULL || db->transient_path == NULL)
        return store_fail(error, size, "cannot open it", options->folder, strerror(ENOMEM));
    db->durable.path = db->durable_path;
    db->transient.path = db->transient_path;
    db->durable.map_size = options->map_size != 0 ? options->map_size : MAP_SIZE;
    db->transient.map_size = db->durable.map_size;
    if (store_open_folder(db, error, size) != 0 || store_open_lock(db, error, size) != 0 ||
        store_open_files(db, error, size) != 0)
        return -1;
    return 0;
}

void store_db_close(struct store_db *db)
{
    store_env_close(&db->durable);
    if (db->transient.env != NULL) {
        store_env_close(&db->transient);
        unlink(db->transient_path);
    }
    store_queue_free_all(db);
    buf_free(&db->scratch);
    if (db->lock >= 0)
        close(db->lock);
    free(db->folder);
    free(db->durable_path);
    free(db->transient_path);
}
