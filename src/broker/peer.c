/* SPDX-License-Identifier: MIT */
#include "broker/peer.h"

#include "base/log.h"
#include "broker/broker_private.h"
#include "broker/peer_channel.h"

#include <stdlib.h>
#include <utlist.h>

#define PEER_HELD_FULL (1024 * 1024)
#define PEER_CLOSE_MS 10000 /* for connection.close-ok, and for the last bytes */
#define PEER_HEADER_MS 1000 /* for the answer to a header of another protocol */
#define PEER_DISK_MS 3000   /* for answers that wait for the disk when the client closes */

void peer_set_state(struct peer *peer, enum peer_state state)
{
    const char *before = peer_doing(peer);

    peer->state = state;
    log_debug("connection %s: %s -> %s", peer->name, before, peer_doing(peer));
}

const char *peer_doing(const struct peer *peer)
{
    static const char *const texts[] = {
#define X(name, text) text,
        PEER_STATES(X)
#undef X
    };

    return texts[peer->state];
}

void peer_set_timer(struct peer *peer, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    if (ms > 0)
        evtimer_add(peer->timer, &wait);
    else
        evtimer_del(peer->timer);
}

/* ---- out ---- */

struct buf *peer_out(struct peer *peer)
{
    return HARK_UNLIKELY(peer->is_holding) ? &peer->held : link_out(peer->link);
}

void peer_send(struct peer *peer)
{
    if (HARK_LIKELY(!peer->is_holding))
        link_send(peer->link);
}

void peer_put(struct peer *peer, uint16_t channel, uint32_t id, const void *decoded)
{
    struct buf *out = peer_out(peer);
    size_t before = buf_length(out);

    method_put(out, channel, id, decoded);
    peer_answered(peer, buf_length(out) - before);
    peer_send(peer);
}

bool peer_is_full(struct peer *peer)
{
    return link_is_full(peer->link) || (peer->is_holding && buf_length(&peer->held) > PEER_HELD_FULL);
}

void peer_hold(struct peer *peer)
{
    uint64_t batch = store_batch(peer->broker->store);
    struct peer_mark *marks;

    broker_watch_store(peer->broker);
    peer_wait_for_disk(peer);
    if (peer->mark_count > 0 && peer->marks[peer->mark_count - 1].batch == batch)
        return;
    if (peer->mark_count == peer->mark_capacity) {
        size_t capacity = peer->mark_capacity == 0 ? 8 : 2 * peer->mark_capacity;

        marks = realloc(peer->marks, capacity * sizeof(*marks));
        if (marks == NULL) {
            peer_out(peer)->failed = true; /* the connection ends: better than an answer that may not be true */
            return;
        }
        peer->marks = marks;
        peer->mark_capacity = capacity;
    }
    if (!peer->is_holding) {
        peer->is_holding = true;
        DL_APPEND2(peer->broker->holding, peer, hold_prev, hold_next);
    }
    peer->marks[peer->mark_count++] = (struct peer_mark){.batch = batch, .start = buf_length(&peer->held)};
}

void peer_release(struct peer *peer, uint64_t committed)
{
    size_t free_marks = 0, length;
    struct peer_channel *channel;

    while (free_marks < peer->mark_count && peer->marks[free_marks].batch <= committed)
        free_marks++;
    if (free_marks == 0)
        return;
    length = free_marks < peer->mark_count ? peer->marks[free_marks].start : buf_length(&peer->held);
    if (peer->held.failed)
        link_out(peer->link)->failed = true;
    else if (length > 0)
        buf_put(link_out(peer->link), peer->held.data + peer->held.start, length);
    peer->held.start += length;
    peer->goodbye -= length < peer->goodbye ? length : peer->goodbye;
    peer->mark_count -= free_marks;
    memmove(peer->marks, peer->marks + free_marks, peer->mark_count * sizeof(*peer->marks));
    for (size_t i = 0; i < peer->mark_count; i++)
        peer->marks[i].start -= length;
    link_send(peer->link);
    if (peer->mark_count > 0)
        return;
    peer->is_holding = false;
    DL_DELETE2(peer->broker->holding, peer, hold_prev, hold_next);
    buf_clear(&peer->held);
    buf_trim(&peer->held, 0);
    peer_watch_output(peer);
    if (peer->closed)
        peer_finish(peer, PEER_CLOSE_MS); /* no channel is left */
    for (unsigned i = 0; (channel = channel_table_next(&peer->channels, &i)) != NULL;)
        peer_channel_wake(channel);
}

/* ---- the end ---- */

static void peer_reap(struct loop_task *task)
{
    struct peer *peer = HARK_CONTAINER(task, struct peer, reap);

    event_free(peer->timer);
    buf_free(&peer->held);
    free(peer->marks);
    channel_table_free(&peer->channels);
    free(peer);
}

static void peer_close_channels(struct peer *peer)
{
    struct peer_channel *channel;

    for (unsigned i = 0; (channel = channel_table_next(&peer->channels, &i)) != NULL;)
        peer_channel_free(channel);
    while (peer->exclusives != NULL)
        queue_delete(peer->exclusives);
    deaths_run(peer->broker);
}

/* Everything of it goes but itself and the link: the callers' to free and to close. */
static void peer_leave(struct peer *peer)
{
    struct broker *broker = peer->broker;

    if (peer->state == PEER_GONE)
        return;
    peer_set_state(peer, PEER_GONE);
    evtimer_del(peer->timer);
    peer_close_channels(peer);
    if (peer->is_holding)
        DL_DELETE2(broker->holding, peer, hold_prev, hold_next);
    peer->is_holding = false;
    DL_DELETE(broker->peers, peer);
    broker->peer_count--;
    user_drop(peer->user);
    peer->user = NULL;
    buf_free(&peer->held);
    broker_peer_gone(broker);
}

/* It is told that it is over, whatever the disk does; that something is done it is told only if it is. */
static void peer_say_goodbye(struct peer *peer)
{
    if (!peer->is_holding)
        return;
    buf_put(link_out(peer->link), peer->held.data + peer->held.start + peer->goodbye,
            buf_length(&peer->held) - peer->goodbye);
    link_out(peer->link)->failed |= peer->held.failed;
    peer->is_holding = false;
    DL_DELETE2(peer->broker->holding, peer, hold_prev, hold_next);
}

void peer_finish(struct peer *peer, int64_t ms)
{
    if (peer->state == PEER_GONE)
        return;
    peer_say_goodbye(peer);
    peer_leave(peer);
    DL_APPEND(peer->broker->flushing, peer);
    peer->broker->flushing_count++;
    link_close_after_flush(peer->link, ms);
}

static void peer_flushed(void *arg)
{
    struct peer *peer = arg;

    DL_DELETE(peer->broker->flushing, peer);
    peer->broker->flushing_count--;
    loop_reap_later(peer->broker->loop, &peer->reap);
}

void peer_end(struct peer *peer, const char *why)
{
    if (peer->state == PEER_GONE)
        return;
    log_info("connection %s ended while %s: %s", peer->name, peer_doing(peer), why);
    link_close(peer->link);
    peer_leave(peer);
    loop_reap_later(peer->broker->loop, &peer->reap);
}

void peer_fail(struct peer *peer, const struct reply *error)
{
    amqp_connection_close_t close = {
        .reply_code = error->code,
        .reply_text = amqp_span(span_str(error->text)),
        .class_id = error->class_id,
        .method_id = error->method_id,
    };

    if (peer->state >= PEER_CLOSING)
        return;
    log_warning("connection %s closed while %s: %u %s", peer->name, peer_doing(peer), error->code, error->text);
    peer_close_channels(peer);
    peer_let_go(peer); /* or its close-ok would never be read */
    peer->goodbye = buf_length(&peer->held);
    peer_put(peer, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    peer_set_state(peer, PEER_CLOSING);
    peer_set_timer(peer, PEER_CLOSE_MS);
}

static void peer_tick(evutil_socket_t fd, short what, void *arg)
{
    struct peer *peer = arg;

    (void)fd;
    (void)what;
    if (peer->is_holding)
        peer_finish(peer, PEER_CLOSE_MS);
    else
        peer_end(peer, "no answer in time");
}

/* ---- frames ---- */

/* The client has closed, properly. */
static void peer_closed(struct peer *peer)
{
    amqp_connection_close_ok_t ok = {0};

    log_info("connection %s closed", peer->name);
    peer_close_channels(peer);
    if (peer->state < PEER_CLOSING)
        peer->goodbye = buf_length(&peer->held);
    peer_put(peer, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    if (!peer->is_holding || peer->closed || peer->broker->disk_alarm[0] != '\0') {
        peer_finish(peer, PEER_CLOSE_MS);
        return;
    }
    peer->closed = true;
    peer_set_state(peer, PEER_CLOSING);
    peer_set_timer(peer, PEER_DISK_MS);
}

/* rabbitmq-c does not know this method. True if it was this one. */
static bool peer_update_secret(struct peer *peer, const struct frame *frame)
{
    const uint32_t id = 10 << 16 | 70;
    size_t position;

    if (frame->type != FRAME_METHOD || get_u32(frame->payload.data) != id || peer->state != PEER_OPEN)
        return false;
    position = frame_begin(peer_out(peer), FRAME_METHOD, 0);
    buf_put_u32(peer_out(peer), id + 1);
    frame_finish(peer_out(peer), position);
    peer_send(peer);
    return true;
}

/* A frame of channel 0. */
static int peer_method(struct peer *peer, const struct frame *frame, struct reply *error)
{
    amqp_method_t method;

    if (frame->type != FRAME_METHOD)
        return reply_set(error, REPLY_UNEXPECTED_FRAME, 0, "content on channel 0");
    if (method_decode(frame, METHOD_FROM_CLIENT, &peer->broker->pool, &method, error) != 0)
        return -1;
    if (method.id == AMQP_CONNECTION_CLOSE_METHOD) {
        peer_closed(peer);
        return 0;
    }
    if (peer->state < PEER_OPEN)
        return peer_handshake(peer, &method, error);
    return reply_set(error, REPLY_CHANNEL_ERROR, method.id, "unexpected method in connection state running");
}

static void peer_closing_frame(struct peer *peer, const struct frame *frame)
{
    uint32_t id = frame->type == FRAME_METHOD && frame->channel == 0 ? get_u32(frame->payload.data) : 0;

    if (id == AMQP_CONNECTION_CLOSE_METHOD) {
        peer_closed(peer);
    } else if (id == AMQP_CONNECTION_CLOSE_OK_METHOD) {
        peer_finish(peer, PEER_CLOSE_MS);
    }
}

/* A frame for a channel that is not open: only channel.open opens it. */
static int peer_open_channel(struct peer *peer, const struct frame *frame, struct reply *error)
{
    amqp_channel_open_ok_t ok = {0};
    struct peer_channel *channel;
    amqp_method_t method;

    if (frame->type != FRAME_METHOD)
        return reply_set(error, REPLY_CHANNEL_ERROR, 0, "expected 'channel.open'");
    if (method_decode(frame, METHOD_FROM_CLIENT, &peer->broker->pool, &method, error) != 0)
        return -1;
    if (method.id == AMQP_CHANNEL_CLOSE_OK_METHOD)
        return 0; /* late, and harmless */
    if (method.id != AMQP_CHANNEL_OPEN_METHOD)
        return reply_set(error, REPLY_CHANNEL_ERROR, method.id, "expected 'channel.open'");
    if (peer->channel_max > 0 && peer->channel_count >= peer->channel_max)
        return reply_set(error, REPLY_NOT_ALLOWED, 0, /* as RabbitMQ */
                         "number of channels opened (%u) has reached the negotiated channel_max (%u)",
                         peer->channel_count, peer->channel_max);
    channel = channel_table_reserve(&peer->channels, frame->channel) == 0 ? peer_channel_open(peer, frame->channel)
                                                                          : NULL;
    if (channel == NULL)
        return reply_set(error, REPLY_RESOURCE_ERROR, method.id, "no memory for a channel");
    channel_table_set(&peer->channels, frame->channel, channel);
    peer->channel_count++;
    peer->broker->channel_count++;
    peer_put(peer, frame->channel, AMQP_CHANNEL_OPEN_OK_METHOD, &ok);
    return 0;
}

void peer_forget_channel(struct peer *peer, struct peer_channel *channel)
{
    channel_table_set(&peer->channels, channel->number, NULL);
    peer->channel_count--;
    peer->broker->channel_count--;
}

static void peer_frame(void *arg, const struct frame *frame)
{
    struct peer *peer = arg;
    struct peer_channel *channel;
    struct reply error;
    int result;

    if (HARK_UNLIKELY(peer->state >= PEER_CLOSING)) {
        peer_closing_frame(peer, frame);
        return;
    }
    if (HARK_LIKELY(frame->channel != 0 && peer->state == PEER_OPEN)) {
        channel = channel_table_at(&peer->channels, frame->channel);
        if (HARK_LIKELY(channel != NULL)) {
            peer_channel_frame(channel, frame);
            deaths_run(peer->broker);
            return;
        }
        result = peer_open_channel(peer, frame, &error);
    } else if (frame->channel != 0) {
        result = reply_set(&error, REPLY_CHANNEL_ERROR, 0, "a frame of channel %u while %s", frame->channel,
                           peer_doing(peer));
    } else if (peer_update_secret(peer, frame)) {
        result = 0;
    } else {
        result = peer_method(peer, frame, &error);
    }
    recycle_amqp_pool(&peer->broker->pool);
    if (result != 0)
        peer_fail(peer, &error);
}

/* ---- the link ---- */

static void peer_opened(void *arg)
{
    struct peer *peer = arg;

    snprintf(peer->name, sizeof(peer->name), "%s", link_name(peer->link));
    peer_set_state(peer, PEER_GREETING);
}

static void peer_header(void *arg, const uint8_t *bytes)
{
    static const uint8_t expected[] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
    struct peer *peer = arg;

    if (memcmp(bytes, expected, sizeof(expected)) == 0) {
        peer_greet(peer);
        return;
    }
    log_warning("connection %s speaks another protocol or version than AMQP 0-9-1", peer->name);
    frame_put_protocol_header(link_out(peer->link));
    peer_finish(peer, PEER_HEADER_MS);
}

static void peer_drained(void *arg)
{
    struct peer *peer = arg;
    struct peer_channel *channel;

    peer_watch_output(peer);
    for (unsigned i = 0; (channel = channel_table_next(&peer->channels, &i)) != NULL;)
        peer_channel_wake(channel);
}

static void peer_hangup(void *arg)
{
    peer_hung_up(arg);
}

static void peer_lost(void *arg, const struct reply *error, const char *why)
{
    struct peer *peer = arg;

    if (error != NULL && peer->state > PEER_GREETING && peer->state < PEER_CLOSING) {
        peer_fail(peer, error); /* the client's bytes were the reason: it is told, and no more is read */
        peer_finish(peer, PEER_CLOSE_MS);
        return;
    }
    if (peer->state == PEER_OPEN)
        log_warning("connection %s was lost: %s", peer->name, why);
    else if (peer->state < PEER_OPEN)
        log_info("connection %s ended while %s: %s", peer->name, peer_doing(peer), why);
    peer_leave(peer);
    loop_reap_later(peer->broker->loop, &peer->reap);
}

static const struct link_ops peer_link_ops = {
    .open = peer_opened,
    .header = peer_header,
    .frame = peer_frame,
    .drained = peer_drained,
    .hangup = peer_hangup,
    .closed = peer_lost,
    .flushed = peer_flushed,
};

struct peer *peer_accept(struct broker *broker, int fd, struct tls_context *tls, bool trusted)
{
    struct peer *peer = calloc(1, sizeof(*peer));

    if (peer == NULL) {
        evutil_closesocket(fd);
        return NULL;
    }
    peer->broker = broker;
    peer->trusted = trusted;
    peer->frame_max = FRAME_MIN_MAX;
    peer->reap.run = peer_reap;
    peer->timer = evtimer_new(loop_base(broker->loop), peer_tick, peer);
    if (peer->timer == NULL) {
        evutil_closesocket(fd);
        free(peer);
        return NULL;
    }
    peer->link = link_accept(broker->loop, fd, tls, broker->options.handshake_timeout, &peer_link_ops, peer);
    if (peer->link == NULL) {
        event_free(peer->timer);
        free(peer);
        return NULL;
    }
    link_set_frame_max(peer->link, FRAME_MIN_MAX + FRAME_OVERHEAD); /* handshake_tune_ok() says why not less */
    snprintf(peer->name, sizeof(peer->name), "%s", link_name(peer->link));
    peer->client_name = "";
    peer_set_timer(peer, broker->options.handshake_timeout);
    DL_APPEND(broker->peers, peer);
    broker->peer_count++;
    return peer;
}

int peer_may(struct peer *peer, enum permission permission, const char *kind, struct span name, struct reply *error)
{
    struct span shown = name;

    if (name.length == 0 && kind[0] == 'e')
        shown = name = span_str("amq.default"); /* what permissions call the default exchange */
    if (HARK_LIKELY(user_may(peer->user, peer->vhost->name, permission, name)))
        return 0;
    return reply_set(error, REPLY_ACCESS_REFUSED, 0, "access to %s '%.*s' in vhost '%s' refused for user '%s'", kind,
                     (int)shown.length, (const char *)shown.data, peer->vhost->name, user_name(peer->user));
}
