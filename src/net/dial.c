/* SPDX-License-Identifier: MIT */
#include "net/dial.h"

#include "net/resolve.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct dial {
    struct loop *loop;
    struct resolve *resolve;
    struct addrinfo *list, *next;
    struct event *event;
    int fd;
    dial_done done;
    void *arg;
    char why[256];
};

static void dial_close(struct dial *dial)
{
    if (dial->event != NULL)
        event_free(dial->event);
    dial->event = NULL;
    if (dial->fd >= 0)
        close(dial->fd);
    dial->fd = -1;
}

void dial_cancel(struct dial *dial)
{
    if (dial == NULL)
        return;
    dial_close(dial);
    resolve_cancel(dial->resolve);
    if (dial->list != NULL)
        freeaddrinfo(dial->list);
    free(dial);
}

static void dial_answer(struct dial *dial, int fd)
{
    dial_done done = dial->done;
    void *arg = dial->arg;
    char why[256];

    memcpy(why, dial->why, sizeof(why));
    dial_cancel(dial);
    done(arg, fd, fd >= 0 ? NULL : why);
}

static void dial_try(struct dial *dial);

static void dial_ready(evutil_socket_t fd, short what, void *arg)
{
    struct dial *dial = arg;
    socklen_t size = sizeof(int);
    int error = 0;

    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error == 0) {
        dial->fd = -1; /* it is the callee's now */
        dial_answer(dial, fd);
        return;
    }
    snprintf(dial->why, sizeof(dial->why), "%s", strerror(error));
    dial_close(dial);
    dial_try(dial);
}

/* Waits for a connect() under way, or for the loop's next turn if it is through: the answer always comes from the loop. */
static int dial_wait(struct dial *dial)
{
    dial->event = event_new(loop_base(dial->loop), dial->fd, EV_WRITE, dial_ready, dial);
    return dial->event != NULL && event_add(dial->event, NULL) == 0 ? 0 : -1;
}

static int dial_connect(struct dial *dial, const struct sockaddr *address, socklen_t length)
{
    int one = 1;

    dial->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd < 0)
        goto fail;
    if (address->sa_family != AF_UNIX) {
        /* Frames are gathered by us, so Nagle could only add delay. */
        setsockopt(dial->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(dial->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
    if (connect(dial->fd, address, length) != 0 && errno != EINPROGRESS)
        goto fail;
    if (dial_wait(dial) == 0)
        return 0;
    errno = ENOMEM;

fail:
    snprintf(dial->why, sizeof(dial->why), "%s", strerror(errno));
    dial_close(dial);
    return -1;
}

static void dial_try(struct dial *dial)
{
    while (dial->next != NULL) {
        struct addrinfo *address = dial->next;

        dial->next = address->ai_next;
        if (dial_connect(dial, address->ai_addr, address->ai_addrlen) == 0)
            return;
    }
    dial_answer(dial, -1);
}

static void dial_resolved(void *arg, struct addrinfo *list, const char *error)
{
    struct dial *dial = arg;

    dial->resolve = NULL;
    dial->list = dial->next = list;
    if (list == NULL)
        snprintf(dial->why, sizeof(dial->why), "the name cannot be resolved: %s", error);
    dial_try(dial);
}

static void dial_failed(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    dial_try(arg);
}

/* Nothing could be started: that answer, too, comes from the loop. */
static int dial_fail_later(struct dial *dial)
{
    struct timeval now = {0, 0};

    dial->event = evtimer_new(loop_base(dial->loop), dial_failed, dial);
    return dial->event != NULL && evtimer_add(dial->event, &now) == 0 ? 0 : -1;
}

static int dial_unix(struct dial *dial, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) {
        snprintf(dial->why, sizeof(dial->why), "the path is longer than the %zu bytes that a socket address holds",
                 sizeof(address.sun_path) - 1);
        return dial_fail_later(dial);
    }
    memcpy(address.sun_path, path, strlen(path));
    if (dial_connect(dial, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return 0;
    return dial_fail_later(dial);
}

struct dial *dial_start(struct loop *loop, const char *host, uint16_t port, const char *unix_path, dial_done done,
                        void *arg)
{
    struct dial *dial = calloc(1, sizeof(*dial));
    int result = 0;

    if (dial == NULL)
        return NULL;
    *dial = (struct dial){.loop = loop, .fd = -1, .done = done, .arg = arg};
    snprintf(dial->why, sizeof(dial->why), "no address");
    if (unix_path != NULL) {
        result = dial_unix(dial, unix_path);
    } else {
        dial->list = dial->next = resolve_numeric(host, port);
        if (dial->list == NULL) {
            dial->resolve = resolve_start(loop, host, port, dial_resolved, dial);
            result = dial->resolve != NULL ? 0 : -1;
        } else {
            dial->next = dial->list->ai_next;
            if (dial_connect(dial, dial->list->ai_addr, dial->list->ai_addrlen) != 0)
                result = dial_fail_later(dial);
        }
    }
    if (result == 0)
        return dial;
    dial_cancel(dial);
    return NULL;
}
