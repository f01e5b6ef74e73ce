/* SPDX-License-Identifier: MIT */
/*
 * How the verdict on a reload gets to whoever asked for it, which SIGHUP cannot do.
 *
 * The supervisor listens on an abstract Unix socket that has its process id in its name (SOCK_SEQPACKET). A connection
 * of the same user or of root asks for a reload; what is sent back when that is over is one packet: '0' (the file is in
 * force) or '1' (it is not, or not all of it), then the lines that say why. Nothing is read from it. Nobody else can
 * pose as harkd: who asks looks at the other end's process id.
 *
 * A reload that is under way when somebody asks may have read the file before: it does not answer them, the next one
 * does.
 */
#ifndef DAEMON_RELOAD_SOCKET_H
#define DAEMON_RELOAD_SOCKET_H

#include "base/base.h"
#include "base/span.h"

#define RELOAD_ANSWER_MAX 32768 /* bytes of an answer: more is cut */

struct event_base;
struct reload_socket;

/* ---- in the supervisor: NULL for the socket is fine but in the first ---- */

/* asked(arg) is called for each who asks. NULL with errno: the name is taken, or there is no memory. */
struct reload_socket *reload_socket_new(struct event_base *base, void (*asked)(void *arg), void *arg) HARK_MUSTCHECK;
/* A reload begins: those who have asked so far are answered at its end. */
void reload_socket_begin(struct reload_socket *socket);
/* It is over. */
void reload_socket_answer(struct reload_socket *socket, bool done, struct span why);
/* There will be none: everyone who waits is told so. */
void reload_socket_refuse(struct reload_socket *socket, const char *why);
/* Also in a child after the fork: those who wait hear nothing of that. */
void reload_socket_free(struct reload_socket *socket);

/* ---- `harkd --reload PID` ---- */

/* Asks the harkd with that process id, waits, and prints the lines to standard error. The exit status: 0 the file is in
 * force, 1 it is not, EX_UNAVAILABLE there was nobody to answer. */
int reload_socket_ask(pid_t pid) HARK_MUSTCHECK;

#endif
