/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define bytes_of(text) amqp_span(span_str(text))

/* ---- the loop ---- */

static struct event *tick;

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

struct loop *peer_loop(void)
{
    static const struct timeval often = {0, 5000};
    struct loop *loop = loop_new();

    ck_assert_ptr_nonnull(loop);
    tick = event_new(loop_base(loop), -1, EV_PERSIST, on_tick, NULL);
    ck_assert_ptr_nonnull(tick);
    event_add(tick, &often);
    return loop;
}

void peer_loop_free(struct loop *loop)
{
    event_free(tick);
    loop_free(loop);
}

int64_t peer_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- writing ---- */

static void peer_write(struct peer *peer)
{
    static const struct timeval now = {0, 0};

    while (peer->fd >= 0 && buf_length(&peer->out) > 0) {
        size_t length = peer->bytewise ? 1 : buf_length(&peer->out);
        ssize_t put = send(peer->fd, peer->out.data + peer->out.start, length, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (put > 0)
            peer->out.start += (size_t)put;
        if (put <= 0 || peer->bytewise) {
            static const struct timeval soon = {0, 1000};

            event_add(peer->writer, put > 0 ? &now : &soon);
            return;
        }
    }
}

static void on_writer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    peer_write(arg);
}

void peer_bytes(struct peer *peer, const void *bytes, size_t length)
{
    buf_put(&peer->out, bytes, length);
    peer_write(peer);
}

void peer_say(struct peer *peer, uint16_t channel, uint32_t id, const void *decoded)
{
    method_put(&peer->out, channel, id, decoded);
    ck_assert(!peer->out.failed);
    peer_write(peer);
}

void peer_deliver(struct peer *peer, uint16_t channel, uint64_t tag, const char *key, const void *body, size_t length)
{
    static const uint8_t no_properties[2];
    amqp_basic_deliver_t deliver = {.consumer_tag = bytes_of("the-tag"),
                                    .delivery_tag = tag,
                                    .exchange = bytes_of("events"),
                                    .routing_key = bytes_of(key)};

    method_put(&peer->out, channel, AMQP_BASIC_DELIVER_METHOD, &deliver);
    content_put(&peer->out, channel, peer->tune_frame_max, span_of(no_properties, 2), span_of(body, length));
    peer_write(peer);
}

/* ---- the right answers ---- */

static void peer_start(struct peer *peer)
{
    amqp_table_entry_t properties[] = {
        {.key = bytes_of("product"), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value = {.bytes = bytes_of("Peer")}}},
        {.key = bytes_of("version"), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value = {.bytes = bytes_of("1.0")}}},
    };
    amqp_connection_start_t start = {.version_minor = peer->version_minor,
                                     .server_properties = {2, properties},
                                     .mechanisms = bytes_of(peer->mechanisms),
                                     .locales = bytes_of("en_US")};

    peer_say(peer, 0, AMQP_CONNECTION_START_METHOD, &start);
}

static void peer_note_table(struct peer *peer, const amqp_table_t *table)
{
    for (int i = 0; i < table->num_entries; i++) {
        const amqp_table_entry_t *entry = &table->entries[i];
        size_t used = strlen(peer->properties);
        char *to = peer->properties + used;

        if (entry->value.kind == AMQP_FIELD_KIND_TABLE)
            peer_note_table(peer, &entry->value.value.table);
        else if (entry->value.kind == AMQP_FIELD_KIND_BOOLEAN)
            snprintf(to, sizeof(peer->properties) - used, "%.*s=%s ", (int)entry->key.len, (char *)entry->key.bytes,
                     entry->value.value.boolean ? "true" : "false");
        else
            snprintf(to, sizeof(peer->properties) - used, "%.*s=%.*s ", (int)entry->key.len, (char *)entry->key.bytes,
                     (int)entry->value.value.bytes.len, (char *)entry->value.value.bytes.bytes);
    }
}

static void peer_started(struct peer *peer, const amqp_connection_start_ok_t *ok)
{
    amqp_connection_tune_t tune = {
        .channel_max = peer->channel_max, .frame_max = peer->frame_max, .heartbeat = peer->heartbeat};
    size_t used;

    used = (size_t)snprintf(peer->login, sizeof(peer->login), "%.*s|", (int)ok->mechanism.len,
                            (char *)ok->mechanism.bytes);
    for (size_t i = 0; i < ok->response.len && used + 1 < sizeof(peer->login); i++) {
        char byte = ((const char *)ok->response.bytes)[i];

        peer->login[used++] = byte != '\0' ? byte : ':';
    }
    peer->login[used] = '\0';
    peer_note_table(peer, &ok->client_properties);
    peer_say(peer, 0, AMQP_CONNECTION_TUNE_METHOD, &tune);
}

static void peer_tuned(struct peer *peer, const amqp_connection_tune_ok_t *ok)
{
    peer->tune_channel_max = ok->channel_max;
    peer->tune_frame_max = ok->frame_max;
    peer->tune_heartbeat = ok->heartbeat;
}

static void peer_connection_method(struct peer *peer, const amqp_method_t *method)
{
    static const uint8_t nothing[64];

    switch (method->id) {
    case AMQP_CONNECTION_START_OK_METHOD:
        peer_started(peer, method->decoded);
        return;
    case AMQP_CONNECTION_OPEN_METHOD: {
        const amqp_connection_open_t *open = method->decoded;

        snprintf(peer->vhost, sizeof(peer->vhost), "%.*s", (int)open->virtual_host.len,
                 (char *)open->virtual_host.bytes);
        peer->opened = true;
        peer_say(peer, 0, AMQP_CONNECTION_OPEN_OK_METHOD, nothing);
        return;
    }
    case AMQP_CONNECTION_CLOSE_METHOD:
        peer->closed_code = ((const amqp_connection_close_t *)method->decoded)->reply_code;
        peer_say(peer, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, nothing);
        return;
    default:
        return;
    }
}

/* A request and its answer without any arguments worth setting. */
static const uint32_t answers[][2] = {
    {AMQP_CHANNEL_OPEN_METHOD, AMQP_CHANNEL_OPEN_OK_METHOD},
    {AMQP_CHANNEL_CLOSE_METHOD, AMQP_CHANNEL_CLOSE_OK_METHOD},
    {AMQP_EXCHANGE_DECLARE_METHOD, AMQP_EXCHANGE_DECLARE_OK_METHOD},
    {AMQP_EXCHANGE_BIND_METHOD, AMQP_EXCHANGE_BIND_OK_METHOD},
    {AMQP_QUEUE_DECLARE_METHOD, AMQP_QUEUE_DECLARE_OK_METHOD},
    {AMQP_QUEUE_BIND_METHOD, AMQP_QUEUE_BIND_OK_METHOD},
    {AMQP_BASIC_QOS_METHOD, AMQP_BASIC_QOS_OK_METHOD},
    {AMQP_BASIC_CONSUME_METHOD, AMQP_BASIC_CONSUME_OK_METHOD},
    {AMQP_BASIC_CANCEL_METHOD, AMQP_BASIC_CANCEL_OK_METHOD},
    {AMQP_CONFIRM_SELECT_METHOD, AMQP_CONFIRM_SELECT_OK_METHOD},
};

static void peer_answer(struct peer *peer, uint16_t channel, const amqp_method_t *method)
{
    static const uint8_t nothing[64];

    if (channel == 0) {
        peer_connection_method(peer, method);
        return;
    }
    for (size_t i = 0; i < HARK_COUNT(answers); i++)
        if (answers[i][0] == method->id)
            peer_say(peer, channel, answers[i][1], nothing);
}

/* ---- trouble ---- */

static bool peer_misbehaves(struct peer *peer, enum peer_step step)
{
    static const uint8_t nothing[64];
    amqp_connection_close_t close = {.reply_code = peer->close_code, .reply_text = bytes_of("because I say so")};

    if (peer->at != step)
        return false;
    switch (peer->trouble) {
    case PEER_SILENCE:
        break;
    case PEER_HANGUP:
        peer_hangup(peer);
        break;
    case PEER_GARBAGE:
        peer_bytes(peer, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
        break;
    case PEER_CLOSE:
        peer_say(peer, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
        break;
    case PEER_WRONG:
        peer_say(peer, 1, AMQP_QUEUE_PURGE_OK_METHOD, nothing);
        break;
    case PEER_EARLY:
        peer_say(peer, 0, AMQP_CONNECTION_OPEN_OK_METHOD, nothing);
        if (step == PEER_OPEN)
            peer_say(peer, 0, AMQP_CONNECTION_OPEN_OK_METHOD, nothing);
        break;
    case PEER_REFUSE:
        peer_bytes(peer, "AMQP\1\1\0\0", 8);
        peer_hangup(peer);
        break;
    }
    return true;
}

static enum peer_step peer_step_of(uint32_t id)
{
    switch (id) {
    case AMQP_CONNECTION_START_OK_METHOD:
        return PEER_START_OK;
    case AMQP_CONNECTION_OPEN_METHOD:
        return PEER_OPEN;
    case AMQP_CHANNEL_OPEN_METHOD:
        return PEER_AFTER;
    default:
        return PEER_NEVER;
    }
}

/* ---- reading ---- */

static void peer_method(struct peer *peer, const struct frame *frame)
{
    struct reply error;
    amqp_method_t method;

    ck_assert_msg(method_decode(frame, METHOD_FROM_CLIENT, &peer->pool, &method, &error) == 0,
                  "the client sent a bad method: %s", error.text);
    ck_assert_uint_lt(peer->count, HARK_COUNT(peer->ids));
    peer->ids[peer->count] = method.id;
    peer->channels[peer->count++] = frame->channel;
    if (method.id == AMQP_CONNECTION_TUNE_OK_METHOD)
        peer_tuned(peer, method.decoded);
    if (peer_step_of(method.id) != PEER_NEVER && peer_misbehaves(peer, peer_step_of(method.id)))
        return;
    if (peer->on_method == NULL || !peer->on_method(peer->arg, frame->channel, &method))
        peer_answer(peer, frame->channel, &method);
}

static void peer_frame(struct peer *peer, const struct frame *frame)
{
    switch (frame->type) {
    case FRAME_METHOD:
        peer_method(peer, frame);
        recycle_amqp_pool(&peer->pool);
        return;
    case FRAME_HEADER:
        peer->contents++;
        return;
    case FRAME_BODY:
        peer->body_bytes += frame->payload.length;
        return;
    case FRAME_HEARTBEAT:
        peer->heartbeats++;
        if (peer->ticking) {
            frame_put_heartbeat(&peer->out);
            peer_write(peer);
        }
        return;
    default:
        return;
    }
}

static void peer_cut(struct peer *peer)
{
    struct frame frame;
    struct reply error;

    if (!peer->header_good) {
        if (buf_length(&peer->in) < 8)
            return;
        ck_assert_mem_eq(peer->in.data + peer->in.start, "AMQP\0\0\11\1", 8);
        peer->in.start += 8;
        peer->header_good = true;
        if (!peer_misbehaves(peer, PEER_HEADER))
            peer_start(peer);
    }
    while (peer->fd >= 0 && buf_length(&peer->in) > 0) {
        ssize_t used = frame_cut(peer->in.data + peer->in.start, buf_length(&peer->in), FRAME_LIMIT, &frame, &error);

        ck_assert_msg(used >= 0, "the client sent no frame: %s", error.text);
        if (used == 0)
            return;
        peer->in.start += (size_t)used;
        peer_frame(peer, &frame);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct peer *peer = arg;
    uint8_t *to = buf_reserve(&peer->in, 65536);
    ssize_t got;

    (void)what;
    if (peer->deaf) {
        event_del(peer->event);
        return;
    }
    got = recv(fd, to, 65536, MSG_DONTWAIT);
    if (got > 0) {
        peer->in.end += (size_t)got;
        peer_cut(peer);
    } else {
        peer_hangup(peer);
        peer->ended = true;
    }
}

/* ---- life ---- */

void peer_hangup(struct peer *peer)
{
    if (peer->fd < 0)
        return;
    event_free(peer->event);
    evtimer_del(peer->writer);
    peer->event = NULL;
    close(peer->fd);
    peer->fd = -1;
}

static void on_connection(evutil_socket_t fd, short what, void *arg)
{
    struct peer *peer = arg;

    (void)what;
    peer_hangup(peer);
    peer->fd = accept(fd, NULL, NULL);
    ck_assert_int_ge(peer->fd, 0);
    buf_clear(&peer->in);
    buf_clear(&peer->out);
    peer->accepted++;
    peer->opened = peer->header_good = peer->ended = false;
    peer->heartbeats = peer->count = peer->contents = 0;
    peer->body_bytes = 0;
    peer->closed_code = 0;
    peer->properties[0] = peer->login[0] = '\0';
    peer->event = event_new(loop_base(peer->loop), peer->fd, EV_READ | EV_PERSIST, on_readable, peer);
    event_add(peer->event, NULL);
    peer_misbehaves(peer, PEER_ACCEPT);
}

struct peer *peer_new(struct loop *loop)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    struct peer *peer = calloc(1, sizeof(*peer));

    ck_assert_ptr_nonnull(peer);
    peer->loop = loop;
    peer->fd = -1;
    peer->mechanisms = "PLAIN EXTERNAL";
    peer->version_minor = 9;
    peer->frame_max = FRAME_LIMIT;
    init_amqp_pool(&peer->pool, 4096);
    peer->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(peer->listen_fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(peer->listen_fd, 8), 0);
    ck_assert_int_eq(getsockname(peer->listen_fd, (struct sockaddr *)&address, &length), 0);
    peer->port = ntohs(address.sin_port);
    peer->listener = event_new(loop_base(loop), peer->listen_fd, EV_READ | EV_PERSIST, on_connection, peer);
    peer->writer = evtimer_new(loop_base(loop), on_writer, peer);
    event_add(peer->listener, NULL);
    return peer;
}

void peer_free(struct peer *peer)
{
    peer_hangup(peer);
    event_free(peer->listener);
    event_free(peer->writer);
    close(peer->listen_fd);
    buf_free(&peer->in);
    buf_free(&peer->out);
    empty_amqp_pool(&peer->pool);
    free(peer);
}

unsigned peer_saw(const struct peer *peer, uint16_t channel, uint32_t id)
{
    unsigned count = 0;

    for (unsigned i = 0; i < peer->count; i++)
        count += peer->ids[i] == id && peer->channels[i] == channel;
    return count;
}
