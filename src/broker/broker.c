/* SPDX-License-Identifier: MIT */
/* The broker as a whole: its life, who may connect, what is told when the disk or the memory changes. */
#include "broker/broker.h"

#include "base/log.h"
#include "broker/broker_private.h"
#include "broker/control.h"
#include "broker/peer.h"
#include "broker/peer_channel.h"
#include "broker/queue_private.h"
#include "broker/records.h"
#include "net/acceptor.h"

#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

#define BROKER_STORE_HIGH (64 * 1024 * 1024) /* bytes that wait for the disk: publishers are held, */
#define BROKER_STORE_LOW (16 * 1024 * 1024)  /* until there are no more than these */
#define BROKER_EASE (128 * 1024 * 1024)      /* bytes above which what is on disk anyway need not be in memory too */
#define BROKER_KEEP 2048      /* messages of a queue that stay in memory when others are left to the disk */
#define BROKER_PAGE_OUT 16384 /* so many of them in one round: it holds everybody up */
#define BROKER_PAGE_MS 20     /* between two rounds of asking all queues for memory */
#define BROKER_LAST_MS 1000   /* for the last bytes to a peer that has to go */
#define BROKER_CLOSE_MS 60000 /* for the store's last commit */

/* ---- virtual hosts ---- */

struct vhost *broker_vhost(struct broker *broker, struct span name)
{
    struct vhost *vhost;

    HASH_FIND(hh, broker->vhosts, name.data, name.length, vhost);
    return vhost;
}

int broker_add_vhost(struct broker *broker, const char *name)
{
    struct vhost *vhost = broker_vhost(broker, span_str(name));

    if (vhost != NULL)
        return 0;
    vhost = vhost_new(broker, span_str(name));
    if (vhost == NULL)
        return -1;
    HASH_ADD_KEYPTR(hh, broker->vhosts, vhost->name, strlen(vhost->name), vhost);
    if (vhost->hh.tbl == NULL) {
        vhost_free(vhost);
        return -1;
    }
    record_vhost(vhost, true);
    return 0;
}

void broker_remove_vhost(struct vhost *vhost)
{
    struct broker *broker = vhost->broker;
    struct peer *peer, *next;
    struct reply error = {0};

    if (reply_set(&error, REPLY_CONNECTION_FORCED, 0, "vhost '%s' is deleted", vhost->name) == 0)
        return;
    DL_FOREACH_SAFE (broker->peers, peer, next) {
        if (peer->vhost != vhost)
            continue;
        peer_fail(peer, &error);
        peer_finish(peer, BROKER_LAST_MS);
    }
    deaths_run(broker);
    deaths_forget(broker, vhost);
    accounts_forget_vhost(broker, vhost->name);
    HASH_DELETE(hh, broker->vhosts, vhost);
    vhost_delete(vhost);
}

/* ---- the disk ---- */

static void broker_watch_peers(struct broker *broker)
{
    struct peer *peer, *next;

    DL_FOREACH_SAFE (broker->peers, peer, next) {
        peer_watch_alarm(peer);
    }
}

void broker_watch_store(struct broker *broker)
{
    size_t pending = store_pending(broker->store);

    if (HARK_LIKELY(!broker->slow_disk)) {
        broker->slow_disk = pending > BROKER_STORE_HIGH;
    } else if (pending < BROKER_STORE_LOW) {
        broker->slow_disk = false;
        broker_watch_peers(broker);
    }
}

static void broker_committed(void *arg, uint64_t batch)
{
    struct broker *broker = arg;
    struct peer *peer, *next;

    loop_defer(broker->loop, &broker->confirm);
    if (broker->memory_alarm)
        loop_defer(broker->loop, &broker->pressure); /* what waited for the disk has counted */
    DL_FOREACH_SAFE2(broker->holding, peer, next, hold_next)
    {
        peer_release(peer, batch);
    }
    broker_watch_store(broker);
}

static void broker_disk(void *arg, const char *why)
{
    struct broker *broker = arg;

    snprintf(broker->disk_alarm, sizeof(broker->disk_alarm), "%s", why != NULL ? why : "");
    if (why != NULL)
        log_error("broker: publishers are blocked: %s", why);
    else
        log_notice("broker: the disk is well again");
    broker_watch_peers(broker);
}

/* ---- confirms ---- */

void broker_confirm_later(struct broker *broker, struct peer_channel *channel)
{
    if (HARK_UNLIKELY(!channel->in_confirming)) {
        channel->in_confirming = true;
        DL_APPEND2(broker->confirming, channel, confirm_prev, confirm_next);
    }
    loop_defer(broker->loop, &broker->confirm);
}

static void broker_confirm(struct loop_task *task)
{
    struct broker *broker = HARK_CONTAINER(task, struct broker, confirm);
    struct peer_channel *channel, *next;

    DL_FOREACH_SAFE2(broker->confirming, channel, next, confirm_next)
    {
        confirms_send(channel);
        if (channel->confirm_count > 0)
            continue;
        channel->in_confirming = false;
        DL_DELETE2(broker->confirming, channel, confirm_prev, confirm_next);
    }
}

/* ---- memory ---- */

static uint64_t broker_used(const struct broker *broker)
{
    return broker->memory + broker->gathered + store_pending(broker->store);
}

static void broker_page_out_to(struct broker *broker, uint64_t enough, uint64_t keep, bool stored_only, uint64_t *most)
{
    struct vhost *vhost, *next;
    struct queue *queue, *after;

    HASH_ITER (hh, broker->vhosts, vhost, next) {
        HASH_ITER (hh, vhost->queues, queue, after) {
            if (broker->memory <= enough || *most == 0)
                return;
            if (queue->ready_count - queue->paged.count > 2 * keep)
                *most -= queue_page_out(queue, keep, stored_only, *most);
        }
    }
}

static void broker_page_out(struct broker *broker)
{
    bool stored_only = broker->memory <= broker->memory_page;
    uint64_t enough = (stored_only ? broker->memory_ease : broker->memory_page) / 4 * 3;
    uint64_t much = broker->memory_page / 2 * 3, most = BROKER_PAGE_OUT;

    broker_page_out_to(broker, enough, BROKER_KEEP, stored_only, &most);
    /* Few messages may be large, or the queues many. */
    for (uint64_t keep = BROKER_KEEP / 16; broker->memory > much; keep /= 16) {
        broker_page_out_to(broker, enough, keep, false, &most);
        if (keep == 0)
            return;
    }
}

/* Again in a while, unless it is time now. */
static bool broker_may_page_out(struct broker *broker)
{
    int64_t wait = broker->paged_at + BROKER_PAGE_MS - loop_now(broker->loop);

    if (broker->memory <= broker->memory_ease)
        return false;
    if (wait <= 0)
        return true;
    if (broker->memory > broker->memory_page)
        evtimer_add(broker->pressure_timer, &(struct timeval){.tv_usec = wait * 1000});
    return false;
}

static void broker_pressure_again(evutil_socket_t fd, short what, void *arg)
{
    struct broker *broker = arg;

    (void)fd;
    (void)what;
    loop_defer(broker->loop, &broker->pressure);
}

static void broker_pressure(struct loop_task *task)
{
    struct broker *broker = HARK_CONTAINER(task, struct broker, pressure);
    bool alarm;

    if (broker_may_page_out(broker)) {
        broker_page_out(broker);
        broker->paged_at = loop_now(broker->loop);
    }
    alarm = broker_used(broker) >=
            (broker->memory_alarm ? broker->options.memory_limit / 10 * 9 : broker->options.memory_limit);
    if (alarm == broker->memory_alarm)
        return;
    broker->memory_alarm = alarm;
    if (alarm)
        log_warning("broker: messages take %llu MiB of memory, memory_limit is %llu MiB: publishers are blocked",
                    (unsigned long long)(broker_used(broker) >> 20),
                    (unsigned long long)(broker->options.memory_limit >> 20));
    else
        log_notice("broker: memory is below memory_limit again");
    broker_watch_peers(broker);
}

/* ---- connections ---- */

static void broker_accepted(void *arg, int fd)
{
    struct broker_port *port = arg;
    struct broker *broker = port->broker;
    unsigned dropped, count = broker->peer_count + broker->flushing_count;

    if (count >= broker->options.connection_max) {
        if (log_allowed(&broker->refused, &dropped))
            log_warning("broker: a connection was refused: there are %u already, %u of them closing (connection_max)",
                        count, broker->flushing_count);
        close(fd);
        return;
    }
    if (peer_accept(broker, fd, port->tls, port->trusted) == NULL && log_allowed(&broker->refused, &dropped))
        log_error("broker: no memory for a connection");
}

int broker_listen(struct broker *broker, int fd, struct tls_context *tls, bool trusted)
{
    struct broker_port *port = calloc(1, sizeof(*port));

    if (port == NULL) {
        close(fd);
        return -1;
    }
    port->broker = broker;
    port->tls = tls;
    port->trusted = trusted;
    port->acceptor = acceptor_new(broker->loop, fd, broker_accepted, port);
    if (port->acceptor == NULL) {
        free(port);
        return -1;
    }
    LL_APPEND(broker->ports, port);
    return 0;
}

static void broker_close_ports(struct broker *broker)
{
    struct broker_port *port, *next;

    LL_FOREACH_SAFE (broker->ports, port, next) {
        acceptor_free(port->acceptor);
        free(port);
    }
    broker->ports = NULL;
}

/* ---- life ---- */

static void broker_rest_of_deaths(evutil_socket_t fd, short what, void *arg)
{
    struct broker *broker = arg;

    (void)fd;
    (void)what;
    broker->deaths.resting = false;
    deaths_run(broker);
}

void broker_set_options(struct broker *broker, const struct broker_options *options)
{
    broker->options = *options;
    broker->options.data = NULL; /* has been used, and is the caller's */
    broker->memory_page = options->memory_limit / 2;
    broker->memory_ease = options->memory_limit / 4 < BROKER_EASE ? options->memory_limit / 4 : BROKER_EASE;
    if (broker->store != NULL)
        store_set_disk_free_limit(broker->store, options->disk_free_limit);
    loop_defer(broker->loop, &broker->pressure);
}

struct broker *broker_new(struct loop *loop, const struct broker_options *options, char *error, size_t size)
{
    static const struct store_ops ops = {.committed = broker_committed, .low = broker_disk};
    struct store_options store = {.folder = options->data, .disk_free_limit = options->disk_free_limit};
    struct broker *broker = calloc(1, sizeof(*broker));

    if (broker == NULL) {
        snprintf(error, size, "no memory for the broker");
        return NULL;
    }
    broker->loop = loop;
    broker->confirm.run = broker_confirm;
    broker->pressure.run = broker_pressure;
    broker->refused = (struct log_limit){.burst = 5, .period_ms = 60000};
    broker->next_queue = (uint64_t)loop_wall(loop) << 20; /* so that a number is never used again */
    init_amqp_pool(&broker->pool, 16384);
    broker->pressure_timer = evtimer_new(loop_base(loop), broker_pressure_again, broker);
    broker->deaths.rest = evtimer_new(loop_base(loop), broker_rest_of_deaths, broker);
    if (broker->pressure_timer == NULL || broker->deaths.rest == NULL) {
        snprintf(error, size, "no memory for the broker");
        goto fail;
    }
    broker_set_options(broker, options);
    broker->store = store_open(loop, &store, &ops, broker, error, size);
    if (broker->store == NULL)
        goto fail;
    broker->users = users_new();
    if (broker->users == NULL || broker_add_vhost(broker, "/") != 0) {
        snprintf(error, size, "no memory for the broker");
        goto fail;
    }
    if (records_recover(broker, error, size) != 0)
        goto fail;
    broker->control = control_new(broker, options->data, error, size);
    if (broker->control == NULL) /* a path too long for a Unix socket, say */
        log_warning("broker: there is no control socket: %s", error);
    return broker;

fail:
    broker_free(broker);
    return NULL;
}

struct users *broker_users(struct broker *broker)
{
    return broker->users;
}

void broker_status(const struct broker *broker, struct broker_status *status)
{
    *status = (struct broker_status){
        .connections = broker->peer_count,
        .channels = broker->channel_count,
        .queues = broker->queue_count,
        .consumers = broker->consumer_count,
        .ready = broker->ready_count,
        .unacked = broker->unacked_count,
        .published = broker->published,
        .delivered = broker->delivered,
        .memory = broker_used(broker),
        .alarm = broker->memory_alarm            ? "memory"
                 : broker->disk_alarm[0] != '\0' ? "disk"
                                                 : NULL,
    };
}

static void broker_stopped(struct broker *broker)
{
    void (*stopped)(void *) = broker->stopped;

    broker->stopped = NULL;
    if (broker->stop_timer != NULL)
        evtimer_del(broker->stop_timer);
    if (stopped != NULL)
        stopped(broker->stopped_arg);
}

void broker_peer_gone(struct broker *broker)
{
    if (broker->stopping && broker->peer_count == 0)
        broker_stopped(broker);
}

static void broker_stop_late(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    broker_stopped(arg);
}

void broker_stop(struct broker *broker, int64_t ms, void (*done)(void *arg), void *arg)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    struct peer *peer, *next;
    struct reply error = {0};

    broker->stopping = true;
    broker->stopped = done;
    broker->stopped_arg = arg;
    broker_close_ports(broker);
    if (reply_set(&error, REPLY_CONNECTION_FORCED, 0, "broker forced connection closure with reason 'shutdown'") != 0)
        DL_FOREACH_SAFE (broker->peers, peer, next) {
            if (peer->state == PEER_OPEN)
                peer_fail(peer, &error);
            else if (peer->state < PEER_OPEN)
                peer_end(peer, "the broker stops");
        }
    broker->stop_timer = evtimer_new(loop_base(broker->loop), broker_stop_late, broker);
    if (broker->peer_count == 0 || broker->stop_timer == NULL) {
        broker_stopped(broker);
        return;
    }
    evtimer_add(broker->stop_timer, &wait);
}

void broker_free(struct broker *broker)
{
    struct vhost *vhost, *next;
    struct peer *peer, *after;

    broker->stopped = NULL;
    control_free(broker->control);
    broker_close_ports(broker);
    DL_FOREACH_SAFE (broker->peers, peer, after) {
        peer_end(peer, "the broker stops");
    }
    deaths_forget(broker, NULL);
    HASH_ITER (hh, broker->vhosts, vhost, next) {
        HASH_DELETE(hh, broker->vhosts, vhost);
        vhost_free(vhost);
    }
    leavings_free(broker);
    if (broker->store != NULL)
        store_close(broker->store, BROKER_CLOSE_MS);
    if (broker->users != NULL)
        users_free(broker->users);
    if (broker->stop_timer != NULL)
        event_free(broker->stop_timer);
    if (broker->pressure_timer != NULL)
        event_free(broker->pressure_timer);
    loop_task_cancel(&broker->confirm);
    loop_task_cancel(&broker->pressure);
    accounts_free(broker);
    DL_FOREACH_SAFE (broker->flushing, peer, after) {
        link_close(peer->link);
    }
    if (broker->deaths.rest != NULL)
        event_free(broker->deaths.rest);
    route_free(&broker->route);
    empty_amqp_pool(&broker->pool);
    free(broker);
}
