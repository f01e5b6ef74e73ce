/* SPDX-License-Identifier: MIT */
/*
 * The tail of a long queue is on disk only.
 *
 * The rule that keeps it simple: all of the queue's messages whose key (rank, position) is at or
 * behind paged.rank, paged.position are on disk only, and all before are in memory only as far as this file is
 * concerned. To keep it true, what has been delivered and may come back must lie before: so nothing
 * before `top`, the highest key delivered while something is unsettled, is left to the disk.
 */
#include "broker/queue_private.h"

#include "base/log.h"

/* A read waits for the sync that is going on, some milliseconds: what is in memory has to last for as long. */
#define PAGE_LOW 2048                /* fewer ready messages in memory (no more than BROKER_KEEP), */
#define PAGE_COUNT 8192              /* messages read at once, */
#define PAGE_BYTES (4 * 1024 * 1024) /* or bytes of bodies, both in memory and read */
#define PAGE_FEW 64                  /* when nobody takes them, and only their time or number matters: at first, */
#define PAGE_FEW_BYTES 65536         /* then twice as much each time that all of them had to go */
#define PAGE_GONE 16384              /* up to so many */

void queue_add_paged(struct queue *queue, const struct entry *given)
{
    struct entry entry = *given;
    struct store_entry row = queue_row(queue, &entry);

    if (!entry.stored) {
        row.transient = true;
        row.shared = 0;
        store_add(queue_broker(queue)->store, &row, entry.message, &entry.ticket);
    } else if (entry.redelivered) {
        store_update(queue_broker(queue)->store, &row);
    }
    if (queue->paged.count == 0 || entry.rank < queue->paged.rank ||
        (entry.rank == queue->paged.rank && entry.position < queue->paged.position)) {
        queue->paged.rank = entry.rank;
        queue->paged.position = entry.position;
    }
    queue->paged.count++;
    queue->paged.bytes += entry.message->body.length;
    queue_drop_entry(queue, &entry);
}

uint64_t queue_page_out(struct queue *queue, uint64_t keep, bool stored_only, uint64_t most)
{
    uint64_t in_memory = queue->ready_count - queue->paged.count, before = in_memory;

    if (queue->paged.read != NULL)
        return 0; /* it is on its way the other way */
    for (unsigned i = queue->ring_count; i > 0 && in_memory > keep; i--) {
        struct ring *ring = &queue->rings[i - 1];

        while (ring->count > 0 && in_memory > keep) {
            struct entry entry = *ring_at(ring, ring->count - 1);

            if (before - in_memory == most || (stored_only && !entry.stored) ||
                (queue->unacked_count > 0 &&
                 (entry.rank < queue->top_rank || (entry.rank == queue->top_rank && entry.position < queue->top))))
                return before - in_memory;
            ring_drop_last(ring);
            queue_add_paged(queue, &entry);
            in_memory--;
        }
        ring_trim(ring);
    }
    return before - in_memory;
}

/* What came while the disk was read: now it is known what lies before it. */
static void queue_sort_late(struct queue *queue)
{
    struct ring *late = &queue->paged.late;

    for (; late->count > 0; ring_drop_first(late)) {
        struct entry *entry = ring_first(late);

        if (queue_is_paged(queue, entry->rank, entry->position) ||
            ring_insert(queue_ring(queue, entry->rank, false), entry) != 0)
            queue_add_paged(queue, entry);
    }
    ring_free(late);
}

/* Takes the message of a row into memory. -1: no memory. */
static int queue_load(struct queue *queue, struct store_row *row)
{
    struct entry entry = {
        .message = row->message,
        .position = row->entry.position,
        .shared = row->entry.shared,
        .expires = row->entry.expires,
        .deliveries = row->entry.deliveries,
        .rank = row->entry.rank < queue->ranks ? row->entry.rank : (uint8_t)(queue->ranks - 1),
        .stored = true,
        .transient = row->entry.transient,
        .redelivered = row->entry.redelivered || row->entry.position < queue->restored,
    };
    size_t bytes = entry.message->body.length;

    if (ring_insert(queue_ring(queue, entry.rank, false), &entry) != 0)
        return -1;
    broker_charge_entry(queue_broker(queue), &entry);
    queue->expiring |= entry.expires != 0;
    queue->paged.rank = row->entry.rank;
    queue->paged.position = entry.position + 1;
    queue->paged.count -= queue->paged.count > 0;
    queue->paged.bytes -= bytes < queue->paged.bytes ? bytes : queue->paged.bytes;
    return 0;
}

/* What is on disk counts no longer. */
static void queue_forget_paged(struct queue *queue)
{
    queue_broker(queue)->ready_count -= queue->paged.count;
    queue->ready_count -= queue->paged.count;
    queue->ready_bytes -= queue->paged.bytes;
    queue->paged.count = queue->paged.bytes = 0;
}

static void queue_paged_in(void *arg, struct store_row *rows, size_t count, bool end)
{
    struct queue *queue = arg;

    queue->paged.read = NULL;
    for (size_t i = 0; i < count; i++) {
        if (queue->ranks > 1 && rows[i].entry.position >= queue->paged.read_until) {
            message_drop(rows[i].message); /* in `late` */
        } else if (queue_load(queue, &rows[i]) != 0) {
            for (; i < count; i++) /* stays on disk, and with it all behind */
                message_drop(rows[i].message);
            end = false;
        }
    }
    if (end && queue->paged.count > 0 && (queue->ranks > 1 || queue->next_position == queue->paged.read_until)) {
        log_error("queue '%.*s' in vhost '%s': %llu messages that should be on disk are not there",
                  (int)queue->name.length, (const char *)queue->name.data, queue->vhost->name,
                  (unsigned long long)queue->paged.count);
        queue_forget_paged(queue);
    }
    queue_sort_late(queue);
    queue_trim(queue);
    queue_serve_getters(queue);
    queue_schedule(queue);
}

/* Whether anybody wants the messages: a queue that nobody looks at stays on disk. */
static bool queue_is_wanted(const struct queue *queue, uint64_t in_memory)
{
    return queue->consumers != NULL || queue->getters != NULL ||
           (in_memory == 0 && (queue->policy.message_ttl >= 0 || queue->policy.max_length >= 0 ||
                               queue->policy.max_bytes >= 0 || queue->expiring));
}

void queue_page_in(struct queue *queue)
{
    bool taken = queue->consumers != NULL || queue->getters != NULL;
    size_t piece = PAGE_COUNT, bytes = PAGE_BYTES;
    uint64_t in_memory;

    if (HARK_LIKELY(queue->paged.count == 0) || queue->paged.read != NULL)
        return;
    in_memory = queue->ready_count - queue->paged.count;
    if (in_memory > 0)
        queue->paged.piece = 0;
    if (in_memory >= PAGE_LOW || !queue_is_wanted(queue, in_memory) ||
        (in_memory > 0 && queue->ready_bytes - queue->paged.bytes >= PAGE_BYTES))
        return;
    if (!taken && queue->policy.has_dead_exchange && deaths_hold(queue))
        return; /* those that have been read are dead letters that wait: they would be more and more */
    if (!taken) {
        piece = queue->paged.piece == 0 ? PAGE_FEW : 2 * queue->paged.piece;
        queue->paged.piece = (uint32_t)(piece < PAGE_GONE ? piece : PAGE_GONE);
        piece = queue->paged.piece;
        bytes = PAGE_FEW_BYTES / PAGE_FEW * piece;
    }
    queue->paged.read_until = queue->next_position;
    queue->paged.read = store_read(queue_broker(queue)->store, queue->id, queue->paged.rank, queue->paged.position,
                                   piece, bytes < PAGE_BYTES ? bytes : PAGE_BYTES, queue_paged_in, queue);
    if (queue->paged.read == NULL)
        log_error("queue '%.*s' in vhost '%s': no memory to read it from disk", (int)queue->name.length,
                  (const char *)queue->name.data, queue->vhost->name);
}

void queue_purge_paged(struct queue *queue)
{
    if (queue->paged.read != NULL)
        store_read_cancel(queue->paged.read);
    queue->paged.read = NULL;
    for (; queue->paged.late.count > 0; ring_drop_first(&queue->paged.late)) {
        struct entry *entry = ring_first(&queue->paged.late);

        queue->ready_bytes -= entry->message->body.length;
        queue->ready_count--;
        queue_broker(queue)->ready_count--;
        queue_forget_entry(queue, entry);
    }
    if (queue->paged.count == 0)
        return;
    store_purge(queue_broker(queue)->store, queue->id, queue->paged.rank, queue->paged.position);
    queue_forget_paged(queue);
}

void queue_restore(struct queue *queue, const struct store_figures *figures)
{
    queue->next_position = figures->next_position;
    queue->restored = queue->delivered = figures->delivered;
    queue->paged.count = figures->count;
    queue->paged.bytes = figures->bytes;
    queue->paged.rank = 0;
    queue->paged.position = 0;
    queue->expiring = figures->count > 0; /* for all that is known: the first ones will tell */
    queue->ready_count = figures->count;
    queue->ready_bytes = figures->bytes;
    queue_broker(queue)->ready_count += figures->count;
    queue_schedule(queue);
}
