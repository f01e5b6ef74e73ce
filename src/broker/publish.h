/* SPDX-License-Identifier: MIT */
/* From an exchange into the queues. */
#ifndef BROKER_PUBLISH_H
#define BROKER_PUBLISH_H

#include "broker/exchange.h"

struct broker;

struct published {
    size_t queues;  /* that it was routed to */
    uint64_t batch; /* of the store, to wait for until it is safe; 0: nothing to wait for */
    bool rejected;  /* by a queue that is full (x-overflow = reject-publish) */
};

/* The message stays the caller's. Deaths that it causes are left to deaths_run(). -1: no memory, nobody has it. */
int publish_message(struct exchange *exchange, struct message *message, struct published *published) HARK_MUSTCHECK;
/* The same for queues chosen by the caller. */
void publish_to(struct broker *broker, struct queue **queues, size_t count, struct message *message,
                struct published *published);

#endif
