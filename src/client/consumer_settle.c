/* SPDX-License-Identifier: MIT */
/* What becomes of a consumer's deliveries: acknowledged together, given back at once or after a pause. */
#include "client/backoff.h"
#include "client/consumer_private.h"

#define CONSUMER_ACK_SHARE 10 /* settled ones wait until they are this part of the prefetch, */
#define CONSUMER_ACK_MS 5     /* or this long */

void consumer_flush(struct consumer *consumer)
{
    evtimer_del(consumer->ack_timer);
    if (!channel_is_open(&consumer->channel))
        return;
    unacked_put(&consumer->unacked, channel_out(&consumer->channel), consumer->channel.number);
    link_send(session_link(consumer->session));
}

static void consumer_ack_turn(struct loop_task *task)
{
    consumer_flush(HARK_CONTAINER(task, struct consumer, flush));
}

static void consumer_ack_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    consumer_flush(arg);
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
    consumer->postponements = 0;
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

static void consumer_again_tick(evutil_socket_t fd, short what, void *arg)
{
    struct consumer *consumer = arg;

    (void)fd;
    (void)what;
    if (!channel_is_open(&consumer->channel))
        return;
    unacked_put_back(&consumer->unacked, channel_out(&consumer->channel), consumer->channel.number);
    link_send(session_link(consumer->session));
}

void consumer_postpone(const struct ticket *ticket)
{
    struct consumer *consumer = ticket->consumer;
    struct timeval wait;
    int64_t pause;

    if (!consumer_holds(ticket))
        return;
    unacked_postpone(&consumer->unacked, ticket->slot);
    if (evtimer_pending(consumer->again_timer, NULL))
        return;
    pause = backoff_ms(consumer->postponements++, consumer->retry_min, consumer->retry_max);
    wait = (struct timeval){.tv_sec = pause / 1000, .tv_usec = pause % 1000 * 1000};
    evtimer_add(consumer->again_timer, &wait);
}

void consumer_settle_void(struct consumer *consumer)
{
    unacked_clear(&consumer->unacked);
    loop_task_cancel(&consumer->flush);
    evtimer_del(consumer->ack_timer);
    evtimer_del(consumer->again_timer);
}

int consumer_settle_init(struct consumer *consumer)
{
    struct event_base *base = loop_base(session_loop(consumer->session));

    unacked_init(&consumer->unacked);
    consumer->flush.run = consumer_ack_turn;
    consumer->ack_timer = evtimer_new(base, consumer_ack_tick, consumer);
    consumer->again_timer = evtimer_new(base, consumer_again_tick, consumer);
    return consumer->ack_timer != NULL && consumer->again_timer != NULL ? 0 : -1;
}

void consumer_settle_free(struct consumer *consumer)
{
    if (consumer->ack_timer != NULL)
        event_free(consumer->ack_timer);
    if (consumer->again_timer != NULL)
        event_free(consumer->again_timer);
    unacked_free(&consumer->unacked);
}
