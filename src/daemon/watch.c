/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's eye on its workers: do they still move?
 *
 * A worker's loop counts its turns in shared memory, and its consumers their signs of life; an idle
 * worker counts nothing. So the supervisor looks at the counters now and then, and only a worker
 * that has not moved since the last look is asked, by a byte on its control socket that makes its
 * loop turn. While messages or heartbeats flow nobody is woken for the sake of the watch.
 *
 * Nor is the supervisor woken while there is nothing to look at: no watchdog to feed, and all
 * workers wait with nothing in hand. It tells them so (slot->unwatched), and the next call into a
 * listener wakes it by a byte on the control socket, before the call. A worker could read the old
 * flag just as the supervisor reads the old note; so it sleeps only when the flag has stood from
 * one look to the next. What is left is a loop that hangs outside of any listener: for that it
 * looks once in a long while. A listener that has asked for the loop itself is never unwatched,
 * because its call-backs are not noted. (A process that is stopped is told by SIGCHLD.) The embedded broker
 * has no calls to be woken before; but when it hangs, a worker misses its heartbeats and wakes us for that.
 */
#include "daemon/supervisor_private.h"

#include "base/log.h"

#include <signal.h>
#include <unistd.h>

#define PERIOD_MAX 10000 /* ms between two looks when nothing asks for more */
#define PERIOD_MIN 50
#define PERIOD_ASLEEP 600000

int64_t watch_period(const struct supervisor *supervisor)
{
    int64_t ms = PERIOD_MAX, watchdog = supervisor->notify.watchdog_ms;
    bool wanted = watchdog > 0 || notify_wanted(&supervisor->notify);

    if (watchdog > 0 && watchdog / 6 < ms)
        ms = watchdog / 6;
    for (const struct generation *generation = supervisor->generations; generation != NULL;
         generation = generation->next) {
        int64_t hang = generation->config->general.hang_timeout;

        wanted |= hang > 0;
        if (hang > 0 && hang / 3 < ms)
            ms = hang / 3;
    }
    if (!wanted)
        return 0;
    if (supervisor->asleep)
        return PERIOD_ASLEEP;
    return ms > PERIOD_MIN ? ms : PERIOD_MIN;
}

/* Nothing to see here since the last look, and the next call will wake us. */
static bool watch_may_sleep(const struct child *child)
{
    struct slot *slot = child->slot;
    uint32_t state;

    if (child->pid == 0)
        return true; /* its restart is on a timer */
    state = atomic_load(&slot->state);
    if (child->generation->retiring || state < SLOT_STARTED || state > SLOT_CONSUMING || child->asked > 0 ||
        atomic_load(&slot->own_events) != 0 || atomic_load(&slot->depth) > 0 || atomic_load(&slot->figures.in_hand) > 0)
        return false;
    return atomic_exchange(&slot->unwatched, 1) != 0;
}

/* Should the broker hang, somebody will say that its connection is lost. */
static bool watch_is_missed(struct supervisor *supervisor)
{
    const struct keeper *keeper = supervisor->keeper;

    if (keeper == NULL || keeper->child.pid == 0)
        return true; /* its restart is on a timer */
    if (!keeper_serves(keeper) || keeper->leaving || keeper->child.asked > 0)
        return false;
    EACH_CHILD(supervisor, child)
    if (child->pid != 0 && child->generation->config->general.heartbeat > 0 &&
        atomic_load(&child->slot->figures.connected) != 0)
        return true;
    return false;
}

static bool watch_may_all_sleep(struct supervisor *supervisor)
{
    bool all = supervisor->notify.watchdog_ms == 0 && watch_is_missed(supervisor);

    if (!all)
        return false;
    EACH_CHILD(supervisor, child)
    all &= watch_may_sleep(child);
    return all;
}

void watch_wake(struct supervisor *supervisor)
{
    if (!supervisor->asleep)
        return;
    supervisor->asleep = false;
    supervisor->watched = supervisor_now();
    EACH_CHILD(supervisor, child)
    if (child->pid != 0)
        child->turns = atomic_load(&child->slot->turns);
}

static void watch_kill(struct child *child, int64_t still)
{
    struct slot_note note;
    bool inside = slot_read_note(child->slot, &note);

    /* First the signal that leaves a core file; a process that is stopped or stuck in the kernel
     * needs the other. */
    if (!child->hung)
        log_error("%s: pid %d has stood still for %lld ms%s%.*s%s: killed", child->name, (int)child->pid,
                  (long long)still, inside ? " in listener \"" : "", inside ? note.listener_length : 0, note.listener,
                  inside ? "\"" : "");
    child_signal(child, child->hung ? SIGKILL : SIGABRT);
    child->hung = true;
}

/* Whether it is as well as the watchdog wants it. */
static bool watch_child(struct child *child, int64_t now)
{
    int64_t watchdog = child->supervisor->notify.watchdog_ms, hang = child->hang_timeout;
    uint64_t turns, consuming;
    bool moved, well;

    if (child->pid == 0)
        return true; /* its restart is on a timer */
    if (child->generation == NULL && !child_has_reached(child, SLOT_STARTED)) {
        child->lived = now; /* a broker that recovers its store takes the time that the disk takes */
        return true;
    }
    turns = atomic_load(&child->slot->turns);
    consuming = atomic_load(&child->slot->consuming);
    moved = turns != child->turns;
    if (moved)
        child->asked = 0;
    if (consuming != child->consuming)
        child->lived = now;
    child->turns = turns;
    child->consuming = consuming;
    if (child->asked == 0 && (!moved || (watchdog > 0 && now - child->lived >= watchdog / 4))) {
        (void)!write(child->control, "?", 1); /* full: then it has been asked often enough */
        if (!moved)
            child->asked = now;
    }
    if (hang > 0 && child->asked > 0 && now - child->asked >= hang)
        watch_kill(child, now - child->asked);
    if (watchdog == 0)
        return true;
    well = (child->asked == 0 || now - child->asked < watchdog / 3) && now - child->lived < watchdog * 2 / 3;
    if (!well && !child->unwell)
        log_warning("%s: pid %d: its %s: the service manager's watchdog is not fed", child->name, (int)child->pid,
                    child->asked > 0 ? "loop does not turn" : "consumers show no sign of life");
    child->unwell = !well;
    return well;
}

static void watch_forgive(struct child *child, int64_t now)
{
    child->asked = child->asked > 0 ? now : 0;
    child->lived = now;
}

void watch(struct supervisor *supervisor)
{
    int64_t now = supervisor_now();
    bool well = true, late = now - supervisor->watched > 2 * watch_period(supervisor) + 1000;

    /* If it was the supervisor that stood still (a stopped process group, a starved machine), the
     * others get their time anew. */
    if (supervisor->watched > 0 && late)
        EACH_CHILD(supervisor, child)
        {
            watch_forgive(child, now);
        }
    if (supervisor->keeper != NULL && supervisor->watched > 0 && late)
        watch_forgive(&supervisor->keeper->child, now);
    supervisor->watched = now;
    EACH_CHILD(supervisor, child)
    well &= watch_child(child, now);
    if (supervisor->keeper != NULL)
        well &= watch_child(&supervisor->keeper->child, now);
    if (well && supervisor->notify.watchdog_ms > 0)
        notify_send(&supervisor->notify, "WATCHDOG=1");
    supervisor->asleep = watch_may_all_sleep(supervisor);
}
