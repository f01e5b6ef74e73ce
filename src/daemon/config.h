/* SPDX-License-Identifier: MIT */
/*
 * The configuration: the ini file read, checked and turned into what the daemon works with.
 *
 * config_read() reports all mistakes at once, each as one line `file:line: [section] text`; a
 * configuration with any mistake is never handed out. It is immutable afterwards, owns every string
 * and array in it (module settings included), and may be shared by everything in a process;
 * config_free() when nobody uses it any more.
 *
 * Strings are never NULL unless said. Durations are milliseconds, sizes bytes. Names are AMQP's.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include "base/base.h"
#include "base/ini.h"
#include <hark/setting.h>
#include <stdio.h>

struct hark_module;
struct users;
struct ways;

#define CONFIG_WORKERS_MAX 256

/* Where something was said, for messages: config_where() prints `hark.ini:12: [queue signups]`. */
struct config_where {
    const char *file;
    int line;
    const char *label;                 /* `[queue signups]` */
    const struct ini_section *section; /* NULL: the file has none */
};

/* One broker address: either host and port or the path of a Unix socket. */
struct config_host {
    char *host; /* NULL with a path; IPv6 without brackets */
    uint16_t port;
    char *path; /* NULL with a host */
};

struct config_url {
    bool embedded; /* the one host is the workers' own socket of the embedded broker */
    bool tls;
    size_t host_count; /* at least 1, in the order of the file */
    struct config_host *hosts;
    char *vhost;
    char *user;
    char *password; /* from the URL or password_file; "" if there is none. Never logged. */
    char *shown;    /* the URL without the password, for logs */
};

/* A typed argument of a declare, bind or consume. */
struct config_argument {
    char *name;
    char kind; /* 't' boolean, 'l' integer, 'S' string: AMQP's letters as RabbitMQ uses them */
    union {
        bool boolean;
        int64_t integer;
        char *string;
    };
};

struct config_arguments {
    size_t count;
    struct config_argument *items;
};

struct config_binding {
    char *exchange;
    char *pattern; /* "" when not given */
    int line;      /* of its `bind =`, in the section's file */
};

struct config_bindings {
    size_t count;
    struct config_binding *items;
};

enum config_auth { CONFIG_AUTH_PLAIN, CONFIG_AUTH_EXTERNAL };
enum config_declare { CONFIG_DECLARE_YES, CONFIG_DECLARE_PASSIVE, CONFIG_DECLARE_NO };
enum config_queue_type { CONFIG_QUEUE_CLASSIC, CONFIG_QUEUE_QUORUM, CONFIG_QUEUE_STREAM };

/* [hark] */
struct config_general {
    char *url;           /* as written: may hold a password, use config->url.shown in logs */
    char *password_file; /* NULL: not set; already read */
    int64_t workers;     /* 0 in the file has become the number of processors, and what an embedded broker
                            without exchanges, queues and listeners needs has become 0 */
    int auth;            /* enum config_auth */
    int64_t heartbeat;   /* ms; 0: none */
    int64_t connect_timeout;
    int64_t reconnect_min, reconnect_max;
    int64_t frame_max;
    char *tls_ca, *tls_certificate, *tls_key; /* NULL: not set */
    char *tls_key_password_file;              /* NULL: not set; already read */
    bool tls_verify;
    char *tls_server_name; /* NULL: the host's name */
    int64_t max_message_size;
    int64_t max_hops;
    char *dead_letter;
    char *dead_letter_queue; /* resolved: "" means declare none */
    bool confirm;
    bool persistent;
    int64_t publish_window;
    int64_t hang_timeout; /* 0: off */
    int64_t crash_limit;
    int64_t drain_timeout;
    int64_t slow_call;
    int64_t dedup_entries;
    int log;       /* enum log_format */
    int log_level; /* enum log_level */
};

/* [exchange NAME] */
struct config_exchange {
    struct config_where where;
    const char *name;
    char *type;
    bool durable, auto_delete, internal;
    int declare;                     /* enum config_declare */
    struct config_bindings bindings; /* from other exchanges to this one */
    struct config_arguments arguments;
    struct hark_list raw_bind; /* what the bindings and arguments were made of */
    struct hark_map raw_argument;
};

/* [queue NAME] */
struct config_queue {
    struct config_where where;
    const char *name;
    struct config_bindings bindings;
    struct config_arguments bind_arguments; /* of every binding */
    int type;                               /* enum config_queue_type */
    bool durable, auto_delete, exclusive;
    int declare; /* enum config_declare */
    int64_t prefetch;
    /* x-queue-type (unless classic) is the first of `arguments`, x-priority (if set) of
     * `consume_arguments`: ready to send. */
    struct config_arguments arguments;
    struct config_arguments consume_arguments;
    int64_t dedup;         /* ms; 0: off */
    size_t listener_count; /* those that name it, in the order of the file: a queue without any is not consumed */
    const struct config_listener **listeners;
    char *raw_priority; /* what the above was made of */
    struct hark_list raw_bind;
    struct hark_map raw_argument, raw_bind_argument, raw_consume_argument;
};

/* [listener NAME] */
struct config_listener {
    struct config_where where;
    const char *name;
    const struct hark_module *module;
    void *settings; /* the module's own struct, filled and checked; NULL if the module has none */
    size_t queue_count;
    struct config_queue **queues; /* into config->queues, at least one */
    struct hark_list on;          /* topic patterns, at least one, each checked */
    char *emit_exchange;          /* NULL: no `emit`; "": the default exchange */
    char *emit_key;               /* NULL: the event's key */
    struct hark_durations retry;  /* count 0: no retry */
    int64_t timeout;              /* ms; 0: none */
    int64_t concurrency;
    char *raw_module; /* what the above was made of */
    struct hark_list raw_queue;
    char *raw_emit;
};

/* An address to listen on, and where it was said. */
struct config_address {
    struct config_host host; /* "*": all addresses */
    char *shown;             /* as written */
    int line;                /* 0: the default */
};

struct config_addresses {
    size_t count;
    struct config_address *items;
};

/* [broker]: the embedded broker. Only with `url = embedded:`; otherwise all zero. */
struct config_broker {
    struct config_where where; /* line 0: the file has no such section */
    struct config_addresses listen, listen_tls;
    char *tls_certificate, *tls_key, *tls_ca; /* NULL: not set */
    char *tls_key_password_file;              /* NULL: not set; already read */
    char *tls_key_password;                   /* NULL: none. Never logged. */
    bool tls_verify;
    char *data;
    int64_t memory_limit; /* resolved: never 0 */
    int64_t disk_free_limit;
    int64_t max_message_size;
    int64_t frame_max, channel_max;
    int64_t heartbeat; /* ms; 0: none */
    int64_t connection_max, queue_max, consumer_max;
    int64_t handshake_timeout;
    struct hark_list vhosts; /* besides "/" and the url's */
    char *definitions;       /* NULL: none */
    int64_t drain_timeout;
    struct hark_list raw_listen, raw_listen_tls; /* what the addresses were made of */
};

struct config_permission {
    char *vhost, *configure, *write, *read; /* the last three are regular expressions */
    int line;                               /* 0: the default */
};

enum config_hashing { CONFIG_HASHING_SHA256, CONFIG_HASHING_SHA512, CONFIG_HASHING_MD5 };

/* [user NAME], of the embedded broker */
struct config_user {
    struct config_where where;
    const char *name;
    char *password;        /* from the file or password_file; NULL: none. Never logged. */
    char *password_file;   /* NULL: not set; already read */
    char *password_hash;   /* NULL: none. Never logged. */
    int hashing_algorithm; /* enum config_hashing */
    char *tags;            /* separated by blanks */
    bool loopback_only;
    size_t permission_count; /* without any in the file: everything in "/" */
    struct config_permission *permissions;
    struct hark_list raw_tags, raw_permission; /* what the above was made of */
};

/* A file that only the service sees: one of systemd's credentials. */
struct config_elsewhere {
    struct config_where where;
    int line; /* 0: of the section */
    const char *key, *path;
};

struct config {
    char *path; /* the main file */
    struct config_general general;
    struct config_url url;
    char *tls_key_password; /* NULL: none. Never logged. */
    size_t exchange_count, queue_count, listener_count;
    struct config_exchange *exchanges;
    struct config_queue *queues;
    struct config_listener *listeners;
    struct config_exchange **exchanges_by_name; /* sorted, for config_find_...() */
    struct config_queue **queues_by_name;
    struct ways *ways; /* the bindings, for questions about routes */
    struct config_broker broker;
    size_t user_count;
    struct config_user *users;
    size_t elsewhere_count;
    struct config_elsewhere *elsewhere; /* only after config_look() */
    struct ini *ini;                    /* names and labels point into it */
};

/* NULL if there were mistakes: then errors->count > 0. The caller frees the errors with
 * ini_errors_free(). */
struct config *config_read(const char *path, struct ini_errors *errors) HARK_MUSTCHECK;
/* The same to look at it, not to run it: outside of the service its credentials are no mistakes, and what depends on
 * them stays unchecked; they are in `elsewhere`. */
struct config *config_look(const char *path, struct ini_errors *errors) HARK_MUSTCHECK;
/* The same from memory, for tests; `name` stands for the file. */
struct config *config_parse(const char *name, const char *text, size_t length,
                            struct ini_errors *errors) HARK_MUSTCHECK;
void config_free(struct config *config);

/* Gives a user of the file to the broker. -1 with a message, and the line that it is about. */
int config_put_user(const struct config_user *user, struct users *users, int *line, char *error,
                    size_t size) HARK_MUSTCHECK;

/* By name; NULL if the file has no such section. */
struct config_exchange *config_find_exchange(const struct config *config, const char *name);
struct config_queue *config_find_queue(const struct config *config, const char *name);
/* The default exchange and amq.*, which every broker has. */
bool config_exchange_builtin(const char *name);

/* `harkd --defaults`: a complete commented ini file of all keys of all sections and of all modules.
 */
void config_print_defaults(FILE *out);

/* `hark.ini:12: [queue signups]` into `to`; returns it. */
const char *config_where(const struct config_where *where, char *to, size_t size);
/* The line of a key in the section that is there; 0 if it is not in the file. */
int config_line(const struct config_where *where, const char *key);

#endif
