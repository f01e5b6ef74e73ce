/* SPDX-License-Identifier: MIT */
/*
 * A session: one AMQP connection as a client that keeps itself alive. It tries its hosts in turn with back-off and jitter,
 * shakes hands, tunes, opens the virtual host, and hands out channels; when the connection is lost it says so to every
 * channel and starts again, for ever.
 *
 * The handshake is a table {state, method} -> step; each state has its timeout. Channels exist only while open.
 */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include "net/link.h"
#include "wire/codec.h"
#include "wire/message.h"
#include "wire/method.h"

struct session;

struct session_host {
    char *host;
    uint16_t port;
    char *unix_path;
};

struct complaints;

struct session_options {
    const char *label; /* for logs and as connection_name: "worker[1] consume" */
    const struct session_host *hosts;
    size_t host_count;
    const char *vhost, *user, *password;
    bool external; /* SASL EXTERNAL instead of PLAIN */
    struct tls_context *tls;
    const char *tls_server_name;
    int64_t connect_timeout, reconnect_min, reconnect_max; /* ms */
    unsigned heartbeat;                                    /* seconds, proposed */
    uint32_t frame_max;
    struct complaints *complaints; /* shared with other workers; NULL: none */
    size_t max_message_size; /* content above is not kept: reported as oversized, its body handed on as it comes */
};

struct session_ops {
    void (*opened)(void *arg);
    /* Lost, or given up while connecting (every attempt tells): channels have been told before. */
    void (*lost)(void *arg, const char *why);
    void (*blocked)(void *arg, bool blocked, const char *reason);
};

/* Copies the options (not tls). Starts connecting with session_start(). */
struct session *session_new(struct loop *loop, const struct session_options *options, const struct session_ops *ops,
                            void *arg);
void session_start(struct session *session);
/* Closes properly (connection.close, close-ok, at most `ms`), then calls done; when it is not open, at once, before it
 * returns. Channels are told before it returns. No reconnecting, and no ops any more. */
void session_close(struct session *session, int64_t ms, void (*done)(void *arg), void *arg);
/* At once, without a farewell; channels are told, then nothing is called any more. The memory goes at the end of the turn. */
void session_free(struct session *session);

bool session_is_open(const struct session *session);
bool session_is_blocked(const struct session *session);
unsigned session_reconnects(const struct session *session); /* times opened, less one */
uint32_t session_frame_max(const struct session *session);  /* as tuned; before: as proposed */
struct link *session_link(struct session *session);         /* NULL while not open */
struct loop *session_loop(struct session *session);
const char *session_label(const struct session *session);
struct complaints *session_complaints(const struct session *session); /* or NULL */
const char *session_peer(const struct session *session);              /* "amqp://rabbit1:5672/v" */

/* ---- channels ---- */

struct channel_ops {
    /* channel.open-ok. */
    void (*opened)(void *arg);
    /* Any method but those of the channel's own life. It points into the frame. */
    void (*method)(void *arg, const amqp_method_t *method);
    /* basic.deliver (on the fast path, without rabbitmq-c) with its whole content: the message is the callee's. */
    void (*delivery)(void *arg, const struct method_deliver *deliver, struct message *message, uint64_t oversized);
    /* Of one that is oversized, and was handed over without its body: the next part of it, and whether it is the last.
     * Optional. */
    void (*body)(void *arg, struct span part, bool last);
    /* basic.return with its whole content: the message is the caller's. The size is that of its body, which is empty if
     * it is oversized. */
    void (*returned)(void *arg, const amqp_basic_return_t *method, const struct message *message, uint64_t size);
    /* The server closes it: whoever has put a part of a content puts the rest now, before close-ok. Then closed().
     * Optional. */
    void (*closing)(void *arg);
    /* Gone: closed by the server (error set), or the session was lost (error->code 0, or the code of the server's
     * connection.close: reply_is_hard() then tells the two apart). Not after channel_close. Once a channel is closed
     * its owner may open it again or free it, also from here. */
    void (*closed)(void *arg, const struct reply *error);
    /* Everything that was readable has been handed over. Optional. */
    void (*batch)(void *arg, bool full);
    /* The link was full and takes content again (link_ops.drained). Optional. */
    void (*drained)(void *arg);
};

/* Embedded in its owner. */
struct channel {
    struct session *session;
    const struct channel_ops *ops;
    void *arg;
    uint16_t number; /* 0: not open */
    uint32_t epoch;  /* raised by every opening: a delivery of an earlier epoch is never acknowledged */
    int state;       /* enum channel_state in channel.c */
    bool batching;
};

/* Opens a channel. -1: the session is not open or channel_max is reached (logged). */
int channel_open(struct channel *channel, struct session *session, const struct channel_ops *ops,
                 void *arg) HARK_MUSTCHECK;
/* Sends channel.close and forgets it: ops are not called any more, the struct may be opened again or freed at once. The number is free after close-ok. `done` (may be NULL)
 * is called at close-ok, when everything sent before has been processed by the server, or when the session is lost. */
void channel_close(struct channel *channel, void (*done)(void *arg), void *arg);
bool channel_is_open(const struct channel *channel);
/* Puts a method and marks the link dirty. */
void channel_send(struct channel *channel, uint32_t method_id, const void *decoded);
/* The link's buffer, for the hot path; then link_send(session_link(...)). */
struct buf *channel_out(struct channel *channel);

#endif
