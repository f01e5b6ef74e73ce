/* SPDX-License-Identifier: MIT */
/*
 * What one worker and the supervisor share: one anonymous mapping per worker, made just before its
 * fork, so that what a worker was doing survives it. The broker's process has one, too.
 *
 * The worker writes (plain stores of its one thread, no system call, no lock), the supervisor
 * reads: the figures while it runs, the note after it died or while it hangs. The supervisor owns
 * the mapping and unmaps it after the worker is reaped. Whatever a crashed worker left in it must
 * be taken as possibly half-written: lengths are checked.
 */
#ifndef DAEMON_SLOT_H
#define DAEMON_SLOT_H

#include "base/base.h"
#include "base/span.h"
#include <stdatomic.h>

#define SLOT_TEXT_MAX 255
#define SLOT_NOTES 4 /* calls into listeners may nest: settling one event can start the next */
#define SLOT_PGIDS 1024

/* How far a worker is. It only moves forward; slot_state() also wakes the supervisor. */
enum slot_state {
    SLOT_STARTING, /* listeners are being opened */
    SLOT_STARTED, /* the broker: it accepts connections. A worker: all open; trying to reach the broker, which may take as long as it likes */
    SLOT_CONSUMING, /* every consumer has once been subscribed */
    SLOT_DRAINING,
};

/* Which call into a listener is under way. */
struct slot_note {
    uint64_t identity; /* hash of the message's identity: what crashes are counted by */
    uint8_t listener_length, queue_length, key_length, id_length;
    char listener[SLOT_TEXT_MAX], queue[SLOT_TEXT_MAX], key[SLOT_TEXT_MAX], id[SLOT_TEXT_MAX];
};

/* Counters since the worker started, and gauges. */
#define SLOT_FIGURES(X) \
    X(consumed)      /* deliveries received */ \
    X(acked)         /* deliveries acknowledged */ \
    X(emitted)       /* messages published and safe, retries and dead letters not among them */ \
    X(retried)       /* events sent to a retry queue */ \
    X(dead_lettered) /* events sent to the dead letters */
#define SLOT_GAUGES(X) \
    X(in_hand)         /* deliveries not yet acknowledged */ \
    X(unconfirmed)     /* messages published and not yet confirmed */ \
    X(connected)       /* the consuming connection is open: 0 or 1 */ \
    X(publishing)      /* the publishing connection is open: 0 or 1 */ \
    X(blocked)         /* the broker sent connection.blocked: 0 or 1 */ \
    X(consumers)       /* queues to consume from */ \
    X(consumers_ready) /* of these, subscribed now */

/* Of the embedded broker's process. */
#define SLOT_BROKER(X) \
    X(connections) \
    X(channels) \
    X(queues) \
    X(ready)    /* messages that wait in queues */ \
    X(unacked)  /* messages delivered and not yet acknowledged */ \
    X(memory)   /* bytes of messages in memory */ \
    X(alarm)    /* publishers are held: 1 for want of memory, 2 of disk; 0: they are not */ \
    X(reloads)  /* how often it was told to read its configuration again, and has */ \
    X(refusals) /* how often it could not apply all of that */

struct slot_figures {
#define X(name) _Atomic uint64_t name;
    SLOT_FIGURES(X)
    SLOT_GAUGES(X)
    SLOT_BROKER(X)
#undef X
};

struct slot {
    _Atomic uint64_t turns;      /* turns of the loop */
    _Atomic uint64_t consuming;  /* signs of life of the consumers */
    _Atomic uint32_t state;      /* enum slot_state */
    _Atomic uint32_t depth;      /* calls under way; notes[depth - 1] is the innermost */
    _Atomic uint32_t unwatched;  /* the supervisor wants to be woken by the next call */
    _Atomic uint32_t own_events; /* a listener has events on the loop: not every call is noted */
    int control;                 /* the worker's end of the control socket; only meaningful in the worker */
    struct slot_figures figures;
    struct slot_note notes[SLOT_NOTES];
    _Atomic int32_t pgids[SLOT_PGIDS];
};

/* ---- the supervisor's side ---- */

struct slot *slot_open(void) HARK_MUSTCHECK; /* zeroed; NULL with errno */
void slot_close(struct slot *slot);          /* NULL is fine */
/* The innermost call under way, copied and made safe; false if there is none. */
bool slot_read_note(const struct slot *slot, struct slot_note *note);
/* Kills the process groups that the worker left behind; returns how many there were. */
unsigned slot_kill_groups(struct slot *slot);

/* ---- the worker's side ---- */

/* Stores the state and tells the supervisor: at most a few times in a worker's life. */
void slot_set_state(struct slot *slot, enum slot_state state);

/* A program was started as the leader of process group `pgid`, or it is gone. When the table is
 * full the group is not remembered: should the worker crash, that program would live on. */
void slot_add_group(struct slot *slot, pid_t pgid);
void slot_remove_group(struct slot *slot, pid_t pgid);

/* Wakes the supervisor, which sleeps while nothing happens. */
void slot_wake(struct slot *slot);

/* Something has happened that it may want to know. */
static inline void slot_stir(struct slot *slot)
{
    if (HARK_UNLIKELY(atomic_load_explicit(&slot->unwatched, memory_order_relaxed) != 0))
        slot_wake(slot);
}

static inline void slot_bump(_Atomic uint64_t *figure, uint64_t by)
{
    /* One writer: no need for a locked instruction. */
    atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + by, memory_order_relaxed);
}

static inline void slot_gauge(_Atomic uint64_t *gauge, uint64_t value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

/* Once per turn of the loop. */
static inline void slot_turn(struct slot *slot)
{
    slot_bump(&slot->turns, 1);
}

/*
 * The consumers live: a frame came from the broker, a step towards the broker was made (a
 * connection attempt, a reply), or, when the supervisor asks (daemon/worker.h), each consumer is in
 * a state that ends by itself: subscribed, waiting for a timer, or paused because the publisher is
 * full or blocked.
 */
static inline void slot_consumers_live(struct slot *slot)
{
    slot_bump(&slot->consuming, 1);
}

static inline uint8_t slot_put(char *to, struct span from)
{
    uint8_t length = (uint8_t)(from.length < SLOT_TEXT_MAX ? from.length : SLOT_TEXT_MAX);

    if (length > 0)
        memcpy(to, from.data, length);
    return length;
}

/* Around every call into a listener that is about an event. Longer texts are cut to SLOT_TEXT_MAX.
 */
static inline void slot_enter(struct slot *slot, struct span listener, struct span queue, struct span key,
                              struct span message_id, uint64_t identity)
{
    uint32_t depth = atomic_load_explicit(&slot->depth, memory_order_relaxed);

    if (HARK_LIKELY(depth < SLOT_NOTES)) {
        struct slot_note *note = &slot->notes[depth];

        note->identity = identity;
        note->listener_length = slot_put(note->listener, listener);
        note->queue_length = slot_put(note->queue, queue);
        note->key_length = slot_put(note->key, key);
        note->id_length = slot_put(note->id, message_id);
    }
    atomic_store_explicit(&slot->depth, depth + 1, memory_order_release);
    slot_stir(slot); /* it may hang in this call, so before it */
}

static inline void slot_leave(struct slot *slot)
{
    uint32_t depth = atomic_load_explicit(&slot->depth, memory_order_relaxed);

    atomic_store_explicit(&slot->depth, depth - 1, memory_order_release);
}

#endif
