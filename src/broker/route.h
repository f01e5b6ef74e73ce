/* SPDX-License-Identifier: MIT */
/*
 * Routing: from an exchange and a message to the queues that get it, each once: bindings to
 * exchanges are followed, CC and BCC are further keys, an exchange that leads nowhere hands over to
 * its alternate exchange.
 */
#ifndef BROKER_ROUTE_H
#define BROKER_ROUTE_H

#include "broker/exchange.h"

/* Reused for every message: owned by the broker. */
struct route {
    struct queue **queues;
    size_t count, capacity;
    struct exchange **worklist;
    size_t pending, room;
    uint64_t stamp;
    bool failed;   /* no memory: some queue is missing */
    size_t chosen; /* bindings of the exchange being looked at */
};

/* Fills route->queues. -1: no memory, nothing may be delivered. */
int route_message(struct route *route, struct exchange *exchange, const struct message *message) HARK_MUSTCHECK;
void route_free(struct route *route);

/* The headers CC and BCC are arrays of strings: 0; -1 with error 406 if not. *bcc: there is a BCC to be taken out. */
int route_check(const struct message *message, bool *bcc, struct reply *error) HARK_MUSTCHECK;

#endif
