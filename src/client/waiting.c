/* SPDX-License-Identifier: MIT */
#include "client/waiting.h"

void waiting_init(struct waiting *waiting)
{
    *waiting = (struct waiting){.end = &waiting->first};
}

void waiting_append(struct waiting *waiting, struct outgoing *outgoing)
{
    outgoing->next = NULL;
    *waiting->end = outgoing;
    waiting->end = &outgoing->next;
    waiting->count++;
}

struct outgoing *waiting_take(struct waiting *waiting)
{
    struct outgoing *outgoing = waiting->first;

    waiting->first = outgoing->next;
    if (waiting->first == NULL)
        waiting->end = &waiting->first;
    waiting->count--;
    outgoing->next = NULL;
    return outgoing;
}

void waiting_put_back(struct waiting *waiting, struct outgoing *first)
{
    struct outgoing **end = &first;

    for (; *end != NULL; end = &(*end)->next)
        waiting->count++;
    if (first == NULL)
        return;
    *end = waiting->first;
    if (waiting->first == NULL)
        waiting->end = end;
    waiting->first = first;
}
