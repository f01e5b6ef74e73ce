/* SPDX-License-Identifier: MIT */
/* Every method of AMQP 0-9-1 with RabbitMQ's extensions, as data, in the order of their numbers. */
#include "wire/method.h"

#define ID(class_id, method_id) ((uint32_t)(class_id) << 16 | (method_id))
#define CLIENT METHOD_FROM_CLIENT
#define SERVER METHOD_FROM_SERVER
#define BOTH METHOD_FROM_BOTH
#define PLAIN .table = METHOD_NO_TABLE
#define TABLE(type, field) .table = offsetof(amqp_##type##_t, field)

/* clang-format off */
static const struct method_info methods[] = {
    {ID(10, 10), "connection.start",         "bbTXX",      SERVER, .connection = true, TABLE(connection_start, server_properties)},
    {ID(10, 11), "connection.start-ok",      "TSXS",       CLIENT, .connection = true, TABLE(connection_start_ok, client_properties)},
    {ID(10, 20), "connection.secure",        "X",          SERVER, .connection = true, PLAIN},
    {ID(10, 21), "connection.secure-ok",     "X",          CLIENT, .connection = true, PLAIN},
    {ID(10, 30), "connection.tune",          "sls",        SERVER, .connection = true, PLAIN},
    {ID(10, 31), "connection.tune-ok",       "sls",        CLIENT, .connection = true, PLAIN},
    {ID(10, 40), "connection.open",          "SS.",        CLIENT, .connection = true, PLAIN},
    {ID(10, 41), "connection.open-ok",       "S",          SERVER, .connection = true, PLAIN},
    {ID(10, 50), "connection.close",         "sSss",       BOTH,   .connection = true, PLAIN},
    {ID(10, 51), "connection.close-ok",      "",           BOTH,   .connection = true, PLAIN},
    {ID(10, 60), "connection.blocked",       "S",          SERVER, .connection = true, PLAIN},
    {ID(10, 61), "connection.unblocked",     "",           SERVER, .connection = true, PLAIN},
    {ID(10, 70), "connection.update-secret", "XS",         CLIENT, .connection = true, PLAIN},
    {ID(10, 71), "connection.update-secret-ok", "",        SERVER, .connection = true, PLAIN},
    {ID(20, 10), "channel.open",             "S",          CLIENT, PLAIN},
    {ID(20, 11), "channel.open-ok",          "X",          SERVER, PLAIN},
    {ID(20, 20), "channel.flow",             ".",          BOTH,   PLAIN},
    {ID(20, 21), "channel.flow-ok",          ".",          BOTH,   PLAIN},
    {ID(20, 40), "channel.close",            "sSss",       BOTH,   PLAIN},
    {ID(20, 41), "channel.close-ok",         "",           BOTH,   PLAIN},
    {ID(30, 10), "access.request",           "S.....",     CLIENT, PLAIN},
    {ID(30, 11), "access.request-ok",        "s",          SERVER, PLAIN},
    {ID(40, 10), "exchange.declare",         "sSS.....T",  CLIENT, TABLE(exchange_declare, arguments)},
    {ID(40, 11), "exchange.declare-ok",      "",           SERVER, PLAIN},
    {ID(40, 20), "exchange.delete",          "sS..",       CLIENT, PLAIN},
    {ID(40, 21), "exchange.delete-ok",       "",           SERVER, PLAIN},
    {ID(40, 30), "exchange.bind",            "sSSS.T",     CLIENT, TABLE(exchange_bind, arguments)},
    {ID(40, 31), "exchange.bind-ok",         "",           SERVER, PLAIN},
    {ID(40, 40), "exchange.unbind",          "sSSS.T",     CLIENT, TABLE(exchange_unbind, arguments)},
    {ID(40, 51), "exchange.unbind-ok",       "",           SERVER, PLAIN},
    {ID(50, 10), "queue.declare",            "sS.....T",   CLIENT, TABLE(queue_declare, arguments)},
    {ID(50, 11), "queue.declare-ok",         "Sll",        SERVER, PLAIN},
    {ID(50, 20), "queue.bind",               "sSSS.T",     CLIENT, TABLE(queue_bind, arguments)},
    {ID(50, 21), "queue.bind-ok",            "",           SERVER, PLAIN},
    {ID(50, 30), "queue.purge",              "sS.",        CLIENT, PLAIN},
    {ID(50, 31), "queue.purge-ok",           "l",          SERVER, PLAIN},
    {ID(50, 40), "queue.delete",             "sS...",      CLIENT, PLAIN},
    {ID(50, 41), "queue.delete-ok",          "l",          SERVER, PLAIN},
    {ID(50, 50), "queue.unbind",             "sSSST",      CLIENT, TABLE(queue_unbind, arguments)},
    {ID(50, 51), "queue.unbind-ok",          "",           SERVER, PLAIN},
    {ID(60, 10), "basic.qos",                "ls.",        CLIENT, PLAIN},
    {ID(60, 11), "basic.qos-ok",             "",           SERVER, PLAIN},
    {ID(60, 20), "basic.consume",            "sSS....T",   CLIENT, TABLE(basic_consume, arguments)},
    {ID(60, 21), "basic.consume-ok",         "S",          SERVER, PLAIN},
    {ID(60, 30), "basic.cancel",             "S.",         BOTH,   PLAIN},
    {ID(60, 31), "basic.cancel-ok",          "S",          BOTH,   PLAIN},
    {ID(60, 40), "basic.publish",            "sSS..",      CLIENT, .content = true, PLAIN},
    {ID(60, 50), "basic.return",             "sSSS",       SERVER, .content = true, PLAIN},
    {ID(60, 60), "basic.deliver",            "SL.SS",      SERVER, .content = true, PLAIN},
    {ID(60, 70), "basic.get",                "sS.",        CLIENT, PLAIN},
    {ID(60, 71), "basic.get-ok",             "L.SSl",      SERVER, .content = true, PLAIN},
    {ID(60, 72), "basic.get-empty",          "S",          SERVER, PLAIN},
    {ID(60, 80), "basic.ack",                "L.",         BOTH,   PLAIN},
    {ID(60, 90), "basic.reject",             "L.",         CLIENT, PLAIN},
    {ID(60, 100), "basic.recover-async",     ".",          CLIENT, PLAIN},
    {ID(60, 110), "basic.recover",           ".",          CLIENT, PLAIN},
    {ID(60, 111), "basic.recover-ok",        "",           SERVER, PLAIN},
    {ID(60, 120), "basic.nack",              "L..",        BOTH,   PLAIN},
    {ID(85, 10), "confirm.select",           ".",          CLIENT, PLAIN},
    {ID(85, 11), "confirm.select-ok",        "",           SERVER, PLAIN},
    {ID(90, 10), "tx.select",                "",           CLIENT, PLAIN},
    {ID(90, 11), "tx.select-ok",             "",           SERVER, PLAIN},
    {ID(90, 20), "tx.commit",                "",           CLIENT, PLAIN},
    {ID(90, 21), "tx.commit-ok",             "",           SERVER, PLAIN},
    {ID(90, 30), "tx.rollback",              "",           CLIENT, PLAIN},
    {ID(90, 31), "tx.rollback-ok",           "",           SERVER, PLAIN},
};
/* clang-format on */

const struct method_info *method_find(uint32_t id)
{
    size_t low = 0, high = HARK_COUNT(methods);

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (methods[middle].id == id)
            return &methods[middle];
        if (methods[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const char *method_name(uint32_t id)
{
    const struct method_info *info = method_find(id);

    return info != NULL ? info->name : "unknown method";
}

const struct method_info *method_next(const struct method_info *info)
{
    if (info == NULL)
        return methods;
    info++;
    return info < methods + HARK_COUNT(methods) ? info : NULL;
}
