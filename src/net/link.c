/* SPDX-License-Identifier: MIT */
#include "net/link.h"

#include "net/link_private.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- the one timer: deadlines and heartbeats ---- */

static void link_set_timer(struct link *link, int64_t ms)
{
    struct timeval wait;

    if (ms < 1)
        ms = 1;
    wait = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    evtimer_add(link->timer, &wait);
}

static void link_set_deadline(struct link *link, int64_t ms)
{
    link->deadline = loop_now(link->loop) + ms;
    link_set_timer(link, ms);
}

static void link_beat(struct link *link)
{
    struct heartbeat *heartbeat = &link->heartbeat;
    long long limit = 2 * heartbeat->interval / 1000;
    int64_t again = 0;

    switch (heartbeat_look(heartbeat, loop_now(link->loop), link->pauses > 0, &again)) {
    case HEARTBEAT_SILENT:
        link_end(link, NULL, "while waiting for a heartbeat: nothing arrived for %lld s", limit);
        return;
    case HEARTBEAT_STUCK:
        link_end(link, NULL, "while writing: the peer took nothing for %lld s", limit);
        return;
    case HEARTBEAT_SEND:
        buf_trim(&link->out, 0); /* idle for so long: needs no buffer */
        frame_put_heartbeat(&link->out);
        link_send(link);
        break;
    case HEARTBEAT_NOTHING:
        break;
    }
    link_set_timer(link, again);
}

static void link_late(struct link *link)
{
    if (link->state == LINK_FLUSHING)
        link_close(link);
    else if (link->state == LINK_DIALLING)
        link_end(link, NULL, "while %s: no answer in time", dial_doing(link->dial));
    else
        link_end(link, NULL, "while shaking hands for TLS: no answer in time");
}

static void link_tick(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;

    (void)fd;
    (void)what;
    if (link->deadline == 0)
        link_beat(link);
    else if (loop_now(link->loop) < link->deadline)
        link_set_timer(link, link->deadline - loop_now(link->loop));
    else
        link_late(link);
}

void link_set_heartbeat_ms(struct link *link, int64_t ms)
{
    if (link->state != LINK_OPEN)
        return;
    link->heartbeat.interval = ms;
    link->heartbeat.read = link->heartbeat.written = loop_now(link->loop);
    if (ms > 0)
        link_set_timer(link, ms / 2);
    else
        evtimer_del(link->timer);
}

void link_set_heartbeat(struct link *link, unsigned seconds)
{
    link_set_heartbeat_ms(link, (int64_t)seconds * 1000);
}

void link_set_patient(struct link *link, bool patient)
{
    int64_t now = loop_now(link->loop);

    link->heartbeat.patient = patient;
    link->heartbeat.read = now;
    if (link->heartbeat.stuck > 0)
        link->heartbeat.stuck = now;
}

/* ---- closing ---- */

static void link_reap(struct loop_task *task)
{
    struct link *link = HARK_CONTAINER(task, struct link, reap);

    /* A careless owner may have sent or resumed after the end. */
    loop_task_cancel(&link->flush);
    loop_task_cancel(&link->resume);
    event_free(link->timer);
    buf_free(&link->in);
    buf_free(&link->out);
    free(link->tls_name);
    free(link->peer_name);
    free(link);
}

void link_close(struct link *link)
{
    bool flushing = link->state == LINK_FLUSHING;

    if (link->state == LINK_CLOSED)
        return;
    link->state = LINK_CLOSED;
    dial_cancel(link->dial);
    link->dial = NULL;
    link_unwatch(link);
    evtimer_del(link->timer);
    loop_task_cancel(&link->flush);
    loop_task_cancel(&link->resume);
    loop_task_cancel(&link->linger);
    stream_close(&link->stream);
    /* The buffers stay until then: the caller may stand in a frame. */
    loop_reap_later(link->loop, &link->reap);
    if (flushing && link->ops->flushed != NULL)
        link->ops->flushed(link->arg);
}

static void link_linger_task(struct loop_task *task)
{
    link_close(HARK_CONTAINER(task, struct link, linger));
}

void link_end(struct link *link, const struct reply *error, const char *format, ...)
{
    char why[400];
    va_list args;

    if (link->state == LINK_FLUSHING)
        link_close(link);
    if (link->state == LINK_CLOSED || link->state == LINK_LOST)
        return;
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (link->state == LINK_OPEN)
        link->state = LINK_LOST;
    link->ops->closed(link->arg, error, why);
    if (link->state != LINK_FLUSHING)
        link_close(link);
}

void link_close_after_flush(struct link *link, int64_t ms)
{
    if (link->state == LINK_FLUSHING || link->state == LINK_CLOSED)
        return;
    if (link->state < LINK_OPEN) {
        link->state = LINK_FLUSHING;
        link_close(link);
        return;
    }
    link->state = LINK_FLUSHING;
    link->heartbeat.interval = 0;
    link_arm_read(link, true);
    link_set_deadline(link, ms);
    link_send(link);
    loop_at_end(link->loop, &link->linger);
}

/* ---- opening ---- */

static void link_opened(struct link *link)
{
    int64_t now = loop_now(link->loop);

    link->state = LINK_OPEN;
    link->peer_name = stream_peer_name(&link->stream);
    link->deadline = 0;
    evtimer_del(link->timer);
    link_arm_write(link, false);
    link->heartbeat.read = link->heartbeat.written = now;
    /* What came in one piece with the end of the handshake has been read: the descriptor will not say so again. */
    if (stream_buffered(&link->stream))
        evtimer_add(link->again, &(struct timeval){0});
    link->ops->open(link->arg);
}

void link_shake(struct link *link)
{
    int result = stream_handshake(&link->stream);

    if (result == 1)
        link_opened(link);
    else if (result == STREAM_AGAIN)
        link_arm_write(link, link->stream.wants_write);
    else
        link_end(link, NULL, "while shaking hands for TLS: %s", link->stream.why);
}

static bool link_peer_is_here(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage storage;
    } address;
    socklen_t length = sizeof(address);
    const struct in6_addr *v6 = &address.v6.sin6_addr;

    if (getpeername(fd, &address.any, &length) != 0)
        return false;
    switch (address.any.sa_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return ntohl(address.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == IN_LOOPBACKNET);
    default:
        return false;
    }
}

/* Takes the descriptor, also when it fails. */
static int link_take(struct link *link, int fd)
{
    int one = 1;

    /* Frames are gathered by us, so Nagle could only add delay. Both fail on a Unix socket, which needs neither. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    link->loopback = link_peer_is_here(fd);
    if (stream_open(&link->stream, fd, link->tls, link->tls_name) != 0 || link_watch(link) != 0)
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
    link->resume.run = link_resume_task;
    link->linger.run = link_linger_task;
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
        snprintf(link->name, sizeof(link->name), strchr(address->host, ':') != NULL ? "[%s]:%u" : "%s:%u",
                 address->host, address->port);
    link->tls_name = strdup(name != NULL ? name : "localhost");
    link->dial = dial_start(loop, address->host, address->port, address->unix_path, address->connect_timeout,
                            link_dialled, link);
    if (link->dial == NULL || link->tls_name == NULL) {
        link_close(link);
        return NULL;
    }
    link_set_deadline(link, address->connect_timeout);
    return link;
}

static void link_name_peer(struct link *link, int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    char host[128], port[16];

    if (getpeername(fd, (struct sockaddr *)&address, &length) == 0 && address.ss_family != AF_UNIX &&
        getnameinfo((const struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(link->name, sizeof(link->name), address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    else
        snprintf(link->name, sizeof(link->name), "a local program");
}

struct link *link_accept(struct loop *loop, int fd, struct tls_context *tls, int64_t connect_timeout,
                         const struct link_ops *ops, void *arg)
{
    struct link *link = link_new(loop, tls, ops, arg);

    if (link == NULL) {
        evutil_closesocket(fd);
        return NULL;
    }
    link_name_peer(link, fd);
    if (link_take(link, fd) != 0) {
        link_close(link);
        return NULL;
    }
    /* With or without TLS, `open` comes from the loop: the socket is writable in the next turn. */
    link_arm_write(link, true);
    link_set_deadline(link, connect_timeout);
    return link;
}

void link_set_frame_max(struct link *link, uint32_t frame_max)
{
    link->frame_max = frame_max;
}

const char *link_name(const struct link *link)
{
    return link->name;
}

const char *link_peer_name(const struct link *link)
{
    return link->peer_name;
}

bool link_is_loopback(const struct link *link)
{
    return link->loopback;
}

void link_calls(const struct link *link, uint64_t *reads, uint64_t *writes)
{
    *reads = link->reads;
    *writes = link->writes;
}
