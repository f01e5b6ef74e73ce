/* SPDX-License-Identifier: MIT */
#include "dispatch/dispatcher.h"

#include "dispatch/parts.h"

#include <stdlib.h>
#include <stdio.h>
#include <sys/random.h>

struct dispatcher *dispatcher_new(const struct dispatch_options *options, const struct dispatch_ports *ports)
{
    struct dispatcher *dispatcher = calloc(1, sizeof(*dispatcher));

    if (dispatcher == NULL)
        return NULL;
    dispatcher->options = *options;
    dispatcher->ports = *ports;
    if (getrandom(dispatcher->seed, sizeof(dispatcher->seed), 0) != sizeof(dispatcher->seed) ||
        timers_init(&dispatcher->timers, options->base) != 0) {
        free(dispatcher);
        return NULL;
    }
    return dispatcher;
}

struct dispatch_queue *dispatcher_add_queue(struct dispatcher *dispatcher, const char *name, int64_t dedup_window)
{
    struct dispatch_queue *queue = calloc(1, sizeof(*queue));

    if (queue == NULL)
        return NULL;
    queue->dispatcher = dispatcher;
    queue->name = span_str(name);
    queue->dedup_window = dedup_window;
    queue->dead_letters = name[0] != '\0' && strcmp(name, dispatcher->options.dead_letter_queue) == 0;
    queue->said = (struct log_limit){.burst = 10, .period_ms = 10000};
    queue->patterns = topic_tree_new();
    if (queue->patterns == NULL) {
        free(queue);
        return NULL;
    }
    queue->next = dispatcher->queues;
    dispatcher->queues = queue;
    return queue;
}

static struct dispatch_queue *dispatcher_queue(const struct dispatcher *dispatcher, const char *name)
{
    struct dispatch_queue *queue = dispatcher->queues;

    while (queue != NULL && !span_is(queue->name, name))
        queue = queue->next;
    return queue;
}

/* The patterns of a listener that was just made, into the trees of its queues. */
static int dispatcher_listen(struct dispatcher *dispatcher, const struct dispatch_listener *listener, uint32_t index)
{
    for (size_t i = 0; i < listener->queue_count; i++) {
        struct dispatch_queue *queue = dispatcher_queue(dispatcher, listener->queues[i]);
        uint32_t *matches;

        if (queue == NULL) {
            log_error("listener[%s]: there is no queue \"%s\"", listener->name, listener->queues[i]);
            return -1;
        }
        matches = realloc(queue->matches, (queue->match_size + 1) * sizeof(*matches));
        if (matches == NULL)
            return -1;
        queue->matches = matches;
        queue->match_size++;
        for (size_t k = 0; k < listener->pattern_count; k++)
            if (topic_tree_add(queue->patterns, span_str(listener->patterns[k]), index) != 0)
                return -1;
    }
    return 0;
}

int dispatcher_add_listener(struct dispatcher *dispatcher, const struct dispatch_listener *listener)
{
    size_t count = dispatcher->instance_count;
    struct hark_instance **instances = realloc(dispatcher->instances, (count + 1) * sizeof(struct hark_instance *));
    struct hark_instance *instance;

    if (instances == NULL)
        return -1;
    dispatcher->instances = instances;
    instance = instance_new(dispatcher, listener);
    if (instance == NULL)
        return -1;
    instances[count] = instance;
    dispatcher->instance_count++;
    if (dispatcher_listen(dispatcher, listener, (uint32_t)count) != 0)
        return -1;
    instance->listener.queues = instance->listener.patterns = NULL; /* the trees have them now */
    return instance_open(instance);
}

/* ---- a delivery ---- */

static struct hark_instance *dispatcher_instance(const struct dispatcher *dispatcher, struct span name)
{
    for (size_t i = 0; i < dispatcher->instance_count; i++)
        if (span_equal(dispatcher->instances[i]->name, name))
            return dispatcher->instances[i];
    return NULL;
}

/* A delivery that no listener is to see. */
static void dispatcher_bury(struct delivery *delivery, const char *reason, const char *why)
{
    event_init(&delivery->events[0], delivery, NULL);
    event_set_why(&delivery->events[0], "%s", why);
    event_dead_letter(&delivery->events[0], reason);
    delivery_release(delivery);
}

static void dispatcher_run(struct delivery *delivery, struct hark_instance *const *instances, const uint32_t *matches)
{
    struct dispatcher *dispatcher = delivery->queue->dispatcher;

    /* All events first: one that settles at once must find its siblings there. */
    for (uint16_t i = 0; i < delivery->event_count; i++)
        event_init(&delivery->events[i], delivery, instances[matches[i]]);
    for (uint16_t i = 0; i < delivery->event_count; i++) {
        struct hark_event *event = &delivery->events[i];
        unsigned crashes = 0;

        if (delivery->redelivered && dispatcher->ports.crashes != NULL)
            crashes = dispatcher->ports.crashes(dispatcher->ports.arg,
                                                delivery_hash(delivery) ^ event->instance->name_hash);
        if (HARK_UNLIKELY(crashes > 0 && crashes >= dispatcher->options.crash_limit)) {
            event_set_why(event, "it has brought down %u workers", crashes);
            event_dead_letter(event, "crashed");
        } else {
            instance_start(event);
        }
    }
    delivery_release(delivery);
}

static int64_t dispatcher_hops(const struct message *message)
{
    struct table_entry entry;
    int64_t hops;

    if (message->properties.headers.length == 0 ||
        !table_find(message->properties.headers, span_str("x-hark-hops"), &entry) || !table_integer(&entry, &hops) ||
        hops < 0)
        return 0;
    return hops;
}

static void dispatcher_no_memory(struct dispatch_queue *queue, const struct dispatch_ticket *ticket,
                                 struct message *message)
{
    const struct dispatch_ports *ports = &queue->dispatcher->ports;

    log_error("queue[%s]: out of memory for a delivery: it goes back to its queue after a pause",
              (const char *)queue->name.data);
    message_drop(message);
    ports->postpone(ports->arg, ticket);
}

static void dispatcher_take(struct dispatch_queue *queue, const struct dispatch_ticket *ticket, bool redelivered,
                            struct message *message, uint64_t oversized, int64_t attempts)
{
    struct dispatcher *dispatcher = queue->dispatcher;
    struct unwrapped unwrapped = {.attempts = attempts};
    struct hark_instance *only = NULL;
    struct message *outer = NULL;
    struct delivery *delivery;
    uint32_t one, *matches = queue->matches;
    size_t count = 0;
    int64_t hops = 0;
    char why[160];

    dispatcher->counters.consumed++;
    if (message->properties.headers.length > 0) {
        struct unwrapped found;
        struct message *inner = wrap_open(queue, message, &found);

        if (inner != NULL) {
            unwrapped = found;
            outer = message; /* unwrapped points into it, and so does the body */
            message = inner;
        } else if (found.no_memory) { /* as it is it would go to others */
            dispatcher_no_memory(queue, ticket, message);
            return;
        }
        hops = dispatcher_hops(message);
    }
    if (unwrapped.listener.length > 0) {
        only = dispatcher_instance(dispatcher, unwrapped.listener);
        for (size_t i = 0; only != NULL && i < dispatcher->instance_count; i++)
            if (dispatcher->instances[i] == only)
                one = (uint32_t)i;
        if (only != NULL) {
            matches = &one;
            count = 1;
        }
    } else {
        count = topic_tree_match(queue->patterns, message->routing_key, queue->matches, queue->match_size);
    }
    if (oversized > 0 || hops >= (int64_t)dispatcher->options.max_hops)
        count = 0;

    delivery = delivery_new(queue, ticket, redelivered, message, (uint16_t)(count > 0 ? count : 1));
    if (delivery == NULL) {
        dispatcher_no_memory(queue, ticket, message);
        message_drop(outer);
        return;
    }
    if (outer != NULL)
        delivery->carrier = message_hold(outer);
    delivery->hops = hops;
    delivery->round = unwrapped.round;
    delivery->oversized = oversized;
    delivery->attempt = (uint32_t)(unwrapped.attempts < UINT16_MAX ? unwrapped.attempts : UINT16_MAX) + 1;
    if (count == 0 && unwrapped.listener.length > 0)
        delivery->meant_for = strndup((const char *)unwrapped.listener.data, unwrapped.listener.length);
    if (unwrapped.id.length > 0 && unwrapped.id.length <= sizeof(delivery->id)) {
        memcpy(delivery->id, unwrapped.id.data, unwrapped.id.length);
        delivery->id_length = (uint8_t)unwrapped.id.length;
        delivery->named = true;
    }
    if (queue->dedup_window > 0 && duplicates_catch(delivery, unwrapped.listener)) {
        delivery->pending -= delivery->event_count;
        delivery->event_count = 0;
        delivery_release(delivery);
    } else if (count > 0) {
        dispatcher_run(delivery, dispatcher->instances, matches);
    } else if (oversized > 0) {
        snprintf(why, sizeof(why), "a body of %llu bytes is larger than max_message_size",
                 (unsigned long long)oversized);
        dispatcher_bury(delivery, "too-large", why);
    } else if (hops >= (int64_t)dispatcher->options.max_hops) {
        snprintf(why, sizeof(why), "%lld hops: listeners emit in a circle", (long long)hops);
        dispatcher_bury(delivery, "hops", why);
    } else if (unwrapped.listener.length > 0) {
        snprintf(why, sizeof(why), "listener \"%.*s\" does not exist (any more)",
                 (int)(unwrapped.listener.length < 100 ? unwrapped.listener.length : 100),
                 (const char *)unwrapped.listener.data);
        dispatcher_bury(delivery, "no-listener", why);
    } else {
        dispatcher->counters.unheard++;
        dispatcher_bury(delivery, "no-listener", "no listener on this queue matches its routing key");
    }
    message_drop(outer);
}

void dispatcher_deliver(struct dispatch_queue *queue, const struct dispatch_ticket *ticket, bool redelivered,
                        struct message *message, uint64_t oversized)
{
    dispatcher_take(queue, ticket, redelivered, message, oversized, 0);
}

void dispatcher_deliver_attempt(struct dispatch_queue *queue, const struct dispatch_ticket *ticket, bool redelivered,
                                struct message *message, unsigned attempt)
{
    dispatcher_take(queue, ticket, redelivered, message, 0, (int64_t)attempt - 1);
}

/* ---- the end ---- */

void dispatcher_check_drained(struct dispatcher *dispatcher)
{
    void (*drained)(void *) = dispatcher->drained;

    if (!dispatcher->draining || dispatcher->in_hand != NULL || drained == NULL)
        return;
    dispatcher->drained = NULL;
    drained(dispatcher->drained_arg);
}

void dispatcher_drain(struct dispatcher *dispatcher, void (*done)(void *arg), void *arg)
{
    dispatcher->draining = true;
    dispatcher->drained = done;
    dispatcher->drained_arg = arg;
    dispatcher_check_drained(dispatcher);
}

static bool dispatcher_not_begun(const struct delivery *delivery)
{
    for (uint16_t i = 0; i < delivery->event_count; i++)
        if (delivery->events[i].state != EVENT_WAITING)
            return false;
    return delivery->event_count > 0;
}

/* Abandons all of what is in hand, or (queue given) what of that queue no listener was called with yet. All is held
 * first: the end of one may be the end of its twins, anywhere in the list. */
static void dispatcher_let_go(struct dispatcher *dispatcher, const struct dispatch_queue *queue)
{
    struct delivery *delivery, *next;

    for (delivery = dispatcher->in_hand; delivery != NULL; delivery = delivery->next)
        delivery->pending++;
    for (delivery = dispatcher->in_hand; delivery != NULL; delivery = delivery->next) {
        if (queue != NULL && (delivery->queue != queue || !dispatcher_not_begun(delivery)))
            continue;
        for (uint16_t i = 0; i < delivery->event_count; i++)
            event_abandon(&delivery->events[i]);
    }
    for (delivery = dispatcher->in_hand; delivery != NULL; delivery = next) {
        next = delivery->next;
        delivery_release(delivery);
    }
}

void dispatcher_void(struct dispatch_queue *queue)
{
    dispatcher_let_go(queue->dispatcher, queue);
}

void dispatcher_abandon(struct dispatcher *dispatcher)
{
    dispatcher_let_go(dispatcher, NULL);
}

void dispatcher_free(struct dispatcher *dispatcher)
{
    dispatcher_abandon(dispatcher);
    for (size_t i = dispatcher->instance_count; i > 0; i--)
        instance_free(dispatcher->instances[i - 1]);
    free(dispatcher->instances);
    while (dispatcher->in_hand != NULL) { /* what modules have not let go of */
        struct delivery *delivery = dispatcher->in_hand;

        for (uint16_t i = 0; i < delivery->event_count; i++)
            event_forget(&delivery->events[i]);
        delivery_dispose(delivery);
    }
    while (dispatcher->queues != NULL) {
        struct dispatch_queue *queue = dispatcher->queues;

        dispatcher->queues = queue->next;
        topic_tree_free(queue->patterns);
        free(queue->matches);
        free(queue->in_hand);
        free(queue);
    }
    delivery_free_spares(dispatcher);
    timers_close(&dispatcher->timers);
    buf_free(&dispatcher->headers);
    buf_free(&dispatcher->properties);
    free(dispatcher);
}

const struct dispatch_counters *dispatcher_counters(const struct dispatcher *dispatcher)
{
    return &dispatcher->counters;
}

bool dispatcher_has_own_events(const struct dispatcher *dispatcher)
{
    return dispatcher->own_events;
}

void dispatcher_set_frame_max(struct dispatcher *dispatcher, uint32_t frame_max)
{
    dispatcher->options.frame_max = frame_max;
}

/* Into the sorted array, once. */
static size_t delays_put(int64_t *delays, size_t count, size_t size, int64_t delay)
{
    size_t at = 0;

    while (at < count && delays[at] < delay)
        at++;
    if ((at < count && delays[at] == delay) || count == size)
        return count;
    memmove(&delays[at + 1], &delays[at], (count - at) * sizeof(*delays));
    delays[at] = delay;
    return count + 1;
}

size_t dispatcher_delays(const struct dispatcher *dispatcher, int64_t *delays, size_t size)
{
    size_t count = 0;

    for (const struct dispatch_queue *queue = dispatcher->queues; queue != NULL; queue = queue->next)
        if (queue->dead_letters)
            count = delays_put(delays, count, size, DISPATCH_DEAD_PAUSE);
    for (size_t i = 0; i < dispatcher->instance_count; i++) {
        const struct dispatch_listener *listener = &dispatcher->instances[i]->listener;

        for (size_t k = 0; k < listener->retry_count; k++)
            count = delays_put(delays, count, size, listener->retry[k]);
    }
    return count;
}

void dispatcher_advance(struct dispatcher *dispatcher, int64_t ms)
{
    timers_advance(&dispatcher->timers, ms);
}
