/* SPDX-License-Identifier: MIT */
#include "net/loop.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

/* Tasks may defer tasks: how many rounds of that belong to one turn. The rest waits for the next. */
#define LOOP_ROUNDS 16
#define LOOP_GATHER_MAX 5000 /* microseconds */

struct loop_list {
    struct loop_task *head, **tail;
    struct loop_task marker; /* of list_run(), which is not called within itself */
};

struct loop {
    struct event_base *base;
    struct loop_list deferred, flush, reap, at_end;
    int64_t now, wall;  /* 0: not asked for in this turn */
    struct timespec at; /* the next turn begins no sooner; tv_sec 0: at once */
    bool stopping;
};

static void list_init(struct loop_list *list)
{
    list->head = NULL;
    list->tail = &list->head;
}

static void list_add(struct loop_list *list, struct loop_task *task)
{
    if (task->queued != NULL)
        return;
    task->queued = list;
    task->next = NULL;
    task->at = list->tail;
    *list->tail = task;
    list->tail = &task->next;
}

static void list_remove(struct loop_task *task)
{
    *task->at = task->next;
    if (task->next != NULL)
        task->next->at = task->at;
    else
        task->queued->tail = task->at;
    task->queued = NULL;
}

/* Runs what is on the list now. Taken off one by one, so a task may cancel or queue any other, or itself again. What is
 * added meanwhile stands behind the marker and is left. */
static void list_run(struct loop_list *list)
{
    if (list->head == NULL)
        return;
    list_add(list, &list->marker);
    for (;;) {
        struct loop_task *task = list->head;

        list_remove(task);
        if (task == &list->marker)
            return;
        task->run(task);
    }
}

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    struct event_config *config = event_config_new();

    if (loop == NULL || config == NULL)
        goto fail;
    list_init(&loop->deferred);
    list_init(&loop->flush);
    list_init(&loop->reap);
    list_init(&loop->at_end);

    /* One thread, so no locks. Not EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST: our read events stay armed and a write event
     * is armed only for a full socket, so there is nothing to save, and it leaves closed descriptors in the epoll set
     * when a child process still holds them. */
    if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) < 0)
        goto fail;
    loop->base = event_base_new_with_config(config);
    if (loop->base == NULL)
        goto fail;
    event_config_free(config);
    signal(SIGPIPE, SIG_IGN);
    return loop;

fail:
    if (config != NULL)
        event_config_free(config);
    free(loop);
    return NULL;
}

static bool loop_has_tasks(const struct loop *loop)
{
    return loop->deferred.head != NULL || loop->flush.head != NULL || loop->reap.head != NULL;
}

static void loop_reap(struct loop *loop)
{
    while (loop->reap.head != NULL)
        list_run(&loop->reap);
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    list_run(&loop->at_end);
    loop_reap(loop);
    event_base_free(loop->base);
    free(loop);
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

static void loop_wait_to_gather(struct loop *loop)
{
    /* A signal ends it early, as it should: the loop has something to do then. */
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &loop->at, NULL);
    loop->at.tv_sec = 0;
}

int loop_turn(struct loop *loop, bool wait)
{
    int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

    if (loop->at.tv_sec > 0)
        loop_wait_to_gather(loop);
    if (!wait || loop_has_tasks(loop))
        flags |= EVLOOP_NONBLOCK;

    loop->now = loop->wall = 0;
    if (event_base_loop(loop->base, flags) < 0)
        return -1;

    for (int round = 0; loop->deferred.head != NULL && round < LOOP_ROUNDS; round++)
        list_run(&loop->deferred);
    list_run(&loop->flush);
    loop_reap(loop);
    return 0;
}

int loop_run(struct loop *loop)
{
    while (!loop->stopping) {
        if (loop_turn(loop, true) < 0)
            return -1;
    }
    loop->stopping = false;
    return 0;
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
    list_add(&loop->deferred, task);
}

void loop_flush_later(struct loop *loop, struct loop_task *task)
{
    list_add(&loop->flush, task);
}

void loop_reap_later(struct loop *loop, struct loop_task *task)
{
    list_add(&loop->reap, task);
}

void loop_at_end(struct loop *loop, struct loop_task *task)
{
    list_add(&loop->at_end, task);
}

void loop_task_cancel(struct loop_task *task)
{
    if (task->queued != NULL)
        list_remove(task);
}

static int64_t loop_clock(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

int64_t loop_now(struct loop *loop)
{
    if (loop->now == 0)
        loop->now = loop_clock(CLOCK_MONOTONIC);
    return loop->now;
}

int64_t loop_wall(struct loop *loop)
{
    if (loop->wall == 0)
        loop->wall = loop_clock(CLOCK_REALTIME);
    return loop->wall;
}

void loop_gather(struct loop *loop, unsigned microseconds)
{
    struct timespec *at = &loop->at;

    clock_gettime(CLOCK_MONOTONIC, at);
    at->tv_nsec += 1000L * (microseconds < LOOP_GATHER_MAX ? microseconds : LOOP_GATHER_MAX);
    if (at->tv_nsec >= 1000000000L) {
        at->tv_nsec -= 1000000000L;
        at->tv_sec++;
    }
}
