/* SPDX-License-Identifier: MIT */
/* What the tests of links and of TLS share: links whose calls are noted. */
#ifndef TESTS_LINK_KIT_H
#define TESTS_LINK_KIT_H

#include "net/link.h"
#include "peer.h"

/* One end. */
struct end {
    struct link *link; /* NULL once it is gone */
    struct loop *loop;
    unsigned opened, frames, batches, full_batches, drained, closed;
    size_t bytes;  /* of payloads */
    bool in_order; /* payload bytes count up, modulo 251: nothing is lost, doubled or moved */
    char why[400];
    uint16_t error; /* code, 0: none */
    size_t largest;
    /* What to do on each frame, and when closed. */
    void (*on_frame)(struct end *end);
    void (*on_closed)(struct end *end);
};

extern const struct link_ops end_ops;

/* Frames that hold `length` bytes in all, going on where the last call ended (`at`), each of at most `most`. */
void end_put(struct end *end, size_t *at, size_t length, size_t most);
/* Has the kernel's buffers small, so that little fills them. */
void end_shrink(int fd);

/* A listener on the loopback. */
int end_listen(uint16_t *port);
int end_accept(struct loop *loop, int listener); /* turns the loop until somebody comes */

#endif
