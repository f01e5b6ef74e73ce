/* SPDX-License-Identifier: MIT */
/*
 * A worker: joins the client (two connections: one consumes, one publishes) to the dispatcher.
 *
 *     consuming connection opens -> topology -> consumers start -> deliveries -> dispatcher
 *     dispatcher publishes -> publisher -> confirmed -> dispatcher acknowledges -> consumer
 *     publisher under pressure -> the consuming link is not read
 */
#include "daemon/worker.h"

#include "base/log.h"
#include "daemon/worker_private.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#define REDECLARE_MS 30000 /* while the broker refuses a part of the topology */
#define CLOSE_MS 2000      /* for the broker's answer to connection.close */

/* ---- figures ---- */

/* Figures are looked at now and then; that a connection comes or goes is news. */
static void worker_tell(struct worker *worker, unsigned ready)
{
    uint64_t now = (uint64_t)ready << 3 | (unsigned)session_is_open(worker->consuming) << 2 |
                   (unsigned)session_is_open(worker->publishing) << 1 |
                   (unsigned)session_is_blocked(worker->publishing);

    if (now != worker->told)
        slot_wake(worker->start->slot);
    worker->told = now;
}

static void worker_figures(struct worker *worker)
{
    struct slot_figures *figures = &worker->start->slot->figures;
    const struct dispatch_counters *counters = dispatcher_counters(worker->dispatcher);
    unsigned ready = 0;

    for (size_t i = 0; i < worker->intake_count; i++)
        ready += worker->intakes[i].subscribed;
    slot_gauge(&figures->consumed, counters->consumed);
    slot_gauge(&figures->acked, counters->acked);
    slot_gauge(&figures->emitted, counters->emitted);
    slot_gauge(&figures->retried, counters->retried);
    slot_gauge(&figures->dead_lettered, counters->dead_lettered);
    slot_gauge(&figures->in_hand, counters->in_hand);
    slot_gauge(&figures->unconfirmed, worker->publisher != NULL ? publisher_unconfirmed(worker->publisher) : 0);
    slot_gauge(&figures->connected, session_is_open(worker->consuming));
    slot_gauge(&figures->publishing, session_is_open(worker->publishing));
    slot_gauge(&figures->blocked, session_is_blocked(worker->publishing));
    slot_gauge(&figures->consumers, worker->intake_count);
    slot_gauge(&figures->consumers_ready, ready);
    worker_tell(worker, ready);
    if (dispatcher_has_own_events(worker->dispatcher))
        atomic_store_explicit(&worker->start->slot->own_events, 1, memory_order_relaxed);
    if (counters->consumed != worker->live_deliveries) {
        worker->live_deliveries = counters->consumed;
        slot_consumers_live(worker->start->slot);
    }
}

/* ---- consuming ---- */

void worker_redeclare(void *arg)
{
    struct worker *worker = arg;

    if (session_is_open(worker->consuming) && !worker->draining)
        topology_declare(worker->topology);
}

static void worker_delivery(void *arg, const struct ticket *from, bool redelivered, struct message *message,
                            uint64_t oversized)
{
    struct intake *intake = arg;
    struct dispatch_ticket ticket = {
        .consumer = from->consumer, .tag = from->tag, .epoch = from->epoch, .slot = from->slot};

    intake->worker->delivering = intake;
    dispatcher_deliver(intake->queue, &ticket, redelivered, message, oversized);
    intake->worker->delivering = NULL;
}

static void worker_body(void *arg, struct span part, bool last)
{
    struct intake *intake = arg;

    (void)last;
    if (intake->relay != NULL)
        relay_part(intake->relay, part);
}

static void worker_cut(void *arg)
{
    relay_cut(((struct intake *)arg)->relay);
}

static void worker_subscribed(void *arg, bool subscribed)
{
    struct intake *intake = arg;
    struct worker *worker = intake->worker;
    bool all = true;

    intake->subscribed = subscribed;
    intake->was_subscribed |= subscribed;
    if (!subscribed)
        dispatcher_void(intake->queue);
    if (subscribed)
        log_info("consuming from queue \"%s\"", consumer_queue(intake->consumer));
    for (size_t i = 0; i < worker->intake_count; i++)
        all &= worker->intakes[i].was_subscribed;
    if (!all || worker->draining)
        return;
    worker_figures(worker); /* the supervisor looks at them now */
    slot_set_state(worker->start->slot, SLOT_CONSUMING);
}

static void worker_gone(void *arg)
{
    worker_redeclare(((struct intake *)arg)->worker);
}

static bool worker_known(void *arg, const struct reply *error)
{
    struct intake *intake = arg;

    return topology_has_said(intake->worker->topology, consumer_queue(intake->consumer), error);
}

const struct consumer_ops worker_consumer_ops = {
    .delivery = worker_delivery,
    .body = worker_body,
    .cut = worker_cut,
    .subscribed = worker_subscribed,
    .gone = worker_gone,
    .known = worker_known,
};

/* The consuming link is not read while the publisher is under pressure: prefetch and TCP hold the broker. */
static void worker_pause(struct worker *worker, bool pause)
{
    struct link *link = session_link(worker->consuming);

    if (link == NULL || pause == worker->paused || !worker->declared)
        return;
    worker->paused = pause;
    if (pause)
        link_pause(link);
    else
        link_resume(link);
}

static void worker_declared(void *arg, size_t failed)
{
    struct worker *worker = arg;
    struct timeval wait = {.tv_sec = REDECLARE_MS / 1000};

    if (failed > 0)
        evtimer_add(worker->redeclare, &wait);
    worker->declared = true;
    if (worker->draining)
        return;
    publisher_hold(worker->publisher, false);
    worker_pause(worker, publisher_is_high(worker->publisher)); /* the pressure may be from before */
    for (size_t i = 0; i < worker->intake_count; i++)
        consumer_start(worker->intakes[i].consumer);
}

static void worker_redeclare_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    worker_redeclare(arg);
}

static void worker_consuming_opened(void *arg)
{
    struct worker *worker = arg;

    worker->paused = false;
    slot_consumers_live(worker->start->slot);
    if (worker->draining)
        return;
    topology_declare(worker->topology);
}

static void worker_consuming_lost(void *arg, const char *why)
{
    struct worker *worker = arg;

    (void)why;
    worker->paused = worker->declared = false;
    /* A broker that comes back empty would refuse what is published before all is declared again. What waits belongs to
     * deliveries of the connection that is gone: nobody is kept waiting but duplicates. */
    if (worker->publisher != NULL && !worker->draining)
        publisher_hold(worker->publisher, true);
    slot_consumers_live(worker->start->slot);
    evtimer_del(worker->redeclare);
    topology_session_lost(worker->topology);
    for (size_t i = 0; i < worker->intake_count; i++)
        consumer_session_lost(worker->intakes[i].consumer);
}

/* ---- publishing ---- */

static void worker_pressure(void *arg, bool high)
{
    struct worker *worker = arg;

    if (!worker->draining)
        worker_pause(worker, high);
}

static void worker_publishing_opened(void *arg)
{
    struct worker *worker = arg;

    dispatcher_set_frame_max(worker->dispatcher, session_frame_max(worker->publishing));
    if (worker->publisher != NULL)
        publisher_session_opened(worker->publisher);
}

static void worker_publishing_lost(void *arg, const char *why)
{
    struct worker *worker = arg;

    (void)why;
    if (worker->publisher != NULL)
        publisher_session_lost(worker->publisher);
}

static void worker_blocked(void *arg, bool blocked, const char *reason)
{
    struct worker *worker = arg;

    if (blocked)
        log_warning("the broker blocks publishing (%s): consuming pauses until it has room again", reason);
    else
        log_notice("the broker takes messages again: consuming goes on");
    if (worker->publisher != NULL)
        publisher_session_blocked(worker->publisher, blocked);
}

static void worker_relaying_opened(void *arg)
{
    relays_opened(&((struct worker *)arg)->relays);
}

static void worker_relaying_lost(void *arg, const char *why)
{
    (void)why;
    relays_lost(&((struct worker *)arg)->relays);
}

const struct session_ops worker_relaying_ops = {.opened = worker_relaying_opened, .lost = worker_relaying_lost};
const struct session_ops worker_consuming_ops = {.opened = worker_consuming_opened, .lost = worker_consuming_lost};
const struct session_ops worker_publishing_ops = {
    .opened = worker_publishing_opened, .lost = worker_publishing_lost, .blocked = worker_blocked};
const struct topology_ops worker_topology_ops = {.done = worker_declared};
const struct publisher_ops worker_publisher_ops = {.pressure = worker_pressure};

/* ---- leaving ---- */

static void worker_left(void *arg)
{
    struct worker *worker = arg;

    if (--worker->leaving == 0)
        worker->stop = true;
}

static void worker_close_sessions(struct worker *worker)
{
    worker->leaving = 2;
    session_close(worker->consuming, CLOSE_MS, worker_left, worker);
    session_close(worker->publishing, CLOSE_MS, worker_left, worker);
}

static void worker_consumer_closed(void *arg)
{
    struct worker *worker = arg;

    if (--worker->leaving == 0)
        worker_close_sessions(worker);
}

/* Nothing is in hand any more: the acknowledgements are flushed by closing the channels properly. */
static void worker_drained(void *arg)
{
    struct worker *worker = arg;
    size_t count = worker->intake_count;

    evtimer_del(worker->deadline);
    worker->leaving = (unsigned)count + 1;
    for (size_t i = 0; i < count; i++)
        consumer_close(worker->intakes[i].consumer, worker_consumer_closed, worker);
    worker_consumer_closed(worker);
}

static void worker_cancelled(void *arg)
{
    struct worker *worker = arg;

    if (--worker->leaving == 0)
        dispatcher_drain(worker->dispatcher, worker_drained, worker);
}

static void worker_drain(struct worker *worker)
{
    int64_t limit = worker->config->general.drain_timeout;
    struct timeval wait = {.tv_sec = limit / 1000, .tv_usec = limit % 1000 * 1000};

    if (worker->draining)
        return;
    worker->draining = true;
    worker_pause(worker, false); /* cancel-ok and close-ok must be heard */
    publisher_hold(worker->publisher, false);
    slot_set_state(worker->start->slot, SLOT_DRAINING);
    log_info("draining: %llu in hand", (unsigned long long)dispatcher_counters(worker->dispatcher)->in_hand);
    evtimer_add(worker->deadline, &wait);
    worker->leaving = (unsigned)worker->intake_count + 1;
    for (size_t i = 0; i < worker->intake_count; i++)
        consumer_cancel(worker->intakes[i].consumer, worker_cancelled, worker);
    worker_cancelled(worker);
}

static void worker_out_of_time(evutil_socket_t fd, short what, void *arg)
{
    struct worker *worker = arg;

    (void)fd;
    (void)what;
    log_warning("drain_timeout is over: %llu messages in hand go back to their queues",
                (unsigned long long)dispatcher_counters(worker->dispatcher)->in_hand);
    dispatcher_drain(worker->dispatcher, NULL, NULL); /* the rest of the way is gone from here */
    dispatcher_abandon(worker->dispatcher);
    relays_abandon(&worker->relays);
    if (worker->publisher != NULL)
        publisher_free(worker->publisher);
    worker->publisher = NULL;
    worker->leaving = 1 + (unsigned)worker->intake_count;
    for (size_t i = 0; i < worker->intake_count; i++)
        consumer_close(worker->intakes[i].consumer, worker_consumer_closed, worker);
    worker_consumer_closed(worker);
}

static void worker_signal(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    worker_drain(arg);
}

/* Each consumer is subscribed, or something will end its waiting: a timer, an answer, the end of the connection; and
 * the link is read unless the publisher has a reason. Anything else would be a standstill that nobody sees: nothing fails,
 * and nothing comes. */
static bool worker_consumers_live(const struct worker *worker)
{
    if (worker->draining || !session_is_open(worker->consuming))
        return true;
    if (worker->paused && worker->publisher != NULL && !publisher_is_high(worker->publisher))
        return false;
    for (size_t i = 0; i < worker->intake_count; i++)
        if (consumer_is_idle(worker->intakes[i].consumer) && !topology_is_running(worker->topology))
            return false;
    return true;
}

static void worker_asked(evutil_socket_t fd, short what, void *arg)
{
    struct worker *worker = arg;
    char bytes[64];
    ssize_t got = read(fd, bytes, sizeof(bytes));

    (void)what;
    if (got > 0) {
        if (worker_consumers_live(worker))
            slot_consumers_live(worker->start->slot);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        event_del(worker->control); /* the supervisor is gone */
        worker_drain(worker);
    }
}

static int worker_open_events(struct worker *worker)
{
    struct event_base *base = loop_base(worker->loop);

    worker->terminate = evsignal_new(base, SIGTERM, worker_signal, worker);
    worker->control = event_new(base, worker->start->control, EV_READ | EV_PERSIST, worker_asked, worker);
    worker->redeclare = evtimer_new(base, worker_redeclare_tick, worker);
    worker->deadline = evtimer_new(base, worker_out_of_time, worker);
    if (worker->terminate == NULL || worker->control == NULL || worker->redeclare == NULL || worker->deadline == NULL)
        return -1;
    return event_add(worker->terminate, NULL) == 0 && event_add(worker->control, NULL) == 0 ? 0 : -1;
}

static void worker_close(struct worker *worker)
{
    struct event *events[] = {worker->terminate, worker->control, worker->redeclare, worker->deadline};

    while (worker->early != NULL) {
        struct outgoing *outgoing = worker->early;

        worker->early = outgoing->next;
        outgoing->done(outgoing, OUTCOME_ABANDONED, "");
    }
    if (worker->dispatcher != NULL)
        dispatcher_abandon(worker->dispatcher);
    relays_free(&worker->relays);
    if (worker->publisher != NULL)
        publisher_free(worker->publisher);
    worker->publisher = NULL;
    for (size_t i = 0; i < worker->intake_count; i++)
        if (worker->intakes[i].consumer != NULL)
            consumer_free(worker->intakes[i].consumer);
    if (worker->topology != NULL)
        topology_free(worker->topology);
    if (worker->dispatcher != NULL)
        dispatcher_free(worker->dispatcher);
    if (worker->consuming != NULL)
        session_free(worker->consuming);
    if (worker->publishing != NULL)
        session_free(worker->publishing);
    for (size_t i = 0; i < HARK_COUNT(events); i++)
        if (events[i] != NULL)
            event_free(events[i]);
    if (worker->loop != NULL)
        loop_free(worker->loop);
    tls_context_free(worker->tls);
    plan_free(worker->plan);
    free(worker->intakes);
}

int worker_run(const struct worker_start *start)
{
    struct worker worker = {.start = start, .config = start->config, .loop = loop_new()};
    struct dispatch_ports ports = worker_ports(&worker);
    int status = EX_CONFIG;

    if (worker.loop == NULL || worker_open_events(&worker) != 0) {
        log_error("cannot set up the event loop");
        status = EX_OSERR;
        goto done;
    }
    if (worker_open_tls(&worker) != 0 || worker_open_dispatcher(&worker, &ports) != 0 ||
        worker_open_listeners(&worker) != 0 || worker_open_client(&worker) != 0)
        goto done;
    slot_set_state(start->slot, SLOT_STARTED);
    session_start(worker.consuming);
    session_start(worker.publishing);
    while (!worker.stop && loop_turn(worker.loop, true) == 0) {
        slot_turn(start->slot);
        worker_figures(&worker);
    }
    status = worker.stop ? EX_OK : EX_SOFTWARE;

done:
    worker_close(&worker);
    return status;
}
