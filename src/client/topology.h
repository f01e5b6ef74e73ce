/* SPDX-License-Identifier: MIT */
/*
 * Topology: the exchanges, queues and bindings that a worker needs, declared anew on every
 * connection, one entity after the other, pipelined where it is safe, each failure confined: what
 * the server refuses is said once, with the section of the ini file and the server's text, and the
 * rest goes on. PRECONDITION_FAILED names the argument that differs (the server's text does).
 *
 * What follows from a refusal is not said again: a binding of what could not be declared fails for
 * the same reason, and so does the consumer of that queue, who therefore asks topology_has_said().
 * They are tried all the same, because what was refused may exist as somebody else made it.
 *
 * For some refusals the server closes the whole connection (a type of exchange that it does not
 * know). The next run then asks one by one, until it is known which item does it; that one is not
 * asked for again by this object.
 */
#ifndef CLIENT_TOPOLOGY_H
#define CLIENT_TOPOLOGY_H

#include "client/consumer.h"
#include "client/session.h"

enum topology_kind { TOPOLOGY_EXCHANGE, TOPOLOGY_QUEUE, TOPOLOGY_BIND_QUEUE, TOPOLOGY_BIND_EXCHANGE };

struct topology_item {
    enum topology_kind kind;
    const char *section;          /* "[queue signups] (hark.ini:12)", or "dead letters": for messages */
    const char *name;             /* exchange or queue; of a binding: its destination */
    const char *source, *pattern; /* bindings */
    const char *type;             /* exchanges */
    bool passive, durable, auto_delete, internal, exclusive;
    const struct consumer_argument *arguments;
    size_t argument_count;
};

struct topology;

struct topology_ops {
    /* All was tried; failed: how many items the server refused. Now consume. */
    void (*done)(void *arg, size_t failed);
};

/* The items and all they point to are the caller's and must stay. */
struct topology *topology_new(struct session *session, const struct topology_item *items, size_t count,
                              const struct topology_ops *ops, void *arg);
/* Declares everything (again). While the session is lost in the middle, nothing more is called. */
void topology_declare(struct topology *topology);
void topology_session_lost(struct topology *topology);
/* Whether that queue or exchange was declared in the last run. */
bool topology_is_declared(const struct topology *topology, enum topology_kind kind, const char *name);
/* Whether it has said already why that queue cannot be consumed from: it was refused itself, or a
 * binding of it was, with the same words. */
bool topology_has_said(const struct topology *topology, const char *queue, const struct reply *error);
/* Between topology_declare() and `done`. */
bool topology_is_running(const struct topology *topology);
void topology_free(struct topology *topology);

#endif
