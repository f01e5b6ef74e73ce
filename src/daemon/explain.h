/* SPDX-License-Identifier: MIT */
/*
 * `harkd --explain KEY [--exchange NAME]`: where a message published with this routing key would
 * go, and which listeners would run because of it, by which binding and which pattern; then what
 * they emit and where that goes.
 */
#ifndef DAEMON_EXPLAIN_H
#define DAEMON_EXPLAIN_H

#include "daemon/config.h"
#include <stdio.h>

/* exchange NULL: every exchange that the file names. 0 if a listener would run, 1 if none would, -1
 * with a line on `out` if the key or the exchange is not one. */
int explain_key(const struct config *config, const char *key, const char *exchange, FILE *out) HARK_MUSTCHECK;

#endif
