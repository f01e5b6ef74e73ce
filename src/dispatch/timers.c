/* SPDX-License-Identifier: MIT */
#include "dispatch/timers.h"

#include <stdlib.h>
#include <time.h>

int64_t timers_now(const struct timers *timers)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + timers->ahead;
}

static void timers_place(struct timers *timers, size_t at, struct timer *timer)
{
    timers->heap[at] = timer;
    timer->place = at + 1;
}

static void timers_up(struct timers *timers, size_t at)
{
    struct timer *timer = timers->heap[at];

    while (at > 0 && timers->heap[(at - 1) / 2]->due > timer->due) {
        timers_place(timers, at, timers->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    timers_place(timers, at, timer);
}

static void timers_down(struct timers *timers, size_t at)
{
    struct timer *timer = timers->heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < timers->count && timers->heap[child + 1]->due < timers->heap[child]->due)
            child++;
        if (child >= timers->count || timers->heap[child]->due >= timer->due)
            break;
        timers_place(timers, at, timers->heap[child]);
        at = child;
    }
    timers_place(timers, at, timer);
}

/* Arms the one libevent timer for the earliest deadline. A wake-up that comes too early because that timer was
 * cancelled is cheaper than a system call for every cancellation, so it is only ever moved forward here. */
static void timers_arm(struct timers *timers)
{
    int64_t left;
    struct timeval wait;

    if (timers->count == 0 || (timers->armed != 0 && timers->armed <= timers->heap[0]->due))
        return;
    timers->armed = timers->heap[0]->due;
    left = timers->armed - timers_now(timers);
    if (left < 0)
        left = 0;
    wait = (struct timeval){.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
    evtimer_add(timers->wake, &wait);
}

static void timers_fire(struct timers *timers, int64_t until)
{
    while (timers->count > 0 && timers->heap[0]->due <= until) {
        struct timer *timer = timers->heap[0];

        timers_cancel(timers, timer);
        timer->fire(timer);
    }
}

static void timers_wake(evutil_socket_t fd, short what, void *arg)
{
    struct timers *timers = arg;

    (void)fd;
    (void)what;
    timers->armed = 0;
    timers_fire(timers, timers_now(timers));
    timers_arm(timers);
}

int timers_init(struct timers *timers, struct event_base *base)
{
    *timers = (struct timers){.wake = evtimer_new(base, timers_wake, timers)};
    return timers->wake != NULL ? 0 : -1;
}

void timers_close(struct timers *timers)
{
    if (timers->wake != NULL)
        event_free(timers->wake);
    free(timers->heap);
    *timers = (struct timers){0};
}

int timers_set(struct timers *timers, struct timer *timer, int64_t in_ms)
{
    timers_cancel(timers, timer);
    if (timers->count == timers->capacity) {
        size_t capacity = timers->capacity == 0 ? 16 : 2 * timers->capacity;
        struct timer **heap = realloc(timers->heap, capacity * sizeof(*heap));

        if (heap == NULL)
            return -1;
        timers->heap = heap;
        timers->capacity = capacity;
    }
    timer->due = timers_now(timers) + in_ms;
    timers->heap[timers->count] = timer;
    timers_up(timers, timers->count++);
    timers_arm(timers);
    return 0;
}

void timers_cancel(struct timers *timers, struct timer *timer)
{
    size_t at = timer->place;

    if (at == 0)
        return;
    at--;
    timer->place = 0;
    timers->count--;
    if (at == timers->count)
        return;
    timers_place(timers, at, timers->heap[timers->count]);
    timers_down(timers, at);
    timers_up(timers, at);
}

void timers_advance(struct timers *timers, int64_t ms)
{
    int64_t until = timers_now(timers) + ms;

    while (timers->count > 0 && timers->heap[0]->due <= until) {
        int64_t step = timers->heap[0]->due - timers_now(timers);

        if (step > 0)
            timers->ahead += step;
        timers_fire(timers, timers->heap[0]->due);
    }
    if (until > timers_now(timers))
        timers->ahead += until - timers_now(timers);
    timers->armed = 0;
    timers_arm(timers);
}
