/* SPDX-License-Identifier: MIT */
/*
 * The service manager's notification protocol (sd_notify(3)): a datagram to $NOTIFY_SOCKET, sent without blocking. Our own
 * few lines, so that no library of the init system is loaded.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include "base/base.h"

/* False if nobody listens. */
bool notify_wanted(void);
/* "READY=1", "STATUS=...", several lines at once. Does nothing when nobody listens. */
void notify(const char *format, ...) HARK_PRINTF(1, 2);
/* "RELOADING=1" with the time stamp that Type=notify-reload asks for. */
void notify_reloading(void);
/* The interval in which WATCHDOG=1 is expected, in ms; 0: none. */
int64_t notify_watchdog(void);

#endif
