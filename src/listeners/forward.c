/* SPDX-License-Identifier: MIT */
/*
 * forward: emits the event again, with another exchange, key or headers. What is not set stays as it came: key, headers,
 * properties, body.
 *
 * Values may hold placeholders: {exchange}, {routing_key}, {queue}, {message_id}, {correlation_id}, {type}, {app_id},
 * {attempt}, {header.NAME}, and {1}, {2} ... for the words of the routing key; {{ is a brace.
 */
#include <hark/listener.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORWARD_VALUE_MAX 8192

struct forward_settings {
    char *exchange, *routing_key;
    struct hark_map headers;
    struct hark_list without;
};

static const struct hark_setting forward_settings[] = {
    {.name = "exchange",
     .type = HARK_STRING,
     .offset = offsetof(struct forward_settings, exchange),
     .help = "exchange to publish to, with placeholders; unset: that of `emit`"},
    {.name = "routing_key",
     .type = HARK_STRING,
     .offset = offsetof(struct forward_settings, routing_key),
     .help = "routing key, with placeholders; unset: that of `emit`, or the event's"},
    {.name = "header.",
     .type = HARK_MAP,
     .offset = offsetof(struct forward_settings, headers),
     .help = "a header to add or replace, with placeholders in its value"},
    {.name = "without",
     .type = HARK_LIST,
     .offset = offsetof(struct forward_settings, without),
     .help = "names of headers to leave out"},
    {0},
};

struct forward {
    struct hark_header *headers;
    const char **without;
    char (*values)[FORWARD_VALUE_MAX]; /* exchange, routing key, then the headers' */
};

/* ---- placeholders ---- */

static struct hark_str word_of(struct hark_str key, long number)
{
    size_t start = 0;

    for (size_t i = 0; i <= key.length; i++) {
        if (i < key.length && key.data[i] != '.')
            continue;
        if (--number == 0)
            return (struct hark_str){.data = key.data + start, .length = i - start};
        start = i + 1;
    }
    return hark_str("");
}

static struct hark_str header_text(const struct hark_event *event, const char *name, char *room, size_t size)
{
    struct hark_value value;

    if (!hark_header(event, name, &value))
        return hark_str("");
    switch (value.kind) {
    case 'S':
    case 'x':
        return value.str;
    case 't':
        return hark_str(value.boolean ? "true" : "false");
    case 'f':
    case 'd':
        snprintf(room, size, "%.17g", value.number);
        return hark_str(room);
    case 'L':
        snprintf(room, size, "%llu", (unsigned long long)value.natural);
        return hark_str(room);
    case 'F':
    case 'A':
    case 'D':
    case 'V':
        return hark_str("");
    default:
        snprintf(room, size, "%lld", (long long)value.integer);
        return hark_str(room);
    }
}

/* What stands for a placeholder; false: there is no such one. event NULL: only asks that. */
static bool placeholder(const struct hark_event *event, const char *name, struct hark_str *text, char *room,
                        size_t size)
{
    static const struct {
        const char *name;
        enum hark_property property;
    } properties[] = {
        {"message_id", HARK_MESSAGE_ID},
        {"correlation_id", HARK_CORRELATION_ID},
        {"type", HARK_TYPE},
        {"app_id", HARK_APP_ID},
    };
    char *end;
    long number = strtol(name, &end, 10);

    *text = hark_str("");
    for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++) {
        if (strcmp(name, properties[i].name) != 0)
            continue;
        if (event != NULL)
            *text = hark_property(event, properties[i].property);
        return true;
    }
    if (name[0] >= '1' && name[0] <= '9' && *end == '\0') {
        if (event != NULL)
            *text = word_of(hark_routing_key(event), number);
    } else if (strcmp(name, "exchange") == 0) {
        if (event != NULL)
            *text = hark_exchange(event);
    } else if (strcmp(name, "routing_key") == 0) {
        if (event != NULL)
            *text = hark_routing_key(event);
    } else if (strcmp(name, "queue") == 0) {
        if (event != NULL)
            *text = hark_queue(event);
    } else if (strcmp(name, "attempt") == 0) {
        if (event != NULL) {
            snprintf(room, size, "%u", hark_attempt(event));
            *text = hark_str(room);
        }
    } else if (strncmp(name, "header.", 7) == 0 && name[7] != '\0') {
        if (event != NULL)
            *text = header_text(event, name + 7, room, size);
    } else {
        return false;
    }
    return true;
}

/* The value with its placeholders filled in. -1: with event NULL, `to` says what is wrong; otherwise it does not fit. */
static int fill(const struct hark_event *event, const char *value, char *to, size_t size, size_t *length)
{
    char name[300], room[64];
    struct hark_str text;

    *length = 0;
    for (const char *at = value; *at != '\0'; at++) {
        if (*at == '{' && at[1] == '{') {
            text = hark_str("{");
            at++;
        } else if (*at == '{') {
            const char *end = strchr(at, '}');

            if (end == NULL || (size_t)(end - at) >= sizeof(name)) {
                snprintf(to, size, "%s: a { without its }; {{ is a brace", value);
                return -1;
            }
            memcpy(name, at + 1, (size_t)(end - at - 1));
            name[end - at - 1] = '\0';
            if (!placeholder(event, name, &text, room, sizeof(room))) {
                snprintf(to, size, "%s: there is no placeholder {%s}; {{ is a brace", value, name);
                return -1;
            }
            at = end;
        } else {
            text = (struct hark_str){.data = at, .length = 1};
        }
        if (event == NULL)
            continue;
        if (text.length > size - *length)
            return -1;
        memcpy(to + *length, text.data, text.length);
        *length += text.length;
    }
    return 0;
}

static bool sound(const char *prefix, const char *key, const char *value, char *why, size_t size)
{
    char wrong[512];
    size_t length;

    if (value == NULL || fill(NULL, value, wrong, sizeof(wrong), &length) == 0)
        return true;
    snprintf(why, size, "%s%s = %s", prefix, key, wrong);
    return false;
}

static int forward_check(const void *given, char *why, size_t size)
{
    const struct forward_settings *settings = given;

    if (!sound("", "exchange", settings->exchange, why, size) ||
        !sound("", "routing_key", settings->routing_key, why, size))
        return -1;
    for (size_t i = 0; i < settings->headers.count; i++)
        if (!sound("header.", settings->headers.pairs[i].name, settings->headers.pairs[i].value, why, size))
            return -1;
    return 0;
}

/* ---- the module ---- */

static void forward_close(struct hark_instance *instance)
{
    struct forward *forward = hark_data(instance);

    if (forward == NULL)
        return;
    free(forward->headers);
    free(forward->without);
    free(forward->values);
    free(forward);
}

static int forward_open(struct hark_instance *instance)
{
    const struct forward_settings *settings = hark_settings(instance);
    struct forward *forward = calloc(1, sizeof(*forward));

    hark_set_data(instance, forward);
    if (forward == NULL)
        goto fail;
    forward->headers = calloc(settings->headers.count + 1, sizeof(*forward->headers));
    forward->without = calloc(settings->without.count + 1, sizeof(*forward->without));
    if (forward->headers == NULL || forward->without == NULL)
        goto fail;
    if (settings->exchange != NULL || settings->routing_key != NULL || settings->headers.count > 0) {
        forward->values = calloc(settings->headers.count + 2, sizeof(*forward->values));
        if (forward->values == NULL)
            goto fail;
    }
    for (size_t i = 0; i < settings->without.count; i++)
        forward->without[i] = settings->without.items[i];
    for (size_t i = 0; i < settings->headers.count; i++) {
        forward->headers[i].name = hark_str(settings->headers.pairs[i].name);
        forward->headers[i].value.kind = 'S';
    }
    return 0;

fail:
    hark_log(instance, HARK_ERROR, "out of memory");
    forward_close(instance);
    hark_set_data(instance, NULL);
    return -1;
}

static enum hark_verdict forward_handle(struct hark_instance *instance, struct hark_event *event)
{
    const struct forward_settings *settings = hark_settings(instance);
    struct forward *forward = hark_data(instance);
    struct hark_message message = {.like = event};
    size_t length;

    if (settings->exchange != NULL) {
        if (fill(event, settings->exchange, forward->values[0], FORWARD_VALUE_MAX, &length) != 0)
            return hark_because(event, HARK_REJECT, "exchange = %s does not fit", settings->exchange);
        message.exchange = (struct hark_str){.data = forward->values[0], .length = length};
    }
    if (settings->routing_key != NULL) {
        if (fill(event, settings->routing_key, forward->values[1], FORWARD_VALUE_MAX, &length) != 0)
            return hark_because(event, HARK_REJECT, "routing_key = %s does not fit", settings->routing_key);
        message.routing_key = (struct hark_str){.data = forward->values[1], .length = length};
    }
    for (size_t i = 0; i < settings->headers.count; i++) {
        char *to = forward->values[i + 2];

        if (fill(event, settings->headers.pairs[i].value, to, FORWARD_VALUE_MAX, &length) != 0)
            return hark_because(event, HARK_REJECT, "header.%s does not fit", settings->headers.pairs[i].name);
        forward->headers[i].value.str = (struct hark_str){.data = to, .length = length};
    }
    message.headers = forward->headers;
    message.header_count = settings->headers.count;
    if (settings->without.count > 0)
        message.without = forward->without;
    if (hark_emit(event, &message) != 0)
        return hark_because(event, errno == ENOMEM ? HARK_RETRY : HARK_REJECT, "it cannot be forwarded, see the log");
    return HARK_DONE;
}

const struct hark_module hark_module_forward = {
    .api = HARK_API,
    .name = "forward",
    .help = "emits the event again, with another exchange, key or headers",
    .settings = forward_settings,
    .settings_size = sizeof(struct forward_settings),
    .check = forward_check,
    .open = forward_open,
    .close = forward_close,
    .handle = forward_handle,
};
