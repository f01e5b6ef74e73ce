/* SPDX-License-Identifier: MIT */
/*
 * A consumer: one queue, one channel of its own, prefetch, deliveries in, acknowledgements out.
 * After every reconnect (and after basic.cancel or a channel closed by the server, with back-off)
 * it opens a channel, sends its prefetch and subscribes again.
 *
 * Acknowledgements are gathered during a turn of the loop: the contiguous front of what is settled
 * goes as one `multiple`, the rest singly.
 */
#ifndef CLIENT_CONSUMER_H
#define CLIENT_CONSUMER_H

#include "client/arguments.h"
#include "client/session.h"

struct consumer;

/* Which delivery, of which life of the channel. A value: copy it. */
struct ticket {
    struct consumer *consumer;
    uint64_t tag;
    uint32_t epoch;
    uint32_t slot; /* where the consumer keeps it */
};

struct consumer_options {
    const char *queue;
    const char *section; /* "[queue signups]", for messages */
    uint16_t prefetch;
    const struct consumer_argument *arguments;
    size_t argument_count;
    int64_t retry_min, retry_max; /* ms, back-off after a refusal or cancel */
};

struct consumer_ops {
    /* The message is the callee's. oversized: its real size when it is above max_message_size (its
     * body is empty then, and follows in parts). */
    void (*delivery)(void *arg, const struct ticket *ticket, bool redelivered, struct message *message,
                     uint64_t oversized);
    /* Of an oversized message: the next part of its body, and whether it is the last; or the channel
     * is gone before that. Both optional. */
    void (*body)(void *arg, struct span part, bool last);
    void (*cut)(void *arg);
    /* consume-ok arrived (true), or the subscription is gone (false), also one that was cancelled,
     * with its channel: all tickets so far are void. On changes only; not called by
     * consumer_cancel(), consumer_close() and consumer_free(). */
    void (*subscribed)(void *arg, bool subscribed);
    /* There is no such queue (404). Said once in the log; comes after the back-off, so it may
     * simply declare the topology again, and then call consumer_start(). Optional: without it the
     * consumer tries again by itself. */
    void (*gone)(void *arg);
    /* The broker refuses to let it consume: has the owner said why already? Then it is not said
     * again. Optional. */
    bool (*known)(void *arg, const struct reply *error);
};

/* Copies the options but for what the arguments point to, which must stay. Subscribes when
 * consumer_start() was called and the session is open. */
struct consumer *consumer_new(struct session *session, const struct consumer_options *options,
                              const struct consumer_ops *ops, void *arg);
/* Topology is declared: go. Again after each opening of the session, and after `gone`; in between
 * it does nothing. */
void consumer_start(struct consumer *consumer);
/* To be called from the session's ops: stops until the next consumer_start(). */
void consumer_session_lost(struct consumer *consumer);
/* Settled: acknowledge with this turn's batch. A void ticket is ignored. */
void consumer_ack(const struct ticket *ticket);
/* Gives it back to its queue (basic.reject with requeue): it will be delivered again. */
void consumer_requeue(const struct ticket *ticket);
/* The same after a pause, which grows while nothing is acknowledged: there is no memory for it now. */
void consumer_postpone(const struct ticket *ticket);
/* For good: basic.cancel; deliveries that come before its answer are still handed over. `done`
 * after cancel-ok, when no more can come (at once, from within, if not subscribed; also when the
 * channel is lost meanwhile). */
void consumer_cancel(struct consumer *consumer, void (*done)(void *arg), void *arg);
/* For good: flushes acknowledgements and closes the channel; `done` at close-ok, when the server
 * has processed them (at once if there is no channel). All tickets are void. */
void consumer_close(struct consumer *consumer, void (*done)(void *arg), void *arg);
/* Legal anywhere; frees at the end of the turn. No ticket may be used any more, and the session
 * must outlive it. */
void consumer_free(struct consumer *consumer);

bool consumer_is_subscribed(const struct consumer *consumer);
/* It does nothing until consumer_start(): no answer, no timer will wake it. */
bool consumer_is_idle(const struct consumer *consumer);
unsigned consumer_in_hand(const struct consumer *consumer); /* delivered, not yet settled */
uint64_t consumer_delivered(const struct consumer *consumer);
const char *consumer_queue(const struct consumer *consumer);

#endif
