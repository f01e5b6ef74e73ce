/* SPDX-License-Identifier: MIT */
#include "broker/turns.h"

#include "broker/queue.h"

#include <stdlib.h>
#include <utlist.h>

struct turns_level {
    int64_t priority;
    unsigned consumers;
    size_t place; /* in the heap, while somebody stands in the list */
    struct queue_consumer *list;
    UT_hash_handle hh; /* turns->levels */
};

/* ---- the heap: each is above the two at 2n + 1 and 2n + 2 ---- */

static void turns_place(struct turns *turns, struct turns_level *level, size_t place)
{
    turns->heap[place] = level;
    level->place = place;
}

/* To where it belongs, from a place that is free. */
static void turns_sift(struct turns *turns, struct turns_level *level, size_t place)
{
    size_t above, below;

    for (; place > 0 && turns->heap[above = (place - 1) / 2]->priority < level->priority; place = above)
        turns_place(turns, turns->heap[above], place);
    for (; (below = 2 * place + 1) < turns->standing; place = below) {
        if (below + 1 < turns->standing && turns->heap[below + 1]->priority > turns->heap[below]->priority)
            below++;
        if (turns->heap[below]->priority <= level->priority)
            break;
        turns_place(turns, turns->heap[below], place);
    }
    turns_place(turns, level, place);
}

static void turns_remove(struct turns *turns, const struct turns_level *level)
{
    struct turns_level *last = turns->heap[--turns->standing];

    if (last != level)
        turns_sift(turns, last, level->place);
}

/* ---- consumers ---- */

static int turns_make_room(struct turns *turns)
{
    size_t room = turns->room > 0 ? 2 * turns->room : 8;
    struct turns_level **heap;

    if (HASH_COUNT(turns->levels) < turns->room)
        return 0;
    heap = realloc(turns->heap, room * sizeof(struct turns_level *));
    if (heap == NULL)
        return -1;
    turns->heap = heap;
    turns->room = room;
    return 0;
}

int turns_join(struct turns *turns, struct queue_consumer *consumer)
{
    struct turns_level *level;

    if (HARK_LIKELY(consumer->priority == 0))
        return 0;
    HASH_FIND(hh, turns->levels, &consumer->priority, sizeof(level->priority), level);
    if (level == NULL) {
        level = turns_make_room(turns) == 0 ? calloc(1, sizeof(*level)) : NULL;
        if (level == NULL)
            return -1;
        level->priority = consumer->priority;
        HASH_ADD(hh, turns->levels, priority, sizeof(level->priority), level);
        if (level->hh.tbl == NULL) {
            free(level);
            return -1;
        }
    }
    level->consumers++;
    consumer->level = level;
    return 0;
}

void turns_leave(struct turns *turns, struct queue_consumer *consumer)
{
    struct turns_level *level = consumer->level;

    if (consumer->ready)
        turns_take(turns, consumer);
    consumer->level = NULL;
    if (level == NULL || --level->consumers > 0)
        return;
    HASH_DELETE(hh, turns->levels, level);
    free(level);
}

static struct queue_consumer **turns_list(struct turns *turns, const struct queue_consumer *consumer)
{
    return HARK_LIKELY(consumer->level == NULL) ? &turns->ordinary : &consumer->level->list;
}

void turns_put(struct turns *turns, struct queue_consumer *consumer)
{
    struct queue_consumer **list = turns_list(turns, consumer);

    if (HARK_UNLIKELY(consumer->level != NULL) && *list == NULL)
        turns_sift(turns, consumer->level, turns->standing++);
    DL_APPEND2(*list, consumer, ready_prev, ready_next);
    consumer->ready = true;
}

void turns_take(struct turns *turns, struct queue_consumer *consumer)
{
    struct queue_consumer **list = turns_list(turns, consumer);

    DL_DELETE2(*list, consumer, ready_prev, ready_next);
    consumer->ready = false;
    if (HARK_UNLIKELY(consumer->level != NULL) && *list == NULL)
        turns_remove(turns, consumer->level);
}

struct queue_consumer *turns_first(const struct turns *turns)
{
    if (HARK_UNLIKELY(turns->standing > 0) && (turns->ordinary == NULL || turns->heap[0]->priority > 0))
        return turns->heap[0]->list;
    return turns->ordinary;
}

void turns_rotate(struct turns *turns, struct queue_consumer *consumer)
{
    struct queue_consumer **list = turns_list(turns, consumer);

    if (consumer->ready_next == NULL)
        return;
    DL_DELETE2(*list, consumer, ready_prev, ready_next);
    DL_APPEND2(*list, consumer, ready_prev, ready_next);
}

void turns_free(struct turns *turns)
{
    free(turns->heap);
    *turns = (struct turns){0};
}
