/* SPDX-License-Identifier: MIT */
#include "dispatch/thread.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define THREAD_STACK (128 * 1024)

enum { JOB_WORKING, JOB_DONE, JOB_ABANDONED };

struct thread_job {
    thread_work work;
    thread_done done, orphan;
    void *data;
    int fd, wake; /* wake: the thread's own, as the job may be gone as soon as the state says done */
    struct event *event;
    _Atomic int state; /* whoever comes second to change it from JOB_WORKING frees the job */
};

static void thread_free(struct thread_job *job)
{
    close(job->fd);
    free(job);
}

static void *thread_main(void *arg)
{
    struct thread_job *job = arg;
    uint64_t one = 1;
    int working = JOB_WORKING;
    int fd = job->wake;

    job->work(job->data);
    if (!atomic_compare_exchange_strong(&job->state, &working, JOB_DONE)) {
        job->orphan(job->data);
        thread_free(job);
    } else if (write(fd, &one, sizeof(one)) < 0) {
        abort(); /* an eventfd takes a 1 */
    }
    close(fd);
    return NULL;
}

static void thread_ready(evutil_socket_t fd, short what, void *arg)
{
    struct thread_job *job = arg;
    thread_done done = job->done;
    void *data = job->data;

    (void)fd;
    (void)what;
    event_free(job->event);
    thread_free(job);
    done(data);
}

static int thread_spawn(void *(*run)(void *), void *data)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int failed;

    if (pthread_attr_init(&attributes) != 0)
        return -1;
    sigfillset(&all); /* signals are for the loop's thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) != 0 ||
             pthread_attr_setstacksize(&attributes, THREAD_STACK) != 0 ||
             pthread_create(&thread, &attributes, run, data) != 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed ? -1 : 0;
}

struct detached {
    thread_work work;
    void *data;
};

static void *thread_detached(void *arg)
{
    struct detached *detached = arg;

    detached->work(detached->data);
    free(detached);
    return NULL;
}

int thread_detach(thread_work work, void *data)
{
    struct detached *detached = malloc(sizeof(*detached));

    if (detached == NULL)
        return -1;
    *detached = (struct detached){.work = work, .data = data};
    if (thread_spawn(thread_detached, detached) == 0)
        return 0;
    free(detached);
    return -1;
}

struct thread_job *thread_start(struct event_base *base, thread_work work, thread_done done, thread_done orphan,
                                void *data)
{
    struct thread_job *job = calloc(1, sizeof(*job));

    if (job == NULL)
        return NULL;
    *job = (struct thread_job){.work = work, .done = done, .orphan = orphan, .data = data};
    job->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (job->fd < 0) {
        free(job);
        return NULL;
    }
    job->wake = fcntl(job->fd, F_DUPFD_CLOEXEC, 3);
    if (job->wake < 0) {
        thread_free(job);
        return NULL;
    }
    job->event = event_new(base, job->fd, EV_READ, thread_ready, job);
    if (job->event != NULL && event_add(job->event, NULL) == 0 && thread_spawn(thread_main, job) == 0)
        return job;
    if (job->event != NULL)
        event_free(job->event);
    close(job->wake);
    thread_free(job);
    return NULL;
}

void thread_abandon(struct thread_job *job)
{
    thread_done orphan = job->orphan;
    void *data = job->data;
    int working = JOB_WORKING;

    event_free(job->event);
    if (atomic_compare_exchange_strong(&job->state, &working, JOB_ABANDONED))
        return;
    thread_free(job); /* it was done, and nobody had looked yet */
    orphan(data);
}
