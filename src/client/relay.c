/* SPDX-License-Identifier: MIT */
#include "client/relay.h"

#include "wire/content.h"

#include <stdlib.h>

#define RELAYS_IDLE 10 /* seconds until their connection is closed */
#define RELAYS_CLOSE_MS 2000

struct relay {
    struct relay *previous, *next;
    struct relays *relays;
    struct relay **holder; /* NULL: nobody brings parts any more */
    struct outgoing *outgoing;
    struct channel channel;
    struct loop_task reap;
    uint64_t left;            /* bytes that have not come yet */
    bool pausing;             /* the consuming link is not read because of it */
    bool streaming, returned; /* the header is out; basic.return came */
};

static void relay_pause(struct relay *relay, bool pause)
{
    struct link *link = session_link(relay->relays->from);

    if (pause == relay->pausing)
        return;
    relay->pausing = pause;
    if (link == NULL)
        return; /* what was paused is gone */
    if (pause)
        link_pause(link);
    else
        link_resume(link);
}

static void relay_release(struct loop_task *task)
{
    free(HARK_CONTAINER(task, struct relay, reap));
}

static void relay_end(struct relay *relay, enum outcome outcome, const char *why)
{
    struct relays *relays = relay->relays;
    struct outgoing *outgoing = relay->outgoing;

    if (outgoing == NULL)
        return;
    relay->outgoing = NULL;
    if (relay->holder != NULL)
        *relay->holder = NULL;
    relay->holder = NULL;
    relay_pause(relay, false);
    channel_close(&relay->channel, NULL, NULL);
    if (relay->previous != NULL)
        relay->previous->next = relay->next;
    else
        relays->first = relay->next;
    if (relay->next != NULL)
        relay->next->previous = relay->previous;
    loop_reap_later(session_loop(relays->from), &relay->reap);
    if (relays->first == NULL && relays->to != NULL)
        evtimer_add(relays->idle, &(struct timeval){.tv_sec = RELAYS_IDLE});
    outgoing->done(outgoing, outcome, why);
}

/* ---- the channel ---- */

static void relay_opened(void *arg)
{
    struct relay *relay = arg;
    amqp_confirm_select_t select = {0};

    channel_send(&relay->channel, AMQP_CONFIRM_SELECT_METHOD, &select);
}

static void relay_begin(struct relay *relay)
{
    const struct outgoing *outgoing = relay->outgoing;
    struct buf *out = channel_out(&relay->channel);

    method_put_publish(out, relay->channel.number, outgoing->exchange, outgoing->routing_key, true);
    content_put_header(out, relay->channel.number, session_frame_max(relay->relays->to), outgoing->raw_properties,
                       outgoing->streamed);
    link_send(session_link(relay->relays->to));
    relay->streaming = true;
    relay_pause(relay, false);
}

static void relay_method(void *arg, const amqp_method_t *method)
{
    struct relay *relay = arg;

    if (method->id == AMQP_CONFIRM_SELECT_OK_METHOD && !relay->streaming)
        relay_begin(relay);
    else if (method->id == AMQP_BASIC_NACK_METHOD && relay->left == 0)
        relay_end(relay, OUTCOME_NACKED, "");
    else if (method->id == AMQP_BASIC_ACK_METHOD && relay->left == 0)
        relay_end(relay, relay->returned ? OUTCOME_RETURNED : OUTCOME_CONFIRMED, "");
}

static void relay_returned(void *arg, const amqp_basic_return_t *method, const struct message *message, uint64_t size)
{
    (void)method;
    (void)message;
    (void)size;
    ((struct relay *)arg)->returned = true;
}

static void relay_closed(void *arg, const struct reply *error)
{
    relay_end(arg, error->code != 0 ? OUTCOME_REFUSED : OUTCOME_NACKED,
              error->code != 0 ? error->text : "the publishing connection was lost");
}

static void relay_drained(void *arg)
{
    struct relay *relay = arg;

    if (relay->streaming)
        relay_pause(relay, false);
}

static const struct channel_ops relay_channel_ops = {
    .opened = relay_opened,
    .method = relay_method,
    .returned = relay_returned,
    .closed = relay_closed,
    .drained = relay_drained,
};

/* ---- the owner's calls ---- */

static void relay_open(struct relay *relay)
{
    struct session *to = relay->relays->to;

    if (!content_header_fits(session_frame_max(to), relay->outgoing->raw_properties))
        relay_end(relay, OUTCOME_REFUSED, "its properties and headers do not fit into one frame");
    else if (channel_open(&relay->channel, to, &relay_channel_ops, relay) != 0)
        relay_end(relay, OUTCOME_NACKED, "no channel is left");
}

void relay_start(struct relays *relays, struct outgoing *outgoing, struct relay **holder)
{
    struct relay *relay = calloc(1, sizeof(*relay));

    if (relays->to == NULL) {
        relays->to = relays->connect(relays->arg);
        if (relays->to != NULL)
            session_start(relays->to);
    }
    if (relay == NULL || relays->to == NULL) {
        free(relay);
        outgoing->done(outgoing, OUTCOME_NACKED, "out of memory");
        return;
    }
    evtimer_del(relays->idle);
    relay->relays = relays;
    relay->outgoing = outgoing;
    relay->left = outgoing->streamed;
    relay->holder = holder;
    relay->reap.run = relay_release;
    relay->next = relays->first;
    if (relay->next != NULL)
        relay->next->previous = relay;
    relays->first = relay;
    *holder = relay;
    relay_pause(relay, true);
    if (session_is_open(relays->to))
        relay_open(relay);
}

void relay_part(struct relay *relay, struct span part)
{
    struct session *to = relay->relays->to;
    struct link *link = to != NULL ? session_link(to) : NULL;

    if (relay->outgoing == NULL || link == NULL)
        return;
    if (!relay->streaming || part.length > relay->left) { /* the consuming link was not paused, or lies */
        relay_cut(relay);
        return;
    }
    content_put_body(channel_out(&relay->channel), relay->channel.number, session_frame_max(to), part);
    link_send(link);
    relay->left -= part.length;
    if (relay->left > 0) {
        relay_pause(relay, link_is_full(link));
        return;
    }
    if (relay->holder != NULL)
        *relay->holder = NULL;
    relay->holder = NULL;
}

/* At once: half of a message may be on it. Whatever else was on it is told. */
static void relays_drop(struct relays *relays)
{
    struct session *to = relays->to;

    relays->to = NULL;
    evtimer_del(relays->idle);
    if (to != NULL)
        session_free(to);
    relays_lost(relays);
}

void relay_cut(struct relay *relay)
{
    struct relays *relays;
    bool half;

    if (relay == NULL)
        return;
    relays = relay->relays;
    half = relay->streaming && relay->left > 0;
    relay_end(relay, OUTCOME_ABANDONED, "");
    if (half)
        relays_drop(relays);
}

/* ---- all of them ---- */

static void relays_closed(void *arg)
{
    struct relays *relays = arg;

    session_free(relays->closing);
    relays->closing = NULL;
}

static void relays_idle(evutil_socket_t fd, short what, void *arg)
{
    struct relays *relays = arg;

    (void)fd;
    (void)what;
    if (relays->first != NULL || relays->to == NULL || relays->closing != NULL)
        return;
    relays->closing = relays->to;
    relays->to = NULL;
    session_close(relays->closing, RELAYS_CLOSE_MS, relays_closed, relays);
}

int relays_init(struct relays *relays, struct session *from, struct session *(*connect)(void *arg), void *arg)
{
    *relays = (struct relays){.from = from, .connect = connect, .arg = arg};
    relays->idle = evtimer_new(loop_base(session_loop(from)), relays_idle, relays);
    return relays->idle != NULL ? 0 : -1;
}

void relays_opened(struct relays *relays)
{
    struct relay *relay, *next;

    for (relay = relays->first; relay != NULL; relay = next) {
        next = relay->next;
        if (relay->channel.session == NULL)
            relay_open(relay);
    }
}

/* Those that had a channel have been told; those that wait for one hold the consuming up. */
void relays_lost(struct relays *relays)
{
    struct relay *relay, *next;

    for (relay = relays->first; relay != NULL; relay = next) {
        next = relay->next;
        if (relay->channel.session == NULL)
            relay_end(relay, OUTCOME_NACKED, "there is no connection to pass it on");
    }
}

void relays_abandon(struct relays *relays)
{
    while (relays->first != NULL)
        relay_end(relays->first, OUTCOME_ABANDONED, "");
    if (relays->to != NULL)
        session_free(relays->to);
    if (relays->closing != NULL)
        session_free(relays->closing);
    relays->to = relays->closing = NULL;
}

void relays_free(struct relays *relays)
{
    relays_abandon(relays);
    if (relays->idle != NULL)
        event_free(relays->idle);
    relays->idle = NULL;
}
