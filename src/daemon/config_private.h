/* SPDX-License-Identifier: MIT */
/* What the files of the configuration share. */
#ifndef DAEMON_CONFIG_PRIVATE_H
#define DAEMON_CONFIG_PRIVATE_H

#include "daemon/config.h"
#include <hark/listener.h>

/* Chosen by configure, written by make. */
extern const struct hark_module *const hark_modules[];

extern const struct hark_setting config_general_table[];
extern const struct hark_setting config_exchange_table[];
extern const struct hark_setting config_queue_table[];
extern const struct hark_setting config_listener_table[];

const struct hark_module *config_find_module(const char *name);

/* 0, or -1 with a message. */
int config_url_parse(const char *text, struct config_url *url, char *error, size_t size) HARK_MUSTCHECK;
void config_url_free(struct config_url *url);
/* The first line of a file; a relative name is also looked for in $CREDENTIALS_DIRECTORY. */
char *config_read_secret(const char *path, char *error, size_t size) HARK_MUSTCHECK;

/* "EXCHANGE PATTERN" lines. */
int config_bindings_parse(const struct hark_list *lines, struct config_bindings *bindings, char *error, size_t size)
    HARK_MUSTCHECK;
void config_bindings_free(struct config_bindings *bindings);
/* `name = value` pairs of a map, typed; `first` (may be NULL) goes in front. */
int config_arguments_make(const struct hark_map *map, const struct config_argument *first,
                          struct config_arguments *arguments) HARK_MUSTCHECK;
void config_arguments_free(struct config_arguments *arguments);

#endif
