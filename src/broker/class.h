/* SPDX-License-Identifier: MIT */
/* What the handlers of several classes share: the errors that they have in common, arguments, bindings, names. */
#ifndef BROKER_CLASS_H
#define BROKER_CLASS_H

#include "broker/exchange.h"
#include "broker/peer_channel.h"
#include "wire/table.h"

/* A decoded table as bytes again, as the broker keeps them. 0; -1 with error: no memory. */
int class_arguments(struct buf *out, const amqp_table_t *arguments, struct reply *error) HARK_MUSTCHECK;
bool class_is_reserved(struct span name); /* amq.* */
/* "amq.gen-" and 22 random characters; at most `size` - 1. */
struct span class_random_name(char *to, size_t size, const char *prefix);
/* A name that is declared, deleted or bound, as RabbitMQ takes it: without CR and LF. `to` is used if there are any. */
struct span class_stripped_name(char to[UINT8_MAX], amqp_bytes_t name);
/* The queue of that name, or the last declared if it is empty; NULL with error 404, or 405 if another connection has it
 * exclusively. */
struct queue *class_find_queue(struct peer_channel *channel, struct span name, struct reply *error) HARK_MUSTCHECK;
/* The same for a method that reads from it: first comes the permission. */
struct queue *class_readable_queue(struct peer_channel *channel, struct span name, struct reply *error) HARK_MUSTCHECK;
/* Adds or removes one; exactly one destination. */
int class_bind(struct peer_channel *channel, struct exchange *source, struct queue *queue, struct exchange *exchange,
               struct span key, struct span arguments, bool add, struct reply *error) HARK_MUSTCHECK;

/* All return -1. */
int class_no_exchange(struct peer_channel *channel, struct span name, struct reply *error);
int class_no_queue(struct peer_channel *channel, struct span name, struct reply *error);
int class_locked(struct peer_channel *channel, struct span name, struct reply *error);
int class_default_exchange(struct reply *error);
int class_no_memory(struct reply *error);

#endif
