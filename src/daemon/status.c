/* SPDX-License-Identifier: MIT */
/*
 * What the service manager is told besides "ready" and "alive": how harkd fares, and that it needs more time.
 *
 * STATUS= follows what happens: a worker or the broker wakes the supervisor when its state changes, not with every
 * message. It is sent at most once in STATUS_MS; what came meanwhile is sent at the end of that. Figures that grow are
 * as old as the last look of the watch. READY=1 and STOPPING=1 are sent again until the manager has taken them.
 *
 * More time: the manager's limits (TimeoutStopSec=, TimeoutStartSec=) cannot know drain_timeout, nor how long a store
 * is. EXTEND_TIMEOUT_USEC= asks for a little more, again and again while there is progress or an end is in sight: while
 * workers drain or are replaced, for which the supervisor has timers of its own, and while the broker opens its store,
 * as long as its process moves. So a supervisor or a disk that hangs is still noticed.
 */
#include "daemon/supervisor_private.h"

#include "base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATUS_MS 500        /* between two STATUS= */
#define STATUS_DRAIN_MS 1000 /* while it drains, without being woken */
#define EXTEND_MS 30000      /* three times the longest period of the watch */

enum {
#define X(name) FIGURE_##name,
    SLOT_FIGURES(X)
#undef X
        FIGURES
};

/* ---- more time ---- */

/* What a process has done so far, of whatever kind: a disk's pages that it waited for, and time on a processor. */
static uint64_t status_work_of(pid_t pid)
{
    unsigned long long minor, major, user, system;
    char path[64], text[1024];
    const char *behind;
    ssize_t length = 0;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        length = read(fd, text, sizeof(text) - 1);
        close(fd);
    }
    text[length > 0 ? length : 0] = 0;
    behind = strrchr(text, ')'); /* of its name */
    if (behind == NULL || sscanf(behind, ") %*c %*d %*d %*d %*d %*d %*u %llu %*u %llu %*u %llu %llu", &minor, &major,
                                 &user, &system) != 4)
        return 0;
    return minor + major + user + system;
}

/* At the start; later the service runs, and nothing waits for that but its clients. */
static bool status_is_starting(const struct supervisor *supervisor)
{
    const struct keeper *keeper = supervisor->keeper;

    return !supervisor->ready && keeper != NULL && keeper->child.pid != 0 &&
           !child_has_reached(&keeper->child, SLOT_STARTED);
}

static bool status_broker_opens(struct supervisor *supervisor)
{
    struct keeper *keeper = supervisor->keeper;
    uint64_t before;

    if (!status_is_starting(supervisor))
        return false;
    before = keeper->work;
    keeper->work = status_work_of(keeper->child.pid) + 1;
    return keeper->work != before; /* just forked, it has done nothing yet, and gets its time all the same */
}

void status_extend(struct supervisor *supervisor)
{
    if (notify_wanted(&supervisor->notify) && (supervisor->stopping || supervisor->incoming != NULL ||
                                               supervisor->reload_again || status_broker_opens(supervisor)))
        notify_send(&supervisor->notify, "EXTEND_TIMEOUT_USEC=%d", EXTEND_MS * 1000);
}

/* ---- figures ---- */

static void status_add(uint64_t *sums, const struct slot *slot)
{
#define X(name) sums[FIGURE_##name] += atomic_load_explicit(&slot->figures.name, memory_order_relaxed);
    SLOT_FIGURES(X)
#undef X
}

void status_remember(const struct child *child)
{
    _Static_assert(FIGURES <= HARK_COUNT(child->supervisor->past), "a figure more than there is room for");
    status_add(child->supervisor->past, child->slot);
}

/* What the embedded broker does; nothing without one. */
static void status_broker(const struct keeper *keeper, char *to, size_t size)
{
    static const char *const held[] = {"", ", publishers are held for want of memory",
                                       ", publishers are held for want of disk space"};
    const struct slot_figures *figures;
    uint64_t alarm;

    to[0] = 0;
    if (keeper == NULL)
        return;
    if (keeper->child.pid == 0 || !child_has_reached(&keeper->child, SLOT_STARTED)) {
        snprintf(to, size, "broker: starts");
        return;
    }
    figures = &keeper->child.slot->figures;
    alarm = figures->alarm;
    snprintf(to, size,
             "broker: %" PRIu64 " connections, %" PRIu64 " queues, %" PRIu64 " ready, %" PRIu64 " unacknowledged%s",
             figures->connections, figures->queues, figures->ready, figures->unacked,
             held[alarm < HARK_COUNT(held) ? alarm : 0]);
}

static void status_working(struct supervisor *supervisor, char *to, size_t size)
{
    uint64_t sums[FIGURES], in_hand = 0, ready = 0, consumers = 0;
    unsigned workers = 0, connected = 0, blocked = 0;
    const char *refused = supervisor->incoming == NULL ? supervisor->refused : "";
    char broker[200];

    memcpy(sums, supervisor->past, sizeof(sums));
    EACH_CHILD(supervisor, child)
    {
        const struct slot_figures *figures;

        if (child->pid == 0)
            continue;
        figures = &child->slot->figures;
        status_add(sums, child->slot);
        in_hand += figures->in_hand;
        if (child->generation != supervisor->current)
            continue;
        workers++;
        connected += figures->connected != 0 && figures->publishing != 0;
        blocked += figures->blocked != 0;
        ready += figures->consumers_ready;
        consumers += figures->consumers;
    }
    status_broker(supervisor->keeper, broker, sizeof(broker));
    if (supervisor->current->count == 0 && broker[0] != 0)
        snprintf(to, size, "Serving: %s%s%s", broker, refused[0] != 0 ? "; the last reload failed: " : "", refused);
    else
        snprintf(to, size,
                 "%s%u of %u workers connected, %" PRIu64 " of %" PRIu64 " consumers; %" PRIu64 " consumed, %" PRIu64
                 " acknowledged, %" PRIu64 " emitted, %" PRIu64 " retried, %" PRIu64 " dead-lettered, %" PRIu64
                 " in hand%s%s%s%s",
                 blocked > 0                              ? "Blocked by the broker: "
                 : connected < supervisor->current->count ? "Waiting for the broker: "
                 : ready < consumers                      ? "Waiting for queues: "
                                                          : "Consuming: ",
                 connected, workers, ready, consumers, sums[FIGURE_consumed], sums[FIGURE_acked], sums[FIGURE_emitted],
                 sums[FIGURE_retried], sums[FIGURE_dead_lettered], in_hand, broker[0] != 0 ? "; " : "", broker,
                 refused[0] != 0 ? "; the last reload failed: " : "", refused);
}

static void status_draining(struct supervisor *supervisor, char *to, size_t size)
{
    unsigned workers = 0;
    uint64_t in_hand = 0;

    EACH_CHILD(supervisor, child)
    {
        if (child->pid == 0)
            continue;
        workers++;
        in_hand += child->slot->figures.in_hand;
    }
    if (workers > 0)
        snprintf(to, size, "Draining: %u worker%s, %" PRIu64 " in hand", workers, workers == 1 ? "" : "s", in_hand);
    else
        snprintf(to, size,
                 supervisor->keeper != NULL ? "Draining: the broker leaves" : "Draining: the workers have left");
}

static void status_later(struct supervisor *supervisor, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    if (!evtimer_pending(supervisor->status_timer, NULL))
        evtimer_add(supervisor->status_timer, &wait);
}

static void status_compose(struct supervisor *supervisor, char *to, size_t size)
{
    if (supervisor->stopping)
        status_draining(supervisor, to, size);
    else if (status_is_starting(supervisor))
        snprintf(to, size, "Starting: the broker opens its store");
    else
        status_working(supervisor, to, size);
}

void status_tell(struct supervisor *supervisor, const char *state)
{
    if (!notify_wanted(&supervisor->notify))
        return;
    status_compose(supervisor, supervisor->said, sizeof(supervisor->said));
    supervisor->said_at = supervisor_now();
    supervisor->untold = notify_send(&supervisor->notify, "%s\nSTATUS=%s", state, supervisor->said) ? NULL : state;
    if (supervisor->untold != NULL)
        status_later(supervisor, STATUS_MS);
}

void status_check(struct supervisor *supervisor)
{
    int64_t now = supervisor_now(), age = now - supervisor->said_at;
    char text[sizeof(supervisor->said)];

    if (!notify_wanted(&supervisor->notify))
        return;
    if (supervisor->said_at > 0 && age < STATUS_MS) {
        status_later(supervisor, STATUS_MS - age);
        return;
    }
    if (supervisor->untold != NULL) {
        status_tell(supervisor, supervisor->untold);
        return;
    }
    if (supervisor->stopping)
        status_later(supervisor, STATUS_DRAIN_MS);
    status_compose(supervisor, text, sizeof(text));
    if (strcmp(text, supervisor->said) == 0)
        return;
    memcpy(supervisor->said, text, sizeof(text));
    supervisor->said_at = now;
    notify_send(&supervisor->notify, "STATUS=%s", text);
}
