/* SPDX-License-Identifier: MIT */
/* What the files consumer*.c share. */
#ifndef CLIENT_CONSUMER_PRIVATE_H
#define CLIENT_CONSUMER_PRIVATE_H

#include "client/complaint.h"
#include "client/consumer.h"
#include "client/gather.h"
#include "client/unacked.h"

enum consumer_state {
    CONSUMER_IDLE,    /* waits for consumer_start() */
    CONSUMER_OPENING, /* channel.open sent */
    CONSUMER_ASKING,  /* qos and consume sent */
    CONSUMER_SUBSCRIBED,
    CONSUMER_WAITING,    /* the back-off after a refusal */
    CONSUMER_CANCELLING, /* cancel sent */
    CONSUMER_CANCELLED,  /* no more deliveries; the channel is open for acknowledgements */
    CONSUMER_CLOSED,
};

struct consumer {
    struct session *session;
    const struct consumer_ops *ops;
    void *arg;
    struct channel channel;
    enum consumer_state state;
    char *queue, *section;
    uint16_t prefetch;
    amqp_table_t arguments;
    int64_t retry_min, retry_max;
    unsigned attempts;
    int64_t since;  /* subscribed, in the loop's ms */
    bool streaming; /* the body of an oversized message is coming */
    bool is_gone;   /* the next attempt is the owner's: the queue does not exist */
    struct event *timer;
    struct complaint complaint;
    struct gather gather;
    struct loop_task flush, reap;
    void (*done)(void *arg);
    void *done_arg;

    struct unacked unacked;
    struct event *ack_timer;   /* what is settled is acknowledged at the latest then */
    struct event *again_timer; /* what is postponed goes back to its queue then */
    unsigned postponements;    /* since the last acknowledgement */
    uint64_t delivered, gathered;
};

/* ---- consumer_settle.c ---- */

/* -1: no memory. */
int consumer_settle_init(struct consumer *consumer) HARK_MUSTCHECK;
void consumer_settle_free(struct consumer *consumer);
/* What is settled is acknowledged now. */
void consumer_flush(struct consumer *consumer);
/* The channel is gone, and what was in hand with it. */
void consumer_settle_void(struct consumer *consumer);

#endif
