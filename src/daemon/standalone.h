/* SPDX-License-Identifier: MIT */
/*
 * `harkd --standalone`: a first try without an ini file. The embedded broker on 127.0.0.1:5672, a topic exchange
 * `events`, a queue `events` that gets all of it, and a `log` listener that shows it.
 */
#ifndef DAEMON_STANDALONE_H
#define DAEMON_STANDALONE_H

#include "daemon/config.h"

#define STANDALONE_PATH "(standalone)" /* in the place of a file's name, in messages */

/* As config_read(). */
struct config *standalone_config(struct ini_errors *errors) HARK_MUSTCHECK;
/* `harkd --standalone --defaults`: the ini file that it stands for, to go on from. */
int standalone_print(FILE *out) HARK_MUSTCHECK;
/* Logs where it listens, and how to publish a first message. */
void standalone_greet(const struct config *config);

#endif
