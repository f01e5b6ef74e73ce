/* SPDX-License-Identifier: MIT */
/*
 * A virtual host: the names of its exchanges and queues. Owned by the broker; lives until it is
 * deleted, which first closes every connection to it.
 */
#ifndef BROKER_VHOST_H
#define BROKER_VHOST_H

#include "broker/table_of.h"

struct broker;
struct exchange;
struct queue;

struct vhost {
    struct broker *broker;
    char *name;
    struct exchange *exchanges; /* hashes by name */
    struct queue *queues;
    struct exchange *unbound; /* a list: about to be auto-deleted */
    unsigned queue_count;
    uint64_t generation; /* changes whenever a name gets another meaning: cached look-ups are void */
    UT_hash_handle hh;
};

/* With the exchanges that are always there: "" and amq.*. NULL: no memory. */
struct vhost *vhost_new(struct broker *broker, struct span name) HARK_MUSTCHECK;
/* With everything in it, on disk too. No connection to it may be open. */
void vhost_delete(struct vhost *vhost);
/* In memory only: the broker ends. */
void vhost_free(struct vhost *vhost);

struct exchange *vhost_exchange(const struct vhost *vhost, struct span name);
struct queue *vhost_queue(const struct vhost *vhost, struct span name);

#endif
