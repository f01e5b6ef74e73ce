/* SPDX-License-Identifier: MIT */
/*
 * Where messages go, as far as a configuration tells: which queues an exchange brings a key to,
 * what a listener emits and where that ends. For --check and --explain; the broker has the last
 * word, since others bind too.
 *
 * Questions are asked of one key, or of all keys of a topic pattern at once. Of a pattern the
 * answer is what can be for some key: pairs of patterns are compared, so that three which agree
 * pairwise but not all together count as agreeing.
 */
#ifndef DAEMON_ROUTES_H
#define DAEMON_ROUTES_H

#include "daemon/config.h"

enum route_type {
    ROUTE_DEFAULT, /* the default exchange: the key is the queue's name */
    ROUTE_DIRECT,
    ROUTE_FANOUT,
    ROUTE_TOPIC,
    ROUTE_HEADERS, /* the key does not matter, headers do */
    ROUTE_PLUGIN,  /* x-...: nobody knows */
    ROUTE_UNKNOWN, /* not in the file: taken for a topic exchange */
};

struct route_key {
    const char *text;
    bool pattern; /* a topic pattern that stands for all its keys */
};

/* One step: this exchange passes on by this binding. */
struct route_hop {
    const struct route_hop *before; /* the exchange that this one is bound to; NULL: the first one */
    const char *exchange;
    enum route_type type;
    const struct config_binding *binding; /* NULL: the default exchange, or an alternate exchange */
    const struct config_where *where;     /* whose binding that is */
    bool sure;                            /* this step and those before: the key alone decides */
};

struct route {
    struct route_key key;
    const struct config_queue *queue;
    const struct route_hop *last;
};

typedef void (*route_found)(void *arg, const struct route *route);

enum route_type route_type_of(const struct config *config, const char *exchange);
/* "topic exchange", ... */
const char *route_type_name(enum route_type type);

/* Does a binding of such an exchange let the key through: 0 no, 1 it depends on more than the key,
 * 2 yes. */
int route_passes(enum route_type type, const char *binding, struct route_key key);

/* Each way from an exchange into a queue of the file. Valid during the call. */
void route_find(const struct config *config, const char *exchange, struct route_key key, route_found found, void *arg);

/*
 * What a listener emits: exchange and keys (one pattern or key each; the event's own key is any of
 * `on`). By convention, the settings `exchange` and `routing_key` of a module go before `emit`, and
 * what stands in braces in them is filled in from the event.
 */
struct route_emit {
    const char *exchange; /* NULL: nothing, or not known */
    size_t count;
    struct route_key *keys;
    char *own; /* what one of the keys may point to */
};
int route_emit_of(const struct config_listener *listener, struct route_emit *emit) HARK_MUSTCHECK;
void route_emit_free(struct route_emit *emit);
/* Its module always emits (it has a setting `exchange`), and nothing says where to. */
bool route_emit_missing(const struct config_listener *listener);

/* Which of its patterns makes a listener of that queue run for what comes this way; NULL: none. */
const char *route_heard(const struct config_listener *listener, const struct route *route);

#endif
