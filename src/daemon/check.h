/* SPDX-License-Identifier: MIT */
/*
 * `harkd --check`: reads the routing of a configuration as a whole and says what cannot work or is
 * probably not meant: listeners that no binding can reach, keys that nobody hears, cycles,
 * exchanges nobody declares, queues without listeners. A configuration that was read without
 * mistakes can still deserve these.
 */
#ifndef DAEMON_CHECK_H
#define DAEMON_CHECK_H

#include "daemon/config.h"
#include <stdio.h>

/* One line per finding, `file:line: [section] error|warning|note: text`. 0; -1 if there was an
 * error. */
int check_config(const struct config *config, FILE *out) HARK_MUSTCHECK;

#endif
