/* SPDX-License-Identifier: MIT */
/*
 * Accepts connections from a listening socket: several per readiness, so that a storm of them neither starves the
 * others nor waits for one turn each. Without descriptors (EMFILE) it pauses instead of spinning.
 */
#ifndef NET_ACCEPTOR_H
#define NET_ACCEPTOR_H

#include "net/loop.h"

struct acceptor;

/* Takes the listening descriptor. `accepted` gets a connected, non-blocking, close-on-exec descriptor of its own.
 * NULL: no memory (the descriptor is closed). */
struct acceptor *acceptor_new(struct loop *loop, int fd, void (*accepted)(void *arg, int fd), void *arg) HARK_MUSTCHECK;
void acceptor_pause(struct acceptor *acceptor, bool paused); /* too many connections: the backlog waits */
void acceptor_free(struct acceptor *acceptor);               /* NULL is fine */

#endif
