/* SPDX-License-Identifier: MIT */
/*
 * The log. Lines go into a bounded ring in memory; a thread of the logger's own writes them out, so a stuck
 * terminal, pipe or disk never stops the caller. When the ring is full, lines are dropped and their number is
 * logged as soon as there is room.
 *
 * Formats: text for people, logfmt, JSON, journald (native protocol with fields). What comes from outside may
 * stand in any argument: control characters and bytes that are not UTF-8 are escaped at the time of writing.
 *
 * Each process has one logger. After fork() the child calls log_after_fork().
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/base.h"
#include "base/span.h"
#include <stdarg.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON, LOG_FORMAT_JOURNALD };

/* Before log_start() and after log_stop(), lines are written to standard error directly. */
int log_start(enum log_format format, enum log_level level) HARK_MUSTCHECK;
void log_set_level(enum log_level level);
/* In the child: a new writer thread, and `who` ("worker[1]") as the process's name in every line. The lines that
 * the parent had not yet written are the parent's. */
int log_after_fork(const char *who) HARK_MUSTCHECK;
/* Waits until what was logged is written, at most `ms`. */
void log_flush(int ms);
void log_stop(void);

/* What a line is about: fields of logfmt, JSON and journald; the text format shows the message only, which
 * therefore says everything that matters. End with {0}. Values are copied. */
struct log_field {
    const char *name; /* lower case; upper-cased and prefixed HARK_ for journald */
    struct span value;
};

extern enum log_level log_threshold; /* the one mutable global: read by the macros below */

void log_write(enum log_level level, const struct log_field *fields, const char *format, ...) HARK_PRINTF(3, 4);
void log_writev(enum log_level level, const struct log_field *fields, const char *format, va_list args)
    HARK_PRINTF(3, 0);

#define log_at(level, fields, ...) \
    do { \
        if ((level) <= log_threshold) \
            log_write(level, fields, __VA_ARGS__); \
    } while (0)
#define log_error(...) log_at(LOG_LEVEL_ERROR, NULL, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, NULL, __VA_ARGS__)
#define log_notice(...) log_at(LOG_LEVEL_NOTICE, NULL, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, NULL, __VA_ARGS__)

/* What goes in front of a line that is no log line (the mistakes of a file, wrong arguments): "<3>" if the
 * descriptor is the stream that systemd connected to the journal, "" for everyone else. */
const char *log_prefix(int fd, enum log_level level);

/* From now on (NULL: no longer) lines go to a call-back instead, as they were given: for tests. */
void log_divert(void (*to)(void *arg, enum log_level level, const char *text), void *arg);

/* Lets at most `burst` lines per `period_ms` through; the next line that passes says how many were left out. */
struct log_limit {
    int burst;
    int64_t period_ms;
    int64_t since;
    unsigned passed, dropped;
};
/* True if the caller may log now; *dropped is how many were not logged since the last one. */
bool log_allowed(struct log_limit *limit, unsigned *dropped);

/* Escapes into `to`, always terminated, cut with "..." where it does not fit: \n \t \\ \xNN, valid UTF-8 kept. */
const char *log_escape(char *to, size_t size, struct span from);

#endif
