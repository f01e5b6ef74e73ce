/* SPDX-License-Identifier: MIT */
#include "broker/control.h"

#include "base/log.h"
#include "broker/broker_private.h"
#include "net/acceptor.h"
#include "net/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

struct control_client {
    struct control *control;
    int fd;
    struct event *readable, *writable;
    struct buf in, out;
    struct control_client *prev, *next;
};

struct control {
    struct broker *broker;
    struct acceptor *acceptor;
    char *path;
    struct control_client *clients; /* a list */
    unsigned count;
};

static void client_free(struct control_client *client)
{
    DL_DELETE(client->control->clients, client);
    client->control->count--;
    if (client->readable != NULL)
        event_free(client->readable);
    if (client->writable != NULL)
        event_free(client->writable);
    buf_free(&client->in);
    buf_free(&client->out);
    close(client->fd);
    free(client);
}

/* False: the client is gone. */
static bool client_flush(struct control_client *client)
{
    while (buf_length(&client->out) > 0) {
        struct span left = buf_span(&client->out);
        ssize_t sent = send(client->fd, left.data, left.length, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN) {
            event_del(client->readable);
            event_add(client->writable, NULL);
            return true;
        }
        if (sent < 0) {
            client_free(client);
            return false;
        }
        client->out.start += (size_t)sent;
    }
    buf_clear(&client->out);
    buf_trim(&client->out, 4096);
    return true;
}

/* Answers whole lines until an answer does not leave. False: the client is gone. */
static bool client_serve(struct control_client *client)
{
    static const char too_long[] = "{\"ok\":false,\"error\":\"the request is too long\"}\n";

    while (buf_length(&client->out) == 0) {
        struct span in = buf_span(&client->in);
        const uint8_t *end = in.length > 0 ? memchr(in.data, '\n', in.length) : NULL;

        if (end == NULL && in.length < CONTROL_LINE_MAX)
            return true;
        if (end == NULL) {
            buf_put(&client->out, too_long, sizeof(too_long) - 1);
            if (client_flush(client)) /* what does not leave at once is not worth waiting for */
                client_free(client);
            return false;
        }
        control_answer(client->control->broker, span_of(in.data, (size_t)(end - in.data)), &client->out);
        client->in.start += (size_t)(end - in.data) + 1;
        if (client->out.failed) {
            client_free(client);
            return false;
        }
        if (!client_flush(client))
            return false;
    }
    return true;
}

static void client_readable(evutil_socket_t fd, short what, void *arg)
{
    struct control_client *client = arg;
    uint8_t *to = buf_reserve(&client->in, CONTROL_LINE_MAX + 1 - buf_length(&client->in));
    ssize_t got;

    (void)what;
    got = to != NULL ? recv(fd, to, CONTROL_LINE_MAX + 1 - buf_length(&client->in), 0) : 0;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        client_free(client);
        return;
    }
    client->in.end += (size_t)got;
    if (!client_serve(client) || buf_length(&client->in) > 0)
        return;
    buf_clear(&client->in);
    buf_trim(&client->in, 0);
}

static void client_writable(evutil_socket_t fd, short what, void *arg)
{
    struct control_client *client = arg;

    (void)fd;
    (void)what;
    if (!client_flush(client) || buf_length(&client->out) > 0)
        return;
    event_del(client->writable);
    event_add(client->readable, NULL);
    client_serve(client);
}

static void control_accepted(void *arg, int fd)
{
    struct control *control = arg;
    struct event_base *base = loop_base(control->broker->loop);
    struct control_client *client = control->count < CONTROL_CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;

    if (client == NULL) {
        close(fd);
        return;
    }
    client->control = control;
    client->fd = fd;
    DL_APPEND(control->clients, client);
    control->count++;
    client->readable = event_new(base, fd, EV_READ | EV_PERSIST, client_readable, client);
    client->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, client_writable, client);
    if (client->readable == NULL || client->writable == NULL || event_add(client->readable, NULL) != 0)
        client_free(client);
}

struct control *control_new(struct broker *broker, const char *folder, char *error, size_t size)
{
    struct control *control = calloc(1, sizeof(*control));
    int fd;

    if (control == NULL || asprintf(&control->path, "%s/control", folder) < 0) {
        snprintf(error, size, "no memory for the control socket");
        free(control);
        return NULL;
    }
    control->broker = broker;
    fd = listen_unix(control->path, 0600, error, size);
    if (fd < 0)
        goto fail;
    control->acceptor = acceptor_new(broker->loop, fd, control_accepted, control);
    if (control->acceptor == NULL) {
        snprintf(error, size, "no memory for the control socket");
        unlink(control->path);
        goto fail;
    }
    return control;

fail:
    free(control->path);
    free(control);
    return NULL;
}

void control_free(struct control *control)
{
    struct control_client *client, *next;

    if (control == NULL)
        return;
    DL_FOREACH_SAFE (control->clients, client, next) {
        client_free(client);
    }
    acceptor_free(control->acceptor);
    unlink(control->path);
    free(control->path);
    free(control);
}
