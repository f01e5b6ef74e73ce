/* SPDX-License-Identifier: MIT */
#include "net/dial.h"

#include "net/resolve.h"

#include <errno.h>
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
    int64_t deadline; /* loop_now() */
    struct event *event;
    int fd;
    const struct sockaddr *address; /* being tried */
    socklen_t address_length;
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

/* The reason goes with the address if there are several, as only the last one's is told. */
static void dial_note(struct dial *dial, const char *why)
{
    char host[64];

    if (dial->list == NULL || dial->list->ai_next == NULL ||
        getnameinfo(dial->address, dial->address_length, host, sizeof(host), NULL, 0, NI_NUMERICHOST) != 0)
        snprintf(dial->why, sizeof(dial->why), "%s", why);
    else
        snprintf(dial->why, sizeof(dial->why), "%s (%s, the last address of several)", why, host);
}

static void dial_try(struct dial *dial);

static void dial_ready(evutil_socket_t fd, short what, void *arg)
{
    struct dial *dial = arg;
    socklen_t size = sizeof(int);
    int error = 0;

    if ((what & EV_TIMEOUT) != 0)
        error = ETIMEDOUT;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error == 0) {
        dial->fd = -1; /* it is the callee's now */
        dial_answer(dial, fd);
        return;
    }
    dial_note(dial, strerror(error));
    dial_close(dial);
    dial_try(dial);
}

/* What is left of the time, divided by the addresses that are left. */
static struct timeval dial_share(struct dial *dial)
{
    int64_t left = dial->deadline - loop_now(dial->loop), count = 1;

    for (const struct addrinfo *other = dial->next; other != NULL; other = other->ai_next)
        count++;
    left = left > count ? left / count : 1;
    return (struct timeval){.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
}

/* Waits for a connect() under way, or for the loop's next turn if it is through: the answer always comes from the loop. */
static int dial_wait(struct dial *dial)
{
    struct timeval share = dial_share(dial);

    dial->event = event_new(loop_base(dial->loop), dial->fd, EV_WRITE, dial_ready, dial);
    return dial->event != NULL && event_add(dial->event, &share) == 0 ? 0 : -1;
}

static int dial_connect(struct dial *dial, const struct sockaddr *address, socklen_t length)
{
    dial->address = address;
    dial->address_length = length;
    dial->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd < 0)
        goto fail;
    if (connect(dial->fd, address, length) != 0 && errno != EINPROGRESS)
        goto fail;
    if (dial_wait(dial) == 0)
        return 0;
    errno = ENOMEM;

fail:
    dial_note(dial, strerror(errno));
    dial_close(dial);
    return -1;
}

/* The next address that can at least be tried. -1: none is left. */
static int dial_next(struct dial *dial)
{
    while (dial->next != NULL) {
        struct addrinfo *address = dial->next;

        dial->next = address->ai_next;
        if (dial_connect(dial, address->ai_addr, address->ai_addrlen) == 0)
            return 0;
    }
    return -1;
}

static void dial_try(struct dial *dial)
{
    if (dial_next(dial) != 0)
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
    dial_answer(arg, -1);
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

struct dial *dial_start(struct loop *loop, const char *host, uint16_t port, const char *unix_path, int64_t timeout,
                        dial_done done, void *arg)
{
    struct dial *dial = calloc(1, sizeof(*dial));
    int result;

    if (dial == NULL)
        return NULL;
    *dial = (struct dial){.loop = loop, .deadline = loop_now(loop) + timeout, .fd = -1, .done = done, .arg = arg};
    snprintf(dial->why, sizeof(dial->why), "no address");
    if (unix_path != NULL) {
        result = dial_unix(dial, unix_path);
    } else {
        dial->list = dial->next = resolve_numeric(host, port);
        if (dial->list == NULL) {
            dial->resolve = resolve_start(loop, host, port, dial_resolved, dial);
            if (dial->resolve == NULL)
                snprintf(dial->why, sizeof(dial->why), "the name cannot be resolved: %s",
                         errno == EAGAIN ? "too many earlier look-ups have no answer yet" : strerror(errno));
            result = dial->resolve != NULL ? 0 : dial_fail_later(dial);
        } else {
            result = dial_next(dial) == 0 ? 0 : dial_fail_later(dial);
        }
    }
    if (result == 0)
        return dial;
    dial_cancel(dial);
    return NULL;
}

const char *dial_doing(const struct dial *dial)
{
    return dial->resolve != NULL ? "resolving the name" : "connecting";
}
