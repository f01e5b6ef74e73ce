/* SPDX-License-Identifier: MIT */
/* Bindings and typed arguments, from the lines and maps of a section. */
#include "base/settings.h"
#include "daemon/config_private.h"

#include <stdlib.h>
#include <string.h>

int config_words(const struct ini_entry *entry, struct hark_list *words, char *error, size_t size)
{
    static const struct hark_setting table[] = {{.name = "words", .type = HARK_LIST}, {0}};
    struct settings settings;

    if (!entry->quoted)
        return settings_parse_words(entry->value, words, error, size);
    settings_init(&settings, table, words);
    return settings_set(&settings, "words", entry->value, true, entry->line, error, size);
}

void config_words_free(struct hark_list *words)
{
    for (size_t i = 0; i < words->count; i++)
        free(words->items[i]);
    free(words->items);
    *words = (struct hark_list){0};
}

/* Takes the words over. -1 with a message. */
static int read_binding(const struct ini_entry *entry, struct config_binding *binding, char *error, size_t size)
{
    struct hark_list words = {0};
    const char *wrong = NULL;

    if (config_words(entry, &words, error, size) != 0) {
        config_words_free(&words);
        return -1;
    }
    if (words.count < 1 || words.count > 2)
        wrong = "expected EXCHANGE PATTERN; a name with blanks stands in double quotes";
    else if (words.items[0][0] == 0)
        wrong = "nothing can be bound to the default exchange: every queue is bound to it by its own name";
    else if (strlen(words.items[0]) > INI_NAME_MAX || (words.count == 2 && strlen(words.items[1]) > INI_NAME_MAX))
        wrong = "exchange and pattern have at most 255 bytes each";
    if (wrong == NULL) {
        binding->line = entry->line;
        binding->exchange = strdup(words.items[0]);
        binding->pattern = strdup(words.count == 2 ? words.items[1] : "");
        if (binding->exchange == NULL || binding->pattern == NULL)
            wrong = "out of memory";
    }
    config_words_free(&words);
    if (wrong == NULL)
        return 0;
    snprintf(error, size, "bind = %.200s: %s", entry->value, wrong);
    return -1;
}

void config_bindings_read(struct config_reader *reader, struct config_bindings *bindings)
{
    const struct ini_section *section = reader->section;
    char error[600];

    bindings->items = calloc(section->count + 1, sizeof(*bindings->items));
    if (bindings->items == NULL) {
        config_complain(reader, NULL, "out of memory");
        return;
    }
    for (size_t i = 0; i < section->count; i++) {
        struct config_binding *binding = &bindings->items[bindings->count];

        if (strcmp(section->entries[i].key, "bind") != 0)
            continue;
        bindings->count++;
        if (read_binding(&section->entries[i], binding, error, sizeof(error)) != 0)
            ini_error(reader->errors, reader->where.file, section->entries[i].line, reader->where.label, "%s", error);
    }
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
