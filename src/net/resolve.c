/* SPDX-License-Identifier: MIT */
#include "net/resolve.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* getaddrinfo() keeps packets and files' lines on the stack; address space only, touched as needed. */
#define RESOLVE_STACK (256 * 1024)

/* Held by the loop's side and by the thread; whoever lets go last frees. */
struct resolve {
    atomic_int holders;
    atomic_bool ready; /* written by the thread: result is there */
    int fd;            /* an eventfd that wakes the loop */
    int status, error; /* getaddrinfo()'s, and errno for EAI_SYSTEM */
    struct addrinfo *list;
    struct event *event; /* the loop's side only */
    resolve_done done;
    void *arg;
    char service[8];
    char host[];
};

static const struct addrinfo resolve_hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

static void resolve_drop(struct resolve *resolve)
{
    if (atomic_fetch_sub(&resolve->holders, 1) != 1)
        return;
    if (resolve->list != NULL)
        freeaddrinfo(resolve->list);
    if (resolve->fd >= 0)
        close(resolve->fd);
    free(resolve);
}

/* A name server that never answers holds a thread for every attempt: so many, not more. */
#define RESOLVE_THREADS 8
static atomic_uint resolve_threads;

static void *resolve_thread(void *arg)
{
    struct resolve *resolve = arg;
    struct addrinfo hints = resolve_hints;
    uint64_t one = 1;
    ssize_t written;

    hints.ai_flags = AI_NUMERICSERV;
    resolve->status = getaddrinfo(resolve->host, resolve->service, &hints, &resolve->list);
    resolve->error = errno;
    atomic_store(&resolve->ready, true);
    /* An eventfd takes 2^64 - 2 of these before it would refuse. */
    do
        written = write(resolve->fd, &one, sizeof(one));
    while (written < 0 && errno == EINTR);
    resolve_drop(resolve);
    atomic_fetch_sub(&resolve_threads, 1);
    return NULL;
}

static void resolve_ready(evutil_socket_t fd, short what, void *arg)
{
    struct resolve *resolve = arg;
    resolve_done done = resolve->done;
    void *done_arg = resolve->arg;
    struct addrinfo *list = NULL;
    char error[128] = "";

    (void)fd;
    (void)what;
    if (!atomic_load(&resolve->ready))
        return;
    if (resolve->status == 0) {
        list = resolve->list;
        resolve->list = NULL;
    } else {
        snprintf(error, sizeof(error), "%s",
                 resolve->status == EAI_SYSTEM ? strerror(resolve->error) : gai_strerror(resolve->status));
    }
    resolve_cancel(resolve);
    done(done_arg, list, list == NULL ? error : NULL);
}

struct addrinfo *resolve_numeric(const char *host, uint16_t port)
{
    struct addrinfo hints = resolve_hints, *list = NULL;
    char service[8];

    snprintf(service, sizeof(service), "%u", (unsigned)port);
    hints.ai_flags = AI_NUMERICSERV | AI_NUMERICHOST;
    return getaddrinfo(host, service, &hints, &list) == 0 ? list : NULL;
}

static int resolve_spawn(struct resolve *resolve)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int failed;

    if (atomic_fetch_add(&resolve_threads, 1) >= RESOLVE_THREADS) {
        errno = EAGAIN;
        goto fail;
    }
    if (pthread_attr_init(&attributes) != 0)
        goto fail;
    /* Signals are for the loop's thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) != 0 ||
             pthread_attr_setstacksize(&attributes, RESOLVE_STACK) != 0 ||
             pthread_create(&thread, &attributes, resolve_thread, resolve) != 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!failed)
        return 0;
    errno = ENOMEM; /* what a thread lacks, mostly */

fail:
    atomic_fetch_sub(&resolve_threads, 1);
    return -1;
}

struct resolve *resolve_start(struct loop *loop, const char *host, uint16_t port, resolve_done done, void *arg)
{
    size_t length = strlen(host) + 1;
    struct resolve *resolve = calloc(1, sizeof(*resolve) + length);
    int failed;

    if (resolve == NULL)
        return NULL;
    memcpy(resolve->host, host, length);
    snprintf(resolve->service, sizeof(resolve->service), "%u", (unsigned)port);
    resolve->done = done;
    resolve->arg = arg;
    atomic_init(&resolve->holders, 1);
    atomic_init(&resolve->ready, false);
    resolve->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (resolve->fd < 0)
        goto fail;
    resolve->event = event_new(loop_base(loop), resolve->fd, EV_READ, resolve_ready, resolve);
    if (resolve->event == NULL || event_add(resolve->event, NULL) < 0)
        goto fail;
    atomic_store(&resolve->holders, 2);
    if (resolve_spawn(resolve) == 0)
        return resolve;
    atomic_store(&resolve->holders, 1);

fail:
    failed = errno;
    resolve_cancel(resolve);
    errno = failed;
    return NULL;
}

void resolve_cancel(struct resolve *resolve)
{
    if (resolve == NULL)
        return;
    if (resolve->event != NULL)
        event_free(resolve->event);
    resolve->event = NULL;
    resolve_drop(resolve);
}
