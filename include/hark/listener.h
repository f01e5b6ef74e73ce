/* SPDX-License-Identifier: MIT */
/*
 * The listener interface: all that a listener module needs.
 *
 * The model. A program somewhere publishes a message; harkd consumes it from a queue and calls every
 * listener whose patterns match its routing key. A listener is one section of the ini file, `[listener
 * welcome-mail]`; the module it names is C code, one file with one public symbol, a `const struct
 * hark_module`. A module may serve many listeners: each has an instance of its own in each worker process,
 * and instances share nothing.
 *
 * The life of an event. `handle` is called once per event with the message, read-only. It may emit new
 * messages with hark_emit(); these wait in the event's outbox. Then it settles, once: by returning a verdict,
 * or by returning HARK_LATER and calling hark_settle() when it knows. HARK_DONE publishes the outbox, and the
 * message is acknowledged when the broker has confirmed all of it. HARK_RETRY and HARK_REJECT publish
 * nothing: the first tries this listener again after the next delay of `retry`, the second dead-letters.
 *
 * The rules.
 * - Never block. A worker runs one loop, shared by all listeners: use hark_loop() with libevent, or the
 *   helpers below for what would block (waiting, reading a file, running a program).
 * - Everything an event hands out is valid until the event is settled, and not a moment longer: a settled
 *   event may not be touched again. (A build with sanitizers or --enable-debug says so and aborts.)
 * - All calls happen on the worker's one thread. From other threads, call nothing of this header.
 * - An event that is not settled within the listener's `timeout` is taken back: hark calls the module's
 *   `cancel` and retries the event.
 */
#ifndef HARK_LISTENER_H
#define HARK_LISTENER_H

#include <hark/setting.h>
#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when this header changes in a way that a module must be adapted to. */
#define HARK_API 1

struct event_base;
struct hark_event;
struct hark_instance;
struct hark_timer;
struct hark_process;

/* A string or bytes with a length, owned by whoever gave it. AMQP strings may hold any byte, also 0.
 * `data` is never NULL in what hark hands out. Exchange, routing key and queue have a 0 byte behind them; the rest
 * has not: print with "%.*s". */
struct hark_str {
    const char *data;
    size_t length;
};

/* A hark_str of a C string; NULL gives {NULL, 0}, "not set". */
struct hark_str hark_str(const char *text);

/* For printf: printf("%.*s", HARK_FMT(str)) */
#define HARK_FMT(str) (int)(str).length, ((str).data ? (str).data : "")

/* ---- the module ---- */

enum hark_verdict {
    HARK_DONE = 1, /* handled: publish what was emitted */
    HARK_RETRY,    /* not now: try again after the next delay, dead-letter when there is none left */
    HARK_REJECT,   /* never: dead-letter */
    HARK_LATER,    /* only from handle(): hark_settle() will follow */
};

struct hark_module {
    int api;          /* HARK_API */
    const char *name; /* what `module =` says */
    const char *help; /* one line */

    /* The module's own keys in a listener section, and the size of the struct they fill. */
    const struct hark_setting *settings;
    size_t settings_size;

    /* Optional: judges the settings as a whole, before anything starts and in `harkd --check`. 0, or -1 with
     * a message in `why`, which hark prefixes with file, line and section: the line of the key that it begins with. */
    int (*check)(const void *settings, char *why, size_t why_size);

    /* Optional, once per worker and listener. 0, or -1 after hark_log(instance, HARK_ERROR, ...): the worker
     * does not start. The last thing called on an instance is close, after all its events are settled. */
    int (*open)(struct hark_instance *instance);
    void (*close)(struct hark_instance *instance);

    /* Once per event. */
    enum hark_verdict (*handle)(struct hark_instance *instance, struct hark_event *event);

    /* Optional: the event ran out of time or harkd is stopping; let go of it now (kill the program, drop the
     * request). hark settles the event itself as soon as this returns; it may not be touched again. Without it
     * nothing takes an event back: it is waited for, and when harkd stops it may end unsettled, with close. */
    void (*cancel)(struct hark_instance *instance, struct hark_event *event);
};

/* ---- the instance ---- */

const char *hark_name(const struct hark_instance *instance);     /* of the ini section */
const void *hark_settings(const struct hark_instance *instance); /* the module's own struct, filled */
void hark_set_data(struct hark_instance *instance, void *data);  /* anything of the module's own */
void *hark_data(const struct hark_instance *instance);
struct event_base *hark_loop(const struct hark_instance *instance);
bool hark_emits(const struct hark_instance *instance); /* its section has an `emit` */

enum hark_level { HARK_ERROR, HARK_WARNING, HARK_NOTICE, HARK_INFO, HARK_DEBUG };

/* One line into harkd's log, named after the listener. Control characters are escaped. Never blocks. */
void hark_log(const struct hark_instance *instance, enum hark_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- the event, read-only ---- */

struct hark_instance *hark_instance(const struct hark_event *event);
struct hark_str hark_body(const struct hark_event *event);
struct hark_str hark_exchange(const struct hark_event *event);    /* as first published, also in a retry */
struct hark_str hark_routing_key(const struct hark_event *event); /* likewise */
struct hark_str hark_queue(const struct hark_event *event);
unsigned hark_attempt(const struct hark_event *event);          /* 1 the first time */
bool hark_redelivered(const struct hark_event *event);          /* the broker says it may have been seen before */
void hark_set_event_data(struct hark_event *event, void *data); /* anything of the module's own */
void *hark_event_data(const struct hark_event *event);

/* The basic properties (AMQP 0-9-1, class basic). Unset strings have length 0, see hark_has(). */
enum hark_property {
    HARK_CONTENT_TYPE,
    HARK_CONTENT_ENCODING,
    HARK_CORRELATION_ID,
    HARK_REPLY_TO,
    HARK_EXPIRATION,
    HARK_MESSAGE_ID,
    HARK_TYPE,
    HARK_USER_ID,
    HARK_APP_ID,
    HARK_PROPERTIES, /* how many there are */
};
struct hark_str hark_property(const struct hark_event *event, enum hark_property property);
bool hark_has(const struct hark_event *event, enum hark_property property);
int hark_delivery_mode(const struct hark_event *event); /* 1 transient, 2 persistent, 0 not set */
int hark_priority(const struct hark_event *event);      /* 0..255, -1 not set */
int64_t hark_timestamp(const struct hark_event *event); /* seconds since 1970, -1 not set */

/* A header's value. `kind` is the letter that RabbitMQ uses for the type on the wire. */
struct hark_value {
    char kind; /* t bool, b B s u I i l L integers, f d numbers, D decimal, S string, x bytes, T time, F table,
                  A array, V void */
    union {
        bool boolean;        /* t */
        int64_t integer;     /* b s I l, B u i; T: seconds */
        uint64_t natural;    /* L */
        double number;       /* f d */
        struct hark_str str; /* S x; F A: the encoded bytes without their length; D: 5 bytes */
    };
};

struct hark_header {
    struct hark_str name;
    struct hark_value value;
};

/* 1 and *value if the event has the header (the first one of that name), otherwise 0. */
int hark_header(const struct hark_event *event, const char *name, struct hark_value *value);

/* All headers in order: start with *cursor = 0; 1 and *header, or 0 at the end. */
int hark_next_header(const struct hark_event *event, size_t *cursor, struct hark_header *header);

/* ---- emitting ---- */

/*
 * A message to publish. Zeroed members are "not set": exchange and routing key then come from the
 * listener's `emit` key, and where that names no key, from the event. What is given is copied before
 * the call returns.
 *
 * `like` starts from the event's own properties, headers and content type, and from its body when `body`
 * is not set; what is given here replaces that. (user_id is never passed on: the broker accepts it only
 * from the user it names.)
 *
 * hark adds message_id (stable: derived from the event's id, the listener and the number of the message, so a
 * redelivered event emits the same ids), correlation_id (the event's, or else its message_id), x-hark-cause (its
 * message_id; without one it has none to name), x-hark-hops and traceparent.
 */
struct hark_message {
    struct hark_str exchange;
    struct hark_str routing_key;
    struct hark_str body;
    const struct hark_event *like;
    struct hark_str properties[HARK_PROPERTIES]; /* by enum hark_property; HARK_USER_ID is ignored */
    int delivery_mode;                           /* 0: like the event, else as `persistent` says */
    int priority;                                /* 0: not set; 1..255; -1: explicitly 0 */
    int64_t timestamp;                           /* 0: not set */
    const struct hark_header *headers;           /* added, or put in place of those of the same name */
    size_t header_count;
    const char *const *without; /* names of headers to leave out of `like`'s, NULL at the end; may be NULL */
    bool empty_body;            /* no body, also with `like` */
    bool default_exchange;      /* the default exchange "", which an unset `exchange` cannot say */
};

/* Puts a message into the event's outbox. 0, or -1 if it can never be published (a name over 255 bytes, headers
 * that do not fit into a frame, no exchange known; errno is EINVAL), or for want of memory (ENOMEM): then the reason
 * is in the log and hark_settle(event, HARK_REJECT, ...) or HARK_RETRY is the caller's choice. */
int hark_emit(struct hark_event *event, const struct hark_message *message) __attribute__((warn_unused_result));

/* How a message without an event ended. */
typedef void (*hark_emit_done)(void *arg, bool safe, const char *why);

/* Publishes at once, without an event: for a timer, a file that changed. `done` (may be NULL) is told when the
 * broker has confirmed it (safe) or refused or returned it (why). Not called after close. `like` must be NULL. */
int hark_emit_new(struct hark_instance *instance, const struct hark_message *message, hark_emit_done done, void *arg)
    __attribute__((warn_unused_result));

/* ---- settling ---- */

/* The last word on an event whose handle() returned HARK_LATER. `why` (may be NULL, copied, any bytes escaped) goes
 * into the log and the dead letter. Not HARK_LATER. */
void hark_settle(struct hark_event *event, enum hark_verdict verdict, const char *why);

/* For handle(): notes why, then `return hark_because(event, HARK_RETRY, "disk %s full", name)`. */
enum hark_verdict hark_because(struct hark_event *event, enum hark_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- helpers for what would block ---- */

/* Calls back once after so many milliseconds (in the test kit: of its own clock). */
typedef void (*hark_timer_done)(void *arg);
struct hark_timer *hark_wait(struct hark_instance *instance, int64_t ms, hark_timer_done done, void *arg);
void hark_wait_cancel(struct hark_timer *timer); /* before it fired; NULL is fine */

/* Reads a whole file in a thread. `error` is 0 or an errno (EFBIG: longer than max); the data is freed
 * after the call-back. Not called after close. 0, or -1 if it could not be started. */
typedef void (*hark_file_done)(void *arg, int error, struct hark_str data);
int hark_read_file(struct hark_instance *instance, const char *path, size_t max, hark_file_done done, void *arg)
    __attribute__((warn_unused_result));

/*
 * Runs a program, without a shell, in a process group of its own, without copying the worker and without
 * stopping the loop. Its standard input is `input`, then end of file. The group ends with its program: what the
 * program has left running in it is killed.
 */
struct hark_run {
    const char *const *argv; /* NULL at the end; argv[0] is looked up in PATH unless it has a slash */
    const char *const *env;  /* NAME=value, NULL at the end: the whole environment; NULL: harkd's own */
    const char *directory;   /* working directory, NULL: harkd's own */
    struct hark_str input;   /* must stay valid until done: an event's body does while it is not settled */
    size_t output_max;       /* more standard output than this kills the group, `overflow` */
    /* Optional: each line of standard error, without its newline, cut at 4096 bytes. */
    void (*on_error_line)(void *arg, struct hark_str line);
};

struct hark_run_result {
    int error;       /* 0, or the errno with which it could not be started */
    int exit_status; /* 0..255, -1 if killed by a signal */
    int signal;      /* that signal, or 0 */
    bool overflow;
    struct hark_str output;
};

typedef void (*hark_run_done)(void *arg, const struct hark_run_result *result);

/* NULL if it could not even be tried (out of memory). `done` is called once, never from within this call. */
struct hark_process *hark_run(struct hark_instance *instance, const struct hark_run *run, hark_run_done done,
                              void *arg);
/* Kills the whole process group and forgets about it: `done` is not called. Only before done; NULL is fine. */
void hark_run_kill(struct hark_process *process);

#ifdef __cplusplus
}
#endif

#endif
