/* SPDX-License-Identifier: MIT */
#include "net/acceptor.h"

#include "base/log.h"
#include "net/listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_MOST 64     /* per readiness */
#define ACCEPT_REST_MS 200 /* without descriptors: somebody has to leave first */

struct acceptor {
    int fd;
    void (*accepted)(void *arg, int fd);
    void *arg;
    struct event *readable, *rested;
    bool paused, resting;
    bool *freed; /* while call-backs run: set when one of them frees the acceptor */
    struct log_limit said;
};

static void acceptor_arm(struct acceptor *acceptor)
{
    if (acceptor->paused || acceptor->resting)
        event_del(acceptor->readable);
    else
        event_add(acceptor->readable, NULL);
}

static void acceptor_rest(struct acceptor *acceptor, int error)
{
    struct timeval wait = {.tv_usec = ACCEPT_REST_MS * 1000};
    unsigned dropped;
    char name[128];

    listen_name(acceptor->fd, name, sizeof(name));
    if (log_allowed(&acceptor->said, &dropped))
        log_error("%s: no connection can be accepted: %s; tried again every %d ms", name, strerror(error),
                  ACCEPT_REST_MS);
    acceptor->resting = true;
    acceptor_arm(acceptor);
    evtimer_add(acceptor->rested, &wait);
}

static void acceptor_rested(evutil_socket_t fd, short what, void *arg)
{
    struct acceptor *acceptor = arg;

    (void)fd;
    (void)what;
    acceptor->resting = false;
    acceptor_arm(acceptor);
}

/* These concern one connection, which was gone before it was taken. All others (no descriptors, no memory) stay for a while. */
static bool acceptor_lost_one(int error)
{
    static const int errors[] = {EINTR,     ECONNABORTED, EPERM,        EPROTO,     ENOPROTOOPT, ENETDOWN,
                                 EHOSTDOWN, ENONET,       EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, ETIMEDOUT};

    for (size_t i = 0; i < HARK_COUNT(errors); i++)
        if (errors[i] == error)
            return true;
    return false;
}

static void acceptor_readable(evutil_socket_t fd, short what, void *arg)
{
    struct acceptor *acceptor = arg;
    bool freed = false;

    (void)what;
    acceptor->freed = &freed;
    for (int i = 0; i < ACCEPT_MOST && !acceptor->paused; i++) {
        int got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (got >= 0) {
            acceptor->accepted(acceptor->arg, got);
            if (freed)
                return;
        } else if (errno == EAGAIN) {
            break;
        } else if (!acceptor_lost_one(errno)) {
            acceptor_rest(acceptor, errno);
            break;
        }
    }
    acceptor->freed = NULL;
}

struct acceptor *acceptor_new(struct loop *loop, int fd, void (*accepted)(void *arg, int fd), void *arg)
{
    struct acceptor *acceptor = calloc(1, sizeof(*acceptor));

    if (acceptor == NULL) {
        close(fd);
        return NULL;
    }
    *acceptor = (struct acceptor){.fd = fd, .accepted = accepted, .arg = arg, .said = {.burst = 1, .period_ms = 10000}};
    acceptor->readable = event_new(loop_base(loop), fd, EV_READ | EV_PERSIST, acceptor_readable, acceptor);
    acceptor->rested = evtimer_new(loop_base(loop), acceptor_rested, acceptor);
    if (acceptor->readable != NULL && acceptor->rested != NULL && event_add(acceptor->readable, NULL) == 0)
        return acceptor;
    acceptor_free(acceptor);
    return NULL;
}

void acceptor_pause(struct acceptor *acceptor, bool paused)
{
    acceptor->paused = paused;
    acceptor_arm(acceptor);
}

void acceptor_free(struct acceptor *acceptor)
{
    if (acceptor == NULL)
        return;
    if (acceptor->freed != NULL)
        *acceptor->freed = true;
    if (acceptor->readable != NULL)
        event_free(acceptor->readable);
    if (acceptor->rested != NULL)
        event_free(acceptor->rested);
    close(acceptor->fd);
    free(acceptor);
}
