/* SPDX-License-Identifier: MIT */
#include "client/consumer.h"

#include "base/log.h"
#include "client/backoff.h"
#include "client/complaint.h"
#include "client/gather.h"
#include "client/unacked.h"

#include <stdio.h>
#include <stdlib.h>

#define CONSUMER_ACK_SHARE 10 /* settled ones wait until they are this part of the prefetch, */
#define CONSUMER_ACK_MS 5     /* or this long */

enum consumer_state {
    CONSUMER_IDLE,    /* waits for consumer_start() */
    CONSUMER_OPENING, /* channel.open sent */
    CONSUMER_ASKING,  /* qos and consume sent */
    CONSUMER_SUBSCRIBED,
    CONSUMER_WAITING,    /* the back-off after a refusal */
    CONSUMER_CANCELLING, /* cancel sent */
    CONSUMER_CANCELLED,  /* no more deliveries; the channel is open for acknowledgements */
    CONSUMER_CLOSED,
};

struct consumer {
    struct session *session;
    const struct consumer_ops *ops;
    void *arg;
    struct channel channel;
    enum consumer_state state;
    char *queue, *section;
    uint16_t prefetch;
    amqp_table_t arguments;
    int64_t retry_min, retry_max;
    unsigned attempts;
    int64_t since;  /* subscribed, in the loop's ms */
    bool streaming; /* the body of an oversized message is coming */
    bool is_gone;   /* the next attempt is the owner's: the queue does not exist */
    struct event *timer;
    struct complaint complaint;
    struct gather gather;
    struct loop_task flush, reap;
    void (*done)(void *arg);
    void *done_arg;

    struct unacked unacked;
    struct event *ack_timer; /* what is settled is acknowledged at the latest then */
    uint64_t delivered, gathered;
};

/* ---- acknowledgements ---- */

static void consumer_flush(struct loop_task *task)
{
    struct consumer *consumer = HARK_CONTAINER(task, struct consumer, flush);

    evtimer_del(consumer->ack_timer);
    if (!channel_is_open(&consumer->channel))
        return;
    unacked_put(&consumer->unacked, channel_out(&consumer->channel), consumer->channel.number);
    link_send(session_link(consumer->session));
}

static void consumer_ack_tick(evutil_socket_t fd, short what, void *arg)
{
    struct consumer *consumer = arg;

    (void)fd;
    (void)what;
    consumer_flush(&consumer->flush);
}

/*
 * When to acknowledge: an acknowledgement costs the broker as much whether it is for one message or
 * for a hundred. So they are collected, but only while more is in hand, and never more than a tenth of
 * the prefetch, which the broker would otherwise have to wait for.
 */
static void consumer_flush_later(struct consumer *consumer)
{
    static const struct timeval most = {.tv_usec = CONSUMER_ACK_MS * 1000};
    const struct unacked *unacked = &consumer->unacked;

    if (unacked->settled_count == unacked->count || unacked->settled_count * CONSUMER_ACK_SHARE >= consumer->prefetch)
        loop_defer(session_loop(consumer->session), &consumer->flush);
    else if (!evtimer_pending(consumer->ack_timer, NULL))
        evtimer_add(consumer->ack_timer, &most);
}

/* False: of a channel that is gone, so the broker has taken it back; or settled before. */
static bool consumer_holds(const struct ticket *ticket)
{
    struct consumer *consumer = ticket->consumer;

    return ticket->epoch == consumer->channel.epoch && channel_is_open(&consumer->channel) &&
           unacked_holds(&consumer->unacked, ticket->slot, ticket->tag);
}

void consumer_ack(const struct ticket *ticket)
{
    struct consumer *consumer = ticket->consumer;

    if (!consumer_holds(ticket))
        return;
    unacked_settle(&consumer->unacked, ticket->slot);
    consumer_flush_later(consumer);
}

void consumer_requeue(const struct ticket *ticket)
{
    struct consumer *consumer = ticket->consumer;
    amqp_basic_reject_t reject = {.delivery_tag = ticket->tag, .requeue = 1};

    if (!consumer_holds(ticket))
        return;
    channel_send(&consumer->channel, AMQP_BASIC_REJECT_METHOD, &reject);
    unacked_drop(&consumer->unacked, ticket->slot);
}

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
    unacked_clear(&consumer->unacked);
    loop_task_cancel(&consumer->flush);
    evtimer_del(consumer->ack_timer);
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
    if (complaint_is_news(&consumer->complaint, line, loop_now(session_loop(consumer->session))))
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
    consumer_flush(&consumer->flush); /* what the broker still knows is not delivered again */
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
    amqp_basic_nack_t nack = {.delivery_tag = deliver->delivery_tag, .requeue = 1};

    ticket.slot = unacked_add(&consumer->unacked, deliver->delivery_tag);
    if (ticket.slot == UNACKED_NONE) {
        log_error("%s: out of memory for a delivery: it stays with the broker until this worker reconnects",
                  consumer->section);
        message_drop(message);
        channel_send(&consumer->channel, AMQP_BASIC_NACK_METHOD,
                     &nack); /* or the next `multiple` would take it along */
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
    if (consumer->ack_timer != NULL)
        event_free(consumer->ack_timer);
    arguments_free(&consumer->arguments);
    unacked_free(&consumer->unacked);
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
    unacked_init(&consumer->unacked);
    consumer->flush.run = consumer_flush;
    consumer->reap.run = consumer_release;
    consumer->queue = strdup(options->queue);
    consumer->section = strdup(options->section);
    consumer->timer = evtimer_new(loop_base(session_loop(session)), consumer_tick, consumer);
    consumer->ack_timer = evtimer_new(loop_base(session_loop(session)), consumer_ack_tick, consumer);
    if (consumer->ack_timer != NULL &&
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
        unacked_clear(&consumer->unacked);
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
        consumer_flush(&consumer->flush);
    loop_task_cancel(&consumer->flush);
    consumer->state = CONSUMER_CLOSED;
    consumer_cut(consumer);
    channel_close(&consumer->channel, done, arg);
    unacked_clear(&consumer->unacked);
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
