/* SPDX-License-Identifier: MIT */
#include "daemon/embedded.h"

#include "base/log.h"
#include "daemon/embedded_apply.h"
#include "net/loop.h"
#include "net/tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#define DESCRIPTORS 100 /* besides connections: the store, listening sockets, standard streams */
#define FIGURES_MS 200  /* how old the figures may be while something happens */

struct embedded {
    const struct embedded_start *start;
    const struct config *config; /* the latest that was applied */
    struct config *read;         /* the same, if it was read here */
    struct loop *loop;
    struct broker *broker;
    struct tls_context *tls; /* NULL: no TLS is listened for */
    struct event *control, *orphaned, *settle;
    int64_t figures_at;
    bool stopping, stopped;
};

/* ---- stopping ---- */

static void embedded_done(void *arg)
{
    ((struct embedded *)arg)->stopped = true;
}

static void embedded_stop(struct embedded *embedded)
{
    if (embedded->stopping)
        return;
    embedded->stopping = true;
    log_info("stopping");
    slot_set_state(embedded->start->slot, SLOT_DRAINING);
    broker_stop(embedded->broker, embedded->config->broker.drain_timeout, embedded_done, embedded);
}

/* Without a supervisor the workers drain and leave; what they acknowledge last must still find its broker. */
static void embedded_orphaned(evutil_socket_t fd, short what, void *arg)
{
    char byte;

    (void)what;
    if (read(fd, &byte, 1) == 0)
        embedded_stop(arg);
}

/* ---- being told ---- */

static struct tls_options embedded_tls_options(const struct config_broker *broker)
{
    return (struct tls_options){
        .ca = broker->tls_ca,
        .certificate = broker->tls_certificate,
        .key = broker->tls_key,
        .key_password = broker->tls_key_password,
        .verify = broker->tls_verify,
        .server = true,
    };
}

static int embedded_renew_tls(struct embedded *embedded)
{
    struct tls_options options = embedded_tls_options(&embedded->config->broker);
    char error[600];

    if (embedded->tls == NULL || options.certificate == NULL)
        return 0;
    if (tls_context_renew(embedded->tls, &options, error, sizeof(error)) == 0)
        return 0;
    log_error("TLS: %s: the certificate from before stays", error);
    return -1;
}

/* A connection takes a descriptor, and a shell's limit of 1024 is soon used up. */
static void embedded_raise_limits(const struct embedded *embedded)
{
    rlim_t wanted = (rlim_t)embedded->config->broker.connection_max + DESCRIPTORS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted)
        log_notice("connection_max = %lld needs %llu descriptors, and %llu are allowed (ulimit -n, LimitNOFILE=): more "
                   "clients than that have to wait",
                   (long long)embedded->config->broker.connection_max, (unsigned long long)wanted,
                   (unsigned long long)limit.rlim_cur);
}

/* -1 after a line in the log: not all of it is in force. */
static int embedded_reload(struct embedded *embedded)
{
    struct ini_errors errors = {0};
    struct config *config = supervisor_read(embedded->start->options, &errors);
    struct broker_options options;
    int result;

    /* The supervisor has found it good just now: somebody is writing to it. */
    if (config == NULL || !config->url.embedded) {
        log_error("%s has changed again while it was being reloaded, and has a mistake now%s%s: nothing was changed",
                  embedded->start->options->path, errors.count > 0 ? ": " : "",
                  errors.count > 0 ? errors.lines[0] : "");
        config_free(config);
        ini_errors_free(&errors);
        return -1;
    }
    options = embedded_options(&config->broker);
    broker_set_options(embedded->broker, &options);
    result = embedded_apply(embedded->broker, config, embedded->config);
    if (result != 0)
        log_error("not all of the new configuration could be applied");
    config_free(embedded->read);
    embedded->config = embedded->read = config;
    if (embedded_renew_tls(embedded) != 0)
        result = -1;
    embedded_raise_limits(embedded);
    if (embedded->start->options->log_level < 0)
        log_set_level((enum log_level)config->general.log_level);
    log_info("the configuration was read again");
    return result;
}

static void embedded_told(evutil_socket_t fd, short what, void *arg)
{
    struct embedded *embedded = arg;
    struct slot *slot = embedded->start->slot;
    char bytes[64];
    ssize_t got = read(fd, bytes, sizeof(bytes));
    uint64_t times = 0;
    bool stop = false;

    (void)what;
    for (ssize_t i = 0; i < got; i++) {
        times += bytes[i] == 'r';
        stop |= bytes[i] == 's';
    }
    if (times > 0) { /* told twice at once, it needs to read once */
        if (embedded_reload(embedded) != 0)
            slot_bump(&slot->figures.refusals, 1);
        slot_bump(&slot->figures.reloads, times);
        slot_wake(slot);
    }
    if (stop) {
        embedded_stop(embedded);
    } else if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        event_del(embedded->control); /* the supervisor is gone */
        log_info("the supervisor is gone: waiting for the workers to leave");
        event_add(embedded->orphaned, NULL);
    }
}

/* ---- figures ---- */

static void embedded_settle(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg; /* that the loop turns is all */
}

/* Now and then; and once more when nothing happens any longer. The supervisor is woken for what is not just traffic. */
static void embedded_figures(struct embedded *embedded)
{
    struct slot_figures *figures = &embedded->start->slot->figures;
    struct broker_status status;
    uint64_t alarm;
    bool news;
    int64_t now = loop_now(embedded->loop), age = now - embedded->figures_at;

    if (age < FIGURES_MS) {
        if (!evtimer_pending(embedded->settle, NULL))
            evtimer_add(embedded->settle, &(struct timeval){.tv_usec = (FIGURES_MS - age) * 1000});
        return;
    }
    embedded->figures_at = now;
    broker_status(embedded->broker, &status);
    alarm = status.alarm == NULL ? 0 : strcmp(status.alarm, "memory") == 0 ? 1 : 2;
    news = figures->connections != status.connections || figures->queues != status.queues || figures->alarm != alarm;
    slot_gauge(&figures->connections, status.connections);
    slot_gauge(&figures->channels, status.channels);
    slot_gauge(&figures->queues, status.queues);
    slot_gauge(&figures->ready, status.ready);
    slot_gauge(&figures->unacked, status.unacked);
    slot_gauge(&figures->memory, status.memory);
    slot_gauge(&figures->alarm, alarm);
    if (news)
        slot_wake(embedded->start->slot);
}

/* ---- from start to end ---- */

static int embedded_open_events(struct embedded *embedded)
{
    struct event_base *base = loop_base(embedded->loop);
    const struct embedded_start *start = embedded->start;

    embedded->control = event_new(base, start->control, EV_READ | EV_PERSIST, embedded_told, embedded);
    embedded->orphaned = event_new(base, start->workers, EV_READ | EV_PERSIST, embedded_orphaned, embedded);
    embedded->settle = evtimer_new(base, embedded_settle, embedded);
    if (embedded->control == NULL || embedded->orphaned == NULL || embedded->settle == NULL)
        return -1;
    return event_add(embedded->control, NULL);
}

static int embedded_open_tls(struct embedded *embedded)
{
    struct tls_options options = embedded_tls_options(&embedded->config->broker);
    const struct sockets *sockets = embedded->start->sockets;
    char error[600];
    bool wanted = false;

    for (size_t i = 0; i < sockets->count; i++)
        wanted |= sockets->items[i].tls;
    if (!wanted)
        return 0;
    embedded->tls = tls_context_new(&options, error, sizeof(error));
    if (embedded->tls == NULL)
        log_error("TLS: %s", error);
    return embedded->tls != NULL ? 0 : -1;
}

static int embedded_listen(struct embedded *embedded)
{
    const struct sockets *sockets = embedded->start->sockets;

    for (size_t i = 0; i < sockets->count; i++) {
        const struct sockets_item *item = &sockets->items[i];

        if (broker_listen(embedded->broker, item->fd, item->tls ? embedded->tls : NULL, item->trusted) != 0) {
            log_error("out of memory");
            return -1;
        }
    }
    return 0;
}

/* EX_OK, or the exit status after a line in the log. */
static int embedded_open(struct embedded *embedded)
{
    struct broker_options options = embedded_options(&embedded->config->broker);
    char error[1024];

    embedded_raise_limits(embedded);
    if (embedded_open_tls(embedded) != 0)
        return EX_CONFIG;
    embedded->broker = broker_new(embedded->loop, &options, error, sizeof(error));
    if (embedded->broker == NULL) {
        log_error("%s", error);
        return EX_OSERR;
    }
    if (embedded_apply(embedded->broker, embedded->config, NULL) != 0)
        return EX_CONFIG;
    return embedded_listen(embedded) == 0 ? EX_OK : EX_OSERR;
}

static void embedded_close(struct embedded *embedded)
{
    struct event *events[] = {embedded->control, embedded->orphaned, embedded->settle};

    if (embedded->broker != NULL)
        broker_free(embedded->broker);
    for (size_t i = 0; i < HARK_COUNT(events); i++)
        if (events[i] != NULL)
            event_free(events[i]);
    if (embedded->loop != NULL)
        loop_free(embedded->loop);
    tls_context_free(embedded->tls);
    config_free(embedded->read);
}

int embedded_run(const struct embedded_start *start)
{
    struct embedded embedded = {.start = start, .config = start->config, .loop = loop_new()};
    int status;

    if (embedded.loop == NULL || embedded_open_events(&embedded) != 0) {
        log_error("cannot set up the event loop");
        status = EX_OSERR;
        goto done;
    }
    status = embedded_open(&embedded);
    if (status != EX_OK)
        goto done;
    slot_set_state(start->slot, SLOT_STARTED);
    while (!embedded.stopped && loop_turn(embedded.loop, true) == 0) {
        slot_turn(start->slot);
        slot_consumers_live(start->slot);
        embedded_figures(&embedded);
    }
    status = embedded.stopped ? EX_OK : EX_SOFTWARE;

done:
    embedded_close(&embedded);
    return status;
}
