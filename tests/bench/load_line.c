/* SPDX-License-Identifier: MIT */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE_READ (256 * 1024)
#define LINE_RETRY_MS 1

void load_die(const char *what)
{
    if (errno != 0)
        fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    else
        fprintf(stderr, "load: %s\n", what);
    exit(1);
}

static _Noreturn void line_refused(const struct load_frame *frame)
{
    struct raw_reader args = frame->args;
    unsigned code = raw_take_u16(&args);
    struct span text = raw_take_short(&args);

    fprintf(stderr, "load: the broker sent method %u.%u: %u %.*s\n", frame->id >> 16, frame->id & 0xFFFF, code,
            (int)text.length, (const char *)text.data);
    exit(1);
}

struct pollfd load_line_poll(const struct load_line *line, bool writing)
{
    if (buf_length(&line->out) > 0)
        writing = true;
    return (struct pollfd){.fd = line->fd, .events = (short)(POLLIN | (writing ? POLLOUT : 0))};
}

void load_wait(struct pollfd *polled, size_t count, int64_t until)
{
    int64_t left = until != 0 ? until - bench_now() : LOAD_PATIENCE;
    struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    int found;

    if (left <= 0)
        return;
    found = ppoll(polled, count, &timeout, NULL);
    if (found < 0 && errno != EINTR)
        load_die("poll");
    if (found == 0 && until == 0) {
        errno = 0;
        load_die("nothing has come from the broker, nor has it taken anything, for 30 seconds");
    }
}

bool load_line_read(struct load_line *line)
{
    uint8_t *to = buf_reserve(&line->in, LINE_READ);
    ssize_t got = to ? recv(line->fd, to, LINE_READ, 0) : -1;

    line->reads++;
    if (got > 0) {
        line->in.end += (size_t)got;
        return true;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got == 0)
        errno = 0;
    load_die("the connection has ended");
}

bool load_line_next(struct load_line *line, struct load_frame *frame)
{
    const uint8_t *data = line->in.data + line->in.start;
    size_t length = raw_frame_length(data, buf_length(&line->in));

    if (length == 0) {
        if (buf_length(&line->in) == 0)
            buf_clear(&line->in);
        return false;
    }
    line->in.start += length;
    frame->data = data;
    frame->length = length;
    frame->type = data[0];
    frame->args = (struct raw_reader){.at = data + RAW_HEAD, .end = data + length - 1};
    errno = 0;
    if (data[length - 1] != RAW_FRAME_END)
        load_die("a frame without its end");
    if (frame->type != RAW_METHOD)
        return true;
    frame->id = raw_take_u32(&frame->args);
    if (frame->id == RAW_CLOSE || frame->id == RAW_CHANNEL_CLOSE || frame->id == RAW_RETURN)
        line_refused(frame);
    return true;
}

size_t load_line_write(struct load_line *line, const void *data, size_t length)
{
    ssize_t sent = send(line->fd, data, length, MSG_NOSIGNAL);

    line->writes++;
    if (sent >= 0)
        return (size_t)sent;
    if (errno != EAGAIN && errno != EINTR)
        load_die("send");
    return 0;
}

bool load_line_flush(struct load_line *line)
{
    struct buf *out = &line->out;

    if (buf_length(out) > 0)
        out->start += load_line_write(line, out->data + out->start, buf_length(out));
    if (buf_length(out) > 0)
        return false;
    buf_clear(out);
    return true;
}

void load_line_call(struct load_line *line, uint32_t id, struct load_frame *frame)
{
    do {
        while (load_line_next(line, frame)) {
            if (frame->type == RAW_HEARTBEAT)
                continue;
            if (frame->type == RAW_METHOD && frame->id == id)
                return;
            fprintf(stderr, "load: waiting for method %u.%u: a frame of type %d, method %u.%u\n", id >> 16, id & 0xFFFF,
                    frame->type, frame->id >> 16, frame->id & 0xFFFF);
            exit(1);
        }
        if (!load_line_read(line)) {
            bool flushed = load_line_flush(line);
            struct pollfd polled = load_line_poll(line, !flushed);

            load_wait(&polled, 1, 0);
        }
    } while (true);
}

/* ---- open, close ---- */

static bool line_connect(struct load_line *line, int port, bool wait)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    line->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (line->fd < 0)
        load_die("socket");
    if (connect(line->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        if (!wait)
            load_die("cannot connect");
        close(line->fd);
        poll(NULL, 0, LINE_RETRY_MS);
        return false;
    }
    setsockopt(line->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    fcntl(line->fd, F_SETFL, O_NONBLOCK);
    return true;
}

static void line_login(struct load_line *line)
{
    struct buf *out = &line->out;
    struct load_frame frame;
    uint16_t channel_max;
    size_t method;

    buf_put(out, "AMQP\0\0\11\1", 8);
    load_line_call(line, RAW_START, &frame);
    method = raw_method(out, 0, RAW_START_OK);
    raw_long(out, span_str("")); /* client-properties: an empty table */
    raw_short(out, span_str("PLAIN"));
    raw_long(out, span_of("\0guest\0guest", 12));
    raw_short(out, span_str("en_US"));
    raw_end(out, method);

    load_line_call(line, RAW_TUNE, &frame);
    channel_max = raw_take_u16(&frame.args);
    line->frame_max = raw_take_u32(&frame.args);
    method = raw_method(out, 0, RAW_TUNE_OK);
    buf_put_u16(out, channel_max);
    buf_put_u32(out, line->frame_max);
    buf_put_u16(out, 0); /* no heartbeats */
    raw_end(out, method);
    method = raw_method(out, 0, RAW_OPEN);
    raw_short(out, span_str("/"));
    raw_short(out, span_str(""));
    buf_put_u8(out, 0);
    raw_end(out, method);
    load_line_call(line, RAW_OPEN_OK, &frame);

    method = raw_method(out, LOAD_CHANNEL, RAW_CHANNEL_OPEN);
    raw_short(out, span_str(""));
    raw_end(out, method);
    load_line_call(line, RAW_CHANNEL_OPEN_OK, &frame);
}

bool load_line_open(struct load_line *line, int port, bool wait)
{
    *line = (struct load_line){.fd = -1};
    if (!line_connect(line, port, wait))
        return false;
    line_login(line);
    return true;
}

void load_line_close(struct load_line *line)
{
    struct load_frame frame;
    size_t method = raw_method(&line->out, 0, RAW_CLOSE);

    buf_put_u16(&line->out, 200);
    raw_short(&line->out, span_str("done"));
    buf_put_u32(&line->out, 0);
    raw_end(&line->out, method);
    load_line_call(line, RAW_CLOSE_OK, &frame);
    close(line->fd);
    buf_free(&line->in);
    buf_free(&line->out);
}

/* ---- the queue ---- */

#define DECLARE_PASSIVE 1
#define DECLARE_DURABLE 2

static uint64_t line_declare(struct load_line *line, const struct load_options *options, unsigned bits)
{
    size_t method = raw_method(&line->out, LOAD_CHANNEL, RAW_QUEUE_DECLARE);
    struct load_frame frame;

    buf_put_u16(&line->out, 0);
    raw_short(&line->out, span_str(options->queue));
    buf_put_u8(&line->out, (uint8_t)bits);
    buf_put_u32(&line->out, 0);
    raw_end(&line->out, method);
    load_line_call(line, RAW_QUEUE_DECLARE_OK, &frame);
    raw_take_short(&frame.args);
    return raw_take_u32(&frame.args);
}

static void line_bind(struct load_line *line, const struct load_options *options, unsigned key)
{
    size_t method = raw_method(&line->out, LOAD_CHANNEL, RAW_QUEUE_BIND);
    struct load_frame frame;

    buf_put_u16(&line->out, 0);
    raw_short(&line->out, span_str(options->queue));
    raw_short(&line->out, span_str(options->exchange));
    raw_short(&line->out, span_str(bench_keys[key]));
    buf_put_u8(&line->out, 0);
    buf_put_u32(&line->out, 0);
    raw_end(&line->out, method);
    load_line_call(line, RAW_QUEUE_BIND_OK, &frame);
}

void load_setup(struct load_line *line, const struct load_options *options)
{
    struct load_frame frame;
    size_t method;

    load_delete(line, options);
    line_declare(line, options, options->durable ? DECLARE_DURABLE : 0);
    if (options->exchange == NULL)
        return;
    method = raw_method(&line->out, LOAD_CHANNEL, RAW_EXCHANGE_DECLARE);
    buf_put_u16(&line->out, 0);
    raw_short(&line->out, span_str(options->exchange));
    raw_short(&line->out, span_str("topic"));
    buf_put_u8(&line->out, DECLARE_DURABLE);
    buf_put_u32(&line->out, 0);
    raw_end(&line->out, method);
    load_line_call(line, RAW_EXCHANGE_DECLARE_OK, &frame);
    for (unsigned key = 0; key < options->keys; key++)
        line_bind(line, options, key);
}

uint64_t load_ready(struct load_line *line, const struct load_options *options)
{
    return line_declare(line, options, DECLARE_PASSIVE);
}

void load_delete(struct load_line *line, const struct load_options *options)
{
    size_t method = raw_method(&line->out, LOAD_CHANNEL, RAW_QUEUE_DELETE);
    struct load_frame frame;

    buf_put_u16(&line->out, 0);
    raw_short(&line->out, span_str(options->queue));
    buf_put_u8(&line->out, 0);
    raw_end(&line->out, method);
    load_line_call(line, RAW_QUEUE_DELETE_OK, &frame);
}
