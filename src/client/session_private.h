/* SPDX-License-Identifier: MIT */
/* What session.c, handshake.c and channel.c share. */
#ifndef CLIENT_SESSION_PRIVATE_H
#define CLIENT_SESSION_PRIVATE_H

#include "client/complaint.h"
#include "client/session.h"
#include "wire/content.h"

#define SESSION_STATES(X) \
    X(IDLE)       /* not started */ \
    X(WAITING)    /* for the next attempt */ \
    X(CONNECTING) /* TCP and TLS */ \
    X(START)      /* protocol header sent: connection.start is due */ \
    X(TUNE)       /* start-ok sent: connection.tune is due */ \
    X(OPENING)    /* tune-ok and open sent: open-ok is due */ \
    X(OPEN) \
    X(CLOSING) /* close sent: close-ok is due */ \
    X(CLOSED)  /* for good */

enum session_state {
#define X(name) SESSION_##name,
    SESSION_STATES(X)
#undef X
};

/* One channel number. */
struct channel_slot {
    struct channel *channel; /* NULL: free, or closing */
    bool closing;            /* close sent, close-ok is due */
    void (*done)(void *arg);
    void *arg;
    unsigned asked;     /* requests that are not answered yet */
    uint32_t asked_for; /* the last of them */
    unsigned silent;    /* ticks of the session's timer without any answer meanwhile */
    struct content content;
    bool is_return; /* what the content belongs to */
    struct method_deliver deliver;
    uint8_t consumer_tag[255]; /* the deliver frame is gone when its content is whole */
    uint16_t return_code;
    uint8_t return_text_length;
    uint8_t return_text[255];
};

struct session {
    struct loop *loop;
    const struct session_ops *ops;
    void *arg;
    char *label, *vhost, *user, *password, *tls_server_name;
    struct session_host *hosts;
    size_t host_count, host; /* which one is in use, or next */
    bool external;
    struct tls_context *tls;
    int64_t connect_timeout, reconnect_min, reconnect_max;
    unsigned heartbeat;
    uint32_t proposed_frame_max, frame_max;
    uint16_t channel_max;
    size_t max_message_size;

    enum session_state state;
    struct link *link;
    struct event *timer; /* of the next attempt, or of the state; when open: of answers that are due */
    struct loop_task reap;
    amqp_pool_t pool;
    unsigned attempts, opened;
    bool blocked;
    int64_t opened_at;            /* loop_now() */
    struct complaint *complaints; /* one for each host */
    struct complaints *common;
    char peer[1100];  /* a host and an encoded virtual host, 255 bytes each */
    char server[100]; /* product and version as it calls itself */
    void (*close_done)(void *arg);
    void *close_arg;

    struct channel_slot **slots; /* by channel number, [0] unused */
    size_t slot_count;
    struct complaint channels_complaint; /* there are too few */
};

/* ---- session.c ---- */
void session_set_state(struct session *session, enum session_state state);
void session_send(struct session *session, uint32_t method_id, const void *decoded); /* on channel 0 */
void session_set_timer(struct session *session, int64_t ms);
/* The connection is over: channels and owner are told; another attempt follows. error: the server's connection.close. */
void session_lose(struct session *session, const struct reply *error, const char *format, ...) HARK_PRINTF(3, 4);
/* The server broke the protocol: says so to it with connection.close, then the same. */
void session_abort(struct session *session, const struct reply *error);
void session_finish_close(struct session *session);

/* ---- handshake.c ---- */
void handshake_begin(struct session *session);
/* A method on channel 0 before the connection is open. */
void handshake_method(struct session *session, const amqp_method_t *method);
/* What may be behind a connection that was lost in this state, as the rest of a sentence; "" if nothing is known. code: of the
 * server's connection.close, otherwise REPLY_SUCCESS. */
const char *handshake_advice(enum session_state state, uint16_t code);

/* ---- channel.c ---- */
void channels_frame(struct session *session, const struct frame *frame);
void channels_batch(struct session *session, bool full);
void channels_drained(struct session *session);
/* Half of connect_timeout is over: looks for requests that nobody answers. May lose the session. */
void channels_tick(struct session *session);
void channels_lost(struct session *session, const struct reply *error);

#endif
