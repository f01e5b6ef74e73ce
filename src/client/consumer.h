/* SPDX-License-Identifier: MIT */
/*
 * A consumer: one queue, one channel of its own, prefetch, deliveries in, acknowledgements out. After every reconnect
 * (and after basic.cancel or a channel closed by the server, with back-off) it opens a channel, sends its prefetch and
 * subscribes again.
 *
 * Acknowledgements are gathered during a turn of the loop: the contiguous front of what is settled goes as one
 * `multiple`, the rest singly.
 */
#ifndef CLIENT_CONSUMER_H
#define CLIENT_CONSUMER_H

#include "client/session.h"

struct consumer;

/* Which delivery, of which life of the channel. */
struct ticket {
    struct consumer *consumer;
    uint64_t tag;
    uint32_t epoch;
};

struct consumer_argument {
    const char *name;
    char kind; /* t l S */
    const char *text;
    int64_t number;
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
    /* The message is the callee's. oversized: its real size when it was above max_message_size (its body is empty then). */
    void (*delivery)(void *arg, const struct ticket *ticket, bool redelivered, struct message *message, uint64_t oversized);
    /* consume-ok arrived (true), or the subscription is gone (false): all tickets so far are void. */
    void (*subscribed)(void *arg, bool subscribed);
};

/* Copies the options. Subscribes when consumer_start() was called and the session is open. */
struct consumer *consumer_new(struct session *session, const struct consumer_options *options,
                              const struct consumer_ops *ops, void *arg);
void consumer_start(struct consumer *consumer);       /* topology is declared: go, now and after each opening... */
void consumer_session_lost(struct consumer *consumer); /* ...until told that the session is gone (start again then) */
/* Settled: acknowledge with this turn's batch. A void ticket is ignored. */
void consumer_ack(const struct ticket *ticket);
/* Gives it back to the queue (basic.nack with requeue): only for what was never handed to a listener. */
void consumer_requeue(const struct ticket *ticket);
/* basic.cancel; `done` after cancel-ok, when no more deliveries can come (at once if not subscribed). */
void consumer_cancel(struct consumer *consumer, void (*done)(void *arg), void *arg);
/* Flushes acknowledgements and closes the channel; `done` at close-ok. */
void consumer_close(struct consumer *consumer, void (*done)(void *arg), void *arg);
void consumer_free(struct consumer *consumer);

bool consumer_is_subscribed(const struct consumer *consumer);
unsigned consumer_in_hand(const struct consumer *consumer); /* delivered, not yet acknowledged */
uint64_t consumer_delivered(const struct consumer *consumer);
const char *consumer_queue(const struct consumer *consumer);

#endif
