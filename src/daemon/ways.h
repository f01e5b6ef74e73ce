/* SPDX-License-Identifier: MIT */
/*
 * The bindings of a configuration, found by the exchange that they start from, and by key where a key leads to few of
 * them: with thousands of queues and listeners each key would otherwise be held against every binding. Made once all
 * sections are read; points into the configuration and belongs to it.
 */
#ifndef DAEMON_WAYS_H
#define DAEMON_WAYS_H

#include "daemon/config.h"

struct way {
    const struct config_binding *binding;
    const struct config_queue *queue;       /* where it leads to; NULL: */
    const struct config_exchange *exchange; /* there */
    size_t order;                           /* queues first, then exchanges, as in the file */
    bool open;                              /* its pattern has wildcards, or is empty: it may pass more keys than one */
};

/* Those that are next, of one or two sorted rows. */
struct ways_cursor {
    const struct way *const *at[2], *const *end[2];
};

struct ways *ways_new(const struct config *config) HARK_MUSTCHECK; /* NULL: no memory */
void ways_free(struct ways *ways);

/* The ways from an exchange, in their order. With a key, none is left out that is open or has that very pattern. */
struct ways_cursor ways_from(const struct ways *ways, const char *exchange, const char *key);
const struct way *ways_next(struct ways_cursor *cursor);

#endif
