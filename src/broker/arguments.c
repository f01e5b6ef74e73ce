/* SPDX-License-Identifier: MIT */
#include "broker/arguments.h"

#include <stdio.h>

static const struct {
    char kind;
    const char *name;
} arguments_types[] = {
    {'S', "longstr"},     {'I', "signedint"},    {'D', "decimal"}, {'T', "timestamp"}, {'F', "table"},
    {'b', "byte"},        {'B', "unsignedbyte"}, {'s', "short"},   {'U', "short"},     {'u', "unsignedshort"},
    {'i', "unsignedint"}, {'l', "long"},         {'L', "long"},    {'d', "double"},    {'f', "float"},
    {'t', "bool"},        {'x', "binary"},       {'V', "void"},    {'A', "array"},
};

const char *arguments_type(char kind)
{
    for (size_t i = 0; i < HARK_COUNT(arguments_types); i++)
        if (arguments_types[i].kind == kind)
            return arguments_types[i].name;
    return "unknown";
}

int arguments_same_flag(const char *name, const char *what, const char *vhost, bool received, bool current,
                        struct reply *error)
{
    if (received == current)
        return 0;
    return reply_set(error, REPLY_PRECONDITION_FAILED, 0,
                     "inequivalent arg '%s' for %s in vhost '%s': received '%s' but current is '%s'", name, what, vhost,
                     received ? "true" : "false", current ? "true" : "false");
}

/* As RabbitMQ does it, the type is shown (`typed`) where there is nothing to compare the value with. */
static const char *arguments_show(char *to, size_t size, bool there, bool typed, const struct table_entry *entry)
{
    char value[100] = "";
    int64_t number;

    if (!there) {
        snprintf(to, size, "none");
        return to;
    }
    if (entry->kind == 't')
        snprintf(value, sizeof(value), "%s", entry->value.data[0] != 0 ? "true" : "false");
    else if (table_integer(entry, &number))
        snprintf(value, sizeof(value), "%lld", (long long)number);
    else if (entry->kind == 'S')
        snprintf(value, sizeof(value), "%.*s", (int)(entry->value.length < 80 ? entry->value.length : 80),
                 (const char *)entry->value.data);
    if (typed)
        snprintf(to, size, "the value '%s' of type '%s'", value, arguments_type(entry->kind));
    else
        snprintf(to, size, "'%s'", value);
    return to;
}

int arguments_same(const char *name, const char *what, const char *vhost, struct span received, struct span current,
                   struct reply *error)
{
    struct table_entry is, was;
    bool has = table_find(received, span_str(name), &is), had = table_find(current, span_str(name), &was);
    char shown_is[128], shown_was[128];
    int64_t a, b;

    if (has == had) {
        if (!has)
            return 0;
        if (table_integer(&is, &a) && table_integer(&was, &b)) {
            if (a == b)
                return 0;
        } else if (is.kind == was.kind && span_equal(is.value, was.value)) {
            return 0;
        }
    }
    return reply_set(error, REPLY_PRECONDITION_FAILED, 0,
                     "inequivalent arg '%s' for %s in vhost '%s': received %s but current is %s", name, what, vhost,
                     arguments_show(shown_is, sizeof(shown_is), has, !had, &is),
                     arguments_show(shown_was, sizeof(shown_was), had, !has, &was));
}
