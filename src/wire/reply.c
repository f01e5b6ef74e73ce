/* SPDX-License-Identifier: MIT */
#include "wire/reply.h"

#include <stdarg.h>
#include <stdio.h>

const char *reply_name(uint16_t code)
{
    switch (code) {
#define X(number, name, hard) \
    case number: \
        return #name;
        REPLY_CODES(X)
#undef X
    default:
        return "UNKNOWN";
    }
}

bool reply_is_hard(uint16_t code)
{
    switch (code) {
#define X(number, name, hard) \
    case number: \
        return hard;
        REPLY_CODES(X)
#undef X
    default:
        return true; /* what a peer makes up is not worth a channel's trust */
    }
}

int reply_set(struct reply *reply, enum reply_code code, uint32_t method, const char *format, ...)
{
    int length = snprintf(reply->text, sizeof(reply->text), "%s - ", reply_name((uint16_t)code));
    va_list args;

    reply->code = (uint16_t)code;
    reply->class_id = (uint16_t)(method >> 16);
    reply->method_id = (uint16_t)method;
    va_start(args, format);
    vsnprintf(reply->text + length, sizeof(reply->text) - (size_t)length, format, args);
    va_end(args);
    return -1;
}
