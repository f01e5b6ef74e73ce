/* SPDX-License-Identifier: MIT */
/* The parsers of single values. All accept the whole text or nothing: no leading or trailing
 * blanks, no rest. */
#include "base/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit durations[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}, {"d", 24 * 60 * 60 * 1000},
};
static const struct unit sizes[] = {
    {"", 1},
    {"K", 1024},
    {"M", 1024 * 1024},
    {"G", 1024 * 1024 * 1024},
};

/* The digits at the start of `text`. NULL: none, or too large. Otherwise where they end. */
static const char *digits(const char *text, int64_t *value)
{
    char *end;
    long long number;

    if (!isdigit((unsigned char)text[0]))
        return NULL;
    errno = 0;
    number = strtoll(text, &end, 10);
    if (errno != 0)
        return NULL;
    *value = number;
    return end;
}

static int scale(const struct unit *units, size_t count, const char *name, int64_t *value)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(units[i].name, name) == 0)
            return __builtin_mul_overflow(*value, units[i].factor, value) ? -1 : 0;
    return -1;
}

int settings_parse_duration(const char *text, int64_t *ms, char *error, size_t size)
{
    int64_t value = 0;
    const char *rest = digits(text, &value);

    if (rest != NULL && rest[0] == 0) {
        if (value == 0) {
            *ms = 0;
            return 0;
        }
        snprintf(error, size, "%s has no unit; a duration is written %sms, %ss, %sm, %sh or %sd", text, text, text,
                 text, text, text);
        return -1;
    }
    if (rest == NULL || scale(durations, HARK_COUNT(durations), rest, &value) != 0) {
        snprintf(error, size, "expected a duration such as 100ms, 5s, 2m, 1h or 1d");
        return -1;
    }
    *ms = value;
    return 0;
}

int settings_parse_size(const char *text, int64_t *bytes, char *error, size_t size)
{
    int64_t value = 0;
    const char *rest = digits(text, &value);

    if (rest == NULL || scale(sizes, HARK_COUNT(sizes), rest, &value) != 0) {
        snprintf(error, size, "expected a size such as 65536, 64K, 16M or 1G");
        return -1;
    }
    *bytes = value;
    return 0;
}

int settings_parse_integer(const char *text, int64_t *value, char *error, size_t size)
{
    char *end = NULL;
    long long number = 0;

    errno = 0;
    if (isdigit((unsigned char)text[0]) || (text[0] == '-' && isdigit((unsigned char)text[1])))
        number = strtoll(text, &end, 10);
    if (end == NULL || end[0] != 0 || errno != 0) {
        snprintf(error, size, "expected a whole number");
        return -1;
    }
    *value = number;
    return 0;
}

static int append(struct hark_list *list, char *item)
{
    char **grown = item ? realloc(list->items, (list->count + 2) * sizeof(*grown)) : NULL;

    if (grown == NULL) {
        free(item);
        return -1;
    }
    list->items = grown;
    list->items[list->count++] = item;
    list->items[list->count] = NULL;
    return 0;
}

/* One word from *text, which is moved behind it. NULL with a message: a quote is not closed, no
 * memory. */
static char *next_word(const char **text, char *error, size_t size)
{
    const char *from = *text;
    char *word = malloc(strlen(from) + 1), *to = word;
    bool quoted = false;

    if (word == NULL) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
    for (; *from != 0 && (quoted || !isspace((unsigned char)*from)); from++) {
        if (*from == '"') {
            quoted = !quoted;
        } else if (quoted && *from == '\\' && from[1] != 0 && strchr("\"\\nt", from[1]) != NULL) {
            from++;
            *to++ = *from == 'n' ? '\n' : *from == 't' ? '\t' : *from;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
    *text = from;
    if (!quoted)
        return word;
    snprintf(error, size, "a double quote is not closed");
    free(word);
    return NULL;
}

int settings_parse_words(const char *text, struct hark_list *list, char *error, size_t size)
{
    for (;;) {
        char *word;

        while (isspace((unsigned char)*text))
            text++;
        if (*text == 0)
            return 0;
        word = next_word(&text, error, size);
        if (word == NULL)
            return -1;
        if (append(list, word) != 0) {
            snprintf(error, size, "out of memory");
            return -1;
        }
    }
}
