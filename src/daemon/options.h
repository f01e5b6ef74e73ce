/* SPDX-License-Identifier: MIT */
/* The command line of harkd. */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include "base/base.h"

/* Does what the arguments say; returns the exit status: 0, 1 (the configuration has mistakes), 64
 * (EX_USAGE), or another of sysexits.h. */
int options_run(int argc, char **argv) HARK_MUSTCHECK;

#endif
