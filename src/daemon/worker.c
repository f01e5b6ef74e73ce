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
#include "client/publisher.h"
#include "daemon/config.h"
#include "daemon/plan.h"
#include "dispatch/dispatcher.h"
#include "net/tls.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#define REDECLARE_MS 30000 /* while the broker refuses a part of the topology */
#define CLOSE_MS 2000      /* for the broker's answer to connection.close */
#define DELAYS_MAX 256

struct worker;

/* A queue that is consumed. */
struct intake {
    struct worker *worker;
    struct consumer *consumer;
    struct dispatch_queue *queue;
    bool subscribed, was_subscribed;
};

struct worker {
    const struct worker_start *start;
    const struct config *config;
    struct loop *loop;
    struct tls_context *tls;
    struct session *consuming, *publishing;
    struct topology *topology;
    struct publisher *publisher;
    struct dispatcher *dispatcher;
    struct plan *plan;
    struct intake *intakes;
    size_t intake_count;
    struct event *terminate, *control, *redeclare, *deadline;
    uint64_t live_deliveries;
    unsigned leaving;  /* call-backs that the end still waits for */
    bool paused, draining, stop;
};

/* ---- figures ---- */

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
    if (counters->consumed != worker->live_deliveries) {
        worker->live_deliveries = counters->consumed;
        slot_consumers_live(worker->start->slot);
    }
}

/* ---- the dispatcher's ports ---- */

static void worker_ack(void *arg, const struct dispatch_ticket *from)
{
    struct ticket ticket = {.consumer = from->consumer, .tag = from->tag, .epoch = from->epoch, .slot = from->slot};

    (void)arg;
    consumer_ack(&ticket);
}

static void worker_publish(void *arg, struct outgoing *outgoing)
{
    struct worker *worker = arg;

    if (worker->publisher != NULL)
        publisher_send(worker->publisher, outgoing);
    else
        outgoing->done(outgoing, OUTCOME_ABANDONED, "");
}

static void worker_redeclare(void *arg)
{
    struct worker *worker = arg;

    if (session_is_open(worker->consuming) && !worker->draining)
        topology_declare(worker->topology);
}

static void worker_enter(void *arg, const struct dispatch_call *call)
{
    struct worker *worker = arg;

    slot_enter(worker->start->slot, call->listener, call->queue, call->routing_key, call->message_id, call->identity);
}

static void worker_leave(void *arg)
{
    slot_leave(((struct worker *)arg)->start->slot);
}

static unsigned worker_crashes(void *arg, uint64_t identity)
{
    return crashes_count(((struct worker *)arg)->start->crashes, identity);
}

static void worker_forget(void *arg, uint64_t identity)
{
    crashes_forget(((struct worker *)arg)->start->crashes, identity);
}

static void worker_group(void *arg, pid_t pgid, bool alive)
{
    struct slot *slot = ((struct worker *)arg)->start->slot;

    if (alive)
        slot_add_group(slot, pgid);
    else
        slot_remove_group(slot, pgid);
}

/* ---- consuming ---- */

static void worker_delivery(void *arg, const struct ticket *from, bool redelivered, struct message *message,
                            uint64_t oversized)
{
    struct intake *intake = arg;
    struct dispatch_ticket ticket = {.consumer = from->consumer, .tag = from->tag, .epoch = from->epoch, .slot = from->slot};

    dispatcher_deliver(intake->queue, &ticket, redelivered, message, oversized);
}

static void worker_subscribed(void *arg, bool subscribed)
{
    struct intake *intake = arg;
    struct worker *worker = intake->worker;
    bool all = true;

    intake->subscribed = subscribed;
    intake->was_subscribed |= subscribed;
    if (subscribed)
        log_info("consuming from queue \"%s\"", consumer_queue(intake->consumer));
    for (size_t i = 0; i < worker->intake_count; i++)
        all &= worker->intakes[i].was_subscribed;
    if (all && !worker->draining)
        slot_set_state(worker->start->slot, SLOT_CONSUMING);
}

static void worker_gone(void *arg)
{
    worker_redeclare(((struct intake *)arg)->worker);
}

static const struct consumer_ops worker_consumer_ops = {
    .delivery = worker_delivery,
    .subscribed = worker_subscribed,
    .gone = worker_gone,
};

static void worker_declared(void *arg, size_t failed)
{
    struct worker *worker = arg;
    struct timeval wait = {.tv_sec = REDECLARE_MS / 1000};

    if (failed > 0)
        evtimer_add(worker->redeclare, &wait);
    for (size_t i = 0; i < worker->intake_count && !worker->draining; i++)
        consumer_start(worker->intakes[i].consumer);
}

static void worker_redeclare_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    worker_redeclare(arg);
}

/* The consuming link is not read while the publisher is under pressure: prefetch and TCP hold the broker. */
static void worker_pause(struct worker *worker, bool pause)
{
    struct link *link = session_link(worker->consuming);

    if (link == NULL || pause == worker->paused)
        return;
    worker->paused = pause;
    if (pause)
        link_pause(link);
    else
        link_resume(link);
}

static void worker_consuming_opened(void *arg)
{
    struct worker *worker = arg;

    worker->paused = false;
    slot_consumers_live(worker->start->slot);
    if (!worker->draining)
        topology_declare(worker->topology);
}

static void worker_consuming_lost(void *arg, const char *why)
{
    struct worker *worker = arg;

    (void)why;
    worker->paused = false;
    slot_consumers_live(worker->start->slot);
    evtimer_del(worker->redeclare);
    topology_session_lost(worker->topology);
    for (size_t i = 0; i < worker->intake_count; i++)
        consumer_session_lost(worker->intakes[i].consumer);
}

/* ---- publishing ---- */

static void worker_pressure(void *arg, bool high)
{
    worker_pause(arg, high);
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

static const struct session_ops worker_consuming_ops = {.opened = worker_consuming_opened, .lost = worker_consuming_lost};
static const struct session_ops worker_publishing_ops = {
    .opened = worker_publishing_opened, .lost = worker_publishing_lost, .blocked = worker_blocked};
static const struct topology_ops worker_topology_ops = {.done = worker_declared};
static const struct publisher_ops worker_publisher_ops = {.pressure = worker_pressure};

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
    dispatcher_abandon(worker->dispatcher);
    if (worker->publisher != NULL)
        publisher_free(worker->publisher);
    worker->publisher = NULL;
    if (worker->stop)
        return;
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

static void worker_asked(evutil_socket_t fd, short what, void *arg)
{
    struct worker *worker = arg;
    char bytes[64];
    ssize_t got = read(fd, bytes, sizeof(bytes));

    (void)what;
    if (got == 0) {
        event_del(worker->control);
        worker_drain(worker);
    } else if (got > 0) {
        /* Every consumer is subscribed, or waits for a timer of its own or of its session: no state here lasts for ever. */
        slot_consumers_live(worker->start->slot);
    }
}

/* ---- setting up ---- */

static struct session *worker_session(struct worker *worker, const char *what, const struct session_ops *ops)
{
    const struct config *config = worker->config;
    const struct config_general *general = &config->general;
    struct session_host *hosts = calloc(config->url.host_count, sizeof(*hosts));
    struct session *session;
    char label[64];
    struct session_options options = {
        .label = label,
        .hosts = hosts,
        .host_count = config->url.host_count,
        .vhost = config->url.vhost,
        .user = config->url.user,
        .password = config->url.password,
        .external = general->auth == CONFIG_AUTH_EXTERNAL,
        .tls = worker->tls,
        .tls_server_name = general->tls_server_name,
        .connect_timeout = general->connect_timeout,
        .reconnect_min = general->reconnect_min,
        .reconnect_max = general->reconnect_max,
        .heartbeat = (unsigned)(general->heartbeat / 1000),
        .frame_max = (uint32_t)general->frame_max,
        .max_message_size = (size_t)general->max_message_size,
    };

    if (hosts == NULL)
        return NULL;
    snprintf(label, sizeof(label), "hark worker %u %s", worker->start->number, what);
    for (size_t i = 0; i < config->url.host_count; i++)
        hosts[i] = (struct session_host){.host = config->url.hosts[i].host,
                                         .port = config->url.hosts[i].port,
                                         .unix_path = config->url.hosts[i].path};
    session = session_new(worker->loop, &options, ops, worker);
    free(hosts);
    return session;
}

static int worker_open_tls(struct worker *worker)
{
    const struct config_general *general = &worker->config->general;
    struct tls_options options = {.ca = general->tls_ca,
                                  .certificate = general->tls_certificate,
                                  .key = general->tls_key,
                                  .key_password = worker->config->tls_key_password,
                                  .verify = general->tls_verify};
    char error[512];

    if (!worker->config->url.tls)
        return 0;
    worker->tls = tls_context_new(&options, error, sizeof(error));
    if (worker->tls == NULL)
        log_error("TLS: %s", error);
    return worker->tls != NULL ? 0 : -1;
}

static int worker_open_dispatcher(struct worker *worker)
{
    const struct config_general *general = &worker->config->general;
    struct dispatch_options options = {
        .base = loop_base(worker->loop),
        .dead_letter = general->dead_letter,
        .dead_letter_queue = general->dead_letter_queue,
        .frame_max = (uint32_t)general->frame_max,
        .max_hops = (unsigned)general->max_hops,
        .crash_limit = (unsigned)general->crash_limit,
        .persistent = general->persistent,
        .slow_call = general->slow_call,
        .dedup = worker->start->dedup,
    };
    struct dispatch_ports ports = {
        .arg = worker,
        .ack = worker_ack,
        .publish = worker_publish,
        .redeclare = worker_redeclare,
        .enter = worker_enter,
        .leave = worker_leave,
        .crashes = worker_crashes,
        .forget = worker_forget,
        .group = worker_group,
    };

    worker->dispatcher = dispatcher_new(&options, &ports);
    return worker->dispatcher != NULL ? 0 : -1;
}

static int worker_open_queues(struct worker *worker)
{
    const struct config *config = worker->config;

    worker->intakes = calloc(config->queue_count + 1, sizeof(*worker->intakes));
    if (worker->intakes == NULL)
        return -1;
    for (size_t i = 0; i < config->queue_count; i++) {
        struct config_queue *queue = &config->queues[i];
        struct intake *intake = &worker->intakes[worker->intake_count];

        if (queue->listener_count == 0)
            continue;
        intake->worker = worker;
        intake->queue = dispatcher_add_queue(worker->dispatcher, queue->name, queue->dedup);
        if (intake->queue == NULL)
            return -1;
        worker->intake_count++;
    }
    return 0;
}

static int worker_open_listener(struct worker *worker, const struct config_listener *from)
{
    const char **queues = calloc(from->queue_count + 1, sizeof(*queues));
    struct dispatch_listener listener = {
        .name = from->name,
        .module = from->module,
        .settings = from->settings,
        .queues = queues,
        .queue_count = from->queue_count,
        .patterns = (const char *const *)from->on.items,
        .pattern_count = from->on.count,
        .emit_exchange = from->emit_exchange,
        .emit_key = from->emit_key,
        .retry = from->retry.ms,
        .retry_count = from->retry.count,
        .timeout = from->timeout,
        .concurrency = (unsigned)from->concurrency,
    };
    int result;

    if (queues == NULL)
        return -1;
    for (size_t i = 0; i < from->queue_count; i++)
        queues[i] = from->queues[i]->name;
    result = dispatcher_add_listener(worker->dispatcher, &listener);
    free(queues);
    return result;
}

static int worker_open_consumers(struct worker *worker)
{
    const struct config *config = worker->config;
    size_t at = 0;

    for (size_t i = 0; i < config->queue_count; i++) {
        const struct config_queue *queue = &config->queues[i];
        struct consumer_options options = {
            .queue = queue->name,
            .section = queue->where.label,
            .prefetch = (uint16_t)queue->prefetch,
            .argument_count = queue->consume_arguments.count,
            .retry_min = config->general.reconnect_min,
            .retry_max = config->general.reconnect_max,
        };

        if (queue->listener_count == 0)
            continue;
        options.arguments = plan_arguments(worker->plan, &queue->consume_arguments);
        worker->intakes[at].consumer = consumer_new(worker->consuming, &options, &worker_consumer_ops, &worker->intakes[at]);
        if (worker->intakes[at++].consumer == NULL)
            return -1;
    }
    return 0;
}

static int worker_open_client(struct worker *worker)
{
    const struct config_general *general = &worker->config->general;
    struct publisher_options options = {.window = (unsigned)general->publish_window, .confirm = general->confirm};
    int64_t delays[DELAYS_MAX];
    size_t count = dispatcher_delays(worker->dispatcher, delays, DELAYS_MAX);

    worker->plan = plan_new(worker->config, delays, count);
    worker->consuming = worker_session(worker, "consuming", &worker_consuming_ops);
    worker->publishing = worker_session(worker, "publishing", &worker_publishing_ops);
    if (worker->plan == NULL || worker->consuming == NULL || worker->publishing == NULL)
        return -1;
    worker->topology = topology_new(worker->consuming, worker->plan->items, worker->plan->count, &worker_topology_ops, worker);
    worker->publisher = publisher_new(worker->publishing, &options, &worker_publisher_ops, worker);
    if (worker->topology == NULL || worker->publisher == NULL)
        return -1;
    return worker_open_consumers(worker);
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

    if (worker->dispatcher != NULL)
        dispatcher_abandon(worker->dispatcher);
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
    int status = EX_CONFIG;

    if (worker.loop == NULL || worker_open_events(&worker) != 0) {
        log_error("cannot set up the event loop");
        status = EX_OSERR;
        goto done;
    }
    if (worker_open_tls(&worker) != 0)
        goto done;
    if (worker_open_dispatcher(&worker) != 0 || worker_open_queues(&worker) != 0) {
        log_error("out of memory");
        status = EX_OSERR;
        goto done;
    }
    for (size_t i = 0; i < start->config->listener_count; i++)
        if (worker_open_listener(&worker, &start->config->listeners[i]) != 0)
            goto done;
    if (worker_open_client(&worker) != 0) {
        log_error("out of memory");
        status = EX_OSERR;
        goto done;
    }
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
