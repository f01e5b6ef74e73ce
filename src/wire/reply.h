/* SPDX-License-Identifier: MIT */
/*
 * Reply codes (AMQP 0-9-1, 1.2 "Constants") and a protocol error as a value: functions that find
 * one fill it in and return; the one place that owns the channel or connection acts on it.
 */
#ifndef WIRE_REPLY_H
#define WIRE_REPLY_H

#include "base/base.h"
#include "base/span.h"

/* code, name, hard: closes the connection, otherwise the channel */
#define REPLY_CODES(X) \
    X(200, SUCCESS, false) \
    X(311, CONTENT_TOO_LARGE, false) \
    X(312, NO_ROUTE, false) \
    X(313, NO_CONSUMERS, false) \
    X(320, CONNECTION_FORCED, true) \
    X(402, INVALID_PATH, true) \
    X(403, ACCESS_REFUSED, false) \
    X(404, NOT_FOUND, false) \
    X(405, RESOURCE_LOCKED, false) \
    X(406, PRECONDITION_FAILED, false) \
    X(501, FRAME_ERROR, true) \
    X(502, SYNTAX_ERROR, true) \
    X(503, COMMAND_INVALID, true) \
    X(504, CHANNEL_ERROR, true) \
    X(505, UNEXPECTED_FRAME, true) \
    X(506, RESOURCE_ERROR, true) \
    X(530, NOT_ALLOWED, true) \
    X(540, NOT_IMPLEMENTED, true) \
    X(541, INTERNAL_ERROR, true)

enum reply_code {
#define X(code, name, hard) REPLY_##name = code,
    REPLY_CODES(X)
#undef X
};

struct reply {
    uint16_t code; /* 0: no error */
    uint16_t class_id, method_id;
    char text[256]; /* "NAME - what is wrong", as RabbitMQ writes it; fits a short string */
};

const char *reply_name(uint16_t code); /* "UNKNOWN" if it is none */
bool reply_is_hard(uint16_t code);
/* Fills it in, with the code's name in front of the text, and returns -1, for `return
 * reply_set(...)`. */
int reply_set(struct reply *reply, enum reply_code code, uint32_t method, const char *format, ...) HARK_PRINTF(4, 5);

#endif
