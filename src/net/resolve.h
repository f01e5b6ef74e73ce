/* SPDX-License-Identifier: MIT */
/*
 * Host names to addresses without stopping the loop: getaddrinfo() in a short-lived thread of its own, so that
 * /etc/hosts, nsswitch and the rest behave as for every other program (evdns knows only DNS). Used by dial.c.
 */
#ifndef NET_RESOLVE_H
#define NET_RESOLVE_H

#include "net/loop.h"
#include <netdb.h>

struct resolve;

/* A numeric address needs no thread: the list (the caller's, freeaddrinfo), NULL if `host` is a name. */
struct addrinfo *resolve_numeric(const char *host, uint16_t port) HARK_MUSTCHECK;

/* Exactly one answer from the loop, unless cancelled: a list (the callee's) or NULL and what went wrong. The handle is
 * void from that call on. NULL with errno: no memory or no thread; EAGAIN: too many look-ups have no answer yet. */
typedef void (*resolve_done)(void *arg, struct addrinfo *list, const char *error);
struct resolve *resolve_start(struct loop *loop, const char *host, uint16_t port, resolve_done done,
                              void *arg) HARK_MUSTCHECK;
/* No answer any more. The thread ends on its own when getaddrinfo does. NULL is fine. */
void resolve_cancel(struct resolve *resolve);

#endif
