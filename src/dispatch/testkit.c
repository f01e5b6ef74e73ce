/* SPDX-License-Identifier: MIT */
/* <hark/test.h>: a module in the real dispatcher, with an array in the place of the broker. */
#include <hark/test.h>

#include "base/settings.h"
#include "dispatch/parts.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define KIT_QUEUE "queue"
#define KIT_DEAD "hark.dead"
#define KIT_HEADERS_MAX 256

/* The keys of a listener section that are not the module's. */
struct kit_common {
    char *emit;
    struct hark_durations retry;
    int64_t timeout, concurrency;
};

static const struct hark_setting kit_common_table[] = {
    {.name = "emit", .type = HARK_STRING, .offset = offsetof(struct kit_common, emit), .fallback = "out"},
    {.name = "retry", .type = HARK_DURATIONS, .offset = offsetof(struct kit_common, retry), .fallback = "1s 5s 30s"},
    {.name = "timeout", .type = HARK_DURATION, .offset = offsetof(struct kit_common, timeout), .fallback = "60s"},
    {.name = "concurrency", .type = HARK_INTEGER, .offset = offsetof(struct kit_common, concurrency), .fallback = "16"},
    {0},
};

struct kit_message {
    struct hark_test_message shown;
    struct outgoing *outgoing;
    struct hark_header headers[KIT_HEADERS_MAX];
    struct properties properties;
    char *texts[3 + HARK_PROPERTIES]; /* what `shown` points to */
    size_t text_count;
};

struct kit_event {
    enum hark_verdict verdict;
    char *reason;
};

struct hark_test {
    struct event_base *base;
    struct dispatcher *dispatcher;
    struct dispatch_queue *queue;
    const struct hark_module *module;
    struct kit_common common;
    void *settings;
    struct hark_list emit;
    struct kit_event *events;
    size_t event_count;
    struct kit_message **messages;
    size_t message_count;
    size_t open; /* events without an end */
    bool refuse;
    char *log;
    size_t log_length;
};

/* ---- small things ---- */

static void kit_die(const char *why)
{
    fprintf(stderr, "hark test kit: %s\n", why);
    abort();
}

static void *kit_grow(void *array, size_t count, size_t size)
{
    void *grown = realloc(array, count * size);

    if (grown == NULL)
        kit_die("out of memory");
    return grown;
}

static void kit_line(void *arg, enum log_level level, const char *text)
{
    static const char *const names[] = {"error", "warning", "notice", "info", "debug"};
    struct hark_test *t = arg;
    size_t length = strlen(names[level]) + strlen(text) + 3;

    t->log = kit_grow(t->log, t->log_length + length + 1, 1);
    t->log_length += (size_t)snprintf(t->log + t->log_length, length + 1, "%s: %s\n", names[level], text);
}

/* ---- the ports ---- */

static void kit_ack(void *arg, const struct dispatch_ticket *ticket)
{
    struct hark_test *t = arg;

    t->open--;
    if (t->events[ticket->tag].verdict == HARK_LATER)
        t->events[ticket->tag].verdict = HARK_DONE;
}

static void kit_end(struct hark_test *t, const struct hark_event *event, enum hark_verdict verdict, const char *reason)
{
    struct kit_event *end = &t->events[event->delivery->ticket.tag];

    end->verdict = verdict;
    free(end->reason);
    end->reason = strdup(reason != NULL ? reason : "");
}

/* A copy with a 0 byte behind it, as the header promises: on the wire there is none. */
static struct hark_str kit_text(struct kit_message *message, struct span span)
{
    char *text = malloc(span.length + 1);

    if (text == NULL)
        kit_die("out of memory");
    if (span.length > 0)
        memcpy(text, span.data, span.length);
    text[span.length] = '\0';
    message->texts[message->text_count++] = text;
    return (struct hark_str){.data = text, .length = span.length};
}

static void kit_record(struct hark_test *t, struct outgoing *outgoing)
{
    struct kit_message *message = calloc(1, sizeof(*message));
    struct properties *properties;
    struct table_entry entry;
    struct reply error;
    size_t cursor = 0;

    if (message == NULL)
        kit_die("out of memory");
    message->outgoing = outgoing_new(outgoing->exchange, outgoing->routing_key, outgoing->raw_properties,
                                     outgoing->body, outgoing->body_owner);
    if (message->outgoing == NULL ||
        properties_parse(message->outgoing->raw_properties, &message->properties, &error) != 0)
        kit_die("what was emitted has no sound properties");
    properties = &message->properties;
    message->shown = (struct hark_test_message){
        .exchange = kit_text(message, message->outgoing->exchange),
        .routing_key = kit_text(message, message->outgoing->routing_key),
        .body = kit_text(message, message->outgoing->body),
        .properties = {[HARK_CONTENT_TYPE] = kit_text(message, properties->content_type),
                       [HARK_CONTENT_ENCODING] = kit_text(message, properties->content_encoding),
                       [HARK_CORRELATION_ID] = kit_text(message, properties->correlation_id),
                       [HARK_REPLY_TO] = kit_text(message, properties->reply_to),
                       [HARK_EXPIRATION] = kit_text(message, properties->expiration),
                       [HARK_MESSAGE_ID] = kit_text(message, properties->message_id),
                       [HARK_TYPE] = kit_text(message, properties->type),
                       [HARK_USER_ID] = kit_text(message, properties->user_id),
                       [HARK_APP_ID] = kit_text(message, properties->app_id)},
        .delivery_mode = properties->delivery_mode,
        .priority = (properties->flags & PROPERTY_PRIORITY) != 0 ? properties->priority : -1,
        .timestamp = (properties->flags & PROPERTY_TIMESTAMP) != 0 ? (int64_t)properties->timestamp : -1,
        .headers = message->headers,
    };
    while (message->shown.header_count < KIT_HEADERS_MAX && table_next(properties->headers, &cursor, &entry)) {
        struct hark_header *header = &message->headers[message->shown.header_count];

        header->name = hark_span(entry.name);
        if (value_get(&entry, &header->value))
            message->shown.header_count++;
    }
    t->messages = kit_grow(t->messages, t->message_count + 1, sizeof(struct kit_message *));
    t->messages[t->message_count++] = message;
}

static bool kit_starts(struct span span, const char *text)
{
    return span.length >= strlen(text) && memcmp(span.data, text, strlen(text)) == 0;
}

static void kit_publish(void *arg, struct outgoing *outgoing)
{
    struct hark_test *t = arg;

    if (kit_starts(outgoing->exchange, "hark.retry."))
        kit_end(t, outgoing->owner, HARK_RETRY, ((struct hark_event *)outgoing->owner)->why);
    else if (span_is(outgoing->exchange, KIT_DEAD))
        kit_end(t, outgoing->owner, HARK_REJECT, ((struct hark_event *)outgoing->owner)->why);
    else if (t->refuse) {
        outgoing->done(outgoing, OUTCOME_RETURNED, "NO_ROUTE");
        return;
    } else {
        kit_record(t, outgoing);
    }
    outgoing->done(outgoing, OUTCOME_CONFIRMED, "");
}

static void kit_redeclare(void *arg)
{
    (void)arg;
}

/* ---- opening ---- */

/* One line of the section into whichever table knows its key. */
static int kit_set(struct settings *settings, char *line, int number, char *error, size_t size)
{
    char *equals = strchr(line, '='), *key = line, *value, *end;
    bool quoted = false;

    while (*key == ' ' || *key == '\t')
        key++;
    if (*key == '\0' || *key == ';' || *key == '#')
        return 0;
    if (equals == NULL) {
        snprintf(error, size, "\"%s\": expected key = value", line);
        return -1;
    }
    for (end = equals; end > key && (end[-1] == ' ' || end[-1] == '\t'); end--)
        ;
    *end = '\0';
    for (value = equals + 1; *value == ' ' || *value == '\t'; value++)
        ;
    for (end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t'); end--)
        ;
    *end = '\0';
    if (end - value >= 2 && *value == '"' && end[-1] == '"' &&
        memchr(value + 1, '"', (size_t)(end - value - 2)) == NULL) {
        quoted = true;
        end[-1] = '\0';
        value++;
    }
    for (size_t i = 0; i < 2; i++)
        if (settings[i].table != NULL && settings_find(settings[i].table, key) != NULL)
            return settings_set(&settings[i], key, value, quoted, number, error, size);
    snprintf(error, size, "unknown key \"%s\"", key);
    return -1;
}

static int kit_read(struct hark_test *t, const char *section, char *error, size_t size)
{
    struct settings settings[2] = {{.table = NULL}, {.table = NULL}};
    char *text = strdup(section), *rest = text, *line;
    int number = 0, result = 0;

    if (text == NULL)
        kit_die("out of memory");
    settings_init(&settings[0], kit_common_table, &t->common);
    if (t->module->settings != NULL)
        settings_init(&settings[1], t->module->settings, t->settings);
    while (result == 0 && (line = strsep(&rest, "\n")) != NULL)
        result = kit_set(settings, line, ++number, error, size);
    free(text);
    for (size_t i = 0; i < 2 && result == 0; i++)
        if (settings[i].table != NULL)
            result = settings_finish(&settings[i], error, size);
    if (result == 0 && t->module->check != NULL)
        result = t->module->check(t->settings, error, size);
    if (result == 0)
        result = settings_parse_words(t->common.emit, &t->emit, error, size);
    return result;
}

static int kit_listen(struct hark_test *t)
{
    static const char *const queues[] = {KIT_QUEUE}, *const patterns[] = {"#"};
    struct dispatch_listener listener = {
        .name = "test",
        .module = t->module,
        .settings = t->settings,
        .queues = queues,
        .queue_count = 1,
        .patterns = patterns,
        .pattern_count = 1,
        .emit_exchange = t->emit.count > 0 ? t->emit.items[0] : NULL,
        .emit_key = t->emit.count > 1 ? t->emit.items[1] : NULL,
        .retry = t->common.retry.ms,
        .retry_count = t->common.retry.count,
        .timeout = t->common.timeout,
        .concurrency = (unsigned)t->common.concurrency,
    };

    return dispatcher_add_listener(t->dispatcher, &listener);
}

static void kit_postpone(void *arg, const struct dispatch_ticket *ticket)
{
    (void)arg;
    (void)ticket;
    kit_die("out of memory");
}

struct hark_test *hark_test_open(const struct hark_module *module, const char *section)
{
    struct hark_test *t = calloc(1, sizeof(*t));
    struct dispatch_ports ports = {
        .arg = t, .ack = kit_ack, .postpone = kit_postpone, .publish = kit_publish, .redeclare = kit_redeclare};
    struct dispatch_options options = {.dead_letter = KIT_DEAD,
                                       .dead_letter_queue = KIT_DEAD,
                                       .frame_max = 131072,
                                       .max_hops = 32,
                                       .crash_limit = 3,
                                       .persistent = true};
    char error[512] = "";

    if (t == NULL)
        kit_die("out of memory");
    log_divert(kit_line, t);
    signal(SIGPIPE, SIG_IGN); /* as harkd does: a program need not read its input */
    t->module = module;
    t->settings = calloc(1, module->settings_size + 1);
    t->base = event_base_new();
    if (t->settings == NULL || t->base == NULL)
        kit_die("out of memory");
    options.base = t->base;
    t->dispatcher = dispatcher_new(&options, &ports);
    if (t->dispatcher == NULL)
        kit_die("out of memory");
    t->queue = dispatcher_add_queue(t->dispatcher, KIT_QUEUE, 0);
    if (t->queue != NULL && kit_read(t, section, error, sizeof(error)) == 0 && kit_listen(t) == 0)
        return t;
    if (error[0] != '\0')
        fprintf(stderr, "hark test kit: %s\n", error);
    hark_test_close(t);
    return NULL;
}

void hark_test_close(struct hark_test *t)
{
    dispatcher_free(t->dispatcher);
    event_base_free(t->base);
    settings_free(kit_common_table, &t->common);
    if (t->module->settings != NULL)
        settings_free(t->module->settings, t->settings);
    free(t->settings);
    for (size_t i = 0; i < t->emit.count; i++)
        free(t->emit.items[i]);
    free(t->emit.items);
    for (size_t i = 0; i < t->event_count; i++)
        free(t->events[i].reason);
    free(t->events);
    for (size_t i = 0; i < t->message_count; i++) {
        outgoing_free(t->messages[i]->outgoing);
        for (size_t j = 0; j < t->messages[i]->text_count; j++)
            free(t->messages[i]->texts[j]);
        free(t->messages[i]);
    }
    free(t->messages);
    free(t->log);
    log_divert(NULL, NULL);
    free(t);
}

/* ---- events ---- */

static struct message *kit_message(const struct hark_test_event *event)
{
    static const uint16_t flags[HARK_PROPERTIES] = {
        PROPERTY_CONTENT_TYPE, PROPERTY_CONTENT_ENCODING, PROPERTY_CORRELATION_ID,
        PROPERTY_REPLY_TO,     PROPERTY_EXPIRATION,       PROPERTY_MESSAGE_ID,
        PROPERTY_TYPE,         PROPERTY_USER_ID,          PROPERTY_APP_ID};
    struct properties properties = {0};
    struct span *const spans[HARK_PROPERTIES] = {
        &properties.content_type, &properties.content_encoding, &properties.correlation_id,
        &properties.reply_to,     &properties.expiration,       &properties.message_id,
        &properties.type,         &properties.user_id,          &properties.app_id};
    struct buf headers = {0}, raw = {0};
    struct message *message;
    struct reply error;

    for (size_t i = 0; i < HARK_PROPERTIES; i++) {
        if (event->properties[i] == NULL)
            continue;
        *spans[i] = span_str(event->properties[i]);
        properties.flags |= flags[i];
    }
    for (size_t i = 0; i < event->header_count; i++)
        value_put(&headers, span_hark(event->headers[i].name), &event->headers[i].value);
    if (event->header_count > 0) {
        properties.headers = buf_span(&headers);
        properties.flags |= PROPERTY_HEADERS;
    }
    properties_put(&raw, &properties);
    if (headers.failed || raw.failed)
        kit_die("an event with a name over 255 bytes, or a header of no known kind");
    message = message_new(span_str(event->exchange != NULL ? event->exchange : ""),
                          span_str(event->routing_key != NULL ? event->routing_key : ""), buf_span(&raw),
                          event->body.length, &error);
    if (message == NULL)
        kit_die("out of memory");
    if (event->body.length > 0)
        memcpy(message_body_bytes(message), event->body.data, event->body.length);
    buf_free(&headers);
    buf_free(&raw);
    return message;
}

enum hark_verdict hark_test_feed(struct hark_test *t, const struct hark_test_event *event)
{
    struct dispatch_ticket ticket = {.tag = t->event_count};

    t->events = kit_grow(t->events, t->event_count + 1, sizeof(*t->events));
    t->events[t->event_count++] = (struct kit_event){.verdict = HARK_LATER};
    t->open++;
    dispatcher_deliver_attempt(t->queue, &ticket, event->redelivered, kit_message(event),
                               event->attempt > 0 ? event->attempt : 1);
    return t->events[ticket.tag].verdict;
}

static void kit_out_of_time(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    *(bool *)arg = true;
}

int hark_test_settle(struct hark_test *t, int64_t ms)
{
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    bool over = false;
    struct event *timer = evtimer_new(t->base, kit_out_of_time, &over);

    if (timer == NULL)
        kit_die("out of memory");
    evtimer_add(timer, &wait);
    while (!over && t->open > 0)
        event_base_loop(t->base, EVLOOP_ONCE);
    event_free(timer);
    return t->open == 0 ? 0 : -1;
}

void hark_test_advance(struct hark_test *t, int64_t ms)
{
    dispatcher_advance(t->dispatcher, ms);
}

enum hark_verdict hark_test_verdict(const struct hark_test *t, size_t n)
{
    if (n >= t->event_count)
        kit_die("hark_test_verdict: there was no such event");
    return t->events[n].verdict;
}

const char *hark_test_reason(const struct hark_test *t, size_t n)
{
    if (n >= t->event_count)
        kit_die("hark_test_reason: there was no such event");
    return t->events[n].reason != NULL ? t->events[n].reason : "";
}

size_t hark_test_emitted(const struct hark_test *t)
{
    return t->message_count;
}

const struct hark_test_message *hark_test_message(const struct hark_test *t, size_t n)
{
    if (n >= t->message_count)
        kit_die("hark_test_message: there was no such message");
    return &t->messages[n]->shown;
}

const struct hark_value *hark_test_header(const struct hark_test_message *message, const char *name)
{
    for (size_t i = 0; i < message->header_count; i++)
        if (span_is(span_hark(message->headers[i].name), name))
            return &message->headers[i].value;
    return NULL;
}

void hark_test_refuse(struct hark_test *t, bool refuse)
{
    t->refuse = refuse;
}

const char *hark_test_log(const struct hark_test *t)
{
    return t->log != NULL ? t->log : "";
}
