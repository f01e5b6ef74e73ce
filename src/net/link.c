/* SPDX-License-Identifier: MIT */
#include "net/link.h"

#include "net/dial.h"
#include "net/stream.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINK_INPUT 65536          /* one read, and what an idle link keeps */
#define LINK_QUOTA (512 * 1024)   /* bytes taken from one link per readiness, then it is the others' turn */
#define LINK_FULL (1024 * 1024)   /* pending output above which no more content is wanted */
#define LINK_DRAINED (256 * 1024) /* and below which it is again */
#define LINK_OUTPUT_KEEP 65536

#define LINK_STATES(X) X(DIALLING) X(SHAKING) X(OPEN) X(FLUSHING) X(CLOSED)
enum link_state {
#define X(name) LINK_##name,
    LINK_STATES(X)
#undef X
};

struct link {
    struct loop *loop;
    const struct link_ops *ops;
    void *arg;
    enum link_state state;
    struct dial *dial;
    struct stream stream;
    struct tls_context *tls;
    struct event *readable, *writable, *timer;
    struct buf in, out;
    struct loop_task flush, reap;
    uint32_t frame_max;
    unsigned pauses;
    bool was_full, write_armed, again_armed;
    unsigned heartbeat;                 /* seconds; 0: off */
    int64_t last_read, last_write;      /* loop_now */
    int64_t stuck_since;                /* output that the kernel does not take; 0: none */
    int64_t deadline;                   /* of dialling and shaking, or of flushing; 0: none */
    uint64_t reads, writes;
    char *tls_name;
    char name[280];
};

static void link_end(struct link *link, const struct reply *error, const char *format, ...) HARK_PRINTF(3, 4);
static void link_read(struct link *link);

/* ---- the one timer: deadlines and heartbeats ---- */

static void link_set_timer(struct link *link, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    if (ms < 1)
        wait.tv_usec = 1000;
    evtimer_add(link->timer, &wait);
}

/* When must somebody look again? A quarter of the interval is fine enough for "half" and "twice". */
static void link_arm(struct link *link)
{
    if (link->state == LINK_CLOSED)
        return;
    if (link->deadline > 0)
        link_set_timer(link, link->deadline - loop_now(link->loop));
    else if (link->heartbeat > 0)
        link_set_timer(link, (int64_t)link->heartbeat * 1000 / 2);
}

static void link_heartbeat(struct link *link)
{
    int64_t now = loop_now(link->loop), interval = (int64_t)link->heartbeat * 1000;

    if (link->pauses == 0 && now - link->last_read >= 2 * interval) {
        link_end(link, NULL, "while waiting for a heartbeat: nothing arrived for %lld s", (long long)(2 * interval / 1000));
        return;
    }
    if (link->stuck_since > 0 && now - link->stuck_since >= 2 * interval) {
        link_end(link, NULL, "while writing: the peer took nothing for %lld s", (long long)(2 * interval / 1000));
        return;
    }
    if (now - link->last_write >= interval / 2 - 50 && link_pending(link) == 0) {
        frame_put_heartbeat(&link->out);
        link_send(link);
    }
    link_arm(link);
}

static void link_tick(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;

    (void)fd;
    (void)what;
    if (link->deadline > 0) {
        if (loop_now(link->loop) < link->deadline) {
            link_arm(link);
        } else if (link->state == LINK_FLUSHING) {
            link_close(link);
        } else {
            link_end(link, NULL, "while %s: timed out", link->state == LINK_DIALLING ? "connecting" : "shaking hands for TLS");
        }
        return;
    }
    if (link->heartbeat > 0)
        link_heartbeat(link);
}

/* ---- closing ---- */

static void link_reap(struct loop_task *task)
{
    struct link *link = HARK_CONTAINER(task, struct link, reap);

    if (link->readable != NULL)
        event_free(link->readable);
    if (link->writable != NULL)
        event_free(link->writable);
    if (link->timer != NULL)
        event_free(link->timer);
    buf_free(&link->in);
    buf_free(&link->out);
    free(link->tls_name);
    free(link);
}

void link_close(struct link *link)
{
    if (link->state == LINK_CLOSED)
        return;
    link->state = LINK_CLOSED;
    dial_cancel(link->dial);
    link->dial = NULL;
    if (link->readable != NULL)
        event_del(link->readable);
    if (link->writable != NULL)
        event_del(link->writable);
    evtimer_del(link->timer);
    loop_task_cancel(link->loop, &link->flush);
    stream_close(&link->stream);
    loop_reap_later(link->loop, &link->reap);
}

static void link_end(struct link *link, const struct reply *error, const char *format, ...)
{
    char why[400];
    va_list args;

    if (link->state == LINK_CLOSED)
        return;
    if (link->state == LINK_FLUSHING) {
        link_close(link);
        return;
    }
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    link_pause(link); /* nothing more is read; the owner may still say farewell */
    link->ops->closed(link->arg, error, why);
    if (link->state != LINK_FLUSHING)
        link_close(link);
}

void link_close_after_flush(struct link *link, int64_t ms)
{
    if (link->state == LINK_CLOSED)
        return;
    if (link->state < LINK_OPEN || link_pending(link) == 0) {
        link_close(link);
        return;
    }
    link->state = LINK_FLUSHING;
    link->heartbeat = 0;
    link->pauses = 0;
    event_add(link->readable, NULL); /* what still comes is dropped, so that it cannot keep the peer from reading */
    link->deadline = loop_now(link->loop) + ms;
    link_arm(link);
    link_send(link);
}

/* ---- writing ---- */

static void link_arm_write(struct link *link, bool on)
{
    if (on == link->write_armed)
        return;
    link->write_armed = on;
    if (on)
        event_add(link->writable, NULL);
    else
        event_del(link->writable);
}

static void link_flush(struct link *link)
{
    while (link->state >= LINK_OPEN && link->state != LINK_CLOSED && link_pending(link) > 0) {
        ssize_t put = stream_write(&link->stream, link->out.data + link->out.start, link_pending(link));

        link->writes++;
        if (put == STREAM_AGAIN) {
            if (link->stuck_since == 0)
                link->stuck_since = loop_now(link->loop);
            link_arm_write(link, true);
            return;
        }
        if (put <= 0) {
            link_end(link, NULL, "while writing: %s", link->stream.why != NULL ? link->stream.why : "closed by the peer");
            return;
        }
        link->out.start += (size_t)put;
        link->stuck_since = 0;
        link->last_write = loop_now(link->loop);
        if (link->was_full && link_pending(link) <= LINK_DRAINED) {
            link->was_full = false;
            if (link->state == LINK_OPEN && link->ops->drained != NULL)
                link->ops->drained(link->arg);
        }
    }
    if (link->state == LINK_CLOSED)
        return;
    link_arm_write(link, false);
    buf_clear(&link->out);
    buf_trim(&link->out, LINK_OUTPUT_KEEP);
    if (link->state == LINK_FLUSHING)
        link_close(link);
}

static void link_flush_task(struct loop_task *task)
{
    link_flush(HARK_CONTAINER(task, struct link, flush));
}

struct buf *link_out(struct link *link)
{
    return &link->out;
}

void link_send(struct link *link)
{
    if (link->state != LINK_CLOSED && !link->write_armed)
        loop_flush_later(link->loop, &link->flush);
    if (HARK_UNLIKELY(link->out.failed) && link->state == LINK_OPEN) {
        log_error("%s: out of memory for what is to be sent: giving up the connection", link->name);
        link->out.failed = false;
        link_end(link, NULL, "while writing: out of memory");
    }
}

size_t link_pending(const struct link *link)
{
    return buf_length(&link->out);
}

bool link_is_full(struct link *link)
{
    if (link_pending(link) < LINK_FULL)
        return false;
    link->was_full = true;
    return true;
}

/* ---- reading ---- */

/* Hands over the frames that are whole. False: the link is closed or paused. */
static bool link_cut(struct link *link)
{
    struct frame frame;
    struct reply error;

    while (link->in.start < link->in.end) {
        ssize_t used = frame_cut(link->in.data + link->in.start, link->in.end - link->in.start, link->frame_max, &frame,
                                 &error);

        if (used == 0)
            return true;
        if (used < 0) {
            link_end(link, &error, "while reading: %s", error.text);
            return false;
        }
        link->in.start += (size_t)used;
        if (frame.type != FRAME_HEARTBEAT)
            link->ops->frame(link->arg, &frame);
        if (link->state != LINK_OPEN || link->pauses > 0)
            return false;
    }
    return true;
}

/* Room behind what is there: the rest of a frame that is cut off moves to the front, so that a frame is always one span. */
static uint8_t *link_room(struct link *link, size_t *room)
{
    struct buf *in = &link->in;
    size_t rest = buf_length(in), want = LINK_INPUT;

    if (in->start > 0) {
        if (rest > 0)
            memmove(in->data, in->data + in->start, rest);
        in->start = 0;
        in->end = rest;
    }
    if (rest >= FRAME_HEAD && get_u32(in->data + 3) <= link->frame_max && get_u32(in->data + 3) + FRAME_OVERHEAD > want)
        want = get_u32(in->data + 3) + FRAME_OVERHEAD;
    if (want < rest + 4096)
        want = rest + 4096;
    if (in->capacity < want && buf_reserve(in, want - rest) == NULL)
        return NULL;
    *room = in->capacity - in->end;
    return in->data + in->end;
}

static void link_drop(struct link *link)
{
    char bytes[4096];
    ssize_t got;

    do
        got = stream_read(&link->stream, bytes, sizeof(bytes));
    while (got > 0);
    if (got != STREAM_AGAIN)
        link_close(link);
}

static void link_read(struct link *link)
{
    size_t taken = 0;
    bool full = true;

    if (link->state == LINK_FLUSHING) {
        link_drop(link);
        return;
    }
    while (full && taken < LINK_QUOTA) {
        size_t room;
        uint8_t *to = link_room(link, &room);
        ssize_t got;

        if (to == NULL) {
            link->in.failed = false;
            link_end(link, NULL, "while reading: out of memory");
            return;
        }
        got = stream_read(&link->stream, to, room);
        link->reads++;
        if (got == STREAM_AGAIN) {
            full = false;
            break;
        }
        if (got <= 0) {
            link_end(link, NULL, "while reading: %s", got == STREAM_EOF ? "the peer closed the connection" : link->stream.why);
            return;
        }
        link->last_read = loop_now(link->loop);
        link->in.end += (size_t)got;
        taken += (size_t)got;
        full = (size_t)got == room || stream_buffered(&link->stream);
        if (!link_cut(link))
            break;
    }
    if (link->state != LINK_OPEN)
        return;
    if (link->ops->batch != NULL)
        link->ops->batch(link->arg, full);
    if (link->state != LINK_OPEN)
        return;
    if (buf_length(&link->in) == 0) {
        buf_clear(&link->in);
        buf_trim(&link->in, LINK_INPUT);
    }
    if (stream_buffered(&link->stream) && link->pauses == 0)
        event_active(link->readable, EV_READ, 0);
}

/* ---- pausing ---- */

static void link_handle_rest(struct link *link)
{
    if (link_cut(link) && link->state == LINK_OPEN && link->ops->batch != NULL)
        link->ops->batch(link->arg, false);
}

void link_pause(struct link *link)
{
    if (link->pauses++ == 0 && link->readable != NULL && link->state != LINK_CLOSED)
        event_del(link->readable);
}

void link_resume(struct link *link)
{
    if (link->pauses == 0 || --link->pauses > 0 || link->readable == NULL || link->state == LINK_CLOSED)
        return;
    link->last_read = loop_now(link->loop);
    event_add(link->readable, NULL);
    /* Frames that were read before the pause do not make the descriptor readable. */
    if (buf_length(&link->in) > 0 || stream_buffered(&link->stream)) {
        link->again_armed = true;
        event_active(link->readable, EV_READ, 0);
    }
}

/* ---- opening ---- */

static void link_opened(struct link *link)
{
    link->state = LINK_OPEN;
    link->deadline = 0;
    evtimer_del(link->timer);
    link->last_read = link->last_write = loop_now(link->loop);
    link->ops->open(link->arg);
}

static void link_shake(struct link *link)
{
    int result = stream_handshake(&link->stream);

    if (result == 1) {
        link_arm_write(link, false);
        link_opened(link);
    } else if (result == STREAM_AGAIN) {
        link_arm_write(link, link->stream.wants_write);
    } else {
        link_end(link, NULL, "while shaking hands for TLS: %s", link->stream.why);
    }
}

static void link_event(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;

    (void)fd;
    if (link->state == LINK_SHAKING) {
        link_shake(link);
        return;
    }
    if ((what & EV_WRITE) != 0)
        link_flush(link);
    if ((what & EV_READ) == 0 || link->state == LINK_CLOSED)
        return;
    if (link->again_armed) {
        link->again_armed = false;
        if (link->state == LINK_OPEN && link->pauses == 0)
            link_handle_rest(link);
        if (link->state != LINK_OPEN || link->pauses > 0)
            return;
    }
    link_read(link);
}

static int link_take(struct link *link, int fd)
{
    if (stream_open(&link->stream, fd, link->tls, link->tls_name) != 0)
        return -1;
    link->readable = event_new(loop_base(link->loop), fd, EV_READ | EV_PERSIST, link_event, link);
    link->writable = event_new(loop_base(link->loop), fd, EV_WRITE | EV_PERSIST, link_event, link);
    if (link->readable == NULL || link->writable == NULL || event_add(link->readable, NULL) != 0)
        return -1;
    link->state = LINK_SHAKING;
    return 0;
}

static void link_dialled(void *arg, int fd, const char *error)
{
    struct link *link = arg;

    link->dial = NULL;
    if (fd < 0)
        link_end(link, NULL, "while connecting: %s", error);
    else if (link_take(link, fd) != 0)
        link_end(link, NULL, "while connecting: out of memory");
    else
        link_shake(link);
}

static struct link *link_new(struct loop *loop, struct tls_context *tls, const struct link_ops *ops, void *arg)
{
    struct link *link = calloc(1, sizeof(*link));

    if (link == NULL)
        return NULL;
    link->loop = loop;
    link->ops = ops;
    link->arg = arg;
    link->tls = tls;
    link->stream.fd = -1;
    link->frame_max = FRAME_UNTUNED_MAX;
    link->flush.run = link_flush_task;
    link->reap.run = link_reap;
    link->timer = evtimer_new(loop_base(loop), link_tick, link);
    if (link->timer != NULL)
        return link;
    free(link);
    return NULL;
}

struct link *link_connect(struct loop *loop, const struct link_address *address, const struct link_ops *ops, void *arg)
{
    struct link *link = link_new(loop, address->tls, ops, arg);
    const char *name = address->tls_server_name != NULL ? address->tls_server_name : address->host;

    if (link == NULL)
        return NULL;
    if (address->unix_path != NULL)
        snprintf(link->name, sizeof(link->name), "%s", address->unix_path);
    else
        snprintf(link->name, sizeof(link->name), strchr(address->host, ':') != NULL ? "[%s]:%u" : "%s:%u", address->host,
                 address->port);
    link->tls_name = strdup(name != NULL ? name : "localhost");
    link->dial = dial_start(loop, address->host, address->port, address->unix_path, link_dialled, link);
    if (link->dial == NULL || link->tls_name == NULL) {
        link_close(link);
        return NULL;
    }
    link->deadline = loop_now(loop) + address->connect_timeout;
    link_arm(link);
    return link;
}

struct link *link_accept(struct loop *loop, int fd, struct tls_context *tls, const struct link_ops *ops, void *arg)
{
    struct link *link = link_new(loop, tls, ops, arg);

    if (link == NULL)
        return NULL;
    snprintf(link->name, sizeof(link->name), "descriptor %d", fd);
    if (link_take(link, fd) != 0) {
        link_close(link);
        return NULL;
    }
    /* With or without TLS, `open` comes from the loop: the first thing to be written or read is waited for. */
    link->deadline = loop_now(loop) + 10000;
    link_arm(link);
    link_arm_write(link, true);
    return link;
}

void link_set_frame_max(struct link *link, uint32_t frame_max)
{
    link->frame_max = frame_max;
}

void link_set_heartbeat(struct link *link, unsigned seconds)
{
    link->heartbeat = seconds;
    link->last_read = link->last_write = loop_now(link->loop);
    if (seconds == 0 && link->deadline == 0)
        evtimer_del(link->timer);
    else
        link_arm(link);
}

const char *link_name(const struct link *link)
{
    return link->name;
}

void link_calls(const struct link *link, uint64_t *reads, uint64_t *writes)
{
    *reads = link->reads;
    *writes = link->writes;
}
