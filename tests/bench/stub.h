/* SPDX-License-Identifier: MIT */
/*
 * The stub broker: AMQP 0-9-1 as a client sees it, and nothing behind it.
 *
 * It says yes to every login, declare, bind, qos and consume; hands out `messages` deliveries, as many at a time as
 * the prefetch allows; swallows what is published, confirms it where confirm.select was sent; and believes no
 * acknowledgement that a real broker would refuse. One thread, one epoll; stub.c owns the loop and the sockets,
 * stub_peer.c speaks the protocol, stub_window.c builds deliveries and counts acknowledgements.
 */
#ifndef BENCH_STUB_H
#define BENCH_STUB_H

#include "raw.h"

#define STUB_CHANNELS 256
#define STUB_OUT_MAX (256 * 1024) /* more than this waits for the socket */

struct stub {
    /* what to do */
    uint64_t messages;
    size_t body;
    bool persistent;
    /* what happened */
    uint64_t delivered, acked, rejected, published, body_bytes;
    uint64_t reads, writes; /* system calls on the sockets: how well the client gathers */
    int64_t started, first_publish, first_ack, ended;
    int64_t cpu_started, cpu_ended;
};

/* One consumer: what it may have in hand, what it has. */
struct stub_window {
    bool active;
    uint16_t channel;
    uint32_t size; /* the prefetch */
    uint32_t unacked;
    uint64_t next, low;                        /* tags: the next to give, the lowest not settled */
    uint8_t *settled;                          /* ring of STUB_RING flags by tag */
    struct buf frames[HARK_COUNT(bench_keys)]; /* one finished delivery per routing key */
    size_t tag_at[HARK_COUNT(bench_keys)], id_end[HARK_COUNT(bench_keys)];
};
#define STUB_RING 65536u

struct stub_channel {
    bool confirming;
    uint16_t prefetch;
    uint64_t published, confirmed;
    struct stub_window window;
};

struct stub_peer {
    struct stub *stub;
    int fd;
    struct buf in, out;
    bool greeted, closing, broken, writing;
    uint16_t heartbeat;
    int64_t beat_at; /* when the next heartbeat is due, 0: none */
    unsigned generated;
    uint16_t highest; /* channel ever opened */
    struct stub_channel *channels[STUB_CHANNELS];
};

/* ---- stub_peer.c ---- */

/* Takes in what is in peer->in; answers are put into peer->out. Sets `broken` (with a line on standard error) when
 * the client breaks the protocol, `closing` when it has said goodbye. */
void stub_peer_input(struct stub_peer *peer);
/* Puts deliveries, as the windows and STUB_OUT_MAX allow. True if anything was put. */
bool stub_peer_deliver(struct stub_peer *peer);
void stub_peer_free(struct stub_peer *peer);

/* ---- stub_window.c ---- */

void stub_window_open(struct stub_window *window, const struct stub *stub, uint16_t channel, struct span tag,
                      uint16_t prefetch);
void stub_window_close(struct stub_window *window);
bool stub_window_has_room(const struct stub_window *window);
void stub_window_put(struct stub_window *window, struct buf *out, uint64_t number);
/* How many deliveries this acknowledgement settles; -1: a real broker would close the channel (406). */
int64_t stub_window_settle(struct stub_window *window, uint64_t tag, bool multiple);

#endif
