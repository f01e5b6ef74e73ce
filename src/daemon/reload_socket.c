/* SPDX-License-Identifier: MIT */
#include "daemon/reload_socket.h"

#include "base/log.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#define ASKERS_MAX 16

struct asker {
    int fd;
    bool begun; /* the reload that answers it is under way */
};

struct reload_socket {
    int fd;
    struct event *readable;
    void (*asked)(void *arg);
    void *arg;
    struct asker askers[ASKERS_MAX];
    size_t count;
};

static socklen_t reload_socket_name(struct sockaddr_un *address, pid_t pid)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    /* The first byte stays 0: abstract, nothing is left behind in any folder. */
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1) +
           (socklen_t)snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "harkd/%d/reload", (int)pid);
}

static int reload_socket_peer(int fd, struct ucred *peer)
{
    socklen_t length = sizeof(*peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &length);
}

/* ---- in the supervisor ---- */

static void reload_socket_send(int fd, bool done, struct span why)
{
    char packet[1 + RELOAD_ANSWER_MAX];

    packet[0] = done ? '0' : '1';
    if (why.length > RELOAD_ANSWER_MAX)
        why.length = RELOAD_ANSWER_MAX;
    if (why.length > 0)
        memcpy(packet + 1, why.data, why.length);
    (void)!send(fd, packet, 1 + why.length, MSG_DONTWAIT | MSG_NOSIGNAL); /* it may have gone */
    close(fd);
}

static void reload_socket_accept(evutil_socket_t fd, short what, void *arg)
{
    struct reload_socket *self = arg;
    int asker = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred peer;

    (void)what;
    if (asker < 0)
        return;
    if (reload_socket_peer(asker, &peer) != 0 || (peer.uid != 0 && peer.uid != geteuid())) {
        reload_socket_send(asker, false, span_str("only its own user and root may ask harkd for a reload\n"));
        return;
    }
    if (self->count == ASKERS_MAX) {
        reload_socket_send(asker, false, span_str("too many wait for a reload already\n"));
        return;
    }
    self->askers[self->count++] = (struct asker){.fd = asker};
    self->asked(self->arg);
}

struct reload_socket *reload_socket_new(struct event_base *base, void (*asked)(void *arg), void *arg)
{
    struct reload_socket *self = calloc(1, sizeof(*self));
    struct sockaddr_un address;
    socklen_t length = reload_socket_name(&address, getpid());
    int saved;

    if (self == NULL)
        return NULL;
    *self = (struct reload_socket){.asked = asked, .arg = arg};
    self->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (self->fd >= 0 && bind(self->fd, (const struct sockaddr *)&address, length) == 0 &&
        listen(self->fd, ASKERS_MAX) == 0)
        self->readable = event_new(base, self->fd, EV_READ | EV_PERSIST, reload_socket_accept, self);
    if (self->readable != NULL && event_add(self->readable, NULL) == 0)
        return self;
    saved = errno;
    reload_socket_free(self);
    errno = saved;
    return NULL;
}

void reload_socket_begin(struct reload_socket *self)
{
    for (size_t i = 0; self != NULL && i < self->count; i++)
        self->askers[i].begun = true;
}

void reload_socket_answer(struct reload_socket *self, bool done, struct span why)
{
    size_t kept = 0;

    if (self == NULL)
        return;
    for (size_t i = 0; i < self->count; i++) {
        if (self->askers[i].begun)
            reload_socket_send(self->askers[i].fd, done, why);
        else
            self->askers[kept++] = self->askers[i];
    }
    self->count = kept;
}

void reload_socket_refuse(struct reload_socket *self, const char *why)
{
    reload_socket_begin(self);
    reload_socket_answer(self, false, span_str(why));
}

void reload_socket_free(struct reload_socket *self)
{
    if (self == NULL)
        return;
    if (self->readable != NULL)
        event_free(self->readable);
    for (size_t i = 0; i < self->count; i++)
        close(self->askers[i].fd);
    if (self->fd >= 0)
        close(self->fd);
    free(self);
}

/* ---- harkd --reload PID ---- */

static void reload_socket_print(bool done, char *text)
{
    const char *prefix = log_prefix(STDERR_FILENO, done ? LOG_LEVEL_NOTICE : LOG_LEVEL_ERROR);
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        fprintf(stderr, "%s%s\n", prefix, line);
}

int reload_socket_ask(pid_t pid)
{
    static char packet[1 + RELOAD_ANSWER_MAX + 1];
    const char *prefix = log_prefix(STDERR_FILENO, LOG_LEVEL_ERROR);
    struct sockaddr_un address;
    socklen_t length = reload_socket_name(&address, pid);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct ucred peer;
    ssize_t got;

    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, length) != 0) {
        fprintf(stderr, "%sharkd: process %d cannot be asked for a reload: %s\n", prefix, (int)pid,
                errno == ECONNREFUSED ? "no harkd with this number listens" : strerror(errno));
        if (fd >= 0)
            close(fd);
        return EX_UNAVAILABLE;
    }
    if (reload_socket_peer(fd, &peer) != 0 || peer.pid != pid) {
        fprintf(stderr, "%sharkd: process %d cannot be asked for a reload: another one answers in its name\n", prefix,
                (int)pid);
        close(fd);
        return EX_UNAVAILABLE;
    }
    do
        got = recv(fd, packet, sizeof(packet) - 1, 0);
    while (got < 0 && errno == EINTR);
    close(fd);
    if (got <= 0) {
        fprintf(stderr, "%sharkd: process %d has ended before it could reload\n", prefix, (int)pid);
        return EX_UNAVAILABLE;
    }
    packet[got] = 0;
    reload_socket_print(packet[0] == '0', packet + 1);
    return packet[0] == '0' ? EX_OK : 1;
}
