/* SPDX-License-Identifier: MIT */
/*
 * The embedded broker: an AMQP 0-9-1 server on one loop, with a store on disk. What the daemon sees of it.
 *
 * Whoever runs it opens the listening sockets (net/listen.h) and hands them over, so that they outlive a crash.
 */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include "broker/users.h"
#include "net/loop.h"
#include "net/tls.h"

struct broker;

struct broker_options {
    const char *data;         /* folder of the store */
    uint64_t memory_limit;    /* bytes of messages held in memory, above which publishers are blocked; from half of it
                                 on, queues leave their tails on disk */
    uint64_t disk_free_limit; /* bytes below which publishers are blocked */
    uint64_t max_message_size;
    uint32_t frame_max;
    uint16_t channel_max;                             /* per connection */
    uint16_t heartbeat;                               /* seconds, proposed; 0: none */
    unsigned connection_max, queue_max, consumer_max; /* queues and consumers: per virtual host and per connection */
    int64_t handshake_timeout;                        /* ms, from accept to connection.open */
};

struct broker_status {
    unsigned connections, channels, queues, consumers;
    uint64_t ready, unacked, published, delivered;
    uint64_t memory;   /* bytes of messages */
    const char *alarm; /* NULL, "memory", "disk" */
};

/* Opens the store and recovers. NULL with a message. Virtual host "/" is always there. */
struct broker *broker_new(struct loop *loop, const struct broker_options *options, char *error,
                          size_t size) HARK_MUSTCHECK;
/* Takes the descriptor. `trusted`: the workers' own Unix socket, where EXTERNAL needs no user of the list. */
int broker_listen(struct broker *broker, int fd, struct tls_context *tls, bool trusted) HARK_MUSTCHECK;
/* Limits from a configuration read again; `data` stays. */
void broker_set_options(struct broker *broker, const struct broker_options *options);
/* After the configuration's users: those that were made while it ran, and kept. */
void broker_apply_accounts(struct broker *broker);
struct users *broker_users(struct broker *broker);
/* Makes a virtual host with its default exchanges, if it is not there. -1: no memory. */
int broker_add_vhost(struct broker *broker, const char *name) HARK_MUSTCHECK;
/* RabbitMQ's export of definitions: users, vhosts, permissions, exchanges, queues, bindings. What exists already and is equal is left alone.
 * -1 with a message that names what is wrong and where. */
int broker_import(struct broker *broker, const char *file, char *error, size_t size) HARK_MUSTCHECK;
void broker_status(const struct broker *broker, struct broker_status *status);
/* connection.close 320 to all, waits at most `ms` for their answers, commits; then `done`. */
void broker_stop(struct broker *broker, int64_t ms, void (*done)(void *arg), void *arg);
void broker_free(struct broker *broker);

#endif
