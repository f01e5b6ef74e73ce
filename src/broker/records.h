/* SPDX-License-Identifier: MIT */
/*
 * Definitions on disk: how vhosts, users, durable exchanges, queues and bindings are written into
 * the store's records, and read again at the start. The values begin with a version.
 */
#ifndef BROKER_RECORDS_H
#define BROKER_RECORDS_H

#include "broker/store.h"

struct binding;
struct broker;
struct exchange;
struct queue;
struct vhost;

/* Written, or (`there` is false) removed; part of the open batch. */
void record_vhost(const struct vhost *vhost, bool there);
void record_exchange(const struct exchange *exchange, bool there);
void record_queue(const struct queue *queue, bool there);
void record_binding(const struct binding *binding, bool there);

/* Everything that the store has. A record that cannot be read is logged and left out. -1 with a message: the
 * store cannot be read, or no memory. */
int records_recover(struct broker *broker, char *error, size_t size) HARK_MUSTCHECK;

#endif
