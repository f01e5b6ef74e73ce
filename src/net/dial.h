/* SPDX-License-Identifier: MIT */
/*
 * Dialling: from a host name, address or Unix path to a connected descriptor, without stopping the loop. All addresses
 * of a name are tried in turn. Used by link.c.
 */
#ifndef NET_DIAL_H
#define NET_DIAL_H

#include "net/loop.h"

struct dial;

/* Exactly one answer, from the loop: a connected non-blocking descriptor (the callee's), or -1 and why. The handle is void
 * from then on. */
typedef void (*dial_done)(void *arg, int fd, const char *error);

/* unix_path, or host and port. NULL: no memory. The time limit is the caller's. */
struct dial *dial_start(struct loop *loop, const char *host, uint16_t port, const char *unix_path, dial_done done,
                        void *arg) HARK_MUSTCHECK;
void dial_cancel(struct dial *dial); /* no answer any more; NULL is fine */

#endif
