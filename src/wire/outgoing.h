/* SPDX-License-Identifier: MIT */
/*
 * A message on its way out: what dispatch makes and a publisher sends. One allocation, plus a
 * reference to the message whose body it passes on, if it does. It is kept until its outcome is
 * known, because a lost connection means that it is published again, with the same bytes.
 */
#ifndef WIRE_OUTGOING_H
#define WIRE_OUTGOING_H

#include "wire/message.h"

enum outcome {
    OUTCOME_CONFIRMED = 1, /* safe */
    OUTCOME_RETURNED,      /* basic.return: no queue took it (then confirmed, but not safe) */
    OUTCOME_NACKED,        /* basic.nack: the broker could not take it */
    OUTCOME_REFUSED,       /* the channel was closed because of it: no such exchange, not allowed,
                              malformed */
    OUTCOME_ABANDONED,     /* the worker is leaving */
};

struct outgoing {
    struct outgoing *next; /* the owner's list: outbox, then the publisher's queue */
    uint64_t sequence;     /* the publisher's */
    /* Called once; owns the outgoing from then on (outgoing_free). `why` is the broker's text, ""
     * if none. */
    void (*done)(struct outgoing *outgoing, enum outcome outcome, const char *why);
    void *owner; /* for `done` */
    struct span exchange, routing_key, raw_properties;
    struct span body;
    struct message *body_owner; /* reference held, or NULL: the body is in `bytes` */
    uint64_t streamed;          /* its body has so many bytes and comes in pieces: client/relay.h; 0: it is here */
    bool returned;              /* the publisher's note between basic.return and basic.ack */
    uint8_t bytes[];
};

/* A copy of everything; the body is not copied when body_owner is given (a reference is taken).
 * NULL: no memory. */
struct outgoing *outgoing_new(struct span exchange, struct span routing_key, struct span raw_properties,
                              struct span body, struct message *body_owner) HARK_MUSTCHECK;
void outgoing_free(struct outgoing *outgoing);

#endif
