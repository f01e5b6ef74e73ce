/* SPDX-License-Identifier: MIT */
/* A queue's life: made, compared, deleted. */
#include "broker/queue.h"

#include "broker/arguments.h"
#include "broker/exchange.h"
#include "broker/peer.h"
#include "broker/peer_channel.h"
#include "broker/queue_private.h"
#include "broker/records.h"

#include <stdlib.h>
#include <utlist.h>

static void queue_run(struct loop_task *task);

struct queue *queue_new(struct vhost *vhost, const struct queue_options *options, const struct queue_policy *policy,
                        uint64_t id)
{
    size_t name = options->name.length, arguments = options->arguments.length;
    struct broker *broker = vhost->broker;
    struct queue *queue = calloc(1, sizeof(*queue) + name + arguments);
    struct queue_options own = *options;
    struct reply unused;

    if (queue == NULL)
        return NULL;
    queue->vhost = vhost;
    queue->references = 1;
    if (name > 0)
        memcpy(queue->bytes, options->name.data, name);
    if (arguments > 0)
        memcpy(queue->bytes + name, options->arguments.data, arguments);
    queue->name = span_of(queue->bytes, name);
    queue->arguments = span_of(queue->bytes + name, arguments);
    /* Once more, for spans that point into our own copy. */
    queue->policy = *policy;
    own.arguments = queue->arguments;
    if (queue_policy_read(&own, vhost->name, &queue->policy, &unused) != 0)
        goto fail;
    queue->durable = options->durable;
    queue->auto_delete = options->auto_delete;
    queue->exclusive = options->exclusive;
    queue->owner = options->owner;
    queue->ranks = queue->policy.max_priority + 1U;
    queue->ring_count = 2 * queue->ranks;
    queue->rings = calloc(queue->ring_count, sizeof(*queue->rings));
    queue->timer = evtimer_new(loop_base(broker->loop), queue_tick, queue);
    queue->run.run = queue_run;
    if (queue->rings == NULL || queue->timer == NULL)
        goto fail;
    HASH_ADD_KEYPTR(hh, vhost->queues, queue->bytes, name, queue);
    if (queue->hh.tbl == NULL)
        goto fail;
    queue->id = id != 0 ? id : broker->next_queue++;
    vhost->queue_count++;
    vhost->generation++;
    broker->queue_count++;
    if (queue->owner != NULL)
        DL_APPEND2(queue->owner->exclusives, queue, owner_prev, owner_next);
    if (queue->durable && id == 0)
        record_queue(queue, true);
    queue_used(queue);
    return queue;

fail:
    if (queue->timer != NULL)
        event_free(queue->timer);
    free(queue->rings);
    free(queue);
    return NULL;
}

/* Without a type it is a classic one. */
static bool queue_wants_quorum(struct span arguments)
{
    struct table_entry type;

    return table_find(arguments, span_str("x-queue-type"), &type) && span_is(type.value, "quorum");
}

int queue_equals(const struct queue *queue, const struct queue_options *options, struct reply *error)
{
    static const char *const compared[] = {
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-overflow",
        "x-queue-mode",
        "x-single-active-consumer",
        "x-delivery-limit",
    };
    const char *vhost = queue->vhost->name;
    char what[300];

    snprintf(what, sizeof(what), "queue '%.*s'", (int)queue->name.length, (const char *)queue->name.data);
    if (arguments_same_flag("durable", what, vhost, options->durable, queue->durable, error) != 0 ||
        arguments_same_flag("auto_delete", what, vhost, options->auto_delete, queue->auto_delete, error) != 0)
        return -1;
    if (queue->policy.quorum != queue_wants_quorum(options->arguments) &&
        arguments_same("x-queue-type", what, vhost, options->arguments, queue->arguments, error) != 0)
        return -1;
    for (size_t i = 0; i < HARK_COUNT(compared); i++)
        if (arguments_same(compared[i], what, vhost, options->arguments, queue->arguments, error) != 0)
            return -1;
    return 0;
}

void queue_release(struct queue *queue)
{
    if (--queue->references > 0)
        return;
    turns_free(&queue->turns);
    free(queue->rings);
    free(queue);
}

/* Out of its vhost; entries in memory go. What is delivered and not settled keeps the struct. */
static void queue_leave(struct queue *queue)
{
    struct broker *broker = queue_broker(queue);
    struct vhost *vhost = queue->vhost;

    queue->deleted = true;
    HASH_DELETE(hh, vhost->queues, queue);
    vhost->queue_count--;
    vhost->generation++;
    broker->queue_count--;
    broker->ready_count -= queue->ready_count;
    loop_task_cancel(&queue->run);
    deaths_let_go(queue);
    event_free(queue->timer);
    queue->timer = NULL;
    if (queue->paged.read != NULL)
        store_read_cancel(queue->paged.read);
    queue->paged.read = NULL;
    if (queue->owner != NULL)
        DL_DELETE2(queue->owner->exclusives, queue, owner_prev, owner_next);
    queue->owner = NULL;
    for (unsigned i = 0; i < queue->ring_count; i++)
        leavings_take(broker, &queue->rings[i]);
    leavings_take(broker, &queue->paged.late);
    queue->ready_count = queue->ready_bytes = queue->paged.count = queue->paged.bytes = 0;
}

void queue_free(struct queue *queue)
{
    struct binding *binding, *next;

    for (binding = queue->bindings; binding != NULL; binding = next) {
        next = binding->in_next;
        binding->queue = NULL; /* freed with its source */
    }
    queue_leave(queue);
    queue_release(queue);
}

void queue_delete(struct queue *queue)
{
    struct broker *broker = queue_broker(queue);

    if (queue->deleted)
        return;
    queue->deleted = true; /* nobody waits for it or deletes it a second time from here on */
    while (queue->consumers != NULL)
        peer_channel_cancelled(queue->consumers);
    queue_serve_getters(queue);
    binding_remove_all(&queue->bindings);
    if (queue->durable)
        record_queue(queue, false);
    store_drop_queue(broker->store, queue->id);
    queue_leave(queue);
    queue_release(queue);
}

/* ---- deliveries ---- */

void queue_schedule(struct queue *queue)
{
    loop_defer(queue_broker(queue)->loop, &queue->run);
}

/* Who is next: the first that can. Those that cannot leave the list until something changes for them. */
static struct queue_consumer *queue_next_consumer(struct queue *queue)
{
    struct queue_consumer *consumer;

    while ((consumer = queue->policy.single_active ? queue_elect(queue) : turns_first(&queue->turns)) != NULL) {
        if (HARK_LIKELY(peer_channel_may_deliver(consumer)))
            return consumer;
        if (consumer->ready)
            turns_take(&queue->turns, consumer);
        if (queue->policy.single_active)
            return NULL;
    }
    return NULL;
}

void queue_deliver(struct queue *queue)
{
    int64_t now = queue->expiring ? loop_wall(queue_broker(queue)->loop) : 0;
    struct queue_consumer *consumer;
    struct ring *ring;
    struct entry *first, entry;

    while ((first = queue_first(queue, &ring)) != NULL) {
        if (HARK_UNLIKELY(now != 0 && queue_has_expired(queue, ring, first, now, false))) {
            entry = *first; /* it stood behind one with more time */
            queue_unlink_first(queue, ring, first);
            deaths_add(queue, &entry, DEATH_EXPIRED);
            continue;
        }
        consumer = queue_next_consumer(queue);
        if (consumer == NULL)
            return;
        queue_hand_over(queue, ring, first, &entry);
        peer_channel_deliver(consumer, &entry);
        if (consumer->ready)
            turns_rotate(&queue->turns, consumer);
    }
}

static void queue_do(struct queue *queue)
{
    int64_t now = queue->expiring ? loop_wall(queue_broker(queue)->loop) : 0;

    if (queue->came_back)
        queue_trim_returned(queue);
    if (now != 0)
        queue_expire(queue, now, false);
    if (queue->policy.single_active)
        queue_elect(queue);
    queue_deliver(queue);
    queue_trim(queue);
    if (now != 0)
        queue_expire(queue, now, true);
}

void queue_catch_up(struct queue *queue)
{
    if (queue->run.queued != NULL)
        queue_do(queue);
}

static void queue_run(struct loop_task *task)
{
    struct queue *queue = HARK_CONTAINER(task, struct queue, run);

    queue_do(queue);
    if (queue->durable && queue->delivered > queue->delivered_said) {
        queue->delivered_said = queue->delivered;
        store_delivered(queue_broker(queue)->store, queue->id, queue->delivered);
    }
    queue_page_in(queue);
    queue_set_timer(queue);
    deaths_run(queue_broker(queue));
}
