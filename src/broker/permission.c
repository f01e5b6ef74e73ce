/* SPDX-License-Identifier: MIT */
#include "broker/permission.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PERMISSION_NAME_MAX 1024     /* bytes; names of AMQP have at most 255 */
#define PERMISSION_REPEATED_MAX 1000 /* of all { } together, multiplied */
#define PERMISSION_WRITTEN_MAX 65536 /* bytes, were each of them written out */

/* Behind the bracket expression that starts at `at`, or NULL: it holds a backslash, which is itself in POSIX and
 * escapes in Perl. */
static const char *permission_skip_bracket(const char *at)
{
    at++;
    if (*at == '^')
        at++;
    if (*at == ']')
        at++;
    while (*at != 0 && *at != ']') {
        if (*at == '\\')
            return NULL;
        if (*at == '[' && strchr(".:=", at[1]) != NULL && at[1] != 0) {
            const char kind = at[1];

            for (at += 2; *at != 0 && !(at[0] == kind && at[1] == ']'); at++)
                if (*at == '\\')
                    return NULL;
            if (*at == 0)
                return at;
            at++;
        }
        at++;
    }
    return *at == ']' ? at + 1 : at;
}

/* Multiplies by the repetitions {m,n} that start at `at`: the C library writes each of them out. */
static void permission_repeat(const char *at, unsigned long *repeated)
{
    unsigned long most = 1;

    while (*at != 0 && *at != '}')
        if (isdigit((unsigned char)*++at)) {
            char *end;
            unsigned long count = strtoul(at, &end, 10);

            most = count > most ? count : most;
            at = end;
        }
    *repeated = most > PERMISSION_REPEATED_MAX ? most : *repeated * most;
}

/* What POSIX would take but understand otherwise than Perl, or what costs too much; NULL: nothing. */
static const char *permission_misread(const char *at)
{
    unsigned long repeated = 1, length = strlen(at);

    while (*at != 0) {
        if (*at == '{') {
            permission_repeat(at, &repeated);
            if (repeated > PERMISSION_REPEATED_MAX || repeated * length > PERMISSION_WRITTEN_MAX)
                return "too many repetitions in { }";
        }
        if (*at == '[') {
            at = permission_skip_bracket(at);
            if (at == NULL)
                return "a backslash within [ ] (a '-' goes to its end, classes are [:alnum:] and [:digit:])";
        } else if (*at == '\\' && at[1] != 0) {
            if (isdigit((unsigned char)at[1]))
                return "a back reference";
            if (isalpha((unsigned char)at[1]) && strchr("wWsSbB", at[1]) == NULL)
                return "an escape of Perl's (write [0-9] for \\d)";
            if (strchr("<>`'", at[1]) != NULL)
                return "a backslash before <, >, ` or '";
            at += 2;
        } else if (strchr("*+?}", *at) != NULL && at[1] == '+') {
            return "a possessive quantifier of Perl's";
        } else {
            at++;
        }
    }
    return NULL;
}

int permission_compile(struct permission_pattern *pattern, const char *text, char *error, size_t size)
{
    char reason[128];
    const char *misread;
    int result;

    if (strlen(text) > PERMISSION_PATTERN_MAX) {
        snprintf(error, size, "pattern '%.40s...' is longer than %d bytes", text, PERMISSION_PATTERN_MAX);
        return -1;
    }
    if (text[0] == 0 || strcmp(text, ".*") == 0) {
        pattern->kind = text[0] == 0 ? PERMISSION_NONE : PERMISSION_ALL;
        return 0;
    }
    misread = permission_misread(text);
    if (misread != NULL) {
        snprintf(error, size, "pattern '%.200s' is not a POSIX extended regular expression: it has %s", text, misread);
        return -1;
    }
    result = regcomp(&pattern->regex, text, REG_EXTENDED | REG_NOSUB);
    if (result != 0) {
        regerror(result, &pattern->regex, reason, sizeof(reason));
        snprintf(error, size, "pattern '%.200s' is not a POSIX extended regular expression: %s", text, reason);
        return -1;
    }
    pattern->kind = PERMISSION_REGEX;
    return 0;
}

bool permission_matches(const struct permission_pattern *pattern, struct span name)
{
    /* The name may hold any byte, and is terminated for the eyes of sanitizers. */
    regmatch_t range = {.rm_so = 0, .rm_eo = (regoff_t)name.length};
    char text[PERMISSION_NAME_MAX + 1];

    switch (pattern->kind) {
    case PERMISSION_ALL:
        return true;
    case PERMISSION_REGEX:
        if (name.length > PERMISSION_NAME_MAX)
            return false;
        if (name.length > 0)
            memcpy(text, name.data, name.length);
        text[name.length] = '\0';
        return regexec(&pattern->regex, text, 1, &range, REG_STARTEND) == 0;
    case PERMISSION_NONE:
        break;
    }
    return name.length == 0;
}

void permission_free(struct permission_pattern *pattern)
{
    if (pattern->kind == PERMISSION_REGEX)
        regfree(&pattern->regex);
    pattern->kind = PERMISSION_NONE;
}
