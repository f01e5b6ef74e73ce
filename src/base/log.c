/* SPDX-License-Identifier: MIT */
/*
 * The ring between those who log and the thread that writes.
 *
 * A record is copied into the ring under a lock that is only ever held for a copy; formatting,
 * escaping and everything that can wait for the outside is the thread's. The thread allocates
 * nothing (its first malloc would cost an arena) and blocks all signals.
 */
#include "base/log_private.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define STACK_SIZE (128 * 1024)
#define WRITE_WAIT_MS 100 /* how long the thread waits for a stuck reader before it looks for orders again */
#define STOP_WAIT_MS 2000

struct header {
    uint32_t size; /* of the record, this header included */
    uint32_t level;
    struct timespec time;
    uint16_t message_length;
    uint16_t field_count;
};

struct field_header {
    uint16_t name_length, value_length;
};

#define RECORD_MAX \
    (sizeof(struct header) + LOG_MESSAGE_MAX + LOG_FIELDS_SIZE + LOG_FIELDS_MAX * sizeof(struct field_header))

enum log_level log_threshold = LOG_LEVEL_INFO;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled, drained; /* for the thread; for log_flush() */
    pthread_t thread;
    void (*divert)(void *arg, enum log_level level, const char *text);
    void *divert_arg;
    bool started, stopping, busy, abandoned;
    pid_t pid;
    char who[32];
    struct log_output output;
    size_t start, used; /* of the ring; an empty ring starts at 0 again, so that few of its pages
                           are ever touched */
    unsigned long dropped;
    char ring[LOG_RING_SIZE];
    /* The thread's own. */
    char record[RECORD_MAX];
    char line[LOG_LINE_SIZE];
    char batch[PIPE_BUF];
    size_t batched;
} logger = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .who = "harkd",
    .output = {.format = LOG_FORMAT_TEXT, .fd = STDERR_FILENO, .journal = -1},
};

static int64_t monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the ring; the lock is held ---- */

static void ring_put(const void *data, size_t length)
{
    size_t at = (logger.start + logger.used) % LOG_RING_SIZE;
    size_t first = length < LOG_RING_SIZE - at ? length : LOG_RING_SIZE - at;

    memcpy(logger.ring + at, data, first);
    if (length > first)
        memcpy(logger.ring, (const char *)data + first, length - first);
    logger.used += length;
}

static void ring_take(void *data, size_t length)
{
    size_t first = length < LOG_RING_SIZE - logger.start ? length : LOG_RING_SIZE - logger.start;

    memcpy(data, logger.ring + logger.start, first);
    if (length > first)
        memcpy((char *)data + first, logger.ring, length - first);
    logger.start = (logger.start + length) % LOG_RING_SIZE;
    logger.used -= length;
    if (logger.used == 0)
        logger.start = 0;
}

/* How much of the field's value is kept, with what is left for the fields' bytes. -1: not even its
 * name. */
static ssize_t field_fits(const struct log_field *field, size_t left)
{
    size_t name = strlen(field->name);

    if (name > left)
        return -1;
    return (ssize_t)(field->value.length < left - name ? field->value.length : left - name);
}

static bool ring_put_record(enum log_level level, const struct log_field *fields, const char *message, size_t length)
{
    struct header header = {.level = level, .message_length = (uint16_t)length};
    size_t left = LOG_FIELDS_SIZE;
    ssize_t fits;

    clock_gettime(CLOCK_REALTIME, &header.time);
    for (const struct log_field *f = fields; f != NULL && f->name != NULL && header.field_count < LOG_FIELDS_MAX; f++) {
        if ((fits = field_fits(f, left)) < 0)
            break;
        left -= strlen(f->name) + (size_t)fits;
        header.field_count++;
    }
    header.size = (uint32_t)(sizeof(header) + length + (LOG_FIELDS_SIZE - left) +
                             header.field_count * sizeof(struct field_header));
    if (header.size > LOG_RING_SIZE - logger.used)
        return false;
    ring_put(&header, sizeof(header));
    ring_put(message, length);
    left = LOG_FIELDS_SIZE;
    for (size_t i = 0; i < header.field_count; i++) {
        struct field_header sizes = {.name_length = (uint16_t)strlen(fields[i].name)};

        fits = field_fits(&fields[i], left);
        sizes.value_length = (uint16_t)fits;
        left -= sizes.name_length + sizes.value_length;
        ring_put(&sizes, sizeof(sizes));
        ring_put(fields[i].name, sizes.name_length);
        if (fits > 0)
            ring_put(fields[i].value.data, (size_t)fits);
    }
    return true;
}

/* Says in the ring how many lines are missing at this place; not before it is half empty, or lines
 * and such reports would take turns. */
static bool ring_put_dropped(void)
{
    char text[80];
    int length;

    if (logger.used > LOG_RING_SIZE / 2)
        return false;
    length = snprintf(text, sizeof(text), "%lu log line%s dropped: the reader of the log is too slow", logger.dropped,
                      logger.dropped == 1 ? "" : "s");
    if (!ring_put_record(LOG_LEVEL_WARNING, NULL, text, (size_t)length))
        return false;
    logger.dropped = 0;
    return true;
}

/* ---- the thread ---- */

static void read_record(struct log_record *record, const char *data)
{
    struct header header;

    memcpy(&header, data, sizeof(header));
    data += sizeof(header);
    *record = (struct log_record){.level = (enum log_level)header.level,
                                  .time = header.time,
                                  .pid = logger.pid,
                                  .who = logger.who,
                                  .message = span_of(data, header.message_length),
                                  .field_count = header.field_count};
    data += header.message_length;
    for (size_t i = 0; i < header.field_count; i++) {
        struct field_header sizes;

        memcpy(&sizes, data, sizeof(sizes));
        data += sizeof(sizes);
        record->fields[i].name = span_of(data, sizes.name_length);
        data += sizes.name_length;
        record->fields[i].value = span_of(data, sizes.value_length);
        data += sizes.value_length;
    }
}

/* Writes all of it, or gives up when told to stop. */
static void write_out(const char *data, size_t length)
{
    size_t done = 0;

    for (;;) {
        bool stopping;

        done += log_output_write(&logger.output, data + done, length - done, WRITE_WAIT_MS);
        if (done == length)
            return;
        pthread_mutex_lock(&logger.lock);
        stopping = logger.stopping;
        pthread_mutex_unlock(&logger.lock);
        if (stopping)
            return;
    }
}

static void write_batch(void)
{
    if (logger.batched > 0)
        write_out(logger.batch, logger.batched);
    logger.batched = 0;
}

static void write_record(void)
{
    struct log_record record;
    size_t length;

    read_record(&record, logger.record);
    length = log_format_record(logger.output.format, logger.output.dress, &record, logger.line);
    if (logger.output.format == LOG_FORMAT_JOURNALD || length > sizeof(logger.batch)) {
        write_batch();
        write_out(logger.line, length);
        return;
    }
    if (logger.batched + length > sizeof(logger.batch))
        write_batch();
    memcpy(logger.batch + logger.batched, logger.line, length);
    logger.batched += length;
}

static void *write_lines(void *arg)
{
    pthread_mutex_lock(&logger.lock);
    for (;;) {
        struct header header;

        if (logger.used == 0 && logger.dropped > 0)
            (void)ring_put_dropped();
        if (logger.used > 0) {
            logger.busy = true;
            ring_take(&header, sizeof(header));
            memcpy(logger.record, &header, sizeof(header));
            ring_take(logger.record + sizeof(header), header.size - sizeof(header));
            pthread_mutex_unlock(&logger.lock);
            write_record();
            pthread_mutex_lock(&logger.lock);
        } else if (logger.batched > 0) {
            pthread_mutex_unlock(&logger.lock);
            write_batch();
            pthread_mutex_lock(&logger.lock);
        } else {
            logger.busy = false;
            pthread_cond_broadcast(&logger.drained);
            if (logger.stopping)
                break;
            pthread_cond_wait(&logger.filled, &logger.lock);
        }
    }
    pthread_mutex_unlock(&logger.lock);
    return arg;
}

static int start_thread(void)
{
    pthread_condattr_t clock;
    pthread_attr_t attr;
    sigset_t all, before;
    int error;

    pthread_mutex_init(&logger.lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&logger.filled, NULL);
    pthread_cond_init(&logger.drained, &clock);
    pthread_condattr_destroy(&clock);
    logger.start = logger.used = logger.batched = 0;
    logger.dropped = 0;
    logger.stopping = false;
    logger.busy = true; /* until the thread waits for the first line */
    logger.pid = getpid();

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&logger.thread, &attr, write_lines, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    logger.started = error == 0;
    errno = error;
    return error == 0 ? 0 : -1;
}

/* ---- for everybody ---- */

int log_start_to(enum log_format format, enum log_level level, int fd, const char *journal_path)
{
    if (logger.started || logger.abandoned) {
        errno = EBUSY;
        return -1;
    }
    if (log_output_open(&logger.output, format, fd, journal_path) != 0)
        return -1;
    log_threshold = level;
    if (start_thread() != 0)
        return -1;
    /* A thread allocates while it starts. A fork() in the midst of that would leave the child an
     * allocator that is locked for ever, where the C library does not see to it (AddressSanitizer's
     * does not). */
    log_flush(1000);
    return 0;
}

int log_start(enum log_format format, enum log_level level)
{
    return log_start_to(format, level, STDERR_FILENO, "/run/systemd/journal/socket");
}

void log_set_level(enum log_level level)
{
    log_threshold = level;
}

int log_after_fork(const char *who)
{
    snprintf(logger.who, sizeof(logger.who), "%s", who);
    if (!logger.started)
        return 0;
    /* The thread stayed with the parent, and may have held the lock: everything begins anew. */
    return start_thread();
}

void log_flush(int ms)
{
    int64_t until = monotonic_ms() + ms;
    struct timespec deadline = {.tv_sec = (time_t)(until / 1000), .tv_nsec = (long)(until % 1000) * 1000000};

    if (!logger.started)
        return;
    pthread_mutex_lock(&logger.lock);
    while ((logger.used > 0 || logger.busy) &&
           pthread_cond_timedwait(&logger.drained, &logger.lock, &deadline) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&logger.lock);
}

void log_stop(void)
{
    struct timespec deadline;

    if (!logger.started)
        return;
    log_flush(STOP_WAIT_MS);
    pthread_mutex_lock(&logger.lock);
    logger.stopping = true;
    if (logger.used > 0) /* stuck: what is left will not be read by anybody */
        logger.used = logger.start = 0;
    pthread_cond_signal(&logger.filled);
    pthread_mutex_unlock(&logger.lock);
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 1;
    if (pthread_timedjoin_np(logger.thread, NULL, &deadline) != 0) {
        /* Another process filled the pipe between our poll and our write. The thread ends with the
         * process. */
        pthread_detach(logger.thread);
        logger.abandoned = true;
    } else {
        log_output_close(&logger.output);
    }
    logger.started = false;
    logger.output.format = LOG_FORMAT_TEXT;
    logger.output.dress = LOG_DRESS_NONE;
}

/* Without the thread: on the spot, but not if that would mean to wait. */
static void write_directly(enum log_level level, const char *message, size_t length)
{
    struct log_record record = {
        .level = level, .pid = getpid(), .who = logger.who, .message = span_of(message, length)};
    char line[LOG_LINE_SIZE];

    clock_gettime(CLOCK_REALTIME, &record.time);
    length = log_format_record(
        LOG_FORMAT_TEXT, log_is_journal_stream(logger.output.fd) ? LOG_DRESS_PRIORITY : LOG_DRESS_NONE, &record, line);
    (void)log_output_write(&logger.output, line, length, 0);
}

void log_writev(enum log_level level, const struct log_field *fields, const char *format, va_list args)
{
    char message[LOG_MESSAGE_MAX];
    int length;

    if (level > log_threshold || (length = vsnprintf(message, sizeof(message), format, args)) < 0)
        return;
    if ((size_t)length >= sizeof(message)) {
        length = sizeof(message) - 1;
        memcpy(message + length - 3, "...", 3);
    }
    if (logger.divert != NULL) {
        logger.divert(logger.divert_arg, level, message);
        return;
    }
    if (!logger.started) {
        write_directly(level, message, (size_t)length);
        return;
    }
    pthread_mutex_lock(&logger.lock);
    if ((logger.dropped > 0 && !ring_put_dropped()) || !ring_put_record(level, fields, message, (size_t)length))
        logger.dropped++;
    else if (!logger.busy)
        pthread_cond_signal(&logger.filled);
    pthread_mutex_unlock(&logger.lock);
}

void log_write(enum log_level level, const struct log_field *fields, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_writev(level, fields, format, args);
    va_end(args);
}

void log_divert(void (*to)(void *arg, enum log_level level, const char *text), void *arg)
{
    logger.divert = to;
    logger.divert_arg = arg;
}

bool log_allowed(struct log_limit *limit, unsigned *dropped)
{
    int64_t now = monotonic_ms();

    if (limit->since == 0 || now - limit->since >= limit->period_ms) {
        limit->since = now;
        limit->passed = 0;
    }
    if (limit->passed >= (unsigned)limit->burst) {
        limit->dropped++;
        return false;
    }
    limit->passed++;
    *dropped = limit->dropped;
    limit->dropped = 0;
    return true;
}
