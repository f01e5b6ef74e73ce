/* SPDX-License-Identifier: MIT */
/*
 * A fake AMQP server for tests, in the same process and on the same loop: it listens on a free port of the loopback,
 * serves the connection that came last, shakes hands, and answers what a client asks as if all went well. Tests tell it
 * where to go wrong, look at what it saw, and let it say anything.
 */
#ifndef TESTS_PEER_H
#define TESTS_PEER_H

#include "net/loop.h"
#include "wire/content.h"
#include "wire/method.h"

#include <check.h>

/* Where the trouble begins: just when this has arrived. */
enum peer_step { PEER_NEVER, PEER_ACCEPT, PEER_HEADER, PEER_START_OK, PEER_OPEN, PEER_AFTER };
/* What it does then instead of the right answer. */
enum peer_trouble {
    PEER_SILENCE,
    PEER_HANGUP,
    PEER_GARBAGE, /* no frame */
    PEER_CLOSE,   /* connection.close with close_code */
    PEER_WRONG,   /* a method that does not belong there: basic.qos-ok on channel 0 is none, so queue.purge-ok on 1 */
    PEER_EARLY,   /* connection.open-ok whatever the state (at PEER_OPEN: twice) */
    PEER_REFUSE,  /* a protocol header of another version, then the end */
};

struct peer {
    struct loop *loop;
    struct event *listener, *event, *writer;
    uint16_t port;
    int listen_fd, fd; /* fd -1: nobody is connected */
    struct buf in, out;
    amqp_pool_t pool;

    /* To be set by the test. */
    enum peer_step at;
    enum peer_trouble trouble;
    uint16_t close_code;
    const char *mechanisms; /* default "PLAIN EXTERNAL" */
    uint8_t version_minor;  /* default 9 */
    uint16_t channel_max, heartbeat;
    uint32_t frame_max; /* default 131072 */
    bool bytewise;      /* one byte per turn of the loop */
    bool deaf;          /* reads nothing */
    bool ticking;       /* sends a heartbeat whenever it reads one */
    /* True: the test has answered, or wants no answer. `method` until it returns. */
    bool (*on_method)(void *arg, uint16_t channel, const amqp_method_t *method);
    void *arg;

    /* What it saw; of the present connection but for `accepted`. */
    unsigned accepted;
    bool opened;         /* it has sent open-ok */
    bool header_good;    /* the protocol header was that of 0-9-1 */
    bool ended;          /* the client closed its side */
    unsigned heartbeats; /* received */
    unsigned count;      /* methods */
    uint32_t ids[4096];
    uint16_t channels[4096];
    uint64_t body_bytes; /* of content */
    unsigned contents;   /* content headers */
    char login[256];     /* mechanism, '|', response with ':' for NUL */
    char vhost[128];
    char properties[1024]; /* client properties, "name=value " or "name=true ", capabilities flat */
    uint16_t tune_channel_max, tune_heartbeat;
    uint32_t tune_frame_max;
    uint16_t closed_code; /* of the client's connection.close */
};

struct peer *peer_new(struct loop *loop);
void peer_free(struct peer *peer);

void peer_say(struct peer *peer, uint16_t channel, uint32_t id, const void *decoded);
void peer_bytes(struct peer *peer, const void *bytes, size_t length);
void peer_deliver(struct peer *peer, uint16_t channel, uint64_t tag, const char *key, const void *body, size_t length);
void peer_hangup(struct peer *peer);
/* How often this method came on this channel. */
unsigned peer_saw(const struct peer *peer, uint16_t channel, uint32_t id);

/* A loop that wakes up every few ms, so that waiting for a condition can end. */
struct loop *peer_loop(void);
void peer_loop_free(struct loop *loop);
int64_t peer_clock(void); /* ms */

/* Turns the loop until the condition holds; fails the test when it does not within 5 s. */
#define peer_until(loop, condition) \
    do { \
        int64_t peer_limit = peer_clock() + 5000; \
        while (!(condition)) { \
            ck_assert_msg(peer_clock() < peer_limit, "in vain: %s", #condition); \
            ck_assert_int_eq(loop_turn(loop, true), 0); \
        } \
    } while (0)
/* Turns it for a while. */
#define peer_wait(loop, ms) \
    do { \
        int64_t peer_end = peer_clock() + (ms); \
        while (peer_clock() < peer_end) \
            ck_assert_int_eq(loop_turn(loop, true), 0); \
    } while (0)

#endif
