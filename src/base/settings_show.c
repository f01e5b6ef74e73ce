/* SPDX-License-Identifier: MIT */
/* What people see of a settings table: names that are near, types, the printed default. */
#include "base/settings.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LENGTH 64 /* longer words are near to nothing */

static bool differ(char a, char b)
{
    return tolower((unsigned char)a) != tolower((unsigned char)b);
}

/* Damerau-Levenshtein (adjacent letters swapped count as one), capitals or not: three rows of the matrix are enough. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][NAME_MAX_LENGTH + 1];
    size_t *before = rows[0], *last = rows[1], *now = rows[2];

    if (a_length > NAME_MAX_LENGTH || b_length > NAME_MAX_LENGTH)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_length; j++)
        last[j] = before[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *reuse = before;

        now[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = last[j - 1] + differ(a[i - 1], b[j - 1]);

            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && !differ(a[i - 1], b[j - 2]) && !differ(a[i - 2], b[j - 1]) &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        before = last;
        last = now;
        now = reuse;
    }
    return last[b_length];
}

struct nearest {
    const char *name;
    size_t distance;
};

/* Near is: at most a third of the letters differ, at least one may. */
static void consider(struct nearest *nearest, const char *name, const char *word, size_t word_length)
{
    size_t limit = word_length < 6 ? 1 : word_length / 3;
    size_t found = distance(name, strlen(name), word, word_length);

    if (found <= limit && found < nearest->distance)
        *nearest = (struct nearest){name, found};
}

const char *settings_nearest(const struct hark_setting *const *tables, const char *key)
{
    struct nearest nearest = {NULL, SIZE_MAX};
    const char *dot = strchr(key, '.');
    size_t prefix = dot ? (size_t)(dot - key) + 1 : 0;

    for (; *tables != NULL; tables++)
        for (const struct hark_setting *row = *tables; row->type != HARK_END; row++) {
            if (row->type != HARK_MAP)
                consider(&nearest, row->name, key, strlen(key));
            else if (dot != NULL)
                consider(&nearest, row->name, key, prefix);
        }
    return nearest.name;
}

const char *settings_nearest_word(const char *const *words, size_t count, const char *word)
{
    struct nearest nearest = {NULL, SIZE_MAX};

    for (size_t i = 0; i < count; i++)
        consider(&nearest, words[i], word, strlen(word));
    return nearest.name;
}

const char *settings_type_name(enum hark_setting_type type)
{
    switch (type) {
    case HARK_STRING:
        return "string";
    case HARK_INTEGER:
        return "integer";
    case HARK_SIZE:
        return "size";
    case HARK_DURATION:
        return "duration";
    case HARK_BOOLEAN:
        return "boolean";
    case HARK_ENUM:
        return "one word";
    case HARK_LIST:
        return "list of words";
    case HARK_LINES:
        return "one value, key repeatable";
    case HARK_DURATIONS:
        return "list of durations";
    case HARK_MAP:
        return "value per NAME";
    case HARK_END:
        break;
    }
    return "?";
}

const char *settings_show_number(enum hark_setting_type type, int64_t value, char *to, size_t size)
{
    static const struct {
        int64_t factor;
        const char *name;
    } durations[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}},
      sizes[] = {{1 << 30, "G"}, {1 << 20, "M"}, {1 << 10, "K"}, {1, ""}};
    bool duration = type == HARK_DURATION || type == HARK_DURATIONS;
    size_t i = 0;

    if (value == 0 || (!duration && type != HARK_SIZE)) {
        snprintf(to, size, "%lld", (long long)value);
    } else if (duration) {
        while (value % durations[i].factor != 0)
            i++;
        snprintf(to, size, "%lld%s", (long long)(value / durations[i].factor), durations[i].name);
    } else {
        while (value % sizes[i].factor != 0)
            i++;
        snprintf(to, size, "%lld%s", (long long)(value / sizes[i].factor), sizes[i].name);
    }
    return to;
}

/* A fallback that the ini reader would not give back as it is must be quoted. */
static bool needs_quotes(const struct hark_setting *setting)
{
    const char *text = setting->fallback;
    size_t length = strlen(text);

    if (setting->type != HARK_STRING || length == 0)
        return false;
    return strchr(" \t\"", text[0]) != NULL || strchr(" \t\\", text[length - 1]) != NULL ||
           strpbrk(text, "$;\n\t") != NULL || strstr(text, " #") != NULL;
}

static void print_value(const struct hark_setting *setting, FILE *to)
{
    bool quotes = needs_quotes(setting);

    if (quotes)
        fputc('"', to);
    for (const char *c = setting->fallback; *c != 0; c++) {
        if (quotes && strchr("\"\\", *c) != NULL)
            fputc('\\', to);
        if (*c == '$')
            fputc('$', to);
        if (*c == '\n' || *c == '\t')
            fputs(*c == '\n' ? "\\n" : "\\t", to);
        else
            fputc(*c, to);
    }
    if (quotes)
        fputc('"', to);
}

void settings_print(const struct hark_setting *setting, FILE *to)
{
    char number[32];

    fprintf(to, "; %s\n; %s", setting->help, settings_type_name(setting->type));
    if (setting->type == HARK_ENUM)
        for (const char *const *word = setting->words; *word != NULL; word++)
            fprintf(to, "%s%s", word == setting->words ? ": " : " | ", *word);
    if (setting->min != 0 || setting->max != 0) {
        fprintf(to, ", %s", settings_show_number(setting->type, setting->min, number, sizeof(number)));
        if (setting->max == INT64_MAX)
            fputs(" or more", to);
        else
            fprintf(to, " to %s", settings_show_number(setting->type, setting->max, number, sizeof(number)));
    }
    fputs(setting->required ? ", required\n" : "\n", to);
    if (setting->type == HARK_MAP) {
        fprintf(to, ";%sNAME =\n", setting->name);
    } else if (setting->fallback == NULL) {
        fprintf(to, ";%s =\n", setting->name);
    } else {
        fprintf(to, "%s%s", setting->name, setting->fallback[0] ? " = " : " =");
        print_value(setting, to);
        fputc('\n', to);
    }
}
