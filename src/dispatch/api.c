/* SPDX-License-Identifier: MIT */
/* The read-only half of <hark/listener.h>: what an instance and an event can be asked. */
#include "dispatch/parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Touching a settled event is a bug in a module. Its memory lives on until the broker has confirmed what followed, so a
 * sanitizer may not see it; a debug build does. */
static const struct hark_event *api_live(const struct hark_event *event)
{
#ifdef HARK_CHECKED
    if (event->state > EVENT_LATER) {
        log_error("listener \"%.*s\" touched an event after it had settled it: this is a bug in its module \"%s\"",
                  (int)event->instance->name.length, (const char *)event->instance->name.data,
                  event->instance->listener.module->name);
        log_flush(1000);
        abort();
    }
#endif
    return event;
}

struct hark_str hark_str(const char *text)
{
    return (struct hark_str){.data = text, .length = text != NULL ? strlen(text) : 0};
}

const char *hark_name(const struct hark_instance *instance)
{
    return instance->listener.name;
}

const void *hark_settings(const struct hark_instance *instance)
{
    return instance->listener.settings;
}

void hark_set_data(struct hark_instance *instance, void *data)
{
    instance->data = data;
}

void *hark_data(const struct hark_instance *instance)
{
    return instance->data;
}

struct event_base *hark_loop(const struct hark_instance *instance)
{
    instance->dispatcher->own_events = true;
    return instance->dispatcher->options.base;
}

bool hark_emits(const struct hark_instance *instance)
{
    return instance->listener.emit_exchange != NULL;
}

void hark_log(const struct hark_instance *instance, enum hark_level level, const char *format, ...)
{
    struct log_field fields[] = {{"listener", instance->name}, {0}};
    char text[2048];
    va_list args;

    if ((enum log_level)level > log_threshold)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_write((enum log_level)level, fields, "listener[%s]: %s", instance->listener.name, text);
}

struct hark_instance *hark_instance(const struct hark_event *event)
{
    return api_live(event)->instance;
}

struct hark_str hark_body(const struct hark_event *event)
{
    return hark_span(api_live(event)->delivery->message->body);
}

struct hark_str hark_exchange(const struct hark_event *event)
{
    return hark_span(api_live(event)->delivery->message->exchange);
}

struct hark_str hark_routing_key(const struct hark_event *event)
{
    return hark_span(api_live(event)->delivery->message->routing_key);
}

struct hark_str hark_queue(const struct hark_event *event)
{
    return hark_span(api_live(event)->delivery->queue->name);
}

unsigned hark_attempt(const struct hark_event *event)
{
    return api_live(event)->delivery->attempt;
}

bool hark_redelivered(const struct hark_event *event)
{
    return api_live(event)->delivery->redelivered;
}

void hark_set_event_data(struct hark_event *event, void *data)
{
    event->data = data;
}

void *hark_event_data(const struct hark_event *event)
{
    return api_live(event)->data;
}

static const struct message_brief *api_properties(const struct hark_event *event)
{
    return &api_live(event)->delivery->message->properties;
}

static struct properties api_all_properties(const struct hark_event *event)
{
    struct properties properties;

    message_properties(api_live(event)->delivery->message, &properties);
    return properties;
}

static const uint16_t api_flags[HARK_PROPERTIES] = {
    [HARK_CONTENT_TYPE] = PROPERTY_CONTENT_TYPE,
    [HARK_CONTENT_ENCODING] = PROPERTY_CONTENT_ENCODING,
    [HARK_CORRELATION_ID] = PROPERTY_CORRELATION_ID,
    [HARK_REPLY_TO] = PROPERTY_REPLY_TO,
    [HARK_EXPIRATION] = PROPERTY_EXPIRATION,
    [HARK_MESSAGE_ID] = PROPERTY_MESSAGE_ID,
    [HARK_TYPE] = PROPERTY_TYPE,
    [HARK_USER_ID] = PROPERTY_USER_ID,
    [HARK_APP_ID] = PROPERTY_APP_ID,
};

bool hark_has(const struct hark_event *event, enum hark_property property)
{
    return (api_properties(event)->flags & api_flags[property]) != 0;
}

struct hark_str hark_property(const struct hark_event *event, enum hark_property property)
{
    const struct properties properties = api_all_properties(event);
    const struct span *const spans[HARK_PROPERTIES] = {
        [HARK_CONTENT_TYPE] = &properties.content_type,
        [HARK_CONTENT_ENCODING] = &properties.content_encoding,
        [HARK_CORRELATION_ID] = &properties.correlation_id,
        [HARK_REPLY_TO] = &properties.reply_to,
        [HARK_EXPIRATION] = &properties.expiration,
        [HARK_MESSAGE_ID] = &properties.message_id,
        [HARK_TYPE] = &properties.type,
        [HARK_USER_ID] = &properties.user_id,
        [HARK_APP_ID] = &properties.app_id,
    };

    return hark_span(*spans[property]);
}

int hark_delivery_mode(const struct hark_event *event)
{
    const struct message_brief *properties = api_properties(event);

    return (properties->flags & PROPERTY_DELIVERY_MODE) != 0 ? properties->delivery_mode : 0;
}

int hark_priority(const struct hark_event *event)
{
    const struct message_brief *properties = api_properties(event);

    return (properties->flags & PROPERTY_PRIORITY) != 0 ? properties->priority : -1;
}

int64_t hark_timestamp(const struct hark_event *event)
{
    const struct properties properties = api_all_properties(event);

    return (properties.flags & PROPERTY_TIMESTAMP) != 0 ? (int64_t)properties.timestamp : -1;
}

int hark_header(const struct hark_event *event, const char *name, struct hark_value *value)
{
    struct table_entry entry;

    if (!table_find(api_properties(event)->headers, span_str(name), &entry))
        return 0;
    return value_get(&entry, value) ? 1 : 0;
}

int hark_next_header(const struct hark_event *event, size_t *cursor, struct hark_header *header)
{
    struct span headers = api_properties(event)->headers;
    struct table_entry entry;

    while (table_next(headers, cursor, &entry)) {
        if (value_get(&entry, &header->value)) {
            header->name = hark_span(entry.name);
            return 1;
        }
    }
    return 0;
}
