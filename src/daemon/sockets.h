/* SPDX-License-Identifier: MIT */
/*
 * The listening sockets of the embedded broker. The supervisor opens them before there is a broker process and keeps
 * them, so that a broker that crashes is missed by nobody for longer than it takes to start again: who connects meanwhile
 * waits in the kernel's queue.
 */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include "daemon/config.h"

struct sockets_item {
    int fd;
    bool tls, trusted; /* trusted: the workers' own */
    char *path;        /* of a Unix socket; NULL: TCP */
};

struct sockets {
    size_t count;
    struct sockets_item *items;
};

/* Makes the folder of the data, too. 0; -1 with a message that begins with file, line and section. */
int sockets_open(const struct config *config, struct sockets *sockets, char *error, size_t size) HARK_MUSTCHECK;
/* In a process that does not serve them. */
void sockets_forget(struct sockets *sockets);
/* Also takes the Unix sockets out of the file system: at the end. */
void sockets_close(struct sockets *sockets);
/* Whether two configurations would listen at the same places, with data in the same folder. */
bool sockets_same(const struct config *one, const struct config *other);

#endif
