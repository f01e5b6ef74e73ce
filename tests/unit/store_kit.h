/* SPDX-License-Identifier: MIT */
/* A store in a folder of its own, with a loop, for the tests of the store. */
#ifndef TESTS_UNIT_STORE_KIT_H
#define TESTS_UNIT_STORE_KIT_H

#include "broker/store_private.h"

#define KIT_QUEUES 16

struct store_kit {
    struct loop *loop;
    struct store *store;
    char folder[64];
    uint64_t committed;
    unsigned lows, wells;
    char why[512], error[512];
    /* of the recovery */
    struct store_figures figures[KIT_QUEUES];
    size_t figure_count, record_count;
    struct buf records; /* kind, name, '=', value, newline */
    /* of the newest read */
    struct store_row rows[4096];
    size_t row_count;
    bool end, answered;
    uint64_t map_size, limit;
    size_t purge_rows; /* 0: as usual */
    int64_t retry_ms;
};

void stored_begin(struct store_kit *kit);
/* Opens and recovers. False with kit->error. */
bool stored_try_open(struct store_kit *kit);
void stored_open(struct store_kit *kit);
void stored_close(struct store_kit *kit);
void stored_end(struct store_kit *kit);
/* Until what was asked for so far is on disk. */
void stored_sync(struct store_kit *kit);
void stored_turn(struct store_kit *kit); /* one that does not wait */
struct store_figures stored_figures(const struct store_kit *kit, uint64_t queue);

/* While it is closed: what a table of the durable file holds. */
size_t stored_entries(const struct store_kit *kit, const char *table);

struct message *stored_message(const char *key, size_t body_size);
void stored_add(struct store_kit *kit, const struct store_entry *entry, size_t body_size);
/* The rows are the kit's until the next read. */
void stored_read(struct store_kit *kit, uint64_t queue, uint8_t rank, uint64_t position, size_t count, size_t bytes);

#endif
