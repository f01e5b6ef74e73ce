/* SPDX-License-Identifier: MIT */
/*
 * What the broker asks of the disk and what it says to its clients, in one order: for rig/powercut.py.
 *
 * Preloaded into harkd. Every change below the folder $RECORD_FOLDER (bytes, lengths, names), every sync of it, and
 * every byte that goes over a TCP socket, becomes a record of the file $RECORD_FILE, which all processes share. A
 * change is recorded before it is made, a sync when it is done, what is sent before it is sent: so whatever a client
 * has heard stands behind all that was on disk by then.
 *
 * The file: 8 bytes, where its next record begins (first 8); then the records, each a struct record and its bytes,
 * in steps of 8.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536

enum kind { MADE = 1, FOLDER, RENAMED, UNLINKED, WRITTEN, THROUGH, LENGTH, SYNCED, SENT, GOT };

struct record {
    _Atomic uint32_t kind; /* 0: not there yet */
    uint32_t length;       /* of the bytes behind it that count */
    uint64_t next;         /* where the next one begins */
    uint64_t file;         /* inode; of a socket: the client's port */
    uint64_t at;           /* offset; LENGTH: the length; THROUGH: which record is on disk now */
};

static struct {
    uint8_t *map;
    size_t size;
    char folder[PATH_MAX];
} record_of;

static uint64_t files[FDS]; /* inode of what is below the folder, 0: anything else */
static uint8_t through[FDS];

#define REAL(name) \
    static __typeof__(&name) real; \
    if (real == NULL) \
    real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void record_open(void)
{
    const char *path = getenv("RECORD_FILE"), *folder = getenv("RECORD_FOLDER");
    struct stat stat_buf;
    int fd;

    if (path == NULL || folder == NULL || record_of.map != NULL)
        return;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat_buf) != 0)
        abort();
    record_of.size = (size_t)stat_buf.st_size;
    record_of.map = mmap(NULL, record_of.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (record_of.map == MAP_FAILED)
        abort();
    close(fd);
    snprintf(record_of.folder, sizeof(record_of.folder), "%s", folder);
}

/* A record whose kind is still to be set; the bytes are copied. */
static struct record *record_add(uint64_t file, uint64_t at, const struct iovec *parts, int count)
{
    _Atomic uint64_t *next = (_Atomic uint64_t *)record_of.map;
    size_t length = 0, size;
    struct record *record;
    uint64_t where;
    uint8_t *to;

    for (int i = 0; i < count; i++)
        length += parts[i].iov_len;
    size = (sizeof(*record) + length + 7) / 8 * 8;
    where = atomic_fetch_add(next, size);
    if (where + size + sizeof(*record) > record_of.size) {
        fprintf(stderr, "record.c: its file is full\n");
        abort();
    }
    record = (struct record *)(record_of.map + where);
    record->length = (uint32_t)length;
    record->next = where + size;
    record->file = file;
    record->at = at;
    to = (uint8_t *)(record + 1);
    for (int i = 0; i < count; i++) {
        memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
    return record;
}

static struct record *record_bytes(enum kind kind, uint64_t file, uint64_t at, const void *bytes, size_t length)
{
    struct record *record = record_add(file, at,
                                       &(struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = length}, 1);

    atomic_store(&record->kind, kind);
    return record;
}

static int is_below(const char *path)
{
    size_t length = strlen(record_of.folder);

    return record_of.map != NULL && strncmp(path, record_of.folder, length) == 0 &&
           (path[length] == 0 || path[length] == '/');
}

static uint64_t file_of(int fd)
{
    return record_of.map != NULL && fd >= 0 && fd < FDS ? files[fd] : 0;
}

/* ---- names ---- */

static int opened(const char *path, int fd, int flags, int there)
{
    struct stat stat_buf;

    if (fd < 0 || fd >= FDS || !is_below(path) || fstat(fd, &stat_buf) != 0)
        return fd;
    if (!S_ISREG(stat_buf.st_mode) && !S_ISDIR(stat_buf.st_mode))
        return fd;
    files[fd] = stat_buf.st_ino;
    through[fd] = (flags & (O_DSYNC | O_SYNC)) != 0;
    if (!there)
        record_bytes(MADE, stat_buf.st_ino, 0, path, strlen(path));
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        int there = !is_below(path) || access(path, F_OK) == 0, mode; \
        va_list list; \
        REAL(name); \
        va_start(list, flags); \
        mode = va_arg(list, int); \
        va_end(list); \
        return opened(path, real(path, flags, mode), flags, there); \
    }

OPEN(open)
OPEN(open64)

int close(int fd)
{
    REAL(close);
    if (fd >= 0 && fd < FDS)
        files[fd] = 0;
    return real(fd);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    int code = real(path, mode);
    struct stat stat_buf;

    if (code == 0 && is_below(path) && stat(path, &stat_buf) == 0)
        record_bytes(FOLDER, stat_buf.st_ino, 0, path, strlen(path));
    return code;
}

int rename(const char *from, const char *to)
{
    struct iovec parts[] = {{(void *)(uintptr_t)from, strlen(from) + 1}, {(void *)(uintptr_t)to, strlen(to)}};
    REAL(rename);

    if (is_below(to))
        atomic_store(&record_add(0, 0, parts, 2)->kind, RENAMED);
    return real(from, to);
}

int unlink(const char *path)
{
    REAL(unlink);
    if (is_below(path) && access(path, F_OK) == 0)
        record_bytes(UNLINKED, 0, 0, path, strlen(path));
    return real(path);
}

/* ---- bytes ---- */

static struct record *writing(int fd, uint64_t at, const struct iovec *parts, int count)
{
    struct record *record;

    if (file_of(fd) == 0)
        return NULL;
    record = record_add(file_of(fd), at, parts, count);
    atomic_store(&record->kind, WRITTEN);
    return record;
}

static ssize_t written(int fd, struct record *record, ssize_t put)
{
    int before = errno;

    if (record == NULL)
        return put;
    record->length = put > 0 ? (uint32_t)put : 0;
    if (put > 0 && through[fd])
        record_bytes(THROUGH, file_of(fd), (uint64_t)((uint8_t *)record - record_of.map), NULL, 0);
    errno = before;
    return put;
}

#define PWRITE(name, type) \
    ssize_t name(int fd, const void *bytes, size_t length, type at) \
    { \
        struct record *record = writing(fd, (uint64_t)at, &(struct iovec){(void *)(uintptr_t)bytes, length}, 1); \
        REAL(name); \
        return written(fd, record, real(fd, bytes, length, at)); \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    struct record *record = file_of(fd) != 0 ? writing(fd, (uint64_t)lseek(fd, 0, SEEK_CUR), parts, count) : NULL;
    REAL(writev);

    return written(fd, record, real(fd, parts, count));
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    struct iovec part = {(void *)(uintptr_t)bytes, length};
    struct record *record = file_of(fd) != 0 ? writing(fd, (uint64_t)lseek(fd, 0, SEEK_CUR), &part, 1) : NULL;
    REAL(write);

    return written(fd, record, real(fd, bytes, length));
}

#define TRUNCATE(name, type) \
    int name(int fd, type length) \
    { \
        REAL(name); \
        if (file_of(fd) != 0) \
            record_bytes(LENGTH, file_of(fd), (uint64_t)length, NULL, 0); \
        return real(fd, length); \
    }

TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define FALLOCATE(name, type) \
    int name(int fd, int mode, type at, type length) \
    { \
        REAL(name); \
        int code = real(fd, mode, at, length); \
        struct stat stat_buf; \
        if (code == 0 && file_of(fd) != 0 && fstat(fd, &stat_buf) == 0) \
            record_bytes(LENGTH, file_of(fd), (uint64_t)stat_buf.st_size, NULL, 0); \
        return code; \
    }

FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

#define SYNC(name) \
    int name(int fd) \
    { \
        REAL(name); \
        int code = real(fd); \
        if (code == 0 && file_of(fd) != 0) \
            record_bytes(SYNCED, file_of(fd), 0, NULL, 0); \
        return code; \
    }

SYNC(fsync)
SYNC(fdatasync)

/* ---- sockets ---- */

static uint64_t port_of(int fd)
{
    struct sockaddr_in address = {0};
    socklen_t size = sizeof(address);

    if (record_of.map == NULL || getpeername(fd, (struct sockaddr *)&address, &size) != 0 ||
        address.sin_family != AF_INET)
        return 0;
    return ntohs(address.sin_port);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    uint64_t port = port_of(fd);
    struct record *record = port != 0 ? record_bytes(SENT, port, 0, bytes, length) : NULL;
    REAL(send);
    ssize_t put = real(fd, bytes, length, flags);

    if (record != NULL)
        record->length = put > 0 ? (uint32_t)put : 0;
    return put;
}

ssize_t recv(int fd, void *bytes, size_t length, int flags)
{
    REAL(recv);
    ssize_t got = real(fd, bytes, length, flags);
    uint64_t port = got > 0 ? port_of(fd) : 0;

    if (port != 0)
        record_bytes(GOT, port, 0, bytes, (size_t)got);
    return got;
}
