/* SPDX-License-Identifier: MIT */
#include "daemon/sockets.h"

#include "net/listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWN_MODE 0600    /* the workers', which need no password */
#define CLIENT_MODE 0666 /* who gets to it logs in, as over TCP */

static int fail(const struct config *config, int line, char *error, size_t size, const char *key, const char *value,
                const char *why)
{
    struct config_where where = config->broker.where;
    char place[600];

    if (line == 0)
        line = config_line(&where, key);
    if (line > 0)
        where.line = line;
    snprintf(error, size, "%s %s = %s: %s", config_where(&where, place, sizeof(place)), key, value, why);
    return -1;
}

/* Takes the descriptor. */
static int add(struct sockets *sockets, int fd, bool tls, bool trusted, const char *path)
{
    struct sockets_item *items = realloc(sockets->items, (sockets->count + 1) * sizeof(*items));
    char *copy = path != NULL ? strdup(path) : NULL;

    if (items != NULL)
        sockets->items = items;
    if (items == NULL || (path != NULL && copy == NULL)) {
        free(copy);
        close(fd);
        return -1;
    }
    items[sockets->count++] = (struct sockets_item){fd, tls, trusted, copy};
    return 0;
}

/* With what is above it. */
static int make_folder(const char *path)
{
    char *part = strdup(path);
    int result = 0, saved;

    for (char *slash = part; part != NULL && result == 0 && (slash = strchr(slash + 1, '/')) != NULL; *slash = '/') {
        *slash = 0;
        result = mkdir(part, 0700) == 0 || errno == EEXIST ? 0 : -1;
    }
    if (part == NULL || result != 0 || (mkdir(part, 0700) != 0 && errno != EEXIST))
        result = -1;
    saved = errno;
    free(part);
    errno = saved;
    return result;
}

static int open_own(const struct config *config, struct sockets *sockets, char *error, size_t size)
{
    const char *data = config->broker.data, *path = config->url.hosts[0].path;
    char why[300];
    int fd;

    if (make_folder(data) != 0) {
        snprintf(why, sizeof(why), "the folder cannot be made: %s", strerror(errno));
        return fail(config, 0, error, size, "data", data, why);
    }
    fd = listen_unix(path, OWN_MODE, why, sizeof(why));
    if (fd < 0)
        return fail(config, 0, error, size, "data", data, why);
    return add(sockets, fd, false, true, path);
}

static int open_address(const struct config *config, const struct config_address *address, bool tls,
                        struct sockets *sockets, char *error, size_t size)
{
    const struct config_host *host = &address->host;
    int fds[LISTEN_MAX], count = 1, result = 0;
    char why[300];

    if (host->path != NULL) {
        fds[0] = listen_unix(host->path, CLIENT_MODE, why, sizeof(why));
        count = fds[0] >= 0 ? 1 : -1;
    } else {
        count = listen_tcp(host->host, host->port, fds, why, sizeof(why));
    }
    if (count < 0)
        return fail(config, address->line, error, size, tls ? "listen_tls" : "listen", address->shown, why);
    for (int i = 0; i < count; i++)
        if (add(sockets, fds[i], tls, false, host->path) != 0)
            result = -1;
    return result;
}

static int open_addresses(const struct config *config, const struct config_addresses *addresses, bool tls,
                          struct sockets *sockets, char *error, size_t size)
{
    for (size_t i = 0; i < addresses->count; i++)
        if (open_address(config, &addresses->items[i], tls, sockets, error, size) != 0)
            return -1;
    return 0;
}

int sockets_open(const struct config *config, struct sockets *sockets, char *error, size_t size)
{
    snprintf(error, size, "out of memory");
    if (open_own(config, sockets, error, size) == 0 &&
        open_addresses(config, &config->broker.listen, false, sockets, error, size) == 0 &&
        open_addresses(config, &config->broker.listen_tls, true, sockets, error, size) == 0)
        return 0;
    sockets_close(sockets);
    return -1;
}

void sockets_forget(struct sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++) {
        close(sockets->items[i].fd);
        free(sockets->items[i].path);
    }
    free(sockets->items);
    *sockets = (struct sockets){0};
}

void sockets_close(struct sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++)
        if (sockets->items[i].path != NULL)
            unlink(sockets->items[i].path);
    sockets_forget(sockets);
}

static bool same_addresses(const struct config_addresses *one, const struct config_addresses *other)
{
    if (one->count != other->count)
        return false;
    for (size_t i = 0; i < one->count; i++)
        if (strcmp(one->items[i].shown, other->items[i].shown) != 0)
            return false;
    return true;
}

bool sockets_same(const struct config *one, const struct config *other)
{
    return strcmp(one->broker.data, other->broker.data) == 0 &&
           same_addresses(&one->broker.listen, &other->broker.listen) &&
           same_addresses(&one->broker.listen_tls, &other->broker.listen_tls);
}
