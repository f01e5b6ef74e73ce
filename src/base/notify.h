/* SPDX-License-Identifier: MIT */
/*
 * The service manager's notification protocol (sd_notify(3)): a datagram to $NOTIFY_SOCKET, sent
 * without blocking. Our own few lines, so that no library of the init system is loaded.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include "base/base.h"
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    struct sockaddr_un address;
    socklen_t length;    /* 0: nobody listens */
    int64_t watchdog_ms; /* WATCHDOG=1 is expected this often; 0: never */
};

/* Reads the environment, and takes the variables out of it: they are meant for this process, not
 * for the programs that it runs. Before there are threads. */
void notify_open(struct notify *notify);
/* "READY=1", "STATUS=...", several lines at once. Does nothing when nobody listens. False: the manager does not read
 * at the moment, and what must arrive has to be sent again. */
bool notify_send(const struct notify *notify, const char *format, ...) HARK_PRINTF(2, 3);
/* "RELOADING=1" with the time stamp that Type=notify-reload asks for. */
void notify_reloading(const struct notify *notify);

static inline bool notify_wanted(const struct notify *notify)
{
    return notify->length > 0;
}

#endif
