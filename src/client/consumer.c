/* SPDX-License-Identifier: MIT */
#include "client/consumer_private.h"

#include "base/log.h"
#include "client/backoff.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- subscribing ---- */

static void consumer_open(struct consumer *consumer);

/* What was on its way will not be whole. */
static void consumer_cut(struct consumer *consumer)
{
    bool was = consumer->streaming;

    consumer->streaming = false;
    if (was && consumer->ops->cut != NULL)
        consumer->ops->cut(consumer->arg);
}

/* The channel is gone, and with it all tickets. The owner is told last: it may call anything. */
static void consumer_leave(struct consumer *consumer, enum consumer_state state)
{
    bool was = consumer->state == CONSUMER_SUBSCRIBED || consumer->state == CONSUMER_CANCELLING ||
               consumer->state == CONSUMER_CANCELLED; /* of a channel that it was subscribed on */

    consumer_cut(consumer);
    consumer_settle_void(consumer);
    consumer->state = state;
    if (was)
        consumer->ops->subscribed(consumer->arg, false);
}

static void consumer_again(struct consumer *consumer)
{
    int64_t now = loop_now(session_loop(consumer->session)), pause;
    struct timeval wait;

    if (consumer->state == CONSUMER_SUBSCRIBED && now - consumer->since > consumer->retry_max)
        consumer->attempts = 0; /* it went well for a while */
    pause = backoff_ms(consumer->attempts++, consumer->retry_min, consumer->retry_max);
    wait = (struct timeval){.tv_sec = pause / 1000, .tv_usec = pause % 1000 * 1000};
    evtimer_add(consumer->timer, &wait);
    consumer_leave(consumer, CONSUMER_WAITING);
}

static void consumer_tick(evutil_socket_t fd, short what, void *arg)
{
    struct consumer *consumer = arg;

    (void)fd;
    (void)what;
    if (consumer->state != CONSUMER_WAITING)
        return;
    consumer->state = CONSUMER_IDLE;
    if (consumer->is_gone && consumer->ops->gone != NULL) {
        consumer->is_gone = false;
        consumer->ops->gone(consumer->arg);
    } else {
        consumer_open(consumer);
    }
}

static void consumer_say(struct consumer *consumer, const char *what, const char *text, const char *advice)
{
    char line[600];

    snprintf(line, sizeof(line), "%s: %s %s%s", consumer->section, what, text, advice);
    if (complaint_is_news(&consumer->complaint, session_complaints(consumer->session), line,
                          loop_now(session_loop(consumer->session))))
        log_error("%s", line);
}

static void consumer_channel_opened(void *arg)
{
    struct consumer *consumer = arg;
    amqp_basic_qos_t qos = {.prefetch_count = consumer->prefetch};
    amqp_basic_consume_t consume = {.queue = amqp_span(span_str(consumer->queue)),
                                    .consumer_tag = amqp_span(span_str("hark")), /* the only one on its channel */
                                    .arguments = consumer->arguments};

    channel_send(&consumer->channel, AMQP_BASIC_QOS_METHOD, &qos);
    channel_send(&consumer->channel, AMQP_BASIC_CONSUME_METHOD, &consume);
    consumer->state = CONSUMER_ASKING;
}

static void consumer_finish(struct consumer *consumer)
{
    void (*done)(void *) = consumer->done;

    consumer->done = NULL;
    if (done != NULL)
        done(consumer->done_arg);
}

static void consumer_channel_closed(void *arg, const struct reply *error)
{
    struct consumer *consumer = arg;
    enum consumer_state state = consumer->state;
    const char *advice = "; trying again";

    if (state == CONSUMER_CANCELLING || state == CONSUMER_CANCELLED) {
        consumer_leave(consumer, CONSUMER_CLOSED);
        consumer_finish(consumer);
        return;
    }
    if (error->code == 0 || reply_is_hard(error->code)) {
        consumer_leave(consumer, CONSUMER_IDLE); /* with the connection: its owner will start us again */
        return;
    }
    consumer->is_gone = error->code == REPLY_NOT_FOUND;
    if (error->code == REPLY_NOT_FOUND)
        advice = " (see the queue's `declare`); trying again";
    else if (error->code == REPLY_ACCESS_REFUSED)
        advice =
            " (the user of `url` needs read permission on the queue, and nobody else may hold it exclusively); trying again";
    else if (error->code == REPLY_PRECONDITION_FAILED && strstr(error->text, "timeout") != NULL)
        advice = " (a listener holds messages longer than the broker's consumer_timeout); trying again";
    if (consumer->ops->known != NULL && consumer->ops->known(consumer->arg, error))
        log_debug("%s: cannot consume: %s", consumer->section, error->text);
    else
        consumer_say(consumer, "the broker refused to let it consume:", error->text, advice);
    consumer_again(consumer);
}

static void consumer_cancelled_by_server(struct consumer *consumer)
{
    consumer_say(consumer, "the broker cancelled the consumer:", "the queue was deleted, or its node or leader is gone",
                 "; subscribing again");
    consumer_flush(consumer); /* what the broker still knows is not delivered again */
    channel_close(&consumer->channel, NULL, NULL);
    consumer->is_gone = true;
    consumer_again(consumer);
}

static void consumer_method(void *arg, const amqp_method_t *method)
{
    struct consumer *consumer = arg;

    switch (method->id) {
    case AMQP_BASIC_CONSUME_OK_METHOD:
        if (consumer->state == CONSUMER_ASKING) {
            consumer->state = CONSUMER_SUBSCRIBED;
            consumer->since = loop_now(session_loop(consumer->session));
            consumer->ops->subscribed(consumer->arg, true);
        }
        return;
    case AMQP_BASIC_CANCEL_METHOD:
        if (consumer->state == CONSUMER_SUBSCRIBED || consumer->state == CONSUMER_ASKING)
            consumer_cancelled_by_server(consumer);
        return;
    case AMQP_BASIC_CANCEL_OK_METHOD:
        if (consumer->state == CONSUMER_CANCELLING) {
            consumer->state = CONSUMER_CANCELLED;
            consumer_finish(consumer);
        }
        return;
    default: /* qos-ok */
        return;
    }
}

static void consumer_delivery(void *arg, const struct method_deliver *deliver, struct message *message,
                              uint64_t oversized)
{
    struct consumer *consumer = arg;
    struct ticket ticket = {.consumer = consumer, .tag = deliver->delivery_tag, .epoch = consumer->channel.epoch};
    amqp_basic_reject_t reject = {.delivery_tag = deliver->delivery_tag, .requeue = 1};

    ticket.slot = unacked_add(&consumer->unacked, deliver->delivery_tag);
    if (ticket.slot == UNACKED_NONE) {
        /* It cannot even be noted that it is in hand, and the next `multiple` would take it along. */
        message_drop(message);
        if (consumer->state != CONSUMER_SUBSCRIBED) { /* we are leaving: it goes to others */
            channel_send(&consumer->channel, AMQP_BASIC_REJECT_METHOD, &reject);
            return;
        }
        consumer_say(consumer, "out of memory for a delivery:", "what is in hand goes back to the queue",
                     "; subscribing again");
        channel_close(&consumer->channel, NULL, NULL);
        consumer_again(consumer);
        return;
    }
    consumer->delivered++;
    consumer->streaming = oversized > 0;
    consumer->ops->delivery(consumer->arg, &ticket, deliver->redelivered, message, oversized);
}

static void consumer_body(void *arg, struct span part, bool last)
{
    struct consumer *consumer = arg;

    if (!consumer->streaming) /* there was no memory for it */
        return;
    consumer->streaming = !last;
    if (consumer->ops->body != NULL)
        consumer->ops->body(consumer->arg, part, last);
}

static void consumer_batch(void *arg, bool full)
{
    struct consumer *consumer = arg;
    struct loop *loop = session_loop(consumer->session);
    unsigned pause = gather_pause(&consumer->gather, loop_now(loop),
                                  (unsigned)(consumer->delivered - consumer->gathered), full, consumer->unacked.count,
                                  consumer->prefetch);

    consumer->gathered = consumer->delivered;
    if (pause > 0)
        loop_gather(loop, pause);
}

static const struct channel_ops consumer_channel_ops = {
    .opened = consumer_channel_opened,
    .method = consumer_method,
    .delivery = consumer_delivery,
    .body = consumer_body,
    .closed = consumer_channel_closed,
    .batch = consumer_batch,
};

static void consumer_open(struct consumer *consumer)
{
    if (!session_is_open(consumer->session))
        return; /* consumer_start() will come with the next connection */
    if (channel_open(&consumer->channel, consumer->session, &consumer_channel_ops, consumer) != 0) {
        consumer_again(consumer);
        return;
    }
    consumer->state = CONSUMER_OPENING;
}

/* ---- the owner's calls ---- */

static void consumer_release(struct loop_task *task)
{
    struct consumer *consumer = HARK_CONTAINER(task, struct consumer, reap);

    if (consumer->timer != NULL)
        event_free(consumer->timer);
    arguments_free(&consumer->arguments);
    consumer_settle_free(consumer);
    free(consumer->queue);
    free(consumer->section);
    free(consumer);
}

struct consumer *consumer_new(struct session *session, const struct consumer_options *options,
                              const struct consumer_ops *ops, void *arg)
{
    struct consumer *consumer = calloc(1, sizeof(*consumer));

    if (consumer == NULL)
        return NULL;
    consumer->session = session;
    consumer->ops = ops;
    consumer->arg = arg;
    consumer->prefetch = options->prefetch;
    consumer->retry_min = options->retry_min;
    consumer->retry_max = options->retry_max;
    consumer->reap.run = consumer_release;
    consumer->queue = strdup(options->queue);
    consumer->section = strdup(options->section);
    consumer->timer = evtimer_new(loop_base(session_loop(session)), consumer_tick, consumer);
    if (consumer_settle_init(consumer) == 0 &&
        arguments_table(options->arguments, options->argument_count, &consumer->arguments) == 0 &&
        consumer->queue != NULL && consumer->section != NULL && consumer->timer != NULL)
        return consumer;
    consumer_release(&consumer->reap);
    return NULL;
}

void consumer_start(struct consumer *consumer)
{
    if (consumer->state == CONSUMER_WAITING)
        evtimer_del(consumer->timer);
    else if (consumer->state != CONSUMER_IDLE)
        return;
    consumer->state = CONSUMER_IDLE;
    consumer_open(consumer);
}

void consumer_session_lost(struct consumer *consumer)
{
    if (consumer->state == CONSUMER_WAITING) {
        evtimer_del(consumer->timer);
        consumer->state = CONSUMER_IDLE;
    }
    consumer->attempts = 0;
}

void consumer_cancel(struct consumer *consumer, void (*done)(void *arg), void *arg)
{
    amqp_basic_cancel_t cancel = {0};

    consumer->done = done;
    consumer->done_arg = arg;
    evtimer_del(consumer->timer);
    switch (consumer->state) {
    case CONSUMER_SUBSCRIBED:
        break;
    case CONSUMER_CANCELLING:
        return;
    case CONSUMER_OPENING:
    case CONSUMER_ASKING:
        channel_close(&consumer->channel, NULL, NULL);
        consumer_settle_void(consumer);
        /* fall through */
    case CONSUMER_IDLE:
    case CONSUMER_WAITING:
        consumer->state = CONSUMER_CANCELLED;
        /* fall through */
    case CONSUMER_CANCELLED:
    case CONSUMER_CLOSED:
        consumer_finish(consumer);
        return;
    }
    cancel.consumer_tag = amqp_span(span_str("hark"));
    channel_send(&consumer->channel, AMQP_BASIC_CANCEL_METHOD, &cancel);
    consumer->state = CONSUMER_CANCELLING;
}

void consumer_close(struct consumer *consumer, void (*done)(void *arg), void *arg)
{
    evtimer_del(consumer->timer);
    consumer->done = NULL;
    if (channel_is_open(&consumer->channel))
        consumer_flush(consumer);
    consumer->state = CONSUMER_CLOSED;
    consumer_cut(consumer);
    channel_close(&consumer->channel, done, arg);
    consumer_settle_void(consumer);
}

void consumer_free(struct consumer *consumer)
{
    struct loop *loop = session_loop(consumer->session);

    consumer_close(consumer, NULL, NULL);
    loop_reap_later(loop, &consumer->reap);
}

bool consumer_is_idle(const struct consumer *consumer)
{
    return consumer->state == CONSUMER_IDLE;
}

bool consumer_is_subscribed(const struct consumer *consumer)
{
    return consumer->state == CONSUMER_SUBSCRIBED;
}

unsigned consumer_in_hand(const struct consumer *consumer)
{
    return consumer->unacked.count - consumer->unacked.settled_count;
}

uint64_t consumer_delivered(const struct consumer *consumer)
{
    return consumer->delivered;
}

const char *consumer_queue(const struct consumer *consumer)
{
    return consumer->queue;
}
