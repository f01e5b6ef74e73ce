/* SPDX-License-Identifier: MIT */
/* log: one line about every event: for a first look, and for the record. */
#include <hark/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct log_settings {
    int level;
    bool body, headers;
    int64_t body_max;
};

static const char *const log_levels[] = {"error", "warning", "notice", "info", "debug", NULL};

static const struct hark_setting log_settings[] = {
    {.name = "level",
     .type = HARK_ENUM,
     .offset = offsetof(struct log_settings, level),
     .fallback = "info",
     .words = log_levels,
     .help = "level of the line"},
    {.name = "body",
     .type = HARK_BOOLEAN,
     .offset = offsetof(struct log_settings, body),
     .fallback = "yes",
     .help = "show the body, escaped"},
    {.name = "body_max",
     .type = HARK_SIZE,
     .offset = offsetof(struct log_settings, body_max),
     .fallback = "256",
     .max = 1024,
     .help = "bytes of the body that are shown at most"},
    {.name = "headers",
     .type = HARK_BOOLEAN,
     .offset = offsetof(struct log_settings, headers),
     .fallback = "yes",
     .help = "show the headers"},
    {0},
};

struct line {
    char text[1900];
    size_t length;
};

static void line_put(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void line_put(struct line *line, const char *format, ...)
{
    size_t room = sizeof(line->text) - line->length;
    va_list args;
    int wanted;

    va_start(args, format);
    wanted = vsnprintf(line->text + line->length, room, format, args);
    va_end(args);
    if (wanted > 0)
        line->length += (size_t)wanted < room ? (size_t)wanted : room - 1;
}

/* Quoted; hark escapes control characters when it writes the line, but quotes are ours. */
static void line_put_str(struct line *line, struct hark_str str, size_t max)
{
    line_put(line, "\"");
    for (size_t i = 0; i < str.length && i < max; i++) {
        unsigned char byte = (unsigned char)str.data[i];

        if (byte == '"' || byte == '\\')
            line_put(line, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f)
            line_put(line, "\\x%02x", byte);
        else
            line_put(line, "%c", byte);
    }
    line_put(line, str.length > max ? "\"..." : "\"");
}

static void line_put_value(struct line *line, const struct hark_value *value)
{
    switch (value->kind) {
    case 't':
        line_put(line, "%s", value->boolean ? "true" : "false");
        return;
    case 'L':
        line_put(line, "%llu", (unsigned long long)value->natural);
        return;
    case 'f':
    case 'd':
        line_put(line, "%g", value->number);
        return;
    case 'S':
    case 'x':
        line_put_str(line, value->str, 128);
        return;
    case 'V':
        line_put(line, "void");
        return;
    case 'F':
        line_put(line, "{table of %zu bytes}", value->str.length);
        return;
    case 'A':
        line_put(line, "[array of %zu bytes]", value->str.length);
        return;
    case 'D':
        line_put(line, "decimal");
        return;
    default:
        line_put(line, "%lld", (long long)value->integer);
    }
}

static enum hark_verdict log_handle(struct hark_instance *instance, struct hark_event *event)
{
    const struct log_settings *settings = hark_settings(instance);
    struct hark_str body = hark_body(event), id = hark_property(event, HARK_MESSAGE_ID);
    struct hark_header header;
    struct line line = {.length = 0};
    size_t cursor = 0;
    bool first = true;

    line_put(&line, "key=");
    line_put_str(&line, hark_routing_key(event), 255);
    line_put(&line, " exchange=");
    line_put_str(&line, hark_exchange(event), 255);
    line_put(&line, " queue=");
    line_put_str(&line, hark_queue(event), 255);
    if (id.length > 0) {
        line_put(&line, " id=");
        line_put_str(&line, id, 64);
    }
    if (hark_attempt(event) > 1)
        line_put(&line, " attempt=%u", hark_attempt(event));
    if (hark_redelivered(event))
        line_put(&line, " redelivered=true");
    line_put(&line, " size=%zu", body.length);
    if (settings->body) {
        line_put(&line, " body=");
        line_put_str(&line, body, (size_t)settings->body_max);
    }
    while (settings->headers && hark_next_header(event, &cursor, &header)) {
        line_put(&line, first ? " headers={" : ", ");
        first = false;
        line_put_str(&line, header.name, 64);
        line_put(&line, "=");
        line_put_value(&line, &header.value);
    }
    if (!first)
        line_put(&line, "}");
    hark_log(instance, (enum hark_level)settings->level, "%s", line.text);
    return HARK_DONE;
}

const struct hark_module hark_module_log = {
    .api = HARK_API,
    .name = "log",
    .help = "writes a line about every event",
    .settings = log_settings,
    .settings_size = sizeof(struct log_settings),
    .handle = log_handle,
};
