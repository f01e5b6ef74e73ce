/* SPDX-License-Identifier: MIT */
/* What the bench programs that use rabbitmq-c's own, blocking, API share: connecting, and dying when it fails. */
#ifndef BENCH_RABBITMQ_H
#define BENCH_RABBITMQ_H

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif
#include "raw.h"

#include <stdio.h>
#include <stdlib.h>

static inline void bench_die(const char *what, int status)
{
    fprintf(stderr, "%s: %s\n", what, amqp_error_string2(status));
    exit(1);
}

static inline void bench_check_reply(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
        fprintf(stderr, "%s: refused with %s\n", what, amqp_method_name(reply.reply.id));
    else
        fprintf(stderr, "%s: %s\n", what, amqp_error_string2(reply.library_error));
    exit(1);
}

static inline void bench_check(amqp_connection_state_t connection, const char *what)
{
    bench_check_reply(amqp_get_rpc_reply(connection), what);
}

/* As guest, with channel 1 open. */
static inline amqp_connection_state_t bench_connect(int port)
{
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    int status = amqp_socket_open(socket, "127.0.0.1", port);

    if (status != AMQP_STATUS_OK)
        bench_die("cannot connect", status);
    bench_check_reply(amqp_login(connection, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
    amqp_channel_open(connection, 1);
    bench_check(connection, "channel.open");
    return connection;
}

static inline void bench_disconnect(amqp_connection_state_t connection)
{
    amqp_channel_close(connection, 1, AMQP_REPLY_SUCCESS);
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
}

#endif
