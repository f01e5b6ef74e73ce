/* SPDX-License-Identifier: MIT */
/*
 * A peer: one client's connection to the broker, on a link. Handshake (peer_handshake.c), then its channels.
 *
 * What a client gets goes through peer_out(): as a rule straight into the link. An answer that says that
 * something durable is done must not leave before it is on disk: peer_hold() keeps everything from here on
 * back until the store's open batch is committed, in order.
 *
 * Handlers return a protocol error; peer_channel.c and peer.c are the two places that act on one.
 */
#ifndef BROKER_PEER_H
#define BROKER_PEER_H

#include "broker/channel_table.h"
#include "broker/users.h"
#include "broker/vhost.h"
#include "net/link.h"
#include "wire/codec.h"
#include "wire/reply.h"

struct broker;
struct peer_channel;
struct queue;

#define PEER_STATES(X) \
    X(CONNECTING, "accepting") /* TLS */ \
    X(GREETING, "waiting for the protocol header") \
    X(STARTING, "waiting for connection.start-ok") \
    X(TUNING, "waiting for connection.tune-ok") \
    X(OPENING, "waiting for connection.open") \
    X(OPEN, "open") \
    X(CLOSING, "waiting for connection.close-ok") \
    X(GONE, "closed")

enum peer_state {
#define X(name, text) PEER_##name,
    PEER_STATES(X)
#undef X
};

struct peer_mark {
    uint64_t batch;
    size_t start; /* bytes of `held` from here on wait for this batch */
};

struct peer {
    struct broker *broker;
    struct link *link;
    enum peer_state state;
    bool trusted;
    char name[256];          /* where it comes from, and behind " - " the name that the client gives itself, */
    const char *client_name; /* which is here; empty: none */
    struct user *user;
    struct vhost *vhost;
    uint32_t frame_max;
    uint16_t channel_max;
    bool tells_failure; /* authentication_failure_close */
    bool takes_cancel;  /* consumer_cancel_notify */
    bool takes_blocked; /* connection.blocked */

    struct channel_table channels;
    unsigned channel_count, consumer_count;
    struct queue *exclusives;

    struct buf held;
    struct peer_mark *marks;
    size_t mark_count, mark_capacity;
    size_t goodbye;  /* where in `held` connection.close or its close-ok begins */
    bool closed;     /* the client has closed: the end comes with what it was promised, */
    bool is_holding; /* in broker->holding */
    struct peer *hold_prev, *hold_next;

    bool publishes;     /* since an alarm */
    bool blocked, told; /* reading is paused because of an alarm; connection.blocked was sent */
    bool slowed;        /* reading is paused because the disk is slow, */
    bool stuffed;       /* because the client does not read its answers */
    bool leaving;       /* the client has closed: what it has sent is read, and then it is gone */
    size_t answered;    /* bytes of answers since the output was last known to be short */

    struct event *timer; /* handshake, close-ok */
    struct loop_task reap;
    struct peer *prev, *next; /* broker->peers; gone, while its last bytes leave: broker->flushing */
};

/* Takes the descriptor. NULL: no memory. */
struct peer *peer_accept(struct broker *broker, int fd, struct tls_context *tls, bool trusted);

/* Where frames for the client are put; then peer_send(). */
struct buf *peer_out(struct peer *peer);
void peer_send(struct peer *peer);
/* One method. */
void peer_put(struct peer *peer, uint16_t channel, uint32_t id, const void *decoded);
/* What is put from now on waits for the open batch. */
void peer_hold(struct peer *peer);
/* Batches up to this one are on disk. */
void peer_release(struct peer *peer, uint64_t committed);
/* True if content would only pile up. */
bool peer_is_full(struct peer *peer);

/* A hard error: connection.close, then no more than its answer is read. */
void peer_fail(struct peer *peer, const struct reply *error);
/* Ends it at once, with everything of it. */
void peer_end(struct peer *peer, const char *why);
/* Ends it, but what was put may still leave within so many ms. Of what waits for the disk only the goodbye does. */
void peer_finish(struct peer *peer, int64_t ms);
void peer_forget_channel(struct peer *peer, struct peer_channel *channel);

/* peer_flow.c: an answer to what it has asked was put, not a delivery, which stops by itself. Who asks and does not read is
 * not read from either. */
void peer_answered(struct peer *peer, size_t bytes);
/* Output has left. */
void peer_watch_output(struct peer *peer);
/* The client has closed its end: a publisher that is held would otherwise never be known to be gone. */
void peer_hung_up(struct peer *peer);
/* Reading goes on, whatever the reason was not to. */
void peer_let_go(struct peer *peer);
/* It has written to the store: if much waits for the disk already, it has to wait too. */
void peer_wait_for_disk(struct peer *peer);
/* It has published: if there is an alarm, it has to wait. */
void peer_published(struct peer *peer);
/* The alarm is over (or another one has begun), the disk keeps up again. */
void peer_watch_alarm(struct peer *peer);

/* peer_handshake.c: methods before the connection is open. 0; -1 with error. */
int peer_handshake(struct peer *peer, const amqp_method_t *method, struct reply *error) HARK_MUSTCHECK;
void peer_greet(struct peer *peer);
void peer_set_state(struct peer *peer, enum peer_state state);
const char *peer_doing(const struct peer *peer);
void peer_set_timer(struct peer *peer, int64_t ms);

/* Access checks: 0; -1 with error 403 as RabbitMQ words it. */
int peer_may(struct peer *peer, enum permission permission, const char *kind, struct span name,
             struct reply *error) HARK_MUSTCHECK;

#endif
