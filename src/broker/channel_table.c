/* SPDX-License-Identifier: MIT */
#include "broker/channel_table.h"

#include <stdlib.h>

int channel_table_reserve(struct channel_table *table, uint16_t number)
{
    unsigned page = number / CHANNEL_TABLE_PAGE, count = table->page_count == 0 ? 1 : table->page_count;

    while (count <= page)
        count *= 2;
    if (count != table->page_count) {
        struct peer_channel ***pages = realloc(table->pages, count * sizeof(struct peer_channel **));

        if (pages == NULL)
            return -1;
        for (unsigned i = table->page_count; i < count; i++)
            pages[i] = NULL;
        table->pages = pages;
        table->page_count = count;
    }
    if (table->pages[page] == NULL)
        table->pages[page] = calloc(CHANNEL_TABLE_PAGE, sizeof(struct peer_channel *));
    return table->pages[page] != NULL ? 0 : -1;
}

void channel_table_set(struct channel_table *table, uint16_t number, struct peer_channel *channel)
{
    table->pages[number / CHANNEL_TABLE_PAGE][number % CHANNEL_TABLE_PAGE] = channel;
}

struct peer_channel *channel_table_next(const struct channel_table *table, unsigned *number)
{
    while (*number / CHANNEL_TABLE_PAGE < table->page_count) {
        struct peer_channel **page = table->pages[*number / CHANNEL_TABLE_PAGE];

        if (page == NULL) {
            *number = (*number / CHANNEL_TABLE_PAGE + 1) * CHANNEL_TABLE_PAGE;
        } else {
            struct peer_channel *channel = page[*number % CHANNEL_TABLE_PAGE];

            (*number)++;
            if (channel != NULL)
                return channel;
        }
    }
    return NULL;
}

void channel_table_free(struct channel_table *table)
{
    for (unsigned i = 0; i < table->page_count; i++)
        free(table->pages[i]);
    free(table->pages);
    *table = (struct channel_table){0};
}
