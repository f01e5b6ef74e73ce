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

/* unix_path, or host and port. NULL: no memory. `timeout` (ms) is shared out among the addresses, so that one that does
 * not answer leaves time for the next; the limit of the whole is the caller's to watch. */
struct dial *dial_start(struct loop *loop, const char *host, uint16_t port, const char *unix_path, int64_t timeout,
                        dial_done done, void *arg) HARK_MUSTCHECK;
const char *dial_doing(const struct dial *dial); /* "resolving the name", "connecting" */
void dial_cancel(struct dial *dial);             /* no answer any more; NULL is fine */

#endif
