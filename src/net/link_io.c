/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing. Raw read and write events rather than a bufferevent, which reads 4 KiB at a time with an ioctl
 * before each and pays an epoll change per burst of writes. The read event stays armed, level-triggered.
 */
#include "net/link_private.h"

#include <string.h>

#define LINK_HEADER 8             /* bytes of a protocol header */
#define LINK_INPUT 65536          /* room for one read */
#define LINK_QUOTA (512 * 1024)   /* bytes taken from one link per readiness, then it is the others' turn */
#define LINK_QUIET 4096           /* a readiness that brought less gives memory back */
#define LINK_FULL (1024 * 1024)   /* pending output above which no more content is wanted */
#define LINK_DRAINED (256 * 1024) /* and below which it is again */
#define LINK_OUTPUT_KEEP (256 * 1024)

/* ---- writing ---- */

void link_arm_write(struct link *link, bool on)
{
    if (on == link->write_armed)
        return;
    link->write_armed = on;
    if (on)
        event_add(link->writable, NULL);
    else
        event_del(link->writable);
}

/* All was written, and no more will be. */
static void link_say_end(struct link *link)
{
    if (link->said_end)
        return;
    link->said_end = true;
    stream_finish(&link->stream);
}

/* The kernel took some. False: `drained` closed the link. */
static bool link_wrote(struct link *link, size_t length)
{
    link->out.start += length;
    link->heartbeat.stuck = 0;
    link->heartbeat.written = loop_now(link->loop);
    if (HARK_UNLIKELY(link->was_full && link->state == LINK_OPEN && link_pending(link) <= LINK_DRAINED)) {
        link->was_full = false;
        if (link->ops->drained != NULL)
            link->ops->drained(link->arg);
    }
    return link->state == LINK_OPEN || link->state == LINK_FLUSHING;
}

void link_flush(struct link *link)
{
    if (link->state != LINK_OPEN && link->state != LINK_FLUSHING)
        return;
    if (HARK_UNLIKELY(link->out.failed)) {
        buf_clear(&link->out); /* a frame may be incomplete: nothing of it may be sent */
        link_end(link, NULL, "while writing: out of memory");
        return;
    }
    while (link_pending(link) > 0) {
        size_t length = link_pending(link);
        ssize_t put = stream_write(&link->stream, link->out.data + link->out.start, length);

        link->writes++;
        if (put == STREAM_AGAIN) {
            if (link->heartbeat.stuck == 0)
                link->heartbeat.stuck = loop_now(link->loop);
            link_arm_write(link, true);
            return;
        }
        if (put <= 0) {
            link_end(link, NULL, "while writing: %s", put < 0 ? link->stream.why : "the peer closed the connection");
            return;
        }
        if (!link_wrote(link, (size_t)put))
            return;
    }
    link_arm_write(link, false);
    buf_clear(&link->out);
    buf_trim(&link->out, LINK_OUTPUT_KEEP);
    if (link->state == LINK_FLUSHING)
        link_say_end(link);
}

void link_flush_task(struct loop_task *task)
{
    link_flush(HARK_CONTAINER(task, struct link, flush));
}

struct buf *link_out(struct link *link)
{
    return &link->out;
}

void link_send(struct link *link)
{
    if (!link->write_armed)
        loop_flush_later(link->loop, &link->flush);
}

size_t link_pending(const struct link *link)
{
    return buf_length(&link->out);
}

bool link_is_full(struct link *link)
{
    if (HARK_LIKELY(link_pending(link) < LINK_FULL))
        return false;
    link->was_full = true;
    return true;
}

/* ---- reading ---- */

void link_arm_read(struct link *link, bool on)
{
    if (on == link->read_armed)
        return;
    link->read_armed = on;
    if (on)
        event_add(link->readable, NULL);
    else
        event_del(link->readable);
}

/* Hands over the frames that are whole. False: closed or paused meanwhile. */
static bool link_cut(struct link *link)
{
    struct buf *in = &link->in;
    struct frame frame;
    struct reply error;

    if (HARK_UNLIKELY(link->ops->header != NULL && !link->greeted)) {
        if (buf_length(in) < LINK_HEADER)
            return true;
        link->greeted = true;
        in->start += LINK_HEADER;
        link->ops->header(link->arg, in->data + in->start - LINK_HEADER);
        if (link->state != LINK_OPEN || link->pauses > 0)
            return false;
    }
    while (in->start < in->end) {
        ssize_t used = frame_cut(in->data + in->start, in->end - in->start, link->frame_max, &frame, &error);

        if (used == 0)
            return true;
        if (HARK_UNLIKELY(used < 0)) {
            link_end(link, &error, "while reading: %s", error.text);
            return false;
        }
        in->start += (size_t)used;
        if (HARK_LIKELY(frame.type != FRAME_HEARTBEAT))
            link->ops->frame(link->arg, &frame);
        if (HARK_UNLIKELY(link->state != LINK_OPEN || link->pauses > 0))
            return false;
    }
    return true;
}

/* Where the next bytes go. The rest of a frame moves to the front, so that a frame is always one span; the buffer grows
 * only for a frame that does not fit, whose size frame_cut() has found sound. NULL: no memory. */
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
    if (rest >= FRAME_HEAD && (size_t)get_u32(in->data + 3) + FRAME_OVERHEAD > want &&
        (size_t)get_u32(in->data + 3) + FRAME_OVERHEAD <= link->frame_max) /* kept by a pause: not looked at yet */
        want = (size_t)get_u32(in->data + 3) + FRAME_OVERHEAD;
    if (in->capacity < want && buf_reserve(in, want - rest) == NULL)
        return NULL;
    *room = in->capacity - in->end;
    return in->data + in->end;
}

/* An idle link keeps little: memory that a burst has touched goes back as soon as a small readiness has been dealt with.
 * (A buffer is 64 KiB, but of a quiet link's only the first page has ever been touched.) */
static void link_tidy(struct link *link, size_t taken)
{
    if (buf_length(&link->in) > 0)
        return;
    buf_clear(&link->in);
    if (taken < LINK_QUIET && link->in_touched > 2 * LINK_QUIET) {
        buf_trim(&link->in, 0);
        link->in_touched = 0;
    }
}

/* One read. Bytes; STREAM_AGAIN; or the link is over (0). *more: the next read would bring something at once. */
static ssize_t link_fill(struct link *link, bool *more)
{
    size_t room;
    uint8_t *to = link_room(link, &room);
    ssize_t got;

    if (to == NULL) {
        link->in.failed = false;
        link_end(link, NULL, "while reading: out of memory");
        return 0;
    }
    got = stream_read(&link->stream, to, room);
    link->reads++;
    if (got > 0) {
        link->in.end += (size_t)got;
        if (link->in.end > link->in_touched)
            link->in_touched = link->in.end;
        *more = stream_is_tls(&link->stream) ? stream_buffered(&link->stream) : (size_t)got == room;
        return got;
    }
    *more = false;
    if (got == STREAM_AGAIN) {
        if (link->stream.wants_write)
            link_arm_write(link, true); /* an answer that TLS owes: see link_event() */
        return got;
    }
    link_end(link, NULL, "while reading: %s", got == STREAM_EOF ? "the peer closed the connection" : link->stream.why);
    return 0;
}

static void link_read(struct link *link)
{
    size_t taken = 0;
    bool more = true;

    while (more && taken < LINK_QUOTA) {
        ssize_t got = link_fill(link, &more);

        if (got == 0)
            return;
        if (got == STREAM_AGAIN)
            break;
        taken += (size_t)got;
        link->heartbeat.read = loop_now(link->loop);
        if (!link_cut(link))
            break;
    }
    if (link->state != LINK_OPEN)
        return;
    if (taken > 0 && link->ops->batch != NULL)
        link->ops->batch(link->arg, more);
    if (link->state != LINK_OPEN)
        return;
    link_tidy(link, taken);
    /* The quota is used up, and what TLS holds does not make the descriptor readable. In the next turn, not by
     * event_active(), which would go on in this one for as long as the peer sends. */
    if (more && stream_is_tls(&link->stream)) {
        static const struct timeval now = {0, 0};

        evtimer_add(link->again, &now);
    }
}

/* FLUSHING: what still comes is of no interest, but must be taken. */
static void link_drop(struct link *link)
{
    char bytes[16384];
    size_t taken = 0;

    while (taken < LINK_QUOTA) {
        ssize_t got = stream_read(&link->stream, bytes, sizeof(bytes));

        if (got == STREAM_AGAIN)
            return;
        if (got <= 0) {
            link_close(link);
            return;
        }
        taken += (size_t)got;
    }
}

static void link_readable(struct link *link)
{
    if (link->state == LINK_FLUSHING)
        link_drop(link);
    else if (link->state != LINK_OPEN)
        return;
    else if (link->pauses > 0) {
        link_arm_read(link, false);
        if (link->ops->hangup != NULL)
            event_add(link->hangup, NULL);
    } else
        link_read(link);
}

static void link_event(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;

    (void)fd;
    if (link->state == LINK_SHAKING) {
        link_shake(link);
        return;
    }
    if ((what & EV_WRITE) != 0) {
        bool owes = link->stream.wants_write;

        link_flush(link);
        if (owes)
            what |= EV_READ;
    }
    if ((what & (EV_READ | EV_TIMEOUT)) != 0)
        link_readable(link);
}

/* Whoever is not read from would otherwise never be known to be gone. */
static void link_hangup(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;

    (void)fd;
    (void)what;
    if (link->state == LINK_OPEN && link->pauses > 0)
        link->ops->hangup(link->arg);
}

/* ---- pausing ---- */

bool link_is_paused(const struct link *link)
{
    return link->pauses > 0;
}

/* Only counts: whoever pauses and resumes within a turn costs no epoll change. The event goes if it fires meanwhile. */
void link_pause(struct link *link)
{
    link->pauses++;
}

void link_resume(struct link *link)
{
    if (link->pauses == 0 || --link->pauses > 0 || link->state != LINK_OPEN)
        return;
    link->heartbeat.read = loop_now(link->loop);
    event_del(link->hangup);
    link_arm_read(link, true);
    /* Neither frames that are here already nor bytes within TLS make the descriptor readable. */
    if (buf_length(&link->in) > 0 || stream_is_tls(&link->stream))
        loop_defer(link->loop, &link->resume);
}

void link_resume_task(struct loop_task *task)
{
    struct link *link = HARK_CONTAINER(task, struct link, resume);
    size_t before = buf_length(&link->in);
    bool go;

    if (link->state != LINK_OPEN || link->pauses > 0)
        return;
    go = link_cut(link);
    if (link->state == LINK_OPEN && buf_length(&link->in) < before && link->ops->batch != NULL)
        link->ops->batch(link->arg, false);
    if (go && link->state == LINK_OPEN && link->pauses == 0 && stream_is_tls(&link->stream))
        link_read(link);
}

/* ---- events ---- */

int link_watch(struct link *link)
{
    struct event_base *base = loop_base(link->loop);

    link->readable = event_new(base, link->stream.fd, EV_READ | EV_PERSIST, link_event, link);
    link->writable = event_new(base, link->stream.fd, EV_WRITE | EV_PERSIST, link_event, link);
    link->hangup = event_new(base, link->stream.fd, EV_CLOSED, link_hangup, link);
    link->again = evtimer_new(base, link_event, link);
    if (link->readable == NULL || link->writable == NULL || link->hangup == NULL || link->again == NULL)
        return -1;
    link_arm_read(link, true);
    return 0;
}

void link_unwatch(struct link *link)
{
    if (link->readable != NULL)
        event_free(link->readable);
    if (link->writable != NULL)
        event_free(link->writable);
    if (link->hangup != NULL)
        event_free(link->hangup);
    if (link->again != NULL)
        event_free(link->again);
    link->readable = link->writable = link->hangup = link->again = NULL;
    link->read_armed = link->write_armed = false;
}
