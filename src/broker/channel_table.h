/* SPDX-License-Identifier: MIT */
/*
 * The channels of one connection by their numbers, which a client may choose from all of 1 to 65535 however few it opens: in pages,
 * so that the highest number costs a few kilobytes. Called by peer.c; the channels are not the table's.
 */
#ifndef BROKER_CHANNEL_TABLE_H
#define BROKER_CHANNEL_TABLE_H

#include "base/base.h"

#include <stdint.h>

#define CHANNEL_TABLE_PAGE 64

struct peer_channel;

struct channel_table {
    struct peer_channel ***pages; /* NULL where no number was ever used */
    unsigned page_count;
};

/* There is memory for this number after that. */
int channel_table_reserve(struct channel_table *table, uint16_t number) HARK_MUSTCHECK;
/* For a number that is reserved; NULL to remove. */
void channel_table_set(struct channel_table *table, uint16_t number, struct peer_channel *channel);
/* The first channel from *number on, NULL for none, and *number is behind it: it may be removed before the next call. */
struct peer_channel *channel_table_next(const struct channel_table *table, unsigned *number);
void channel_table_free(struct channel_table *table);

static inline struct peer_channel *channel_table_at(const struct channel_table *table, uint16_t number)
{
    unsigned page = number / CHANNEL_TABLE_PAGE;

    return page < table->page_count && table->pages[page] != NULL ? table->pages[page][number % CHANNEL_TABLE_PAGE]
                                                                  : NULL;
}

#endif
