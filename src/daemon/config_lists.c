/* SPDX-License-Identifier: MIT */
/* Bindings and typed arguments, from the lines and maps of a section. */
#include "base/settings.h"
#include "daemon/config_private.h"

#include <stdlib.h>
#include <string.h>

int config_bindings_parse(const struct hark_list *lines, struct config_bindings *bindings, char *error, size_t size)
{
    bindings->items = calloc(lines->count + 1, sizeof(*bindings->items));
    if (bindings->items == NULL) {
        snprintf(error, size, "out of memory");
        return -1;
    }
    for (size_t i = 0; i < lines->count; i++) {
        struct config_binding *binding = &bindings->items[i];
        struct hark_list words = {0};

        if (settings_parse_words(lines->items[i], &words, error, size) != 0)
            return -1;
        bindings->count = i + 1;
        if (words.count == 1 || words.count == 2) {
            binding->exchange = strdup(words.items[0]);
            binding->pattern = strdup(words.count == 2 ? words.items[1] : "");
        }
        for (size_t k = 0; k < words.count; k++)
            free(words.items[k]);
        free(words.items);
        if (binding->exchange == NULL || binding->pattern == NULL) {
            snprintf(error, size, "\"bind = %s\": expected EXCHANGE PATTERN", lines->items[i]);
            return -1;
        }
        if (binding->exchange[0] == '\0') {
            snprintf(error, size, "\"bind = %s\": nothing can be bound to the default exchange", lines->items[i]);
            return -1;
        }
        if (strlen(binding->exchange) > 255 || strlen(binding->pattern) > 255) {
            snprintf(error, size, "\"bind = %s\": names have at most 255 bytes", lines->items[i]);
            return -1;
        }
    }
    return 0;
}

void config_bindings_free(struct config_bindings *bindings)
{
    for (size_t i = 0; i < bindings->count; i++) {
        free(bindings->items[i].exchange);
        free(bindings->items[i].pattern);
    }
    free(bindings->items);
}

static void argument_set(struct config_argument *argument, const struct hark_pair *pair)
{
    char unused[128];
    int64_t integer;

    argument->name = strdup(pair->name);
    if (!pair->quoted && settings_parse_integer(pair->value, &integer, unused, sizeof(unused)) == 0) {
        argument->kind = 'l';
        argument->integer = integer;
    } else if (!pair->quoted && (strcmp(pair->value, "true") == 0 || strcmp(pair->value, "false") == 0)) {
        argument->kind = 't';
        argument->boolean = pair->value[0] == 't';
    } else {
        argument->kind = 'S';
        argument->string = strdup(pair->value);
    }
}

int config_arguments_make(const struct hark_map *map, const struct config_argument *first,
                          struct config_arguments *arguments)
{
    size_t extra = first != NULL ? 1 : 0;

    arguments->items = calloc(map->count + extra + 1, sizeof(*arguments->items));
    if (arguments->items == NULL)
        return -1;
    arguments->count = map->count + extra;
    if (first != NULL) {
        arguments->items[0] = *first;
        arguments->items[0].name = strdup(first->name);
        if (first->kind == 'S')
            arguments->items[0].string = strdup(first->string);
    }
    for (size_t i = 0; i < map->count; i++)
        argument_set(&arguments->items[i + extra], &map->pairs[i]);
    for (size_t i = 0; i < arguments->count; i++)
        if (arguments->items[i].name == NULL || (arguments->items[i].kind == 'S' && arguments->items[i].string == NULL))
            return -1;
    return 0;
}

void config_arguments_free(struct config_arguments *arguments)
{
    for (size_t i = 0; i < arguments->count; i++) {
        free(arguments->items[i].name);
        if (arguments->items[i].kind == 'S')
            free(arguments->items[i].string);
    }
    free(arguments->items);
}
