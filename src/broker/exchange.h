/* SPDX-License-Identifier: MIT */
/*
 * Exchanges and bindings. What kind of exchange it is decides one thing: which of its bindings a
 * message's key and headers choose. That is the ops table `exchange_type`; the rest (bindings to
 * exchanges, CC and BCC, alternate exchanges) is route.h's.
 */
#ifndef BROKER_EXCHANGE_H
#define BROKER_EXCHANGE_H

#include "broker/vhost.h"
#include "wire/message.h"
#include "wire/topic.h"

struct exchange;
struct queue;
struct binding;

/* Called with each binding that is chosen. */
typedef void (*exchange_chosen)(void *arg, struct binding *binding);

struct exchange_type {
    const char *name;
    bool keyless; /* the key does not matter */
    /* Keeps its index in step; 0, -1: no memory. NULL: it needs none. */
    int (*add)(struct exchange *exchange, struct binding *binding);
    void (*remove)(struct exchange *exchange, struct binding *binding);
    void (*choose)(struct exchange *exchange, const struct message *message, struct span key, exchange_chosen chosen,
                   void *arg);
    void (*free)(struct exchange *exchange);
    /* 0, -1 with error: arguments that a binding to such an exchange cannot have. NULL: any. */
    int (*check)(struct span arguments, struct reply *error);
};

const struct exchange_type *exchange_type_find(struct span name); /* NULL: unknown */

struct exchange {
    struct vhost *vhost;
    const struct exchange_type *type;
    struct span name, arguments, alternate; /* alternate: empty if there is none */
    bool durable, auto_delete, internal;
    bool bound;                    /* auto-delete only after something was bound */
    struct binding *bindings;      /* where it is the source: a list, newest last */
    struct binding *known;         /* the same as a hash, by binding->identity */
    struct binding *incoming;      /* where it is the destination */
    struct exchange *next_unbound; /* vhost->unbound */
    unsigned binding_count;
    uint64_t stamp; /* of the last routing that has been here */
    union {
        struct direct_key *direct;
        struct {
            struct topic_tree *tree;
            struct binding **numbered;
            uint32_t *matched;
            uint32_t size, spare;
        } topic;
    } index;
    UT_hash_handle hh; /* in vhost->exchanges */
    uint8_t bytes[];
};

/* One binding. `identity` is what makes two of them the same: destination, key, arguments. */
struct binding {
    struct exchange *source;
    struct queue *queue;       /* the destination: this, */
    struct exchange *exchange; /* or this */
    struct span key, arguments, identity;
    bool durable;
    uint32_t number;                       /* the topic index's */
    struct binding *prev, *next;           /* in source->bindings */
    struct binding *in_prev, *in_next;     /* in the destination's list */
    struct binding *same_prev, *same_next; /* the direct index's */
    UT_hash_handle hh;                     /* in source->known */
    uint8_t bytes[];
};

struct exchange_options {
    struct span name, arguments;
    const struct exchange_type *type;
    bool durable, auto_delete, internal;
};

/* Made, entered in its vhost, and recorded on disk if durable and `record`. NULL: no memory. */
struct exchange *exchange_new(struct vhost *vhost, const struct exchange_options *options, bool record) HARK_MUSTCHECK;
/* With its bindings, whose other ends may be auto-deleted with it. */
void exchange_delete(struct exchange *exchange);
/* Those that have lost their last binding. One after the other: a chain of them may be longer than the stack. */
void exchange_delete_unbound(struct vhost *vhost);
/* In memory only. */
void exchange_free(struct exchange *exchange);
bool exchange_is_used(const struct exchange *exchange);
/* 0; -1 with error: another exchange of that name, 406 as RabbitMQ says it. */
int exchange_equals(const struct exchange *exchange, const struct exchange_options *options,
                    struct reply *error) HARK_MUSTCHECK;

/* Binds queue or exchange (one of them is NULL) to the source; does nothing if it is bound that way already. Recorded on disk if both ends
 * are durable and `record`. -1: no memory. */
int binding_add(struct exchange *source, struct queue *queue, struct exchange *exchange, struct span key,
                struct span arguments, bool record) HARK_MUSTCHECK;
struct binding *binding_find(struct exchange *source, struct queue *queue, struct exchange *exchange, struct span key,
                             struct span arguments);
/* The source stays: exchange_delete_unbound() is due. */
void binding_unlink(struct binding *binding);
/* The source may be auto-deleted with it. */
void binding_remove(struct binding *binding);
/* All bindings of a list that is a destination's. */
void binding_remove_all(struct binding **incoming);

#endif
