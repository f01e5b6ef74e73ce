/* SPDX-License-Identifier: MIT */
#include "base/settings.h"

#include <stdlib.h>
#include <string.h>

#define SHOWN 60 /* bytes of a value that a message repeats */

static size_t row_index(const struct settings *settings, const struct hark_setting *row)
{
    return (size_t)(row - settings->table);
}

static bool has_range(const struct hark_setting *row)
{
    return row->min != 0 || row->max != 0;
}

static void *member(const struct hark_setting *row, void *into)
{
    return (char *)into + row->offset;
}

void settings_init(struct settings *settings, const struct hark_setting *table, void *into)
{
    *settings = (struct settings){.table = table, .into = into};
}

const struct hark_setting *settings_find(const struct hark_setting *table, const char *key)
{
    const struct hark_setting *found = NULL;

    for (const struct hark_setting *row = table; row != NULL && row->type != HARK_END; row++) {
        size_t length = strlen(row->name);

        if (row->type != HARK_MAP) {
            if (strcmp(row->name, key) == 0)
                return row;
        } else if (strncmp(row->name, key, length) == 0 && (found == NULL || strlen(found->name) < length)) {
            found = row;
        }
    }
    return found;
}

static int check_range(const struct hark_setting *row, int64_t value, char *error, size_t size)
{
    char low[32], high[32];

    if (has_range(row) ? value >= row->min && value <= row->max : value >= 0)
        return 0;
    if (!has_range(row))
        snprintf(error, size, "must not be negative");
    else if (row->max == INT64_MAX)
        snprintf(error, size, "must be at least %s", settings_show_number(row->type, row->min, low, sizeof(low)));
    else
        snprintf(error, size, "must be from %s to %s", settings_show_number(row->type, row->min, low, sizeof(low)),
                 settings_show_number(row->type, row->max, high, sizeof(high)));
    return -1;
}

static int set_number(const struct hark_setting *row, const char *value, int64_t *to, char *error, size_t size)
{
    int64_t number;
    int bad;

    if (row->type == HARK_INTEGER)
        bad = settings_parse_integer(value, &number, error, size);
    else if (row->type == HARK_SIZE)
        bad = settings_parse_size(value, &number, error, size);
    else
        bad = settings_parse_duration(value, &number, error, size);
    if (bad || check_range(row, number, error, size) != 0)
        return -1;
    *to = number;
    return 0;
}

static int set_boolean(const char *value, bool *to, char *error, size_t size)
{
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on"};

    for (size_t i = 0; i < HARK_COUNT(words); i++) {
        if (strcmp(words[i], value) == 0) {
            *to = i % 2;
            return 0;
        }
    }
    snprintf(error, size, "expected yes or no");
    return -1;
}

static int set_enum(const struct hark_setting *row, const char *value, int *to, char *error, size_t size)
{
    size_t count = 0, used;
    const char *nearest;

    for (; row->words[count] != NULL; count++) {
        if (strcmp(row->words[count], value) == 0) {
            *to = (int)count;
            return 0;
        }
    }
    used = (size_t)snprintf(error, size, "expected ");
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(error + used, size - used, "%s%s",
                                 i == 0          ? ""
                                 : i + 1 < count ? ", "
                                                 : " or ",
                                 row->words[i]);
    nearest = settings_nearest_word(row->words, count, value);
    if (nearest != NULL && used < size)
        snprintf(error + used, size - used, "; did you mean \"%s\"?", nearest);
    return -1;
}

static int out_of_memory(char *error, size_t size)
{
    snprintf(error, size, "out of memory");
    return -1;
}

static int set_string(char **to, const char *value, char *error, size_t size)
{
    char *copy = strdup(value);

    if (copy == NULL)
        return out_of_memory(error, size);
    free(*to);
    *to = copy;
    return 0;
}

static int add_item(struct hark_list *list, const char *value, char *error, size_t size)
{
    char **grown = realloc(list->items, (list->count + 2) * sizeof(*grown));

    if (grown == NULL)
        return out_of_memory(error, size);
    list->items = grown;
    list->items[list->count] = strdup(value);
    if (list->items[list->count] == NULL)
        return out_of_memory(error, size);
    list->items[++list->count] = NULL;
    return 0;
}

static void free_list(struct hark_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct hark_list){0};
}

static int add_durations(const struct hark_setting *row, struct hark_durations *to, const char *value, char *error,
                         size_t size)
{
    struct hark_list words = {0};
    int result = settings_parse_words(value, &words, error, size);

    if (result == 0 && words.count == 0) {
        free(to->ms);
        *to = (struct hark_durations){0};
    }
    for (size_t i = 0; result == 0 && i < words.count; i++) {
        int64_t *grown = realloc(to->ms, (to->count + 1) * sizeof(*grown));

        if (grown == NULL) {
            result = out_of_memory(error, size);
        } else {
            to->ms = grown;
            result = set_number(row, words.items[i], &to->ms[to->count], error, size);
            to->count += result == 0;
        }
    }
    free_list(&words);
    return result;
}

static int add_pair(struct hark_map *map, const char *name, const char *value, bool quoted, char *error, size_t size)
{
    struct hark_pair *grown, pair = {.quoted = quoted};

    if (name[0] == 0) {
        snprintf(error, size, "a name is missing behind the dot");
        return -1;
    }
    for (size_t i = 0; i < map->count; i++) {
        if (strcmp(map->pairs[i].name, name) == 0) {
            snprintf(error, size, "set twice");
            return -1;
        }
    }
    grown = realloc(map->pairs, (map->count + 1) * sizeof(*grown));
    if (grown == NULL)
        return out_of_memory(error, size);
    map->pairs = grown;
    pair.name = strdup(name);
    pair.value = strdup(value);
    if (pair.name == NULL || pair.value == NULL) {
        free(pair.name);
        free(pair.value);
        return out_of_memory(error, size);
    }
    map->pairs[map->count++] = pair;
    return 0;
}

static int set_row(const struct hark_setting *row, void *to, const char *key, const char *value, bool quoted,
                   char *error, size_t size)
{
    switch (row->type) {
    case HARK_STRING:
        return set_string(to, value, error, size);
    case HARK_INTEGER:
    case HARK_SIZE:
    case HARK_DURATION:
        return set_number(row, value, to, error, size);
    case HARK_BOOLEAN:
        return set_boolean(value, to, error, size);
    case HARK_ENUM:
        return set_enum(row, value, to, error, size);
    case HARK_LIST:
        return quoted ? add_item(to, value, error, size) : settings_parse_words(value, to, error, size);
    case HARK_LINES:
        return add_item(to, value, error, size);
    case HARK_DURATIONS:
        return add_durations(row, to, value, error, size);
    case HARK_MAP:
        return add_pair(to, key + strlen(row->name), value, quoted, error, size);
    case HARK_END:
        break;
    }
    snprintf(error, size, "the table of settings is broken");
    return -1;
}

static bool repeatable(enum hark_setting_type type)
{
    return type == HARK_LIST || type == HARK_LINES || type == HARK_DURATIONS || type == HARK_MAP;
}

int settings_set(struct settings *settings, const char *key, const char *value, bool quoted, int line, char *error,
                 size_t size)
{
    const struct hark_setting *row = settings_find(settings->table, key);
    char text[512];
    size_t index;

    if (row == NULL) {
        snprintf(error, size, "unknown key \"%s\"", key);
        return -1;
    }
    index = row_index(settings, row);
    if (index >= SETTINGS_MAX) {
        snprintf(error, size, "the table of settings has more than %d rows", SETTINGS_MAX);
        return -1;
    }
    if (settings->line[index] != 0 && !repeatable(row->type)) {
        snprintf(error, size, "\"%s\" was already set on line %d", key, settings->line[index]);
        return -1;
    }
    if (set_row(row, member(row, settings->into), key, value, quoted, text, sizeof(text)) != 0) {
        if (row->secret)
            snprintf(error, size, "%s: %s", key, text);
        else
            snprintf(error, size, "%s = %.*s%s: %s", key, SHOWN, value, strlen(value) > SHOWN ? "..." : "", text);
        return -1;
    }
    if (settings->line[index] == 0)
        settings->line[index] = line;
    return 0;
}

/* True if a required row has nothing in it. */
static bool empty(const struct hark_setting *row, void *to, bool set)
{
    if (row->type == HARK_LIST || row->type == HARK_LINES)
        return ((const struct hark_list *)to)->count == 0;
    if (row->type == HARK_DURATIONS)
        return ((const struct hark_durations *)to)->count == 0;
    if (row->type == HARK_MAP)
        return ((const struct hark_map *)to)->count == 0;
    if (row->type == HARK_STRING)
        return !set || (*(char **)to)[0] == 0;
    return !set;
}

int settings_finish(struct settings *settings, char *error, size_t size)
{
    size_t missing = 0, used = 0;
    char text[512];

    for (const struct hark_setting *row = settings->table; row != NULL && row->type != HARK_END; row++) {
        size_t index = row_index(settings, row);
        bool set = index < SETTINGS_MAX && settings->line[index] != 0;
        void *to = member(row, settings->into);

        if (row->required && empty(row, to, set)) {
            if (missing++ == 0)
                used = (size_t)snprintf(error, size, "missing key \"%s\" (%s)", row->name, row->help);
            else if (used < size)
                used += (size_t)snprintf(error + used, size - used, ", and \"%s\" (%s)", row->name, row->help);
        } else if (!set && row->fallback != NULL) {
            if (set_row(row, to, row->name, row->fallback, false, text, sizeof(text)) != 0) {
                snprintf(error, size, "the default of \"%s\", %s, is broken: %s", row->name, row->fallback, text);
                return -1;
            }
        }
    }
    return missing > 0 ? -1 : 0;
}

void settings_free(const struct hark_setting *table, void *into)
{
    for (const struct hark_setting *row = table; row != NULL && row->type != HARK_END; row++) {
        void *to = member(row, into);

        if (row->type == HARK_STRING) {
            free(*(char **)to);
            *(char **)to = NULL;
        } else if (row->type == HARK_LIST || row->type == HARK_LINES) {
            free_list(to);
        } else if (row->type == HARK_DURATIONS) {
            free(((struct hark_durations *)to)->ms);
            *(struct hark_durations *)to = (struct hark_durations){0};
        } else if (row->type == HARK_MAP) {
            struct hark_map *map = to;

            for (size_t i = 0; i < map->count; i++) {
                free(map->pairs[i].name);
                free(map->pairs[i].value);
            }
            free(map->pairs);
            *map = (struct hark_map){0};
        }
    }
}
