/* SPDX-License-Identifier: MIT */
#include "client/session.h"

#include "base/log.h"
#include "client/backoff.h"
#include "client/session_private.h"

#include <stdio.h>
#include <stdlib.h>

#define SESSION_FAREWELL 1000 /* ms for our last words and the server's */
#define SESSION_LASTING 5000  /* ms: what breaks sooner does not start the back-off anew */

static const char *const session_state_names[] = {
#define X(name) [SESSION_##name] = #name,
    SESSION_STATES(X)
#undef X
};

void session_set_state(struct session *session, enum session_state state)
{
    if (state != session->state)
        log_debug("%s: %s -> %s", session->label, session_state_names[session->state], session_state_names[state]);
    session->state = state;
}

void session_set_timer(struct session *session, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    evtimer_add(session->timer, &wait);
}

void session_send(struct session *session, uint32_t method_id, const void *decoded)
{
    method_put(link_out(session->link), 0, method_id, decoded);
    link_send(session->link);
}

/* ---- the end of a connection ---- */

static void session_again(struct session *session)
{
    unsigned round = session->attempts / (unsigned)session->host_count;
    int64_t pause = backoff_ms(round, session->reconnect_min, session->reconnect_max);

    session->attempts++;
    session->host = (session->host + 1) % session->host_count;
    session_set_state(session, SESSION_WAITING);
    session_set_timer(session, pause);
}

/* Each reason once per host, again after a while, and always when a connection that had lasted is lost. */
static void session_complain(struct session *session, bool was_open, const char *why)
{
    struct complaint *complaint = &session->complaints[session->host];
    int64_t now = loop_now(session->loop);

    if (was_open && now - session->opened_at >= SESSION_LASTING) {
        session->attempts = 0;
        memset(session->complaints, 0, session->host_count * sizeof(*session->complaints));
    }
    if (complaint_is_news(complaint, NULL, why, now))
        log_warning("%s: %s %s: %s; trying again", session->label, was_open ? "lost" : "no connection to",
                    session->peer, why);
    else
        log_debug("%s: still no connection to %s: %s", session->label, session->peer, why);
}

void session_lose(struct session *session, const struct reply *error, const char *format, ...)
{
    static const struct reply none = {0};
    char why[512];
    va_list args;

    if (session->state == SESSION_CLOSING || session->state == SESSION_CLOSED) {
        session_finish_close(session);
        return;
    }
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    session_complain(session, session->state == SESSION_OPEN, why);
    if (session->link != NULL)
        link_close(session->link);
    session->link = NULL;
    session->blocked = false;
    evtimer_del(session->timer);
    session_again(session);
    channels_lost(session, error != NULL ? error : &none);
    if (session->state != SESSION_CLOSED && session->ops->lost != NULL)
        session->ops->lost(session->arg, why);
}

void session_abort(struct session *session, const struct reply *error)
{
    amqp_connection_close_t method = {.reply_code = error->code,
                                      .reply_text = amqp_span(span_str(error->text)),
                                      .class_id = error->class_id,
                                      .method_id = error->method_id};
    struct link *link = session->link;

    if (link == NULL)
        return;
    /* Before connection.start there is nobody who would understand it. */
    if (session->state > SESSION_START) {
        session_send(session, AMQP_CONNECTION_CLOSE_METHOD, &method);
        link_close_after_flush(link, SESSION_FAREWELL);
        session->link = NULL;
    }
    session_lose(session, NULL, "the server broke the protocol: %s%s", error->text,
                 handshake_advice(session->state, REPLY_SUCCESS));
}

void session_finish_close(struct session *session)
{
    static const struct reply none = {0};
    void (*done)(void *) = session->close_done;

    if (session->link != NULL)
        link_close_after_flush(session->link, SESSION_FAREWELL);
    session->link = NULL;
    evtimer_del(session->timer);
    session_set_state(session, SESSION_CLOSED);
    channels_lost(session, &none);
    session->close_done = NULL;
    if (done != NULL)
        done(session->close_arg);
}

/* ---- what the link says ---- */

static void session_link_open(void *arg)
{
    handshake_begin(arg);
}

static void session_link_closed(void *arg, const struct reply *error, const char *why)
{
    struct session *session = arg;

    if (error != NULL && session->state != SESSION_CLOSING)
        session_abort(session, error);
    else
        session_lose(session, NULL, "%s%s", why, handshake_advice(session->state, REPLY_SUCCESS));
}

static void session_open_method(struct session *session, const amqp_method_t *method)
{
    struct reply error;

    switch (method->id) {
    case AMQP_CONNECTION_BLOCKED_METHOD: {
        const amqp_connection_blocked_t *blocked = method->decoded;
        char reason[256];

        snprintf(reason, sizeof(reason), "%.*s", (int)blocked->reason.len, (const char *)blocked->reason.bytes);
        session->blocked = true;
        link_set_patient(session->link, true);
        if (session->ops->blocked != NULL)
            session->ops->blocked(session->arg, true, reason);
        return;
    }
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        session->blocked = false;
        link_set_patient(session->link, false);
        if (session->ops->blocked != NULL)
            session->ops->blocked(session->arg, false, "");
        return;
    case AMQP_CONNECTION_CLOSE_OK_METHOD:
        if (session->state == SESSION_CLOSING) {
            session_finish_close(session);
            return;
        }
        break;
    default:
        break;
    }
    if (session->state == SESSION_CLOSING)
        return;
    reply_set(&error, REPLY_COMMAND_INVALID, method->id, "%s was not expected", method_name(method->id));
    session_abort(session, &error);
}

/* The server closes the connection, in whatever state. */
static void session_closed_by_server(struct session *session, const amqp_connection_close_t *close)
{
    struct reply error = {.code = close->reply_code, .class_id = close->class_id, .method_id = close->method_id};
    amqp_connection_close_ok_t ok = {0};

    snprintf(error.text, sizeof(error.text), "%.*s", (int)close->reply_text.len, (const char *)close->reply_text.bytes);
    session_send(session, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    link_close_after_flush(session->link, SESSION_FAREWELL);
    session->link = NULL;
    session_lose(session, &error, "closed by the server: %u %s%s", error.code, error.text,
                 handshake_advice(session->state, error.code));
}

static void session_frame(void *arg, const struct frame *frame)
{
    struct session *session = arg;
    struct reply error;
    amqp_method_t method;

    if (frame->channel != 0) {
        if (session->state == SESSION_OPEN) {
            channels_frame(session, frame);
        } else if (session->state != SESSION_CLOSING) {
            reply_set(&error, REPLY_CHANNEL_ERROR, 0, "a frame on channel %u before the connection is open",
                      frame->channel);
            session_abort(session, &error);
        }
        return;
    }
    if (frame->type != FRAME_METHOD) {
        reply_set(&error, REPLY_UNEXPECTED_FRAME, 0, "content on channel 0");
        session_abort(session, &error);
        return;
    }
    if (method_decode(frame, METHOD_FROM_SERVER, &session->pool, &method, &error) != 0) {
        session_abort(session, &error);
        return;
    }
    if (method.id == AMQP_CONNECTION_CLOSE_METHOD)
        session_closed_by_server(session, method.decoded);
    else if (session->state == SESSION_OPEN || session->state == SESSION_CLOSING)
        session_open_method(session, &method);
    else
        handshake_method(session, &method);
    recycle_amqp_pool(&session->pool);
}

static void session_batch(void *arg, bool full)
{
    struct session *session = arg;

    if (session->state == SESSION_OPEN)
        channels_batch(session, full);
}

static void session_drained(void *arg)
{
    struct session *session = arg;

    if (session->state == SESSION_OPEN)
        channels_drained(session);
}

static const struct link_ops session_link_ops = {
    .open = session_link_open,
    .frame = session_frame,
    .batch = session_batch,
    .drained = session_drained,
    .closed = session_link_closed,
};

/* ---- connecting ---- */

/* As a URL: "amqp://rabbit1:5672/%2f". */
static void session_name_peer(struct session *session, const struct session_host *host)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    char *to = session->peer, *end = session->peer + sizeof(session->peer);

    if (host->unix_path != NULL)
        snprintf(to, (size_t)(end - to), "amqp+unix://%.200s/", host->unix_path);
    else
        snprintf(to, (size_t)(end - to), strchr(host->host, ':') != NULL ? "%s://[%.255s]:%u/" : "%s://%.255s:%u/",
                 session->tls != NULL ? "amqps" : "amqp", host->host, host->port);
    to += strlen(to);
    for (const char *from = session->vhost; *from != '\0' && end - to > 4; from++) {
        if (strchr(plain, *from) != NULL)
            *to++ = *from;
        else
            to += snprintf(to, 4, "%%%02x", (unsigned char)*from);
    }
    *to = '\0';
}

static void session_connect(struct session *session)
{
    const struct session_host *host = &session->hosts[session->host];
    struct link_address address = {.host = host->unix_path != NULL ? NULL : host->host,
                                   .port = host->port,
                                   .unix_path = host->unix_path,
                                   .tls = session->tls,
                                   .tls_server_name = session->tls_server_name,
                                   .connect_timeout = session->connect_timeout};

    session_name_peer(session, host);
    session_set_state(session, SESSION_CONNECTING);
    session->link = link_connect(session->loop, &address, &session_link_ops, session);
    if (session->link == NULL)
        session_lose(session, NULL, "out of memory");
}

static void session_tick(evutil_socket_t fd, short what, void *arg)
{
    struct session *session = arg;

    (void)fd;
    (void)what;
    switch (session->state) {
    case SESSION_WAITING:
        session_connect(session);
        return;
    case SESSION_START:
    case SESSION_TUNE:
    case SESSION_OPENING:
        session_lose(session, NULL, "while waiting for connection.%s: the server said nothing for %lld ms",
                     session->state == SESSION_START  ? "start"
                     : session->state == SESSION_TUNE ? "tune"
                                                      : "open-ok",
                     (long long)session->connect_timeout);
        return;
    case SESSION_OPEN:
        channels_tick(session);
        return;
    case SESSION_CLOSING:
        session_finish_close(session);
        return;
    default:
        return;
    }
}

/* ---- life ---- */

static void session_release(struct loop_task *task)
{
    struct session *session = HARK_CONTAINER(task, struct session, reap);

    if (session->timer != NULL)
        event_free(session->timer);
    for (size_t i = 0; i < session->host_count; i++) {
        free(session->hosts[i].host);
        free(session->hosts[i].unix_path);
    }
    for (size_t i = 0; i < session->slot_count; i++)
        free(session->slots[i]);
    free(session->slots);
    free(session->hosts);
    free(session->complaints);
    free(session->label);
    free(session->vhost);
    free(session->user);
    if (session->password != NULL)
        explicit_bzero(session->password, strlen(session->password));
    free(session->password);
    free(session->tls_server_name);
    empty_amqp_pool(&session->pool);
    free(session);
}

void session_free(struct session *session)
{
    static const struct reply none = {0};

    if (session->link != NULL)
        link_close(session->link);
    session->link = NULL;
    session->state = SESSION_CLOSED;
    evtimer_del(session->timer);
    channels_lost(session, &none);
    loop_reap_later(session->loop, &session->reap);
}

static int session_copy_hosts(struct session *session, const struct session_options *options)
{
    session->hosts = calloc(options->host_count, sizeof(*session->hosts));
    session->complaints = calloc(options->host_count, sizeof(*session->complaints));
    if (session->hosts == NULL || session->complaints == NULL)
        return -1;
    session->host_count = options->host_count;
    for (size_t i = 0; i < options->host_count; i++) {
        const struct session_host *from = &options->hosts[i];
        struct session_host *to = &session->hosts[i];

        to->port = from->port;
        to->host = from->host != NULL ? strdup(from->host) : NULL;
        to->unix_path = from->unix_path != NULL ? strdup(from->unix_path) : NULL;
        if (to->host == NULL && to->unix_path == NULL)
            return -1;
    }
    return 0;
}

struct session *session_new(struct loop *loop, const struct session_options *options, const struct session_ops *ops,
                            void *arg)
{
    struct session *session = calloc(1, sizeof(*session));
    uint32_t random;

    if (session == NULL)
        return NULL;
    init_amqp_pool(&session->pool, 4096);
    session->loop = loop;
    session->ops = ops;
    session->arg = arg;
    session->external = options->external;
    session->tls = options->tls;
    session->connect_timeout = options->connect_timeout;
    session->reconnect_min = options->reconnect_min;
    session->reconnect_max = options->reconnect_max;
    session->heartbeat = options->heartbeat;
    session->proposed_frame_max = session->frame_max = options->frame_max;
    session->common = options->complaints;
    session->max_message_size = options->max_message_size;
    session->reap.run = session_release;
    session->label = strdup(options->label);
    session->vhost = strdup(options->vhost);
    session->user = strdup(options->user);
    session->password = strdup(options->password);
    session->tls_server_name = options->tls_server_name != NULL ? strdup(options->tls_server_name) : NULL;
    session->timer = evtimer_new(loop_base(loop), session_tick, session);
    if (session_copy_hosts(session, options) != 0 || session->label == NULL || session->vhost == NULL ||
        session->user == NULL || session->password == NULL || session->timer == NULL) {
        session_release(&session->reap);
        return NULL;
    }
    evutil_secure_rng_get_bytes(&random, sizeof(random));
    session->host = random % session->host_count;
    return session;
}

void session_start(struct session *session)
{
    if (session->state == SESSION_IDLE)
        session_connect(session);
}

void session_close(struct session *session, int64_t ms, void (*done)(void *arg), void *arg)
{
    static const struct reply none = {0};
    amqp_connection_close_t close = {.reply_code = REPLY_SUCCESS, .reply_text = amqp_span(span_str("Goodbye"))};

    session->close_done = done;
    session->close_arg = arg;
    if (session->state != SESSION_OPEN) {
        session_finish_close(session);
        return;
    }
    session_send(session, AMQP_CONNECTION_CLOSE_METHOD, &close);
    session_set_state(session, SESSION_CLOSING);
    session_set_timer(session, ms);
    channels_lost(session, &none);
}

bool session_is_open(const struct session *session)
{
    return session->state == SESSION_OPEN;
}

bool session_is_blocked(const struct session *session)
{
    return session->blocked;
}

unsigned session_reconnects(const struct session *session)
{
    return session->opened > 0 ? session->opened - 1 : 0;
}

uint32_t session_frame_max(const struct session *session)
{
    return session->frame_max;
}

struct link *session_link(struct session *session)
{
    return session->state == SESSION_OPEN ? session->link : NULL;
}

struct loop *session_loop(struct session *session)
{
    return session->loop;
}

struct complaints *session_complaints(const struct session *session)
{
    return session->common;
}

const char *session_label(const struct session *session)
{
    return session->label;
}

const char *session_peer(const struct session *session)
{
    return session->peer;
}
