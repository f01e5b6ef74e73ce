/* SPDX-License-Identifier: MIT */
/*
 * The supervisor: starts the workers, watches them, replaces those that die or hang, reloads,
 * stops, and tells the service manager. It handles no message itself.
 */
#ifndef DAEMON_SUPERVISOR_H
#define DAEMON_SUPERVISOR_H

#include "base/base.h"

struct config;

struct supervisor_options {
    const char *path; /* of the ini file, read again at a reload */
    int log;          /* enum log_format from the command line, -1: the file's */
    int log_level;    /* enum log_level, likewise */
};

/* Takes the configuration. Runs until it is told to stop; returns the exit status of the process.
 */
int supervisor_run(struct config *config, const struct supervisor_options *options) HARK_MUSTCHECK;

#endif
