/* SPDX-License-Identifier: MIT */
/* Shared by the parts of the logger and by its test; nobody else includes this. */
#ifndef BASE_LOG_PRIVATE_H
#define BASE_LOG_PRIVATE_H

#include "base/log.h"
#include <time.h>

#define LOG_RING_SIZE (256 * 1024)
#define LOG_MESSAGE_MAX 4096 /* bytes of a message before escaping; a longer one ends in "..." */
#define LOG_FIELDS_SIZE 4096 /* names and values of all fields together */
#define LOG_FIELDS_MAX 16
/* No byte becomes more than six ("\u0001"); the rest is room for the line's own fields. */
#define LOG_LINE_SIZE (6 * (LOG_MESSAGE_MAX + LOG_FIELDS_SIZE) + 1024)

struct log_record {
    enum log_level level;
    struct timespec time;
    pid_t pid;
    const char *who;
    struct span message;
    size_t field_count;
    struct {
        struct span name, value;
    } fields[LOG_FIELDS_MAX];
};

/* What a line gets besides its text: colours (of the text format) for a terminal, or sd-daemon(3)'s "<3>" in front, by
 * which journald knows the priority of what comes over a stream. */
enum log_dress { LOG_DRESS_NONE, LOG_DRESS_COLOUR, LOG_DRESS_PRIORITY };

/* One line with its newline (journald: one datagram) into `to`, which has LOG_LINE_SIZE bytes;
 * returns the length. `format` is not LOG_FORMAT_AUTO. */
size_t log_format_record(enum log_format format, enum log_dress dress, const struct log_record *record, char *to);

/* Where lines go. All calls but the first come from one thread. */
struct log_output {
    enum log_format format; /* resolved, never AUTO */
    int fd;
    enum log_dress dress;
    int journal; /* socket, -1 unless the format is journald */
    char journal_path[108];
};
/* 0, or -1 with errno if journald was asked for and cannot be reached. */
int log_output_open(struct log_output *output, enum log_format format, int fd, const char *journal_path) HARK_MUSTCHECK;
void log_output_close(struct log_output *output);
/* systemd names the stream that it connected to us: true if the descriptor is still that one. */
bool log_is_journal_stream(int fd);
/* Writes one datagram or some whole lines; waits for the other side at most `wait_ms`. How many
 * bytes were taken: all of them also when the other side is gone for good and they are lost; less
 * when it is stuck. */
size_t log_output_write(struct log_output *output, const char *data, size_t length, int wait_ms);

/* log_start() with everything open to a test. */
int log_start_to(enum log_format format, enum log_level level, int fd, const char *journal_path) HARK_MUSTCHECK;

#endif
