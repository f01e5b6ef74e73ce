/* SPDX-License-Identifier: MIT */
/*
 * The dispatcher: deliveries in; for each the listeners whose patterns match; their emitted messages, retries and dead
 * letters out; and the word back that a delivery may be acknowledged.
 *
 * It knows no socket and no broker. What it needs done it asks for through `struct dispatch_ports`; the daemon joins these
 * to the client, the test kit to an array. One dispatcher per worker, on the worker's one thread.
 *
 * A delivery is acknowledged (ports.ack) exactly once, when every matching listener has settled and everything that
 * follows from it (emitted messages, a retry copy, a dead letter) has been confirmed. One that cannot get there because
 * the worker leaves is never acknowledged: the broker delivers it again.
 */
#ifndef DISPATCH_DISPATCHER_H
#define DISPATCH_DISPATCHER_H

#include "base/base.h"
#include "dispatch/dedup.h"
#include "wire/message.h"
#include "wire/outgoing.h"
#include <hark/listener.h>

struct dispatcher;
struct dispatch_queue;

/* What the dispatcher gives back to say which delivery it means; it does not look into it. */
struct dispatch_ticket {
    void *consumer;
    uint64_t tag;
    uint32_t epoch, slot;
};

/* Just before and after each call into a module. */
struct dispatch_call {
    struct span listener, queue, routing_key, message_id; /* the last three empty when no event is concerned */
    uint64_t identity;
};

struct dispatch_ports {
    void *arg;
    void (*ack)(void *arg, const struct dispatch_ticket *ticket);
    /* Back to its queue, to be delivered again: a message that was too large to be kept, and did not get through. */
    void (*requeue)(void *arg, const struct dispatch_ticket *ticket);
    /* The same after a pause: there is no memory for it now. */
    void (*postpone)(void *arg, const struct dispatch_ticket *ticket);
    /* Takes the outgoing; its done() is called once, perhaps before this returns. One that is `streamed` comes from within
     * dispatcher_deliver, and has the body of what is being delivered. */
    void (*publish)(void *arg, struct outgoing *outgoing);
    /* Retry queues or the dead-letter exchange turned out to be missing: declare them again. */
    void (*redeclare)(void *arg);
    /* Optional, for crash containment. crashes: how many workers this identity has brought down; forget: its dead letter
     * is safe. */
    void (*enter)(void *arg, const struct dispatch_call *call);
    void (*leave)(void *arg);
    unsigned (*crashes)(void *arg, uint64_t identity);
    void (*forget)(void *arg, uint64_t identity);
    /* Optional: a program was started in this process group, or is gone. Called from threads, too, with an argument of its
     * own, which must live as long as the process. */
    void (*group)(void *arg, pid_t pgid, bool alive);
    void *group_arg;
};

struct dispatch_options {
    struct event_base *base;
    const char *dead_letter;       /* exchange */
    const char *dead_letter_queue; /* "" if none: its own dead letters wait instead of going round */
    uint32_t frame_max;            /* what a header frame must fit into */
    unsigned max_hops;
    unsigned crash_limit;
    bool persistent;
    int64_t slow_call;   /* ms; 0: never said */
    struct dedup *dedup; /* NULL: none */
};

struct dispatch_listener {
    const char *name;
    const struct hark_module *module;
    const void *settings;
    const char *const *queues; /* names */
    size_t queue_count;
    const char *const *patterns;
    size_t pattern_count;
    const char *emit_exchange; /* NULL: none */
    const char *emit_key;      /* NULL: the event's */
    const int64_t *retry;      /* ms */
    size_t retry_count;
    int64_t timeout; /* ms, 0: none */
    unsigned concurrency;
};

/* Counters since the start; gauges marked so. */
/* clang-format off */
#define DISPATCH_COUNTERS(X) \
    X(consumed) X(acked) X(emitted) X(done) X(retried) X(rejected) X(dead_lettered) X(duplicates) X(timeouts) \
    X(unheard) X(slow_calls) X(in_hand) /* gauge */
/* clang-format on */

struct dispatch_counters {
#define X(name) uint64_t name;
    DISPATCH_COUNTERS(X)
#undef X
};

/* The strings of the options and listeners, and the retry delays, are the caller's and must stay; not the other arrays. */
struct dispatcher *dispatcher_new(const struct dispatch_options *options, const struct dispatch_ports *ports);
/* First the queues, then the listeners on them: each calls its module's open(). -1: that failed, and was logged. */
struct dispatch_queue *dispatcher_add_queue(struct dispatcher *dispatcher, const char *name, int64_t dedup_window);
int dispatcher_add_listener(struct dispatcher *dispatcher, const struct dispatch_listener *listener) HARK_MUSTCHECK;

/* A delivery. Takes the reference to the message. `oversized`: the size of its body if that is too large to be kept: it is
 * not in the message, and will come in parts to whoever was given the outgoing that is `streamed`. */
void dispatcher_deliver(struct dispatch_queue *queue, const struct dispatch_ticket *ticket, bool redelivered,
                        struct message *message, uint64_t oversized);

/* The same as an attempt of that number, from 1: for the test kit, which has no retry queues. */
void dispatcher_deliver_attempt(struct dispatch_queue *queue, const struct dispatch_ticket *ticket, bool redelivered,
                                struct message *message, unsigned attempt);

/* From now on nothing new is expected; `done` is called (perhaps at once) when nothing is in hand any more. */
void dispatcher_drain(struct dispatcher *dispatcher, void (*done)(void *arg), void *arg);
/* The queue's tickets are void: what no listener was called with yet is let go, the broker delivers it again. */
void dispatcher_void(struct dispatch_queue *queue);
/* Time is up: cancels what listeners hold; none of it is acknowledged. */
void dispatcher_abandon(struct dispatcher *dispatcher);
/* Calls every module's close(). What is still in hand is abandoned first. */
void dispatcher_free(struct dispatcher *dispatcher);

const struct dispatch_counters *dispatcher_counters(const struct dispatcher *dispatcher);
/* A listener has asked for the loop: what it does there is not announced by `enter` and `leave`. */
bool dispatcher_has_own_events(const struct dispatcher *dispatcher);
void dispatcher_set_frame_max(struct dispatcher *dispatcher, uint32_t frame_max);

/* Every distinct retry delay of all listeners, ascending, for the topology; returns how many there are. */
size_t dispatcher_delays(const struct dispatcher *dispatcher, int64_t *delays, size_t size);

/* The test kit's clock: jumps ahead, firing what is due in order. */
void dispatcher_advance(struct dispatcher *dispatcher, int64_t ms);

#endif
