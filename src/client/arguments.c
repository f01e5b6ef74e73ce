/* SPDX-License-Identifier: MIT */
#include "client/arguments.h"

#include <stdlib.h>

int arguments_table(const struct consumer_argument *arguments, size_t count, amqp_table_t *table)
{
    *table = (amqp_table_t){0};
    if (count == 0)
        return 0;
    table->entries = calloc(count, sizeof(*table->entries));
    if (table->entries == NULL)
        return -1;
    table->num_entries = (int)count;
    for (size_t i = 0; i < count; i++) {
        amqp_table_entry_t *entry = &table->entries[i];

        entry->key = amqp_span(span_str(arguments[i].name));
        entry->value.kind = (uint8_t)arguments[i].kind;
        switch (arguments[i].kind) {
        case AMQP_FIELD_KIND_BOOLEAN:
            entry->value.value.boolean = arguments[i].number != 0;
            break;
        case AMQP_FIELD_KIND_I64:
            entry->value.value.i64 = arguments[i].number;
            break;
        default:
            entry->value.value.bytes = amqp_span(span_str(arguments[i].text));
            break;
        }
    }
    return 0;
}

void arguments_free(amqp_table_t *table)
{
    free(table->entries);
    *table = (amqp_table_t){0};
}
