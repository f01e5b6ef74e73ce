/* SPDX-License-Identifier: MIT */
/* An instance: one listener in this worker. Who may run now, who waits, and who has taken too long. */
#include "dispatch/parts.h"

#include <stdlib.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static void list_append(struct event_list *list, struct hark_event *event)
{
    event->previous = list->last;
    event->next = NULL;
    if (list->last != NULL)
        list->last->next = event;
    else
        list->first = event;
    list->last = event;
}

static void list_remove(struct event_list *list, struct hark_event *event)
{
    if (event->previous != NULL)
        event->previous->next = event->next;
    else
        list->first = event->next;
    if (event->next != NULL)
        event->next->previous = event->previous;
    else
        list->last = event->previous;
    event->previous = event->next = NULL;
}

void instance_forget(struct hark_event *event)
{
    struct hark_instance *instance = event->instance;

    if (event->state == EVENT_WAITING) {
        list_remove(&instance->waiting, event);
    } else if (event->state == EVENT_LATER) {
        list_remove(&instance->later, event);
        instance->running--;
    }
}

static uint64_t instance_identity(const struct hark_instance *instance, struct delivery *delivery)
{
    return delivery_hash(delivery) ^ instance->name_hash;
}

void instance_enter(struct hark_instance *instance, struct hark_event *event)
{
    struct dispatch_ports *ports = &instance->dispatcher->ports;
    struct dispatch_call call = {.listener = instance->name};

    instance->calling = event;
    if (ports->enter == NULL)
        return;
    if (event != NULL) {
        struct delivery *delivery = event->delivery;

        call.queue = delivery->queue->name;
        call.routing_key = delivery->message->routing_key;
        call.message_id = message_id(delivery->message);
        call.identity = instance_identity(instance, delivery);
    }
    ports->enter(ports->arg, &call);
}

void instance_resume(struct hark_instance *instance, const struct about *about)
{
    struct dispatch_ports *ports = &instance->dispatcher->ports;
    struct dispatch_call call = {
        .listener = instance->name,
        .queue = about->queue,
        .routing_key = span_of(about->key, about->key_length),
        .message_id = span_of(about->id, about->id_length),
        .identity = about->identity,
    };

    instance->about = about;
    if (ports->enter != NULL)
        ports->enter(ports->arg, &call);
}

void instance_leave(struct hark_instance *instance)
{
    instance->calling = NULL;
    instance->about = NULL;
    if (instance->dispatcher->ports.leave != NULL)
        instance->dispatcher->ports.leave(instance->dispatcher->ports.arg);
}

static uint8_t about_put(char *to, struct span from)
{
    uint8_t length = (uint8_t)(from.length < 255 ? from.length : 255);

    if (length > 0)
        memcpy(to, from.data, length);
    return length;
}

/* What a helper that is asked for now is about. */
static void about_now(struct hark_instance *instance, struct about *about)
{
    struct delivery *delivery;

    if (instance->calling == NULL) {
        *about = instance->about != NULL ? *instance->about : (struct about){0};
        return;
    }
    delivery = instance->calling->delivery;
    about->queue = delivery->queue->name;
    about->identity = instance_identity(instance, delivery);
    about->key_length = about_put(about->key, delivery->message->routing_key);
    about->id_length = about_put(about->id, message_id(delivery->message));
}

/* The coarse clock costs a few nanoseconds and is good to a few milliseconds: enough to name who is slow. */
static int64_t instance_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void instance_slow(struct hark_instance *instance, int64_t took)
{
    unsigned dropped;

    instance->dispatcher->counters.slow_calls++;
    if (log_allowed(&instance->said, &dropped))
        log_warning("listener[%s]: a call into module \"%s\" held the loop for %lld ms: everything else waited",
                    instance->listener.name, instance->listener.module->name, (long long)took);
}

static void instance_arm(struct hark_instance *instance)
{
    struct timers *timers = &instance->dispatcher->timers;
    int64_t left;

    if (instance->later.first == NULL || instance->timeout.place != 0)
        return;
    left = instance->later.first->deadline - timers_now(timers);
    if (timers_set(timers, &instance->timeout, left > 0 ? left : 0) != 0)
        log_error("listener[%s]: out of memory for its timer: `timeout` is not watched now", instance->listener.name);
}

static void instance_call(struct hark_event *event)
{
    struct hark_instance *instance = event->instance;
    int64_t slow = instance->dispatcher->options.slow_call, since = slow > 0 ? instance_clock() : 0;
    enum hark_verdict verdict;

    event->state = EVENT_CALLING;
    instance->running++;
    instance_enter(instance, event);
    verdict = instance->listener.module->handle(instance, event);
    instance_leave(instance);
    if (slow > 0 && instance_clock() - since > slow)
        instance_slow(instance, instance_clock() - since);
    if (event->verdict != 0) /* hark_settle() within handle() */
        verdict = (enum hark_verdict)event->verdict;
    if (verdict == HARK_LATER) {
        event->state = EVENT_LATER;
        list_append(&instance->later, event);
        if (instance->listener.timeout > 0) {
            event->deadline = timers_now(&instance->dispatcher->timers) + instance->listener.timeout;
            instance_arm(instance);
        }
        return;
    }
    instance->running--;
    event_conclude(event, verdict);
}

/* Settling one event makes room for the next, whose call may settle at once: a loop, not a recursion. */
static void instance_pump(struct hark_instance *instance)
{
    if (instance->pumping)
        return;
    instance->pumping = true;
    while (instance->waiting.first != NULL && instance->running < instance->listener.concurrency) {
        struct hark_event *event = instance->waiting.first;

        list_remove(&instance->waiting, event);
        instance_call(event);
    }
    instance->pumping = false;
}

void instance_start(struct hark_event *event)
{
    struct hark_instance *instance = event->instance;

    if (HARK_LIKELY(instance->running < instance->listener.concurrency && instance->waiting.first == NULL)) {
        instance_call(event);
        return;
    }
    event->state = EVENT_WAITING;
    list_append(&instance->waiting, event);
}

void instance_cancel(struct hark_event *event)
{
    struct hark_instance *instance = event->instance;

    if (instance->listener.module->cancel == NULL)
        return;
    event->verdict = HARK_RETRY; /* settled by us: hark_settle() in cancel() comes too late */
    instance_enter(instance, event);
    instance->listener.module->cancel(instance, event);
    instance_leave(instance);
}

static void instance_timeout(struct timer *timer)
{
    struct hark_instance *instance = HARK_CONTAINER(timer, struct hark_instance, timeout);
    int64_t now = timers_now(&instance->dispatcher->timers);

    while (instance->later.first != NULL && instance->later.first->deadline <= now) {
        struct hark_event *event = instance->later.first;

        if (instance->listener.module->cancel == NULL) {
            /* Nobody can take it back without the module's help. */
            event_say(event, LOG_LEVEL_WARNING, "has not settled within %lld ms, and module \"%s\" cannot be cancelled",
                      (long long)instance->listener.timeout, instance->listener.module->name);
            list_remove(&instance->later, event);
            event->deadline = now + instance->listener.timeout;
            list_append(&instance->later, event);
            continue;
        }
        instance->dispatcher->counters.timeouts++;
        instance_cancel(event);
        instance_forget(event);
        event_set_why(event, "not settled within %lld ms", (long long)instance->listener.timeout);
        event_conclude(event, HARK_RETRY);
    }
    instance_arm(instance);
    instance_pump(instance);
}

void hark_settle(struct hark_event *event, enum hark_verdict verdict, const char *why)
{
    struct hark_instance *instance = event->instance;

    if (event->state > EVENT_LATER || verdict == HARK_LATER || event->verdict != 0) {
        log_error("listener[%s]: hark_settle() with %s: a bug in module \"%s\"", instance->listener.name,
                  verdict == HARK_LATER ? "HARK_LATER" : "an event that is settled already",
                  instance->listener.module->name);
        return;
    }
    if (why != NULL)
        event_set_why(event, "%s", why);
    event->verdict = (uint8_t)verdict;
    if (event->state == EVENT_CALLING)
        return; /* handle() is about to return: instance_call takes it from there */
    instance_forget(event);
    event_conclude(event, verdict);
    instance_pump(instance);
}

struct hark_instance *instance_new(struct dispatcher *dispatcher, const struct dispatch_listener *listener)
{
    struct hark_instance *instance = calloc(1, sizeof(*instance));

    if (instance == NULL)
        return NULL;
    instance->dispatcher = dispatcher;
    instance->listener = *listener;
    if (instance->listener.concurrency == 0)
        instance->listener.concurrency = 1;
    instance->name = span_str(listener->name);
    instance->name_hash = XXH3_64bits(instance->name.data, instance->name.length);
    instance->timeout.fire = instance_timeout;
    instance->said = (struct log_limit){.burst = 10, .period_ms = 10000};
    return instance;
}

int instance_open(struct hark_instance *instance)
{
    const struct hark_module *module = instance->listener.module;
    int result = 0;

    if (module->open != NULL) {
        int64_t slow = instance->dispatcher->options.slow_call, since = instance_clock();

        instance_enter(instance, NULL);
        result = module->open(instance);
        instance_leave(instance);
        if (slow > 0 && instance_clock() - since > slow)
            instance_slow(instance, instance_clock() - since);
    }
    instance->open = result == 0;
    if (result != 0)
        log_error("listener[%s]: module \"%s\" could not be opened", instance->listener.name, module->name);
    return result;
}

void instance_free(struct hark_instance *instance)
{
    if (instance->open && instance->listener.module->close != NULL) {
        instance_enter(instance, NULL);
        instance->listener.module->close(instance);
        instance_leave(instance);
    }
    while (instance->helpers != NULL) {
        struct helper *helper = instance->helpers;

        instance_remove_helper(helper);
        helper->stop(helper);
    }
    timers_cancel(&instance->dispatcher->timers, &instance->timeout);
    free(instance);
}

void instance_add_helper(struct hark_instance *instance, struct helper *helper, void (*stop)(struct helper *helper))
{
    helper->instance = instance;
    helper->stop = stop;
    about_now(instance, &helper->about);
    helper->previous = NULL;
    helper->next = instance->helpers;
    if (helper->next != NULL)
        helper->next->previous = helper;
    instance->helpers = helper;
}

void instance_remove_helper(struct helper *helper)
{
    if (helper->previous != NULL)
        helper->previous->next = helper->next;
    else
        helper->instance->helpers = helper->next;
    if (helper->next != NULL)
        helper->next->previous = helper->previous;
    helper->previous = helper->next = NULL;
}
