/* SPDX-License-Identifier: MIT */
/*
 * Field tables in place. The input is a table's content. What passes the check is walked to the
 * last value and written again to the same bytes; and the check says the same as rabbitmq-c's
 * decoder, but for nesting.
 */
#include "wire/codec.h"
#include "wire/table.h"

#include <stdlib.h>

#define DEPTH 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Returns how deep it goes. *strange: holds U, which the codec does not know. */
static int copy_values(struct span span, bool is_table, struct buf *out, bool *strange)
{
    struct table_entry entry, found;
    size_t cursor = 0;
    int depth = 0;
    int64_t value;

    while (is_table ? table_next(span, &cursor, &entry) : table_next_item(span, &cursor, &entry)) {
        bool nested = entry.kind == 'F' || entry.kind == 'A';

        if (entry.whole.data < span.data || entry.whole.data + entry.whole.length > span.data + span.length ||
            (is_table && !table_find(span, entry.name, &found)))
            abort();
        *strange = *strange || entry.kind == 'U';
        if (table_integer(&entry, &value) != (strchr("tbBsUuIilLT", entry.kind) != NULL) && entry.kind != 'L' &&
            entry.kind != 'T')
            abort();
        if (nested) {
            int inner = copy_values(entry.value, entry.kind == 'F', NULL, strange) + 1;

            depth = inner > depth ? inner : depth;
        }
        if (out != NULL)
            table_put_value(out, entry.name, entry.kind, entry.value);
    }
    if (cursor != span.length)
        abort();
    return depth;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span table = span_of(data, size);
    struct buf counted = {0}, out = {0};
    bool strange = false;
    amqp_table_t decoded;
    amqp_pool_t pool;
    size_t position, offset = 0;

    if (table_check(table, DEPTH) != 0)
        return 0;
    if (copy_values(table, true, &out, &strange) > DEPTH || !span_equal(buf_span(&out), table))
        abort();
    buf_free(&out);

    position = table_begin(&counted);
    buf_put_span(&counted, table);
    table_end(&counted, position);
    init_amqp_pool(&pool, 4096);
    if (!strange && (amqp_decode_table(amqp_span(buf_span(&counted)), &pool, &decoded, &offset) != AMQP_STATUS_OK ||
                     offset != buf_length(&counted)))
        abort();
    empty_amqp_pool(&pool);
    buf_free(&counted);
    return 0;
}
