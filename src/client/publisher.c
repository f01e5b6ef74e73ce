/* SPDX-License-Identifier: MIT */
#include "client/publisher.h"

#include "base/log.h"
#include "client/backoff.h"
#include "client/flight.h"
#include "client/refusals.h"
#include "client/sending.h"
#include "client/waiting.h"
#include "wire/content.h"

#include <stdio.h>
#include <stdlib.h>

/* Times that the connection is closed with one message alone in flight until it is guilty. */
#define PUBLISHER_STRIKES 3
#define PUBLISHER_RETRY_MIN 50
#define PUBLISHER_RETRY_MAX 5000

struct publisher {
    struct session *session;
    const struct publisher_ops *ops;
    void *arg;
    struct channel channel;
    size_t window;
    bool confirm, ready, blocked, held, high, freeing;

    struct sending sending;
    struct flight flight;
    struct waiting waiting;

    /* Careful mode: so many messages, from the front, are to have an outcome before it is over,
     * with at most `limit` in flight. */
    size_t suspects, limit;
    unsigned strikes; /* of the one at the front, or of a channel that closes without any message */
    struct refusals refusals;
    struct event *timer;
    struct loop_task pump, reap;
    struct log_limit said;
};

/* ---- pressure ---- */

static void publisher_watch(struct publisher *publisher)
{
    size_t waiting = publisher->waiting.count;
    bool high = publisher->blocked || waiting > (publisher->high ? publisher->window / 2 : publisher->window);

    if (waiting > 0 && !high)
        high = !publisher->ready || publisher->held || link_is_full(session_link(publisher->session));
    if (HARK_LIKELY(high == publisher->high) || publisher->freeing)
        return;
    publisher->high = high;
    publisher->ops->pressure(publisher->arg, high);
}

/* What was in flight, or on its way there, goes back to the front of the waiting, in its order. Returns how many there
 * were. */
static size_t publisher_rewind(struct publisher *publisher)
{
    struct outgoing *cut = sending_cut(&publisher->sending);
    size_t count = publisher->flight.count + (cut != NULL);

    if (!publisher->confirm) {
        if (cut != NULL) /* lost, as others that were on their way are */
            cut->done(cut, publisher->freeing ? OUTCOME_ABANDONED : OUTCOME_CONFIRMED, "");
        return 0;
    }
    if (cut != NULL)
        cut->next = NULL;
    waiting_put_back(&publisher->waiting, cut);
    waiting_put_back(&publisher->waiting, flight_rewind(&publisher->flight));
    return count;
}

/* ---- outcomes ---- */

static void publisher_end(struct publisher *publisher, struct outgoing *outgoing, enum outcome outcome, const char *why)
{
    publisher->strikes = 0;
    if (HARK_UNLIKELY(publisher->suspects > 0)) {
        publisher->suspects--;
        if (publisher->flight.count == 0 && publisher->limit < publisher->window)
            publisher->limit *= 2;
    }
    outgoing->done(outgoing, outcome, why);
}

static void publisher_answered(struct publisher *publisher, struct outgoing *outgoing, bool acked)
{
    if (!acked)
        publisher_end(publisher, outgoing, OUTCOME_NACKED, "basic.nack");
    else if (outgoing->returned)
        publisher_end(publisher, outgoing, OUTCOME_RETURNED, "NO_ROUTE");
    else
        publisher_end(publisher, outgoing, OUTCOME_CONFIRMED, "");
}

static void publisher_confirmed(struct publisher *publisher, uint64_t tag, bool multiple, bool acked)
{
    struct outgoing *outgoing;

    if (tag >= publisher->flight.next)
        return; /* never published: confirms nothing */
    if (multiple) {
        uint64_t last = tag == 0 ? publisher->flight.next - 1 : tag;

        while ((outgoing = flight_take_oldest(&publisher->flight, last)) != NULL)
            publisher_answered(publisher, outgoing, acked);
    } else {
        outgoing = flight_take(&publisher->flight, tag);
        if (outgoing != NULL) /* otherwise not ours to confirm; harmless */
            publisher_answered(publisher, outgoing, acked);
    }
}

/* basic.return carries no number, but the whole message, and comes before its basic.ack. */
static void publisher_returned(void *arg, const amqp_basic_return_t *method, const struct message *message,
                               uint64_t size)
{
    struct publisher *publisher = arg;
    struct outgoing *outgoing = publisher->confirm ? flight_find(&publisher->flight, message, size) : NULL;
    unsigned dropped;

    if (outgoing != NULL)
        outgoing->returned = true;
    else if (log_allowed(&publisher->said, &dropped))
        log_warning("%s: a message to exchange \"%.*s\" with key \"%.*s\" was returned: %.*s",
                    session_label(publisher->session), (int)message->exchange.length,
                    (const char *)message->exchange.data, (int)message->routing_key.length,
                    (const char *)message->routing_key.data, (int)method->reply_text.len,
                    (const char *)method->reply_text.bytes);
}

/* ---- the channel ---- */

static void publisher_open(struct publisher *publisher);
static void publisher_pump(struct publisher *publisher);

static void publisher_go(struct publisher *publisher)
{
    publisher->ready = true;
    if (!publisher->confirm)
        publisher->strikes = 0;
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

/* The message that was alone in flight is the guilty one, or will be if it does it again: a
 * connection is closed for many reasons, a channel only for what was said on it. */
static void publisher_strike(struct publisher *publisher, const struct reply *error)
{
    struct outgoing *outgoing;

    if (++publisher->strikes < PUBLISHER_STRIKES && reply_is_hard(error->code))
        return;
    outgoing = waiting_take(&publisher->waiting);
    refusals_add(&publisher->refusals, outgoing->exchange, outgoing->routing_key, error,
                 loop_now(session_loop(publisher->session)));
    publisher_end(publisher, outgoing, OUTCOME_REFUSED, error->text);
}

static void publisher_blame(struct publisher *publisher, size_t in_flight, const struct reply *error)
{
    if (publisher->suspects == 0)
        publisher->strikes = 0;
    if (publisher->suspects < in_flight)
        publisher->suspects = in_flight;
    publisher->limit = 1;
    if (in_flight == 1) {
        publisher_strike(publisher, error);
        return;
    }
    publisher->strikes = 0;
    log_debug("%s: closed with %zu messages in flight, looking for the one: %s", session_label(publisher->session),
              in_flight, error->text);
}

static void publisher_channel_closed(void *arg, const struct reply *error)
{
    struct publisher *publisher = arg;
    size_t in_flight;
    unsigned dropped;

    publisher->ready = false; /* before anybody hears of an outcome and sends more */
    in_flight = publisher_rewind(publisher);
    if (publisher->freeing)
        return;
    if (error->code != 0 && error->code != REPLY_CONNECTION_FORCED && in_flight > 0) {
        publisher_blame(publisher, in_flight, error);
    } else if (error->code != 0 && !reply_is_hard(error->code)) {
        publisher->strikes++;
        if (log_allowed(&publisher->said, &dropped))
            log_error("%s: the broker closed the publishing channel: %s", session_label(publisher->session),
                      error->text);
    }
    if (session_is_open(publisher->session)) {
        if (in_flight > 1) /* nearer to the guilty one, so this comes to an end */
            publisher_open(publisher);
        else
            publisher_wait(publisher);
    }
    publisher_watch(publisher);
}

static void publisher_closing(void *arg)
{
    struct publisher *publisher = arg;

    if (publisher->sending.outgoing != NULL)
        sending_finish(&publisher->sending, &publisher->channel);
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
    .closing = publisher_closing,
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

static bool publisher_may(struct publisher *publisher)
{
    if (!publisher->ready || publisher->sending.outgoing != NULL || publisher->blocked || publisher->held ||
        link_is_full(session_link(publisher->session)))
        return false;
    return !publisher->confirm ||
           publisher->flight.count < (publisher->suspects > 0 ? publisher->limit : publisher->window);
}

/* NULL, or why it cannot be sent at all: what does not fit would cost the connection, again and
 * again. */
static const char *publisher_misfit(struct publisher *publisher, const struct outgoing *outgoing)
{
    if (HARK_UNLIKELY(outgoing->exchange.length > UINT8_MAX || outgoing->routing_key.length > UINT8_MAX))
        return "its exchange or routing key has more than 255 bytes";
    if (HARK_UNLIKELY(!content_header_fits(session_frame_max(publisher->session), outgoing->raw_properties)))
        return "its properties and headers do not fit into one frame";
    if (HARK_UNLIKELY(publisher->refusals.used > 0))
        return refusals_find(&publisher->refusals, outgoing->exchange, outgoing->routing_key,
                             loop_now(session_loop(publisher->session)));
    return NULL;
}

static void publisher_go_on(struct publisher *publisher)
{
    struct outgoing *outgoing = sending_go_on(&publisher->sending, &publisher->channel);

    if (outgoing == NULL)
        return;
    if (publisher->confirm)
        flight_add(&publisher->flight, outgoing);
    else
        outgoing->done(outgoing, OUTCOME_CONFIRMED, "");
}

static void publisher_emit(struct publisher *publisher, struct outgoing *outgoing)
{
    sending_begin(&publisher->sending, &publisher->channel, outgoing);
    publisher_go_on(publisher);
}

static void publisher_pump(struct publisher *publisher)
{
    size_t left = publisher->waiting.count; /* what outcomes send anew is the next turn's */

    if (HARK_UNLIKELY(publisher->sending.outgoing != NULL))
        publisher_go_on(publisher);
    while (left-- > 0 && publisher->waiting.first != NULL && publisher_may(publisher)) {
        struct outgoing *outgoing = waiting_take(&publisher->waiting);
        const char *misfit = publisher_misfit(publisher, outgoing);

        if (misfit == NULL)
            publisher_emit(publisher, outgoing);
        else
            publisher_end(publisher, outgoing, OUTCOME_REFUSED, misfit);
    }
    if (publisher->waiting.first != NULL && publisher_may(publisher))
        loop_defer(session_loop(publisher->session), &publisher->pump);
    publisher_watch(publisher);
}

static void publisher_pump_task(struct loop_task *task)
{
    publisher_pump(HARK_CONTAINER(task, struct publisher, pump));
}

void publisher_hold(struct publisher *publisher, bool held)
{
    publisher->held = held;
    if (held)
        return;
    publisher->refusals.used = 0;
    publisher_pump(publisher);
}

void publisher_send(struct publisher *publisher, struct outgoing *outgoing)
{
    bool may = publisher->waiting.first == NULL && publisher_may(publisher);

    if (HARK_UNLIKELY(publisher->freeing)) {
        outgoing->done(outgoing, OUTCOME_ABANDONED, "");
        return;
    }
    if (may && HARK_LIKELY(publisher_misfit(publisher, outgoing) == NULL)) {
        publisher_emit(publisher, outgoing);
        return;
    }
    waiting_append(&publisher->waiting, outgoing);
    if (may) /* what cannot be sent hears it later: nobody expects an outcome from within */
        loop_defer(session_loop(publisher->session), &publisher->pump);
    publisher_watch(publisher);
}

/* ---- life ---- */

static void publisher_release(struct loop_task *task)
{
    struct publisher *publisher = HARK_CONTAINER(task, struct publisher, reap);

    if (publisher->timer != NULL)
        event_free(publisher->timer);
    flight_free(&publisher->flight);
    free(publisher);
}

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
    waiting_init(&publisher->waiting);
    publisher->pump.run = publisher_pump_task;
    publisher->reap.run = publisher_release;
    publisher->said = (struct log_limit){.burst = 5, .period_ms = 60000};
    publisher->timer = evtimer_new(loop_base(session_loop(session)), publisher_tick, publisher);
    if (publisher->timer != NULL && (!options->confirm || flight_init(&publisher->flight, options->window) == 0))
        return publisher;
    publisher_release(&publisher->reap);
    return NULL;
}

void publisher_session_opened(struct publisher *publisher)
{
    publisher_open(publisher);
}

void publisher_session_lost(struct publisher *publisher)
{
    publisher->blocked = false;
    evtimer_del(publisher->timer);
    publisher_watch(publisher);
}

void publisher_session_blocked(struct publisher *publisher, bool blocked)
{
    publisher->blocked = blocked;
    publisher_pump(publisher);
}

size_t publisher_unconfirmed(const struct publisher *publisher)
{
    return publisher->flight.count + (publisher->sending.outgoing != NULL);
}

size_t publisher_waiting(const struct publisher *publisher)
{
    return publisher->waiting.count;
}

bool publisher_is_high(const struct publisher *publisher)
{
    return publisher->high;
}

void publisher_free(struct publisher *publisher)
{
    struct loop *loop = session_loop(publisher->session);

    if (publisher->freeing)
        return;
    publisher->freeing = true;
    publisher->ready = false;
    evtimer_del(publisher->timer);
    if (channel_is_open(&publisher->channel))
        publisher_closing(publisher);
    channel_close(&publisher->channel, NULL, NULL);
    publisher_rewind(publisher);
    while (publisher->waiting.first != NULL) {
        struct outgoing *outgoing = waiting_take(&publisher->waiting);

        outgoing->done(outgoing, OUTCOME_ABANDONED, "");
    }
    loop_task_cancel(&publisher->pump);
    loop_reap_later(loop, &publisher->reap);
}
