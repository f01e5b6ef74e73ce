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
extern const struct hark_setting config_broker_table[];
extern const struct hark_setting config_user_table[];
extern const char *const config_hashings[]; /* by enum config_hashing */

const struct hark_module *config_find_module(const char *name);

/* Reading in progress. */
struct config_reader {
    struct config *config;
    struct ini_errors *errors;
    const struct ini_section *section; /* being read */
    struct config_where where;         /* of it */
    bool looking;                      /* outside of the service: its credentials may be missing */
    bool partial; /* the files had mistakes in their syntax: what seems to be missing may be there */
};

/* An error in the section being read, at the line of its first `key` (NULL, or not there: of the
 * section). */
void config_complain(struct config_reader *reader, const char *key, const char *format, ...) HARK_PRINTF(3, 4);
/* All sections into reader->config, whose arrays are large enough. */
void config_read_sections(struct config_reader *reader);
void config_read_listener(struct config_reader *reader, struct config_listener *listener);
/* When all exchanges and queues are there: they are looked up by name from here on. */
void config_sort_names(struct config *config);
/* When all listeners are there: each queue knows its own. -1: no memory. */
int config_list_listeners(struct config *config) HARK_MUSTCHECK;
/* After [hark]: without an embedded url they are mistakes. */
void config_read_broker(struct config_reader *reader);
void config_read_user(struct config_reader *reader, struct config_user *user);
void config_broker_free(struct config_broker *broker);
void config_user_free(struct config_user *user);
/* Replaces *secret by the first line of the file, unless path is NULL or the file is elsewhere. */
void config_secret(struct config_reader *reader, const char *key, const char *path, char **secret);
/* config_elsewhere.c: true if the file that the key names (`secret`: looked for by config_secret()) is the service's
 * and not here, which is remembered; only while looking. Around that, what the service's environment would hold:
 * begin says whether it is outside of it. */
bool config_elsewhere(struct config_reader *reader, const char *key, const char *path, bool secret);
bool config_elsewhere_begin(void);
void config_elsewhere_end(void);
/* tables[0] fills into[0], tables[1] (NULL: none) into[1]. False: there were errors. */
bool config_fill(struct config_reader *reader, const struct hark_setting *const *tables, void *const *into);
/* The section being read needs a name. */
void config_check_name(struct config_reader *reader, const char *example);
/* The first entry of the section being read with this key, or NULL. */
const struct ini_entry *config_entry(const struct config_reader *reader, const char *key);

/* 0, or -1 with a message, which never holds a part of the password. */
int config_url_parse(const char *text, struct config_url *url, char *error, size_t size) HARK_MUSTCHECK;
void config_url_free(struct config_url *url);
/* `name`, `name:port`, `[address]`, `[address]:port`; without a port, host->port stays. The hint goes
 * behind the message about a bad port. */
int config_host_parse(const char *text, const char *end, struct config_host *host, const char *port_hint, char *error,
                      size_t size) HARK_MUSTCHECK;
/* The first line of a file; a relative name is first looked for in $CREDENTIALS_DIRECTORY. */
char *config_read_secret(const char *path, char *error, size_t size) HARK_MUSTCHECK;
void config_forget(char *secret);

/* The words of an entry: a value that stood in quotes as a whole is one word. */
int config_words(const struct ini_entry *entry, struct hark_list *words, char *error, size_t size) HARK_MUSTCHECK;
void config_words_free(struct hark_list *words);
/* The `bind` lines of the section being read. */
void config_bindings_read(struct config_reader *reader, struct config_bindings *bindings);
void config_bindings_free(struct config_bindings *bindings);
/* `name = value` pairs of a map, typed; `first` (may be NULL) goes in front. */
int config_arguments_make(const struct hark_map *map, const struct config_argument *first,
                          struct config_arguments *arguments) HARK_MUSTCHECK;
void config_arguments_free(struct config_arguments *arguments);

#endif
