/* SPDX-License-Identifier: MIT */
/* What link.c (the life of a link) and link_io.c (bytes and frames) share. */
#ifndef NET_LINK_PRIVATE_H
#define NET_LINK_PRIVATE_H

#include "net/dial.h"
#include "net/heartbeat.h"
#include "net/link.h"
#include "net/stream.h"

#define LINK_STATES(X) \
    X(DIALLING) \
    X(SHAKING) /* connected, TLS is on its way */ \
    X(OPEN) \
    X(LOST)     /* within `closed`: the owner may still say farewell */ \
    X(FLUSHING) /* link_close_after_flush() */ \
    X(CLOSED)
enum link_state {
#define X(name) LINK_##name,
    LINK_STATES(X)
#undef X
};

struct link {
    struct loop *loop;
    const struct link_ops *ops;
    void *arg;
    enum link_state state;

    struct dial *dial;
    struct stream stream;
    struct tls_context *tls;
    char *tls_name;
    char *peer_name; /* from its certificate */
    bool loopback;

    struct event *readable, *writable;
    struct event *hangup; /* armed when paused with something to read: the peer may have gone */
    struct event *again;  /* TLS holds bytes back: the descriptor will not say so */
    struct event *timer;  /* the deadline, or heartbeats */
    struct loop_task flush, resume, linger, reap;
    bool read_armed, write_armed;
    unsigned pauses;

    struct buf in;     /* start..end: a frame that is not whole yet, or frames kept by a pause */
    size_t in_touched; /* how much of its memory has been used since it was allocated */
    struct buf out;
    bool greeted;  /* the protocol header has been handed over */
    bool was_full; /* link_is_full() said so: `drained` is due */
    bool said_end; /* FLUSHING: nothing more is written */
    uint32_t frame_max;
    struct heartbeat heartbeat;
    int64_t deadline; /* of DIALLING, SHAKING and FLUSHING; 0: none */
    uint64_t reads, writes;
    char name[280];
};

/* Over: calls `closed`, then closes unless the owner wants to flush. In FLUSHING: closes. */
void link_end(struct link *link, const struct reply *error, const char *format, ...) HARK_PRINTF(3, 4);

/* ---- link_io.c ---- */

/* Starts to watch the descriptor of link->stream. */
int link_watch(struct link *link) HARK_MUSTCHECK;
void link_unwatch(struct link *link);
void link_arm_read(struct link *link, bool on);
void link_arm_write(struct link *link, bool on);
void link_flush(struct link *link);
void link_flush_task(struct loop_task *task);
void link_resume_task(struct loop_task *task);

/* ---- link.c ---- */

/* The TLS handshake's next step (plain: at once done). */
void link_shake(struct link *link);

#endif
