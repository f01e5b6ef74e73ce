/* SPDX-License-Identifier: MIT */
#include "wire/properties.h"

#include "wire/table.h"

#define PROPERTIES_KNOWN 0xfffc /* bit 1 means nothing; bit 0 announces a second flag word, which basic has not */

/* Reads a short string and returns what follows it, NULL if it does not fit. */
static inline const uint8_t *properties_string(const uint8_t *at, const uint8_t *end, struct span *value)
{
    size_t length;

    if (at == end)
        return NULL;
    length = *at++;
    if ((size_t)(end - at) < length)
        return NULL;
    *value = span_of(at, length);
    return at + length;
}

static const uint8_t *properties_headers(const uint8_t *at, const uint8_t *end, struct span *value)
{
    size_t length;

    if (end - at < 4)
        return NULL;
    length = get_u32(at);
    at += 4;
    if ((size_t)(end - at) < length)
        return NULL;
    *value = span_of(at, length);
    return at + length;
}

/* `sound`: the headers have been looked at before. */
static inline __attribute__((always_inline)) int properties_read(struct span bytes, struct properties *properties,
                                                                 bool sound, struct reply *error)
{
    const uint8_t *at = bytes.data, *end;
    const char *name;
    unsigned flags;

    if (bytes.length < 2)
        return reply_set(error, REPLY_SYNTAX_ERROR, 0, "a content header without property flags");
    end = at + bytes.length;
    flags = get_u16(at);
    at += 2;
    if (HARK_UNLIKELY((flags & ~PROPERTIES_KNOWN) != 0))
        return reply_set(error, REPLY_SYNTAX_ERROR, 0, "unknown property flags 0x%04x", flags);
    properties->flags = (uint16_t)flags;
    properties->delivery_mode = properties->priority = 0;
    properties->timestamp = 0;
    properties->headers = (struct span){0};

    /* Each field for itself: clearing the whole struct first costs more than everything else here.
     */
#define STRING(flag, field, text) \
    if (flags & (flag)) { \
        name = text; \
        at = properties_string(at, end, &properties->field); \
        if (HARK_UNLIKELY(at == NULL)) \
            goto cut; \
    } else { \
        properties->field = (struct span){0}; \
    }
    STRING(PROPERTY_CONTENT_TYPE, content_type, "content-type")
    STRING(PROPERTY_CONTENT_ENCODING, content_encoding, "content-encoding")
    if (flags & PROPERTY_HEADERS) {
        name = "headers";
        at = properties_headers(at, end, &properties->headers);
        if (HARK_UNLIKELY(at == NULL))
            goto cut;
        if (!sound && HARK_UNLIKELY(table_check(properties->headers, PROPERTIES_TABLE_DEPTH) != 0))
            return reply_set(error, REPLY_SYNTAX_ERROR, 0, "a headers table that is malformed or nested too deep");
    }
    if (flags & PROPERTY_DELIVERY_MODE) {
        name = "delivery-mode";
        if (HARK_UNLIKELY(at == end))
            goto cut;
        properties->delivery_mode = *at++;
    }
    if (flags & PROPERTY_PRIORITY) {
        name = "priority";
        if (HARK_UNLIKELY(at == end))
            goto cut;
        properties->priority = *at++;
    }
    STRING(PROPERTY_CORRELATION_ID, correlation_id, "correlation-id")
    STRING(PROPERTY_REPLY_TO, reply_to, "reply-to")
    STRING(PROPERTY_EXPIRATION, expiration, "expiration")
    STRING(PROPERTY_MESSAGE_ID, message_id, "message-id")
    if (flags & PROPERTY_TIMESTAMP) {
        name = "timestamp";
        if (HARK_UNLIKELY(end - at < 8))
            goto cut;
        properties->timestamp = get_u64(at);
        at += 8;
    }
    STRING(PROPERTY_TYPE, type, "type")
    STRING(PROPERTY_USER_ID, user_id, "user-id")
    STRING(PROPERTY_APP_ID, app_id, "app-id")
    STRING(PROPERTY_CLUSTER_ID, cluster_id, "cluster-id")
#undef STRING

    if (HARK_UNLIKELY(at != end))
        return reply_set(error, REPLY_SYNTAX_ERROR, 0, "%zu bytes behind the last property", (size_t)(end - at));
    return 0;

cut:
    return reply_set(error, REPLY_SYNTAX_ERROR, 0, "the property %s is cut short", name);
}

int properties_parse(struct span bytes, struct properties *properties, struct reply *error)
{
    return properties_read(bytes, properties, false, error);
}

void properties_view(struct span bytes, struct properties *properties)
{
    struct reply error;
    int result = properties_read(bytes, properties, true, &error);

    (void)result;
}

static void properties_put_string(struct buf *out, struct span value)
{
    if (value.length > UINT8_MAX) {
        out->failed = true;
        return;
    }
    buf_put_u8(out, (uint8_t)value.length);
    buf_put_span(out, value);
}

void properties_put(struct buf *out, const struct properties *properties)
{
    unsigned flags = properties->flags & PROPERTIES_KNOWN;

    buf_put_u16(out, (uint16_t)flags);
    if (flags & PROPERTY_CONTENT_TYPE)
        properties_put_string(out, properties->content_type);
    if (flags & PROPERTY_CONTENT_ENCODING)
        properties_put_string(out, properties->content_encoding);
    if (flags & PROPERTY_HEADERS) {
        buf_put_u32(out, (uint32_t)properties->headers.length);
        buf_put_span(out, properties->headers);
    }
    if (flags & PROPERTY_DELIVERY_MODE)
        buf_put_u8(out, properties->delivery_mode);
    if (flags & PROPERTY_PRIORITY)
        buf_put_u8(out, properties->priority);
    if (flags & PROPERTY_CORRELATION_ID)
        properties_put_string(out, properties->correlation_id);
    if (flags & PROPERTY_REPLY_TO)
        properties_put_string(out, properties->reply_to);
    if (flags & PROPERTY_EXPIRATION)
        properties_put_string(out, properties->expiration);
    if (flags & PROPERTY_MESSAGE_ID)
        properties_put_string(out, properties->message_id);
    if (flags & PROPERTY_TIMESTAMP)
        buf_put_u64(out, properties->timestamp);
    if (flags & PROPERTY_TYPE)
        properties_put_string(out, properties->type);
    if (flags & PROPERTY_USER_ID)
        properties_put_string(out, properties->user_id);
    if (flags & PROPERTY_APP_ID)
        properties_put_string(out, properties->app_id);
    if (flags & PROPERTY_CLUSTER_ID)
        properties_put_string(out, properties->cluster_id);
}
