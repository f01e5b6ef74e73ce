/* SPDX-License-Identifier: MIT */
/* The broker's own: what every file of src/broker may look at. */
#ifndef BROKER_BROKER_PRIVATE_H
#define BROKER_BROKER_PRIVATE_H

#include "base/log.h"
#include "broker/accounts.h"
#include "broker/broker.h"
#include "broker/deaths.h"
#include "broker/leavings.h"
#include "broker/route.h"
#include "broker/store.h"
#include "wire/method.h"

struct acceptor;
struct control;
struct peer;
struct peer_channel;

struct broker_port {
    struct broker *broker;
    struct acceptor *acceptor;
    struct tls_context *tls;
    bool trusted;
    struct broker_port *next;
};

struct broker {
    struct loop *loop;
    struct broker_options options;
    struct users *users;
    struct account *accounts; /* those kept in the store */
    struct store *store;
    struct vhost *vhosts; /* a hash by name */
    struct broker_port *ports;
    struct control *control;
    struct peer *peers; /* a list */
    unsigned peer_count;
    struct peer *flushing; /* gone, but their descriptors are not: a list */
    unsigned flushing_count;
    struct route route;
    struct deaths deaths;
    struct leavings leavings;
    amqp_pool_t pool; /* of the method being handled */
    uint64_t next_queue;

    uint64_t memory;      /* bytes of messages in memory */
    uint64_t memory_ease; /* above: queues drop what is on disk too, as far as it is their tail; */
    uint64_t memory_page; /* above: they leave their tails on disk, whatever they are */
    uint64_t gathered;    /* bytes of what is on its way: contents not yet whole, transactions not yet committed */
    bool memory_alarm;    /* above the limit */
    char disk_alarm[256]; /* why; empty: none */
    bool slow_disk;       /* too much waits for the store */
    bool replacing;       /* what is settled now has been published anew: it leaves the store after that is there */
    struct loop_task pressure;
    int64_t paged_at;             /* ms: when queues were last asked for memory */
    struct event *pressure_timer; /* until they may be asked again */

    struct peer_channel *confirming; /* channels with confirms to send: a list */
    struct loop_task confirm;
    struct peer *holding;         /* peers whose answers wait for the disk: a list */
    struct peer_channel *replies; /* direct reply-to: a hash by token */

    unsigned channel_count, queue_count, consumer_count;
    uint64_t ready_count, unacked_count, published, delivered;

    struct log_limit refused;
    struct event *stop_timer;
    void (*stopped)(void *arg);
    void *stopped_arg;
    bool stopping;
};

/* More (or less) memory is held by messages. */
static inline void broker_charge(struct broker *broker, int64_t bytes)
{
    broker->memory += (uint64_t)bytes;
    if (HARK_UNLIKELY(broker->memory > broker->memory_ease || broker->memory_alarm))
        loop_defer(broker->loop, &broker->pressure);
}

static inline int64_t broker_message_bytes(const struct message *message)
{
    return (int64_t)(sizeof(*message) + message->exchange.length + message->routing_key.length +
                     message->raw_properties.length + message->body.length);
}

/* An entry holds its message: that counts once, however many queues it is in. */
static inline void broker_charge_entry(struct broker *broker, const struct entry *entry)
{
    broker_charge(broker, (int64_t)sizeof(*entry) +
                              (entry->message->entries++ == 0 ? broker_message_bytes(entry->message) : 0));
}

/* What it counts for, if those that hold the message share it: for the check of the sum. */
static inline double broker_entry_share(const struct entry *entry)
{
    return (double)sizeof(*entry) + (double)broker_message_bytes(entry->message) / entry->message->entries;
}

/* And lets go of it. */
static inline void broker_drop_entry(struct broker *broker, struct entry *entry)
{
    broker_charge(broker, -(int64_t)sizeof(*entry) -
                              (--entry->message->entries == 0 ? broker_message_bytes(entry->message) : 0));
    message_drop(entry->message);
    entry->message = NULL;
}

/* The same for what is not in a queue yet. */
static inline void broker_gather(struct broker *broker, int64_t bytes)
{
    broker->gathered += (uint64_t)bytes;
    if (HARK_UNLIKELY(broker->gathered > broker->memory_ease || broker->memory_alarm))
        loop_defer(broker->loop, &broker->pressure);
}

/* Publishers have to wait. */
static inline bool broker_is_blocked(const struct broker *broker)
{
    return broker->memory_alarm || broker->disk_alarm[0] != '\0';
}

struct vhost *broker_vhost(struct broker *broker, struct span name);
/* Everybody leaves, everything in it goes. */
void broker_remove_vhost(struct vhost *vhost);
/* A channel has confirms that may be due. */
void broker_confirm_later(struct broker *broker, struct peer_channel *channel);
/* Bytes that wait for the disk are many: whoever publishes has to be held, see peer_hold_publisher(). */
void broker_watch_store(struct broker *broker);
/* The last connection is gone while stopping. */
void broker_peer_gone(struct broker *broker);

#endif
