/* SPDX-License-Identifier: MIT */
#include "daemon/memory.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_LEAST (INT64_C(64) * 1024 * 1024)

/* The number in a file; INT64_MAX if it says "max" or is not there. */
static int64_t read_limit(const char *folder, const char *name)
{
    char path[PATH_MAX];
    long long limit;
    FILE *file;
    bool read;

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path))
        return INT64_MAX;
    file = fopen(path, "re");
    if (file == NULL)
        return INT64_MAX;
    read = fscanf(file, "%lld", &limit) == 1;
    fclose(file);
    return read && limit > 0 ? limit : INT64_MAX;
}

/* The least limit from a group up to the root: a group's own says nothing about those that it is in. */
static int64_t least_limit(const char *root, const char *group, size_t length, const char *name)
{
    char folder[PATH_MAX];
    int64_t least = INT64_MAX;

    if (snprintf(folder, sizeof(folder), "%s%.*s", root, (int)length, group) >= (int)sizeof(folder))
        return INT64_MAX;
    for (;;) {
        int64_t limit = read_limit(folder, name);
        char *slash = strrchr(folder, '/');

        if (limit < least)
            least = limit;
        if (slash == NULL || slash < folder + strlen(root))
            return least;
        *slash = 0;
    }
}

int64_t memory_cgroup_limit(const char *cgroups, const char *root)
{
    int64_t least = INT64_MAX;

    for (const char *line = cgroups; *line != 0;) {
        size_t length = strcspn(line, "\n");
        const char *group = memchr(line, '/', length);
        char folder[PATH_MAX];
        int64_t limit = INT64_MAX;

        /* "0::/system.slice/harkd.service", or of version 1 "5:memory:/system.slice/harkd.service" */
        if (group != NULL && strncmp(line, "0::", 3) == 0) {
            limit = least_limit(root, group, length - (size_t)(group - line), "memory.max");
        } else if (group != NULL && memmem(line, (size_t)(group - line), ":memory:", 8) != NULL) {
            snprintf(folder, sizeof(folder), "%s/memory", root);
            limit = least_limit(folder, group, length - (size_t)(group - line), "memory.limit_in_bytes");
        }
        if (limit < least)
            least = limit;
        line += length + (line[length] == '\n');
    }
    return least;
}

int64_t memory_total(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    int64_t total = pages > 0 && size > 0 ? (int64_t)pages * size : 4 * AT_LEAST, limit;
    char cgroups[8192] = "";
    FILE *file = fopen("/proc/self/cgroup", "re");

    if (file != NULL) {
        cgroups[fread(cgroups, 1, sizeof(cgroups) - 1, file)] = 0;
        fclose(file);
    }
    limit = memory_cgroup_limit(cgroups, "/sys/fs/cgroup");
    return limit < total ? limit : total;
}

int64_t memory_default_limit(void)
{
    int64_t quarter = memory_total() / 4;

    return quarter > AT_LEAST ? quarter : AT_LEAST;
}
