/* SPDX-License-Identifier: MIT */
/* The making of a worker: from its configuration to sessions, consumers, listeners that are not yet started. */
#include "base/log.h"
#include "daemon/worker_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define DESCRIPTORS 64      /* the worker's own */
#define DESCRIPTORS_EVENT 9 /* of an event whose program is being started: three pipes, and what tells of its end */

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
        .external = config->url.embedded || general->auth == CONFIG_AUTH_EXTERNAL,
        .tls = worker->tls,
        .tls_server_name = general->tls_server_name,
        .connect_timeout = general->connect_timeout,
        .reconnect_min = general->reconnect_min,
        .reconnect_max = general->reconnect_max,
        .heartbeat = (unsigned)(general->heartbeat / 1000),
        .frame_max = (uint32_t)general->frame_max,
        .max_message_size = (size_t)general->max_message_size,
        .complaints = worker->start->complaints,
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

/* For what is too large to be kept, when there is such. */
static struct session *worker_relaying(void *arg)
{
    return worker_session(arg, "relaying", &worker_relaying_ops);
}

int worker_open_tls(struct worker *worker)
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

int worker_open_dispatcher(struct worker *worker, const struct dispatch_ports *ports)
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

    worker->dispatcher = dispatcher_new(&options, ports);
    if (worker->dispatcher == NULL)
        log_error("out of memory");
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

/* A shell's limit of 1024 is soon used up, and an event without a descriptor fails. */
static void worker_raise_limits(const struct config *config)
{
    rlim_t wanted = DESCRIPTORS;
    struct rlimit limit;

    for (size_t i = 0; i < config->listener_count; i++)
        wanted += DESCRIPTORS_EVENT * (rlim_t)config->listeners[i].concurrency;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_debug("the limit of descriptors cannot be raised");
}

int worker_open_listeners(struct worker *worker)
{
    worker_raise_limits(worker->config);
    if (worker_open_queues(worker) != 0) {
        log_error("out of memory");
        return -1;
    }
    for (size_t i = 0; i < worker->config->listener_count; i++)
        if (worker_open_listener(worker, &worker->config->listeners[i]) != 0)
            return -1;
    return 0;
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
        worker->intakes[at].consumer = consumer_new(worker->consuming, &options, &worker_consumer_ops,
                                                    &worker->intakes[at]);
        if (worker->intakes[at++].consumer == NULL)
            return -1;
    }
    return 0;
}

static struct plan *worker_plan(const struct worker *worker)
{
    const struct config *config = worker->config;
    size_t most = 1; /* the pause of dead letters that fail again */
    struct plan *plan = NULL;
    int64_t *delays;

    for (size_t i = 0; i < config->listener_count; i++)
        most += config->listeners[i].retry.count;
    delays = calloc(most, sizeof(*delays));
    if (delays != NULL)
        plan = plan_new(config, delays, dispatcher_delays(worker->dispatcher, delays, most));
    free(delays);
    return plan;
}

static int worker_make_client(struct worker *worker)
{
    const struct config_general *general = &worker->config->general;
    struct publisher_options options = {.window = (unsigned)general->publish_window, .confirm = general->confirm};

    worker->plan = worker_plan(worker);
    worker->consuming = worker_session(worker, "consuming", &worker_consuming_ops);
    worker->publishing = worker_session(worker, "publishing", &worker_publishing_ops);
    if (worker->plan == NULL || worker->consuming == NULL || worker->publishing == NULL)
        return -1;
    if (relays_init(&worker->relays, worker->consuming, worker_relaying, worker) != 0)
        return -1;
    worker->topology = topology_new(worker->consuming, worker->plan->items, worker->plan->count, &worker_topology_ops,
                                    worker);
    worker->publisher = publisher_new(worker->publishing, &options, &worker_publisher_ops, worker);
    if (worker->topology == NULL || worker->publisher == NULL)
        return -1;
    publisher_hold(worker->publisher, true); /* until all is declared */
    while (worker->early != NULL) {
        struct outgoing *outgoing = worker->early;

        worker->early = outgoing->next;
        publisher_send(worker->publisher, outgoing);
    }
    return worker_open_consumers(worker);
}

int worker_open_client(struct worker *worker)
{
    int result = worker_make_client(worker);

    if (result != 0)
        log_error("out of memory");
    return result;
}
