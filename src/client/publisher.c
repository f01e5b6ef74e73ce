/* SPDX-License-Identifier: MIT */
#include "client/publisher.h"

#include "base/log.h"
#include "client/backoff.h"
#include "wire/content.h"

#include <stdio.h>
#include <stdlib.h>

#define PUBLISHER_STRIKES 3 /* closes of the channel with one message alone in flight, before it is the guilty one */
#define PUBLISHER_RETRY_MIN 50
#define PUBLISHER_RETRY_MAX 5000

struct publisher {
    struct session *session;
    const struct publisher_ops *ops;
    void *arg;
    struct channel channel;
    unsigned window;
    bool confirm, ready, high, freeing;

    /* In flight: ring[sequence & mask], from `oldest` to `next` - 1; NULL: has had its outcome. Sequences are those of the
     * channel, which counts from 1. */
    struct outgoing **ring;
    uint64_t oldest, next;
    size_t ring_size;
    size_t unconfirmed;

    struct outgoing *waiting, **waiting_end;
    size_t waiting_count;

    /* Careful mode: how many messages from the front of `waiting` still have to go one at a time. */
    size_t careful;
    unsigned strikes;
    struct event *timer;
    struct log_limit said;
};

static void publisher_pump(struct publisher *publisher);

/* ---- pressure ---- */

static void publisher_watch(struct publisher *publisher)
{
    size_t high = publisher->window, low = publisher->window / 2;
    bool full = publisher->waiting_count > high;

    if (publisher->high)
        full = publisher->waiting_count > low;
    if (session_is_blocked(publisher->session) || (!publisher->ready && publisher->waiting_count > 0))
        full = true;
    if (full == publisher->high || publisher->freeing)
        return;
    publisher->high = full;
    publisher->ops->pressure(publisher->arg, full);
}

/* ---- lists ---- */

static void waiting_append(struct publisher *publisher, struct outgoing *outgoing)
{
    outgoing->next = NULL;
    *publisher->waiting_end = outgoing;
    publisher->waiting_end = &outgoing->next;
    publisher->waiting_count++;
}

static struct outgoing *waiting_take(struct publisher *publisher)
{
    struct outgoing *outgoing = publisher->waiting;

    publisher->waiting = outgoing->next;
    if (publisher->waiting == NULL)
        publisher->waiting_end = &publisher->waiting;
    publisher->waiting_count--;
    outgoing->next = NULL;
    return outgoing;
}

static struct outgoing **ring_at(const struct publisher *publisher, uint64_t sequence)
{
    return &publisher->ring[sequence & (publisher->ring_size - 1)];
}

/* What was in flight goes back to the front of the waiting, in its order. Returns how many there were. */
static size_t ring_rewind(struct publisher *publisher)
{
    struct outgoing *first = NULL, **end = &first;
    size_t count = 0;

    for (uint64_t sequence = publisher->oldest; sequence < publisher->next; sequence++) {
        struct outgoing *outgoing = *ring_at(publisher, sequence);

        if (outgoing == NULL)
            continue;
        *ring_at(publisher, sequence) = NULL;
        outgoing->returned = false;
        *end = outgoing;
        end = &outgoing->next;
        count++;
    }
    if (count > 0) {
        *end = publisher->waiting;
        if (publisher->waiting == NULL)
            publisher->waiting_end = end;
        publisher->waiting = first;
        publisher->waiting_count += count;
    }
    publisher->oldest = publisher->next = 1;
    publisher->unconfirmed = 0;
    return count;
}

/* ---- outcomes ---- */

static void publisher_settle(struct publisher *publisher, uint64_t sequence, bool acked)
{
    struct outgoing **at = ring_at(publisher, sequence), *outgoing = *at;

    if (outgoing == NULL)
        return;
    *at = NULL;
    publisher->unconfirmed--;
    if (publisher->careful > 0) {
        publisher->careful--;
        publisher->strikes = 0;
    }
    if (!acked)
        outgoing->done(outgoing, OUTCOME_NACKED, "basic.nack");
    else if (outgoing->returned)
        outgoing->done(outgoing, OUTCOME_RETURNED, "NO_ROUTE");
    else
        outgoing->done(outgoing, OUTCOME_CONFIRMED, "");
}

static void publisher_confirmed(struct publisher *publisher, uint64_t tag, bool multiple, bool acked)
{
    if (tag >= publisher->next || (tag < publisher->oldest && tag != 0))
        return; /* not ours to confirm; harmless */
    if (multiple) {
        uint64_t last = tag == 0 ? publisher->next - 1 : tag;

        while (publisher->oldest <= last)
            publisher_settle(publisher, publisher->oldest++, acked);
    } else {
        publisher_settle(publisher, tag, acked);
    }
    while (publisher->oldest < publisher->next && *ring_at(publisher, publisher->oldest) == NULL)
        publisher->oldest++;
}

static bool publisher_same(const struct outgoing *outgoing, const struct message *message)
{
    struct properties properties;
    struct reply error;

    return !outgoing->returned && span_equal(outgoing->routing_key, message->routing_key) &&
           span_equal(outgoing->exchange, message->exchange) && span_equal(outgoing->body, message->body) &&
           properties_parse(outgoing->raw_properties, &properties, &error) == 0 &&
           span_equal(properties.message_id, message->properties.message_id);
}

/* basic.return carries no number, but the whole message, and comes before its basic.ack. Equal messages are equal in this,
 * too. */
static void publisher_returned(void *arg, const amqp_basic_return_t *method, const struct message *message)
{
    struct publisher *publisher = arg;
    unsigned dropped;

    for (uint64_t sequence = publisher->oldest; sequence < publisher->next; sequence++) {
        struct outgoing *outgoing = *ring_at(publisher, sequence);

        if (outgoing != NULL && publisher_same(outgoing, message)) {
            outgoing->returned = true;
            return;
        }
    }
    if (log_allowed(&publisher->said, &dropped))
        log_warning("%s: a message to exchange \"%.*s\" with key \"%.*s\" was returned: %.*s", session_label(publisher->session),
                    (int)message->exchange.length, (const char *)message->exchange.data, (int)message->routing_key.length,
                    (const char *)message->routing_key.data, (int)method->reply_text.len,
                    (const char *)method->reply_text.bytes);
}

/* ---- the channel ---- */

static void publisher_open(struct publisher *publisher);

static void publisher_go(struct publisher *publisher)
{
    publisher->ready = true;
    publisher_pump(publisher);
}

static void publisher_channel_opened(void *arg)
{
    struct publisher *publisher = arg;
    amqp_confirm_select_t select = {0};

    if (publisher->confirm)
        channel_send(&publisher->channel, AMQP_CONFIRM_SELECT_METHOD, &select);
    else
        publisher_go(publisher);
}

static void publisher_method(void *arg, const amqp_method_t *method)
{
    struct publisher *publisher = arg;

    switch (method->id) {
    case AMQP_CONFIRM_SELECT_OK_METHOD:
        publisher_go(publisher);
        return;
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *ack = method->decoded;

        publisher_confirmed(publisher, ack->delivery_tag, ack->multiple != 0, true);
        return;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *nack = method->decoded;

        publisher_confirmed(publisher, nack->delivery_tag, nack->multiple != 0, false);
        return;
    }
    default:
        return;
    }
}

static void publisher_wait(struct publisher *publisher)
{
    int64_t pause = backoff_ms(publisher->strikes, PUBLISHER_RETRY_MIN, PUBLISHER_RETRY_MAX);
    struct timeval wait = {.tv_sec = pause / 1000, .tv_usec = pause % 1000 * 1000};

    evtimer_add(publisher->timer, &wait);
}

/* The message that was alone in flight is the guilty one, or will be if it does it again. */
static void publisher_strike(struct publisher *publisher, const struct reply *error)
{
    struct outgoing *outgoing;

    if (++publisher->strikes < PUBLISHER_STRIKES && reply_is_hard(error->code))
        return;
    publisher->strikes = 0;
    if (publisher->careful > 0)
        publisher->careful--;
    outgoing = waiting_take(publisher);
    outgoing->done(outgoing, OUTCOME_REFUSED, error->text);
}

static void publisher_channel_closed(void *arg, const struct reply *error)
{
    struct publisher *publisher = arg;
    size_t in_flight;

    publisher->ready = false;
    in_flight = ring_rewind(publisher);
    if (publisher->freeing)
        return;
    if (error->code != 0 && error->code != REPLY_CONNECTION_FORCED && in_flight > 0) {
        if (in_flight == 1) {
            publisher_strike(publisher, error);
        } else {
            log_debug("%s: the channel was closed with %zu messages in flight, one at a time now: %s",
                      session_label(publisher->session), in_flight, error->text);
            if (publisher->careful < in_flight)
                publisher->careful = in_flight;
            publisher->strikes = 0;
        }
    } else if (error->code != 0 && in_flight == 0) {
        unsigned dropped;

        if (log_allowed(&publisher->said, &dropped))
            log_error("%s: the broker closed the publishing channel: %s", session_label(publisher->session), error->text);
        publisher->strikes++;
    }
    if (session_is_open(publisher->session))
        publisher_wait(publisher);
    publisher_watch(publisher);
}

static void publisher_batch(void *arg, bool full)
{
    struct publisher *publisher = arg;

    (void)full;
    publisher_pump(publisher); /* the window has moved */
}

static void publisher_drained(void *arg)
{
    publisher_pump(arg);
}

static const struct channel_ops publisher_channel_ops = {
    .opened = publisher_channel_opened,
    .method = publisher_method,
    .returned = publisher_returned,
    .closed = publisher_channel_closed,
    .batch = publisher_batch,
    .drained = publisher_drained,
};

static void publisher_open(struct publisher *publisher)
{
    if (!session_is_open(publisher->session) || channel_is_open(&publisher->channel))
        return;
    if (channel_open(&publisher->channel, publisher->session, &publisher_channel_ops, publisher) != 0)
        publisher_wait(publisher);
}

static void publisher_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    publisher_open(arg);
}

/* ---- sending ---- */

static void publisher_put(struct publisher *publisher, struct outgoing *outgoing)
{
    struct buf *out = channel_out(&publisher->channel);

    method_put_publish(out, publisher->channel.number, outgoing->exchange, outgoing->routing_key, true);
    content_put(out, publisher->channel.number, session_frame_max(publisher->session), outgoing->raw_properties,
                outgoing->body);
    link_send(session_link(publisher->session));
}

static bool publisher_may(struct publisher *publisher)
{
    if (!publisher->ready || link_is_full(session_link(publisher->session)))
        return false;
    if (!publisher->confirm)
        return true;
    return publisher->unconfirmed < (publisher->careful > 0 ? 1 : publisher->window) &&
           publisher->next - publisher->oldest < publisher->ring_size;
}

static void publisher_emit(struct publisher *publisher, struct outgoing *outgoing)
{
    publisher_put(publisher, outgoing);
    if (!publisher->confirm) {
        outgoing->done(outgoing, OUTCOME_CONFIRMED, "");
        return;
    }
    outgoing->sequence = publisher->next++;
    *ring_at(publisher, outgoing->sequence) = outgoing;
    publisher->unconfirmed++;
}

static void publisher_pump(struct publisher *publisher)
{
    while (publisher->waiting != NULL && publisher_may(publisher))
        publisher_emit(publisher, waiting_take(publisher));
    publisher_watch(publisher);
}

void publisher_send(struct publisher *publisher, struct outgoing *outgoing)
{
    outgoing->returned = false; /* it may be here for the second time */
    if (publisher->freeing) {
        outgoing->done(outgoing, OUTCOME_ABANDONED, "");
    } else if (publisher->waiting == NULL && publisher_may(publisher)) {
        publisher_emit(publisher, outgoing);
    } else {
        waiting_append(publisher, outgoing);
        publisher_watch(publisher);
    }
}

/* ---- life ---- */

struct publisher *publisher_new(struct session *session, const struct publisher_options *options,
                                const struct publisher_ops *ops, void *arg)
{
    struct publisher *publisher = calloc(1, sizeof(*publisher));

    if (publisher == NULL)
        return NULL;
    publisher->session = session;
    publisher->ops = ops;
    publisher->arg = arg;
    publisher->window = options->window;
    publisher->confirm = options->confirm;
    publisher->waiting_end = &publisher->waiting;
    publisher->oldest = publisher->next = 1;
    publisher->said = (struct log_limit){.burst = 5, .period_ms = 60000};
    /* Twice the window, so that one confirmation that is late does not stop what could go on behind it. */
    publisher->ring_size = 1;
    while (publisher->ring_size < 2 * (size_t)options->window)
        publisher->ring_size *= 2;
    publisher->ring = calloc(publisher->ring_size, sizeof(*publisher->ring));
    publisher->timer = evtimer_new(loop_base(session_loop(session)), publisher_tick, publisher);
    if (publisher->ring != NULL && publisher->timer != NULL)
        return publisher;
    if (publisher->timer != NULL)
        event_free(publisher->timer);
    free(publisher->ring);
    free(publisher);
    return NULL;
}

void publisher_session_opened(struct publisher *publisher)
{
    publisher_open(publisher);
}

void publisher_session_lost(struct publisher *publisher)
{
    evtimer_del(publisher->timer);
    publisher_watch(publisher);
}

void publisher_session_blocked(struct publisher *publisher, bool blocked)
{
    (void)blocked;
    publisher_pump(publisher);
}

size_t publisher_unconfirmed(const struct publisher *publisher)
{
    return publisher->unconfirmed;
}

size_t publisher_waiting(const struct publisher *publisher)
{
    return publisher->waiting_count;
}

void publisher_free(struct publisher *publisher)
{
    publisher->freeing = true;
    channel_close(&publisher->channel, NULL, NULL);
    ring_rewind(publisher);
    while (publisher->waiting != NULL) {
        struct outgoing *outgoing = waiting_take(publisher);

        outgoing->done(outgoing, OUTCOME_ABANDONED, "");
    }
    event_free(publisher->timer);
    free(publisher->ring);
    free(publisher);
}
