/* SPDX-License-Identifier: MIT */
/*
 * Where log lines go: a descriptor (standard error) or journald's socket.
 *
 * Standard error is shared with whoever started us, so it is not made non-blocking (that would be
 * theirs too). poll() and writes of at most PIPE_BUF bytes do nearly the same: a pipe that polls
 * writable takes that much at once, and whole, so lines of several processes do not mix.
 */
#include "base/log_private.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

bool log_is_journal_stream(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(fd, &st) == 0 &&
           st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

static int connect_journal(struct log_output *output)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int size = 1024 * 1024; /* the default holds two dozen lines */

    memcpy(address.sun_path, output->journal_path, sizeof(address.sun_path));
    output->journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (output->journal < 0)
        return -1;
    setsockopt(output->journal, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (connect(output->journal, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return 0;
    close(output->journal);
    output->journal = -1;
    return -1;
}

int log_output_open(struct log_output *output, enum log_format format, int fd, const char *journal_path)
{
    const char *term = getenv("TERM");
    bool automatic = format == LOG_FORMAT_AUTO;

    *output = (struct log_output){.format = format, .fd = fd, .journal = -1};
    snprintf(output->journal_path, sizeof(output->journal_path), "%s", journal_path);
    if (automatic)
        output->format = log_is_journal_stream(fd) ? LOG_FORMAT_JOURNALD : LOG_FORMAT_TEXT;
    if (output->format == LOG_FORMAT_JOURNALD && connect_journal(output) != 0) {
        if (!automatic)
            return -1;
        output->format = LOG_FORMAT_TEXT;
    }
    if (output->format == LOG_FORMAT_JOURNALD)
        return 0;
    if (log_is_journal_stream(fd))
        output->dress = LOG_DRESS_PRIORITY;
    else if (output->format == LOG_FORMAT_TEXT && isatty(fd) && getenv("NO_COLOR") == NULL && term != NULL &&
             strcmp(term, "dumb") != 0)
        output->dress = LOG_DRESS_COLOUR;
    return 0;
}

void log_output_close(struct log_output *output)
{
    if (output->journal >= 0)
        close(output->journal);
    output->journal = -1;
}

static bool writable(int fd, int wait_ms)
{
    struct pollfd poller = {.fd = fd, .events = POLLOUT};

    return poll(&poller, 1, wait_ms) > 0;
}

static size_t send_journal(struct log_output *output, const char *data, size_t length, int wait_ms)
{
    for (int tries = 0; tries < 3; tries++) {
        if (output->journal < 0 && connect_journal(output) != 0)
            break;
        if (send(output->journal, data, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return length;
        if (errno == EAGAIN) {
            if (!writable(output->journal, wait_ms))
                return 0;
        } else if (errno != EINTR) { /* journald was restarted */
            close(output->journal);
            output->journal = -1;
        }
    }
    return length;
}

size_t log_output_write(struct log_output *output, const char *data, size_t length, int wait_ms)
{
    size_t done = 0;

    if (output->format == LOG_FORMAT_JOURNALD)
        return send_journal(output, data, length, wait_ms);
    while (done < length) {
        size_t most = length - done < PIPE_BUF ? length - done : PIPE_BUF;
        ssize_t n;

        if (!writable(output->fd, wait_ms))
            return done;
        n = write(output->fd, data + done, most);
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR && errno != EAGAIN)
            return length;
    }
    return done;
}
