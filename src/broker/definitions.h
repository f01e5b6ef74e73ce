/* SPDX-License-Identifier: MIT */
/*
 * RabbitMQ's export of definitions (rabbitmqctl export_definitions, or the management plugin's), read and handed over
 * entry by entry. It knows no broker: whoever imports gives the call-backs that make the things.
 *
 * The order is virtual hosts, users, permissions, exchanges, queues, bindings, whatever the file's. The first thing that is
 * wrong ends it; what was handed over before stays with the receiver. All of the JSON is read before anything is handed
 * over. What else the file may hold is left alone, and so are bindings to the default exchange, which are there anyway;
 * policies and topic permissions, which somebody may rely on, are named in a warning as not supported.
 */
#ifndef BROKER_DEFINITIONS_H
#define BROKER_DEFINITIONS_H

#include "base/base.h"
#include "base/span.h"
#include "broker/users.h"

#define DEFINITIONS_MAX (64 * 1024 * 1024)    /* bytes of a file */
#define DEFINITIONS_ARGUMENTS_MAX (32 * 1024) /* bytes of one table of arguments */

struct definitions_permission {
    const char *user, *vhost, *configure, *write, *read;
};

struct definitions_exchange {
    const char *vhost, *name, *type;
    bool durable, auto_delete, internal;
    struct span arguments; /* the content of a sound table */
};

struct definitions_queue {
    const char *vhost, *name;
    bool durable, auto_delete;
    struct span arguments;
};

struct definitions_binding {
    const char *vhost, *source, *destination, *routing_key;
    bool to_exchange;
    struct span arguments;
};

/* 0; -1 with the reason in error, which ends the import: file and place in it are put in front. Everything given is gone
 * after the call. Names have at most 255 bytes, and only routing keys may be empty. */
struct definitions_ops {
    int (*vhost)(void *arg, const char *name, char *error, size_t size);
    /* Users with neither password nor hash may come by certificate only. `loopback_only` is false: the export does not say
     * (RabbitMQ's own configuration does: loopback_users, by default guest). */
    int (*user)(void *arg, const struct user_options *user, char *error, size_t size);
    int (*permission)(void *arg, const struct definitions_permission *permission, char *error, size_t size);
    int (*exchange)(void *arg, const struct definitions_exchange *exchange, char *error, size_t size);
    int (*queue)(void *arg, const struct definitions_queue *queue, char *error, size_t size);
    int (*binding)(void *arg, const struct definitions_binding *binding, char *error, size_t size);
};

/* Blocks while it reads the file. -1 with a message like "/etc/hark/rabbit.json: queues[3].arguments.x-max-length: ...". */
int definitions_load(const char *file, const struct definitions_ops *ops, void *arg, char *error,
                     size_t size) HARK_MUSTCHECK;
/* The same of a text in memory, terminated with a byte 0 behind its length; `file` is for messages. */
int definitions_parse(const char *file, const char *text, size_t length, const struct definitions_ops *ops, void *arg,
                      char *error, size_t size) HARK_MUSTCHECK;

#endif
