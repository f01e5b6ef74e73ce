/* SPDX-License-Identifier: MIT */
/*
 * The supervisor: starts the workers and the embedded broker, watches them, replaces those that die or
 * hang, reloads, stops, and tells the service manager. It handles no message itself.
 */
#ifndef DAEMON_SUPERVISOR_H
#define DAEMON_SUPERVISOR_H

#include "base/base.h"

struct config;
struct ini_errors;

struct supervisor_options {
    const char *path; /* of the ini file, read again at a reload */
    bool standalone;  /* there is none: see daemon/standalone.h */
    int log;          /* enum log_format from the command line, -1: the file's */
    int log_level;    /* enum log_level, likewise */
};

/* The file, or what stands in its place, read as config_read() does. */
struct config *supervisor_read(const struct supervisor_options *options, struct ini_errors *errors) HARK_MUSTCHECK;
/* Takes the configuration. Runs until it is told to stop; returns the exit status of the process.
 */
int supervisor_run(struct config *config, const struct supervisor_options *options) HARK_MUSTCHECK;

#endif
