/* SPDX-License-Identifier: MIT */
/*
 * The load program: as much as one process can put on any AMQP 0-9-1 broker, and how long the
 * broker takes for it.
 *
 * Frames are put together and taken apart here (raw.h), so that no fault of the product's own
 * client can hide, and so that the load costs less than the broker: what is published is built once
 * and written in large pieces, what is delivered is counted where it was received. One connection
 * publishes, another one consumes, one ppoll() serves both.
 *
 * load_line.c: a connection; load_publisher.c and load_consumer.c: what is sent on one as fast as
 * it goes; load_latency.c: at a steady rate; load.c: options, and what is measured from when to
 * when.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "raw.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define LOAD_PATIENCE INT64_C(30000000000) /* ns without anything: the broker is stuck */
#define LOAD_TAG "load"
#define LOAD_CHANNEL 1
#define LOAD_WINDOW_MAX 32768

struct load_options {
    int port;
    const char *queue, *exchange; /* NULL: the default exchange */
    unsigned keys;                /* different routing keys, with an exchange */
    uint64_t messages;
    size_t body;
    bool persistent, durable, identified; /* a durable queue; content_type and message_id */
    bool keep, exists;                    /* the queue and what is in it; nothing to declare */
    uint64_t window;                      /* of unconfirmed messages, 0: no confirms */
    unsigned prefetch;                    /* 0: none */
    uint64_t every;                       /* acknowledge, multiple, so many at a time; 0: no_ack */
    uint64_t rate;
};

/* ---- load_line.c ---- */

/* A connection with LOAD_CHANNEL open, non-blocking. Whatever goes wrong ends the program with a
 * message. */
struct load_line {
    int fd;
    uint32_t frame_max;
    struct buf in, out; /* out: small things, calls and acknowledgements */
    uint64_t reads, writes;
};

struct load_frame {
    const uint8_t *data; /* valid until the next load_line_read */
    size_t length;
    enum raw_type type;
    uint32_t id;            /* of a method */
    struct raw_reader args; /* behind the id; the payload of other frames */
};

_Noreturn void load_die(const char *what);
/* false: nobody listens, if `wait`; otherwise that is fatal, too. */
bool load_line_open(struct load_line *line, int port, bool wait);
void load_line_close(struct load_line *line);
/* Reads once what there is; false if there is nothing. */
bool load_line_read(struct load_line *line);
/* The next whole frame of those that were read. A method that closes, and a message returned, are
 * fatal. */
bool load_line_next(struct load_line *line, struct load_frame *frame);
/* Writes what the socket takes of `length` bytes; returns how many. */
size_t load_line_write(struct load_line *line, const void *data, size_t length);
/* Writes what the socket takes of line->out; true if all of it. */
bool load_line_flush(struct load_line *line);
/* Flushes line->out and waits for the method `id`. Other frames on the way are fatal. */
void load_line_call(struct load_line *line, uint32_t id, struct load_frame *frame);
/* What to poll a line for. */
struct pollfd load_line_poll(const struct load_line *line, bool writing);
/* Waits, at most until a moment (0: as long as anyone is patient). */
void load_wait(struct pollfd *polled, size_t count, int64_t until);

/* An empty queue, with the exchange and its bindings if the options want one. */
void load_setup(struct load_line *line, const struct load_options *options);
/* How many messages are ready in the queue, by a passive declare; calls made before are done when
 * it returns. */
uint64_t load_ready(struct load_line *line, const struct load_options *options);
void load_delete(struct load_line *line, const struct load_options *options);

/* ---- load_publisher.c ---- */

struct load_publisher {
    struct load_line line;
    const struct load_options *options;
    struct buf block;       /* finished messages, to be written over and over again */
    size_t *ends, *id_ends; /* of each message of the block */
    size_t count;           /* of messages in it */
    size_t first, sent;     /* what is being written: its first message and byte not yet written */
    uint64_t published;     /* whole messages given to the socket */
    uint64_t confirmed;     /* all up to here */
    uint8_t *ring;          /* by number: confirmed, but not all before it */
};

/* Builds what is to be written; open also connects. */
void load_publisher_init(struct load_publisher *publisher, const struct load_options *options);
void load_publisher_open(struct load_publisher *publisher, const struct load_options *options);
/* Puts one basic.publish with its content; returns where its message_id ends in `out`, if it has
 * one. */
size_t load_put_message(struct buf *out, const struct load_options *options, unsigned key, const void *body);
/* Writes what window and socket allow. */
void load_publisher_write(struct load_publisher *publisher);
bool load_publisher_wants_write(const struct load_publisher *publisher);
/* Reads once and takes in the confirms. */
void load_publisher_read(struct load_publisher *publisher);
/* Everything is written and, with confirms, confirmed. */
bool load_publisher_done(const struct load_publisher *publisher);
void load_publisher_close(struct load_publisher *publisher);

/* ---- load_consumer.c ---- */

struct load_consumer {
    struct load_line line;
    const struct load_options *options;
    uint64_t delivered, acked, body_bytes;
    uint64_t body_left; /* of the message that is coming in */
    /* Called with a message's first body frame, unless NULL. */
    void (*message)(struct load_consumer *consumer, const uint8_t *body, size_t length);
    void *arg;
};

/* Subscribes: deliveries may come from now on. */
void load_consumer_open(struct load_consumer *consumer, const struct load_options *options);
/* Reads once, counts, and acknowledges what is due. */
void load_consumer_read(struct load_consumer *consumer);
bool load_consumer_done(const struct load_consumer *consumer);
void load_consumer_close(struct load_consumer *consumer);

/* ---- load_latency.c ---- */

void load_latency(const struct load_options *options);

/* ---- load_limit.c ---- */

void load_limit(const struct load_options *options);

#endif
