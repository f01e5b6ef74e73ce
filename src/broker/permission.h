/* SPDX-License-Identifier: MIT */
/*
 * One pattern of a permission: a POSIX extended regular expression that a name must match anywhere, as RabbitMQ
 * searches. Names are bytes. Used by users.c.
 *
 * RabbitMQ's patterns are Perl's. What means the same in both is taken; what POSIX does not know, or would silently
 * understand otherwise, is refused: a permission that means something else is worse than none.
 *
 * Patterns are the administrator's. One of those that no automaton can hold, "(a|b)*a(a|b){20}c", costs the C library
 * 0.1 s and 2 MB for each new name; what people write costs microseconds.
 */
#ifndef BROKER_PERMISSION_H
#define BROKER_PERMISSION_H

#include "base/base.h"
#include "base/span.h"
#include <regex.h>

#define PERMISSION_PATTERN_MAX 1024 /* bytes */

struct permission_pattern {
    enum { PERMISSION_NONE, PERMISSION_ALL, PERMISSION_REGEX } kind;
    regex_t regex;
};

/* "" matches the empty name only. -1 with a message that names the pattern, and nothing to free. */
int permission_compile(struct permission_pattern *pattern, const char *text, char *error, size_t size) HARK_MUSTCHECK;
bool permission_matches(const struct permission_pattern *pattern, struct span name);
void permission_free(struct permission_pattern *pattern);

#endif
