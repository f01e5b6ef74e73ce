/* SPDX-License-Identifier: MIT */
/* What a publisher has not put on its link yet: a list, in the order in which it is to go. */
#ifndef CLIENT_WAITING_H
#define CLIENT_WAITING_H

#include "wire/outgoing.h"

struct waiting {
    struct outgoing *first, **end;
    size_t count;
};

void waiting_init(struct waiting *waiting);
void waiting_append(struct waiting *waiting, struct outgoing *outgoing);
/* The first; there must be one. */
struct outgoing *waiting_take(struct waiting *waiting);
/* To the front, in their order: that one and those behind its `next`. NULL: none. */
void waiting_put_back(struct waiting *waiting, struct outgoing *first);

#endif
