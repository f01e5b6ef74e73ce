/* SPDX-License-Identifier: MIT */
#include "net/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

union listen_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
    struct sockaddr_storage room;
};

static void listen_show(const union listen_address *address, socklen_t length, char *to, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "?";

    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->v4.sin_addr, text, sizeof(text));
        snprintf(to, size, "%s:%u", text, ntohs(address->v4.sin_port));
    } else if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, text, sizeof(text));
        snprintf(to, size, "[%s]:%u", text, ntohs(address->v6.sin6_port));
    } else if (address->any.sa_family == AF_UNIX && length > offsetof(struct sockaddr_un, sun_path)) {
        snprintf(to, size, "unix:%.*s", (int)(length - offsetof(struct sockaddr_un, sun_path)),
                 address->local.sun_path);
    } else {
        snprintf(to, size, "?");
    }
}

void listen_name(int fd, char *to, size_t size)
{
    union listen_address address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof(address);

    if (getsockname(fd, &address.any, &length) != 0)
        length = 0;
    listen_show(&address, length, to, size);
}

/* ---- TCP ---- */

/* -1 with errno. */
static int listen_open(const struct addrinfo *info)
{
    int on = 1, saved, fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    /* Connections of a broker that has just ended may still be in TIME_WAIT. And "*" has a socket for each family, so the
     * second one must not take the first one's. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* A machine without IPv6 resolves names to its addresses all the same. */
static bool listen_absent(int error)
{
    return error == EAFNOSUPPORT || error == EADDRNOTAVAIL || error == EPROTONOSUPPORT;
}

static uint16_t listen_port(int fd)
{
    union listen_address address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof(address);

    if (getsockname(fd, &address.any, &length) != 0)
        return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

static void listen_set_port(struct addrinfo *info, uint16_t port)
{
    if (info->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)info->ai_addr)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)(void *)info->ai_addr)->sin_port = htons(port);
}

static int listen_all(struct addrinfo *list, int fds[LISTEN_MAX], char *error, size_t size)
{
    int count = 0, failed = 0;
    char name[INET6_ADDRSTRLEN + 16] = "?";

    for (struct addrinfo *info = list; info != NULL && count < LISTEN_MAX; info = info->ai_next) {
        union listen_address address = {.any.sa_family = AF_UNSPEC};

        if (info->ai_family != AF_INET && info->ai_family != AF_INET6)
            continue;
        if (count > 0) /* of any free one, all have the first one's */
            listen_set_port(info, listen_port(fds[0]));
        fds[count] = listen_open(info);
        if (fds[count] >= 0) {
            count++;
            continue;
        }
        if (failed != 0 && listen_absent(errno))
            continue;
        failed = errno;
        memcpy(&address, info->ai_addr, info->ai_addrlen);
        listen_show(&address, info->ai_addrlen, name, sizeof(name));
        if (!listen_absent(failed))
            break;
    }
    if (count > 0 && (failed == 0 || listen_absent(failed)))
        return count;
    while (count > 0)
        close(fds[--count]);
    snprintf(error, size, "cannot listen on %s: %s", name, failed != 0 ? strerror(failed) : "no address");
    return -1;
}

int listen_tcp(const char *host, uint16_t port, int fds[LISTEN_MAX], char *error, size_t size)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[8];
    int result;

    if (host != NULL && strcmp(host, "*") == 0)
        host = NULL;
    snprintf(service, sizeof(service), "%u", port);
    result = getaddrinfo(host, service, &hints, &list);
    if (result != 0) {
        snprintf(error, size, "cannot listen on %s:%u: %s", host != NULL ? host : "*", port,
                 result == EAI_SYSTEM ? strerror(errno) : gai_strerror(result));
        return -1;
    }
    result = listen_all(list, fds, error, size);
    freeaddrinfo(list);
    return result;
}

/* ---- Unix ---- */

/* A socket that nobody listens on, left behind by a process that was killed. */
static bool listen_is_stale(const union listen_address *address)
{
    struct stat about;
    int fd;
    bool stale;

    if (lstat(address->local.sun_path, &about) != 0 || !S_ISSOCK(about.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    stale = connect(fd, &address->any, sizeof(address->local)) != 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

int listen_unix(const char *path, unsigned mode, char *error, size_t size)
{
    union listen_address address = {.local = {.sun_family = AF_UNIX}};
    int fd = -1;

    if (path[0] == 0 || strlen(path) >= sizeof(address.local.sun_path)) {
        snprintf(error, size, "cannot listen on unix:%s: the path of a Unix socket has from 1 to %zu bytes", path,
                 sizeof(address.local.sun_path) - 1);
        return -1;
    }
    memcpy(address.local.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The mode of the descriptor, cut by the umask, is what bind() gives the file: at no time may more come in. */
    if (fd < 0 || fchmod(fd, mode) != 0)
        goto fail;
    if (bind(fd, &address.any, sizeof(address.local)) != 0) {
        if (errno != EADDRINUSE || !listen_is_stale(&address)) {
            if (errno != EADDRINUSE)
                goto fail;
            snprintf(error, size, "cannot listen on unix:%s: another process listens there, or it is not a socket",
                     path);
            close(fd);
            return -1;
        }
        if (unlink(path) != 0 || bind(fd, &address.any, sizeof(address.local)) != 0)
            goto fail;
    }
    if (chmod(path, mode) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;

fail:
    snprintf(error, size, "cannot listen on unix:%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}
