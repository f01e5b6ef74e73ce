/* SPDX-License-Identifier: MIT */
/* Listening sockets: TCP (a host name may give several), Unix. */
#ifndef NET_LISTEN_H
#define NET_LISTEN_H

#include "base/base.h"

#define LISTEN_MAX 16 /* addresses of one name */

/* Opens non-blocking, close-on-exec sockets for host (NULL or "*": all addresses, v4 and v6) and port (0: any free one). Blocks for the
 * name: at start-up only. The number of them, or -1 with a message that names address and reason. */
int listen_tcp(const char *host, uint16_t port, int fds[LISTEN_MAX], char *error, size_t size) HARK_MUSTCHECK;
/* A Unix socket with this mode. A stale file (nobody listens) is replaced. -1 with a message. */
int listen_unix(const char *path, unsigned mode, char *error, size_t size) HARK_MUSTCHECK;
/* "127.0.0.1:5672" */
void listen_name(int fd, char *to, size_t size);

#endif
