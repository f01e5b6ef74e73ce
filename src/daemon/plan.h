/* SPDX-License-Identifier: MIT */
/*
 * What a configuration means for the broker: the list of things to declare, in the order that needs the fewest refusals:
 * exchanges, queues, bindings; hark's own (dead letters, retry queues) first.
 */
#ifndef DAEMON_PLAN_H
#define DAEMON_PLAN_H

#include "client/topology.h"
#include "daemon/config.h"

struct plan {
    struct topology_item *items;
    size_t count, capacity;
    void **owned; /* strings and arrays that the items point to */
    size_t owned_count, owned_capacity;
};

/* delays: of the retries, in ms. The configuration must stay. NULL: no memory. */
struct plan *plan_new(const struct config *config, const int64_t *delays, size_t delay_count);
void plan_free(struct plan *plan);

/* Typed arguments as the client wants them; freed with the plan. */
const struct consumer_argument *plan_arguments(struct plan *plan, const struct config_arguments *arguments);

#endif
