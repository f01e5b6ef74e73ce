/* SPDX-License-Identifier: MIT */
/* What the dispatcher is joined to: the consumers that it acknowledges to, the publisher, and what is shared with the
 * supervisor. */
#include "daemon/worker_private.h"

static struct ticket worker_ticket(const struct dispatch_ticket *from)
{
    return (struct ticket){.consumer = from->consumer, .tag = from->tag, .epoch = from->epoch, .slot = from->slot};
}

static void worker_ack(void *arg, const struct dispatch_ticket *from)
{
    struct ticket ticket = worker_ticket(from);

    (void)arg;
    consumer_ack(&ticket);
}

static void worker_requeue(void *arg, const struct dispatch_ticket *from)
{
    struct ticket ticket = worker_ticket(from);

    (void)arg;
    consumer_requeue(&ticket);
}

static void worker_postpone(void *arg, const struct dispatch_ticket *from)
{
    struct ticket ticket = worker_ticket(from);

    (void)arg;
    consumer_postpone(&ticket);
}

static void worker_keep(struct worker *worker, struct outgoing *outgoing)
{
    struct outgoing **end = &worker->early;

    while (*end != NULL)
        end = &(*end)->next;
    outgoing->next = NULL;
    *end = outgoing;
}

static void worker_publish(void *arg, struct outgoing *outgoing)
{
    struct worker *worker = arg;

    if (outgoing->streamed > 0 && worker->publisher != NULL && worker->delivering != NULL)
        relay_start(&worker->relays, outgoing, &worker->delivering->relay);
    else if (outgoing->streamed > 0)
        outgoing->done(outgoing, OUTCOME_ABANDONED, "");
    else if (worker->publisher != NULL)
        publisher_send(worker->publisher, outgoing);
    else if (worker->plan == NULL) /* from a module's open(): there is no client yet */
        worker_keep(worker, outgoing);
    else
        outgoing->done(outgoing, OUTCOME_ABANDONED, "");
}

static void worker_enter(void *arg, const struct dispatch_call *call)
{
    struct worker *worker = arg;

    slot_enter(worker->start->slot, call->listener, call->queue, call->routing_key, call->message_id, call->identity);
}

static void worker_leave(void *arg)
{
    slot_leave(((struct worker *)arg)->start->slot);
}

static unsigned worker_crashes(void *arg, uint64_t identity)
{
    return crashes_count(((struct worker *)arg)->start->crashes, identity);
}

static void worker_forget(void *arg, uint64_t identity)
{
    crashes_forget(((struct worker *)arg)->start->crashes, identity);
}

static void worker_group(void *slot, pid_t pgid, bool alive)
{
    if (alive)
        slot_add_group(slot, pgid);
    else
        slot_remove_group(slot, pgid);
}

struct dispatch_ports worker_ports(struct worker *worker)
{
    return (struct dispatch_ports){
        .arg = worker,
        .ack = worker_ack,
        .requeue = worker_requeue,
        .postpone = worker_postpone,
        .publish = worker_publish,
        .redeclare = worker_redeclare,
        .enter = worker_enter,
        .leave = worker_leave,
        .crashes = worker_crashes,
        .forget = worker_forget,
        .group = worker_group,
        .group_arg = worker->start->slot,
    };
}
