/* SPDX-License-Identifier: MIT */
/*
 * The broker's control socket: `control` in the data folder, mode 0600, for whoever administers a running broker.
 *
 * One request per line, a JSON object {"command": "queues", "vhost": "/"}; one line as its answer, {"ok": true, "result": ...}
 * or {"ok": false, "error": "what is wrong"}. Requests of one connection are answered in order; while an answer does not
 * leave, no further request is read. A line has at most CONTROL_LINE_MAX bytes. control_commands.c holds the commands.
 *
 * Made by broker_new() and freed by broker_free().
 */
#ifndef BROKER_CONTROL_H
#define BROKER_CONTROL_H

#include "base/buf.h"

#define CONTROL_LINE_MAX (64 * 1024)
#define CONTROL_CLIENTS_MAX 16 /* more are hung up on */

struct broker;
struct control;

/* NULL with a message: the socket cannot be made. */
struct control *control_new(struct broker *broker, const char *folder, char *error, size_t size) HARK_MUSTCHECK;
void control_free(struct control *control); /* NULL is fine; removes the socket */

/* control_commands.c: puts the answer to one request, with its line end. */
void control_answer(struct broker *broker, struct span line, struct buf *out);

#endif
