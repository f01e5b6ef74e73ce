/* SPDX-License-Identifier: MIT */
/* What can be asked of a running broker through its control socket. */
#include "broker/control.h"

#include "broker/broker_private.h"
#include "broker/peer.h"
#include "broker/queue.h"
#include "wire/table.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#define CONTROL_TABLE_DEPTH 8 /* of arguments that are shown */

struct control_request {
    struct broker *broker;
    const cJSON *arguments; /* the whole request */
    cJSON *result;          /* NULL: true */
    char error[512];
};

static int HARK_PRINTF(2, 3) control_fail(struct control_request *request, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(request->error, sizeof(request->error), format, args);
    va_end(args);
    return -1;
}

/* ---- arguments ---- */

/* NULL, if it may be missing; otherwise with an error. */
static const char *control_text(struct control_request *request, const char *name, bool needed)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(request->arguments, name);

    if (cJSON_IsString(value))
        return value->valuestring;
    if (needed || value != NULL)
        control_fail(request, "\"%s\" must be a string", name);
    return NULL;
}

static struct vhost *control_vhost(struct control_request *request, const char *key)
{
    const char *name = control_text(request, key, true);
    struct vhost *vhost;

    if (name == NULL)
        return NULL;
    vhost = broker_vhost(request->broker, span_str(name));
    if (vhost == NULL)
        control_fail(request, "no virtual host \"%s\"", name);
    return vhost;
}

/* ---- results ---- */

/* Names come from strangers: what is not UTF-8, or has a byte 0, is escaped. */
static cJSON *control_string(struct span text)
{
    size_t size = 4 * text.length + 16;
    char *copy = malloc(size);
    cJSON *string;

    if (copy == NULL)
        return NULL;
    log_escape(copy, size, text);
    string = cJSON_CreateString(copy);
    free(copy);
    return string;
}

static cJSON *control_value(const struct table_entry *entry, int depth)
{
    cJSON *value;
    struct table_entry inner;
    size_t cursor = 0;
    int64_t number;

    switch (entry->kind) {
    case 't':
        return cJSON_CreateBool(entry->value.data[0]);
    case 'S':
        return control_string(entry->value);
    case 'F':
        value = cJSON_CreateObject();
        while (depth > 0 && table_next(entry->value, &cursor, &inner)) {
            char name[256];

            log_escape(name, sizeof(name), inner.name);
            cJSON_AddItemToObject(value, name, control_value(&inner, depth - 1));
        }
        return value;
    case 'A':
        value = cJSON_CreateArray();
        while (depth > 0 && table_next_item(entry->value, &cursor, &inner))
            cJSON_AddItemToArray(value, control_value(&inner, depth - 1));
        return value;
    default:
        return table_integer(entry, &number) ? cJSON_CreateNumber((double)number) : cJSON_CreateNull();
    }
}

/* ---- queues ---- */

static int control_queues(struct control_request *request)
{
    struct vhost *vhost = control_vhost(request, "vhost");
    struct queue *queue, *next;

    if (vhost == NULL)
        return -1;
    request->result = cJSON_CreateArray();
    HASH_ITER (hh, vhost->queues, queue, next) {
        struct table_entry arguments = {.kind = 'F', .value = queue->arguments};
        cJSON *item = cJSON_CreateObject();

        cJSON_AddItemToObject(item, "name", control_string(queue->name));
        cJSON_AddNumberToObject(item, "ready", (double)queue->ready_count);
        cJSON_AddNumberToObject(item, "unacked", (double)queue->unacked_count);
        cJSON_AddNumberToObject(item, "consumers", queue->consumer_count);
        cJSON_AddBoolToObject(item, "durable", queue->durable);
        cJSON_AddItemToObject(item, "arguments", control_value(&arguments, CONTROL_TABLE_DEPTH));
        cJSON_AddItemToArray(request->result, item);
    }
    return 0;
}

static int control_delete_queue(struct control_request *request)
{
    struct vhost *vhost = control_vhost(request, "vhost");
    const char *name = vhost != NULL ? control_text(request, "name", true) : NULL;
    struct queue *queue;

    if (name == NULL)
        return -1;
    queue = vhost_queue(vhost, span_str(name));
    if (queue == NULL)
        return control_fail(request, "no queue \"%s\" in virtual host \"%s\"", name, vhost->name);
    queue_delete(queue);
    deaths_run(request->broker);
    return 0;
}

/* ---- connections ---- */

static int control_connections(struct control_request *request)
{
    const char *vhost = control_text(request, "vhost", false);
    struct peer *peer;

    if (request->error[0] != '\0')
        return -1;
    request->result = cJSON_CreateArray();
    DL_FOREACH (request->broker->peers, peer) {
        cJSON *item;

        if (vhost != NULL && (peer->vhost == NULL || strcmp(peer->vhost->name, vhost) != 0))
            continue;
        item = cJSON_CreateObject();
        cJSON_AddItemToObject(item, "name", control_string(span_str(peer->name)));
        cJSON_AddItemToObject(item, "connection_name", control_string(span_str(peer->client_name)));
        cJSON_AddStringToObject(item, "state", peer_doing(peer));
        cJSON_AddItemToObject(item, "user", control_string(span_str(peer->user != NULL ? user_name(peer->user) : "")));
        cJSON_AddStringToObject(item, "vhost", peer->vhost != NULL ? peer->vhost->name : "");
        cJSON_AddNumberToObject(item, "channels", peer->channel_count);
        cJSON_AddBoolToObject(item, "blocked", peer->blocked);
        cJSON_AddItemToArray(request->result, item);
    }
    return 0;
}

/* All of a virtual host, or one. */
static int control_close_connections(struct control_request *request)
{
    struct vhost *vhost = control_vhost(request, "vhost");
    const char *reason = vhost != NULL ? control_text(request, "reason", true) : NULL;
    const char *name = control_text(request, "name", false);
    struct reply error = {0};
    struct peer *peer, *next;
    unsigned count = 0;

    if (request->error[0] != '\0' || reply_set(&error, REPLY_CONNECTION_FORCED, 0, "%s", reason) == 0)
        return -1;
    DL_FOREACH_SAFE (request->broker->peers, peer, next) {
        if (peer->vhost != vhost || peer->state != PEER_OPEN || (name != NULL && strcmp(peer->name, name) != 0))
            continue;
        peer_fail(peer, &error);
        count++;
    }
    request->result = cJSON_CreateNumber(count);
    return 0;
}

/* ---- virtual hosts and users ---- */

static int control_add_vhost(struct control_request *request)
{
    const char *name = control_text(request, "name", true);

    if (name == NULL)
        return -1;
    if (name[0] == '\0' || strlen(name) > 255)
        return control_fail(request, "the name of a virtual host has 1 to 255 bytes");
    return broker_add_vhost(request->broker, name) == 0 ? 0 : control_fail(request, "no memory");
}

static int control_delete_vhost(struct control_request *request)
{
    struct vhost *vhost = control_vhost(request, "name");

    if (vhost == NULL)
        return -1;
    if (strcmp(vhost->name, "/") == 0)
        return control_fail(request, "the virtual host / is always there");
    broker_remove_vhost(vhost);
    return 0;
}

static int control_put_user(struct control_request *request)
{
    struct user_options options = {
        .name = control_text(request, "name", true),
        .password = control_text(request, "password", false),
        .tags = control_text(request, "tags", false),
    };

    if (request->error[0] != '\0')
        return -1;
    return accounts_put_user(request->broker, &options, request->error, sizeof(request->error));
}

static int control_permit(struct control_request *request)
{
    const char *user = control_text(request, "user", true), *vhost = control_text(request, "vhost", true);
    const char *configure = control_text(request, "configure", true);
    const char *write = control_text(request, "write", true), *read = control_text(request, "read", true);

    if (request->error[0] != '\0')
        return -1;
    return accounts_permit(request->broker, user, vhost, configure, write, read, request->error,
                           sizeof(request->error));
}

/* ---- the broker ---- */

static int control_set(struct control_request *request)
{
    struct broker_options options = request->broker->options;
    const struct {
        const char *name;
        uint64_t *to;
    } limits[] = {{"memory_limit", &options.memory_limit}, {"disk_free_limit", &options.disk_free_limit}};
    bool any = false;

    for (size_t i = 0; i < HARK_COUNT(limits); i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(request->arguments, limits[i].name);

        if (value == NULL)
            continue;
        if (!cJSON_IsNumber(value) || !(value->valuedouble >= 0 && value->valuedouble <= 9007199254740992.0))
            return control_fail(request, "\"%s\" must be a number of bytes", limits[i].name);
        *limits[i].to = (uint64_t)value->valuedouble;
        any = true;
    }
    if (!any)
        return control_fail(request, "nothing to set: there are \"memory_limit\" and \"disk_free_limit\"");
    broker_set_options(request->broker, &options);
    return 0;
}

static int control_status(struct control_request *request)
{
    struct broker_status status;
    cJSON *result = request->result = cJSON_CreateObject();

    broker_status(request->broker, &status);
    cJSON_AddNumberToObject(result, "connections", status.connections);
    cJSON_AddNumberToObject(result, "channels", status.channels);
    cJSON_AddNumberToObject(result, "queues", status.queues);
    cJSON_AddNumberToObject(result, "consumers", status.consumers);
    cJSON_AddNumberToObject(result, "ready", (double)status.ready);
    cJSON_AddNumberToObject(result, "unacked", (double)status.unacked);
    cJSON_AddNumberToObject(result, "published", (double)status.published);
    cJSON_AddNumberToObject(result, "delivered", (double)status.delivered);
    cJSON_AddNumberToObject(result, "memory", (double)status.memory);
    if (status.alarm != NULL)
        cJSON_AddStringToObject(result, "alarm", status.alarm);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(struct control_request *request);
} control_commands[] = {
    {"queues", control_queues},
    {"delete-queue", control_delete_queue},
    {"connections", control_connections},
    {"close-connections", control_close_connections},
    {"add-vhost", control_add_vhost},
    {"delete-vhost", control_delete_vhost},
    {"put-user", control_put_user},
    {"permit", control_permit},
    {"set", control_set},
    {"status", control_status},
};

static int control_run(struct control_request *request)
{
    const char *command;

    if (!cJSON_IsObject(request->arguments))
        return control_fail(request, "a request is a JSON object");
    command = control_text(request, "command", true);
    if (command == NULL)
        return -1;
    for (size_t i = 0; i < HARK_COUNT(control_commands); i++)
        if (strcmp(command, control_commands[i].name) == 0)
            return control_commands[i].run(request);
    return control_fail(request, "no command \"%s\"", command);
}

void control_answer(struct broker *broker, struct span line, struct buf *out)
{
    struct control_request request = {.broker = broker};
    cJSON *arguments = cJSON_ParseWithLength((const char *)line.data, line.length);
    cJSON *answer = cJSON_CreateObject();
    char *text;
    int result;

    request.arguments = arguments;
    result = control_run(&request);
    cJSON_AddBoolToObject(answer, "ok", result == 0);
    if (result != 0)
        cJSON_AddStringToObject(answer, "error", request.error);
    else
        cJSON_AddItemToObject(answer, "result", request.result != NULL ? request.result : cJSON_CreateTrue());
    text = cJSON_PrintUnformatted(answer);
    if (text != NULL) {
        buf_put(out, text, strlen(text));
        buf_put_u8(out, '\n');
    } else {
        out->failed = true;
    }
    cJSON_free(text);
    cJSON_Delete(answer);
    cJSON_Delete(arguments);
}
