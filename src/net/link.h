/* SPDX-License-Identifier: MIT */
/*
 * A link: AMQP frames over a TCP or Unix stream, with or without TLS. It connects (name resolution in a thread),
 * reads large into one contiguous buffer, cuts frames, watches and sends heartbeats, writes once per turn of the loop.
 * It knows no role and no method: a client's session and a broker's peer both sit on it.
 *
 * A link ends in one of three ways. By itself: then `closed` is called once, and the link is gone with that call, unless
 * the owner says link_close_after_flush() in it. By link_close(): legal anywhere, also from within a call-back and twice in
 * a turn; the memory goes at the end of the turn. By link_close_after_flush(): legal wherever link_close() is. In none
 * of them is anything called afterwards, but `flushed`, if there is one, after link_close_after_flush().
 */
#ifndef NET_LINK_H
#define NET_LINK_H

#include "base/buf.h"
#include "net/loop.h"
#include "wire/frame.h"

struct link;
struct tls_context; /* net/tls.h: certificates and rules, made once per configuration */

struct link_address {
    const char *host; /* name or address; NULL: unix_path */
    uint16_t port;
    const char *unix_path;
    struct tls_context *tls;     /* NULL: none */
    const char *tls_server_name; /* NULL: host */
    int64_t connect_timeout;     /* ms, for resolve + connect + TLS handshake */
};

struct link_ops {
    /* Connected, TLS done. */
    void (*open)(void *arg);
    /* For servers: the first 8 bytes, before any frame (AMQP 0-9-1, 4.2.2). NULL: frames from the first byte on. */
    void (*header)(void *arg, const uint8_t *bytes);
    void (*frame)(void *arg, const struct frame *frame);
    /* What was readable has been handed over; `full`: the last read filled its buffer, so more is waiting. A place
     * to batch. Optional. */
    void (*batch)(void *arg, bool full);
    /* The peer has closed its end while reading was paused: what it has sent before can still be read. Optional. */
    void (*hangup)(void *arg);
    /* The write buffer went down to the mark after link_is_full() was true. Optional. */
    void (*drained)(void *arg);
    /* Over, never called by link_close(). `why` names what happened while doing what ("while connecting:
     * Connection refused"), without the link's name; `error` is a protocol error if the peer's bytes were the reason, otherwise NULL:
     * then the owner may still put a close method before it calls link_close_after_flush(). */
    void (*closed)(void *arg, const struct reply *error, const char *why);
    /* What link_close_after_flush() has begun is over: the descriptor is free. Optional. */
    void (*flushed)(void *arg);
};

/* Starts connecting; never NULL but without memory. Copies the address. All call-backs come from the loop. */
struct link *link_connect(struct loop *loop, const struct link_address *address, const struct link_ops *ops, void *arg);
/* For servers: takes over a connected descriptor, also when it fails (NULL: no memory). TLS has `connect_timeout` ms. */
struct link *link_accept(struct loop *loop, int fd, struct tls_context *tls, int64_t connect_timeout,
                         const struct link_ops *ops, void *arg);

/* Where frames to send are put (whole frames only); then link_send() marks the link dirty. The pointer is good until the
 * next call of any link function. */
struct buf *link_out(struct link *link);
void link_send(struct link *link);
/* Bytes not yet taken by the kernel. */
size_t link_pending(const struct link *link);
/* More is pending than is sensible (1 MiB): put no more content until `drained`. */
bool link_is_full(struct link *link);

void link_set_frame_max(struct link *link, uint32_t frame_max);
/* Both ways, in seconds, 0: off. A timer of its own: sends one when nothing was written for half the interval, closes
 * when nothing was read for twice the interval (not while paused by us). */
void link_set_heartbeat(struct link *link, unsigned seconds);
void link_set_heartbeat_ms(struct link *link, int64_t ms); /* finer, for tests */
/* The peer said that it does not read for a while (connection.blocked): neither silence nor a full socket is death. */
void link_set_patient(struct link *link, bool patient);

/* Stops and starts reading, counted: two pauses need two resumes. Frames already read are kept; they are handed over
 * in the deferred part of the turn in which reading is resumed. */
void link_pause(struct link *link);
void link_resume(struct link *link);
bool link_is_paused(const struct link *link);

void link_close(struct link *link);
/* Writes what is pending, says that no more will come, reads and drops until the peer has closed too (closing with
 * unread bytes would reset the connection and could take our last words with it); all that at most `ms`; then `flushed`, which may come at once. */
void link_close_after_flush(struct link *link, int64_t ms);

const char *link_name(const struct link *link); /* "127.0.0.1:5672", for messages */
/* The common name of the peer's certificate, verified; NULL: none. From `open` on. */
const char *link_peer_name(const struct link *link);
/* The peer is on this machine: 127.0.0.0/8 (also as ::ffff:127.0.0.1), ::1, a Unix socket. From `open` on. */
bool link_is_loopback(const struct link *link);
/* System calls so far, for the benchmark: reads, writes. */
void link_calls(const struct link *link, uint64_t *reads, uint64_t *writes);

#endif
