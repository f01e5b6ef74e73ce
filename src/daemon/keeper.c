/* SPDX-License-Identifier: MIT */
/*
 * The embedded broker, from the supervisor's side. It differs from a worker in that there is one of it, whatever is
 * reloaded: its sockets are opened before its first start and survive its deaths, a reload is told to it, and it
 * leaves when all workers have.
 */
#include "daemon/supervisor_private.h"

#include "base/log.h"
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static void keeper_late(evutil_socket_t fd, short what, void *arg)
{
    struct keeper *keeper = arg;

    (void)fd;
    (void)what;
    log_error("broker: has not left in time: killed");
    child_signal(&keeper->child, SIGKILL);
}

static void keeper_say_where(const struct keeper *keeper)
{
    char name[200];

    for (size_t i = 0; i < keeper->sockets.count; i++) {
        const struct sockets_item *item = &keeper->sockets.items[i];

        listen_name(item->fd, name, sizeof(name));
        if (!item->trusted)
            log_notice("broker: listens on %s%s", name, item->tls ? " (TLS)" : "");
    }
}

int keeper_open(struct supervisor *supervisor, const struct config *config)
{
    struct keeper *keeper = calloc(1, sizeof(*keeper));
    char error[1024];

    if (keeper == NULL) {
        log_error("out of memory");
        return -1;
    }
    *keeper = (struct keeper){.child = {.supervisor = supervisor, .name = "broker", .control = -1},
                              .workers = {-1, -1}};
    supervisor->keeper = keeper;
    keeper->timer = evtimer_new(supervisor->base, keeper_late, keeper);
    if (keeper->timer == NULL || pipe2(keeper->workers, O_CLOEXEC) != 0) {
        log_error("broker: cannot be started: %s", strerror(errno));
        return -1;
    }
    if (sockets_open(config, &keeper->sockets, error, sizeof(error)) != 0) {
        log_error("%s", error);
        return -1;
    }
    keeper_say_where(keeper);
    return 0;
}

int keeper_start(struct keeper *keeper)
{
    keeper->drain_timeout = child_config(&keeper->child)->broker.drain_timeout;
    return child_start(&keeper->child);
}

void keeper_after_fork(struct keeper *keeper, bool broker)
{
    if (keeper->timer != NULL)
        event_free(keeper->timer);
    /* A worker only holds the writing end: until it is gone. */
    close(keeper->workers[broker ? 1 : 0]);
    if (!broker)
        sockets_forget(&keeper->sockets);
}

bool keeper_serves(const struct keeper *keeper)
{
    if (keeper == NULL)
        return true;
    return keeper->child.pid > 0 && child_has_reached(&keeper->child, SLOT_STARTED) &&
           keeper->child.slot->figures.reloads >= keeper->reloads;
}

static uint64_t keeper_refusals(const struct keeper *keeper)
{
    return keeper->child.slot != NULL ? keeper->child.slot->figures.refusals : 0;
}

bool keeper_refuses(const struct keeper *keeper)
{
    return keeper != NULL && keeper_refusals(keeper) > keeper->refusals;
}

void keeper_reload(struct keeper *keeper)
{
    const struct config *config;

    if (keeper == NULL)
        return;
    config = child_config(&keeper->child);
    keeper->drain_timeout = config->broker.drain_timeout;
    keeper->child.hang_timeout = config->general.hang_timeout;
    keeper->refusals = keeper_refusals(keeper);
    /* One that starts again begins with the new configuration. */
    if (keeper->child.pid > 0 && send(keeper->child.control, "r", 1, MSG_NOSIGNAL) == 1)
        keeper->reloads++;
}

/* What it was doing is not noted anywhere: no listener runs in it. */
static void keeper_say_how(const struct keeper *keeper, int status)
{
    int pid = (int)keeper->child.pid;

    if (WIFSIGNALED(status) && !keeper->leaving)
        log_error(
            "broker: died by signal %d (%s)%s, pid %d: what it has confirmed is on disk; workers and clients connect "
            "again",
            WTERMSIG(status), strsignal(WTERMSIG(status)), keeper->child.hung ? " after its loop had stood still" : "",
            pid);
    else if (WIFSIGNALED(status))
        log_info("broker: pid %d was ended by signal %d", pid, WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0 || !keeper->leaving)
        log_error("broker: pid %d ended with status %d", pid, WEXITSTATUS(status));
    else
        log_info("broker: pid %d left", pid);
}

void keeper_died(struct keeper *keeper, int status)
{
    struct supervisor *supervisor = keeper->child.supervisor;

    keeper_say_how(keeper, status);
    keeper->child.pid = 0;
    keeper->reloads = keeper->refusals = 0;
    evtimer_del(keeper->timer);
    if (keeper->leaving)
        return;
    if (supervisor->current->started || child_has_reached(&keeper->child, SLOT_STARTED)) {
        child_restart(&keeper->child);
        return;
    }
    log_error("cannot start");
    /* EX_CONFIG: it cannot do what it is configured to; it has said why. */
    supervisor->status = !WIFEXITED(status) ? EX_SOFTWARE : WEXITSTATUS(status) == EX_CONFIG ? 1 : WEXITSTATUS(status);
    if (supervisor->status == EX_OK)
        supervisor->status = EX_SOFTWARE;
    keeper->leaving = true;
    supervisor_stop(supervisor);
}

bool keeper_stop(struct keeper *keeper)
{
    int64_t ms;
    struct timeval wait;

    if (keeper == NULL)
        return true;
    if (!keeper->leaving) {
        keeper->leaving = true;
        ms = keeper->drain_timeout + MARGIN_MS;
        wait = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
        if (keeper->child.restart != NULL)
            evtimer_del(keeper->child.restart);
        evtimer_add(keeper->timer, &wait);
        if (keeper->child.pid > 0)
            (void)!send(keeper->child.control, "s", 1, MSG_NOSIGNAL); /* it has ended: SIGCHLD comes */
    }
    return keeper->child.pid == 0;
}

void keeper_kill(struct keeper *keeper)
{
    if (keeper == NULL)
        return;
    keeper->leaving = true;
    if (keeper->child.restart != NULL)
        evtimer_del(keeper->child.restart);
    child_signal(&keeper->child, SIGKILL);
}

void keeper_close(struct keeper *keeper)
{
    if (keeper == NULL)
        return;
    child_close(&keeper->child);
    sockets_close(&keeper->sockets);
    if (keeper->timer != NULL)
        event_free(keeper->timer);
    for (size_t i = 0; i < HARK_COUNT(keeper->workers); i++)
        if (keeper->workers[i] >= 0)
            close(keeper->workers[i]);
    free(keeper);
}
