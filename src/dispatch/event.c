/* SPDX-License-Identifier: MIT */
/* An event's end: what its verdict sets in motion, until all of it is confirmed. */
#include "dispatch/parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define COPY_PAUSE_MIN 1000 /* ms, before a retry copy or dead letter that the broker did not take is tried again */
#define COPY_PAUSE_MAX 60000
#define GIVE_BACK_PAUSE 10000 /* before one goes back to its queue that was delivered before */

void event_init(struct hark_event *event, struct delivery *delivery, struct hark_instance *instance)
{
    memset(event, 0, sizeof(*event));
    event->delivery = delivery;
    event->instance = instance;
    event->outbox_end = &event->outbox;
}

void event_set_why(struct hark_event *event, const char *format, ...)
{
    va_list args;
    char text[DISPATCH_WHY_MAX];

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    free(event->why);
    event->why = strdup(text); /* without memory the reason is lost, the message is not */
}

enum hark_verdict hark_because(struct hark_event *event, enum hark_verdict verdict, const char *format, ...)
{
    va_list args;
    char text[DISPATCH_WHY_MAX];

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    event_set_why(event, "%s", text);
    return verdict;
}

void event_say(struct hark_event *event, enum log_level level, const char *format, ...)
{
    struct delivery *delivery = event->delivery;
    struct span listener = event->instance != NULL ? event->instance->name : span_str("");
    struct span id = message_id(delivery->message), key = delivery->message->routing_key;
    struct log_field fields[] = {
        {"listener", listener}, {"queue", delivery->queue->name}, {"routing_key", key}, {"message_id", id}, {0}};
    struct log_limit *limit = event->instance != NULL ? &event->instance->said : &delivery->queue->said;
    unsigned dropped = 0;
    char text[2 * DISPATCH_WHY_MAX], more[48] = "";
    va_list args;

    if (level > log_threshold || !log_allowed(limit, &dropped))
        return;
    if (dropped > 0)
        snprintf(more, sizeof(more), " (%u such lines left out)", dropped);
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    log_write(level, fields, "%s[%s]: %s (queue %s, key \"%.*s\", message id \"%.*s\", attempt %u)%s",
              event->instance != NULL ? "listener" : "queue",
              event->instance != NULL ? event->instance->listener.name : (const char *)delivery->queue->name.data, text,
              (const char *)delivery->queue->name.data, (int)key.length, (const char *)key.data, (int)id.length,
              id.data != NULL ? (const char *)id.data : "", delivery->attempt, more);
}

static void event_finish(struct hark_event *event)
{
    event->state = EVENT_FINISHED;
    free(event->why);
    event->why = NULL;
    delivery_release(event->delivery);
}

static void event_empty_outbox(struct hark_event *event)
{
    while (event->outbox != NULL) {
        struct outgoing *outgoing = event->outbox;

        event->outbox = outgoing->next;
        outgoing_free(outgoing);
    }
    event->outbox_end = &event->outbox;
}

void event_abandon(struct hark_event *event)
{
    if (event->state == EVENT_FINISHED)
        return;
    event->delivery->abandoned = true;
    if (event->state == EVENT_PUBLISHING) {
        if (event->timer.place == 0)
            return; /* the publisher has it, and will say so */
        timers_cancel(&event->delivery->queue->dispatcher->timers, &event->timer);
        outgoing_free(event->copy);
    } else if (event->state == EVENT_LATER && event->instance->listener.module->cancel == NULL) {
        event->let_go = true; /* nobody can take it from its module: it stays until that settles it, or is closed */
        return;
    } else {
        if (event->state == EVENT_LATER)
            instance_cancel(event);
        instance_forget(event);
        event_empty_outbox(event);
    }
    event_finish(event);
}

void event_forget(struct hark_event *event)
{
    event_empty_outbox(event);
    free(event->why);
    event->why = NULL;
}

/* ---- retry copies and dead letters: kept until the broker has taken them ---- */

static struct outgoing *event_wrap(struct hark_event *event)
{
    if (event->dead)
        return wrap_dead_letter(event, event->reason);
    /* What comes from the dead letters was cut to fit already. */
    return wrap_retry(event, event->delay, event->delivery->queue->dead_letters);
}

/* Frames may have been tuned smaller since a copy was made: a refused one is made anew. */
static struct outgoing *event_wrap_again(struct hark_event *event, struct outgoing *refused)
{
    struct outgoing *fresh = event_wrap(event);

    if (fresh == NULL && !event->dead) {
        event->dead = true;
        event->reason = "headers-too-large";
        fresh = event_wrap(event);
    }
    if (fresh == NULL)
        return refused;
    fresh->owner = event;
    fresh->done = refused->done;
    outgoing_free(refused);
    return fresh;
}

static void event_publish_copy(struct timer *timer)
{
    struct hark_event *event = HARK_CONTAINER(timer, struct hark_event, timer);
    struct dispatch_ports *ports = &event->delivery->queue->dispatcher->ports;

    ports->publish(ports->arg, event->copy);
}

/* A quorum queue drops what comes back too often (x-delivery-limit) and says in a header how often it has: ever longer
 * pauses make hours of it, each shorter than the broker's patience with what is not acknowledged. */
static int64_t event_give_back_pause(const struct delivery *delivery)
{
    struct table_entry entry;
    int64_t count = 0;

    if (!delivery->redelivered)
        return COPY_PAUSE_MIN;
    if (!table_find(delivery->message->properties.headers, span_str("x-delivery-count"), &entry) ||
        !table_integer(&entry, &count) || count < 0)
        count = 0;
    return (int64_t)GIVE_BACK_PAUSE << (count < 7 ? count : 7);
}

/* Its body was passed on as it came, and is gone: the broker has the only one. */
static void event_give_back(struct timer *timer)
{
    struct hark_event *event = HARK_CONTAINER(timer, struct hark_event, timer);
    struct delivery *delivery = event->delivery;
    struct dispatch_ports *ports = &delivery->queue->dispatcher->ports;

    delivery->abandoned = true;
    ports->requeue(ports->arg, &delivery->ticket);
    outgoing_free(event->copy);
    event_finish(event);
}

static void event_copy_done(struct outgoing *outgoing, enum outcome outcome, const char *why)
{
    struct hark_event *event = outgoing->owner;
    struct delivery *delivery = event->delivery;
    struct dispatcher *dispatcher = delivery->queue->dispatcher;
    int64_t pause;

    if (outcome == OUTCOME_CONFIRMED) {
        if (event->dead)
            dispatcher->counters.dead_lettered++;
        else
            dispatcher->counters.retried++;
        if (event->dead && event->instance != NULL && dispatcher->ports.forget != NULL && delivery->redelivered)
            dispatcher->ports.forget(dispatcher->ports.arg, delivery_hash(delivery) ^ event->instance->name_hash);
        outgoing_free(outgoing);
        event_finish(event);
        return;
    }
    if (outcome == OUTCOME_ABANDONED || delivery->abandoned) {
        delivery->abandoned = true;
        outgoing_free(outgoing);
        event_finish(event);
        return;
    }
    pause = (int64_t)COPY_PAUSE_MIN << (event->copy_tries < 6 ? event->copy_tries : 6);
    if (pause > COPY_PAUSE_MAX)
        pause = COPY_PAUSE_MAX;
    if (delivery->oversized > 0)
        pause = event_give_back_pause(delivery);
    event->copy_tries++;
    event_say(
        event, LOG_LEVEL_ERROR, "the broker did not take the %s for exchange \"%.*s\" (%s): held, next try in %lld s",
        event->dead ? "dead letter" : "retry", (int)outgoing->exchange.length, (const char *)outgoing->exchange.data,
        why[0] != '\0' ? why : "returned: no queue is bound to it", (long long)pause / 1000);
    dispatcher->ports.redeclare(dispatcher->ports.arg);
    event->copy = outgoing;
    event->timer.fire = event_publish_copy;
    if (delivery->oversized > 0)
        event->timer.fire = event_give_back;
    else if (outcome == OUTCOME_REFUSED)
        event->copy = event_wrap_again(event, outgoing);
    if (timers_set(&dispatcher->timers, &event->timer, pause) != 0)
        event->timer.fire(&event->timer);
}

static void event_send_copy(struct hark_event *event, struct outgoing *copy)
{
    struct dispatch_ports *ports = &event->delivery->queue->dispatcher->ports;

    event->state = EVENT_PUBLISHING;
    if (copy == NULL) {
        event_say(event, LOG_LEVEL_ERROR,
                  "out of memory for its retry or dead letter: it goes back to its queue after a pause");
        event->delivery->abandoned = event->delivery->postponed = true;
        event_finish(event);
        return;
    }
    copy->owner = event;
    copy->done = event_copy_done;
    ports->publish(ports->arg, copy);
}

void event_dead_letter(struct hark_event *event, const char *reason)
{
    struct delivery *delivery = event->delivery;

    event_empty_outbox(event);
    if (delivery->queue->dead_letters) {
        /* A dead letter that fails again must not go round: it waits and comes back. */
        event_say(event, LOG_LEVEL_WARNING, "a dead letter failed again, %s: %s; back in %d s", reason,
                  event->why != NULL ? event->why : "no reason given", DISPATCH_DEAD_PAUSE / 1000);
        event->delay = DISPATCH_DEAD_PAUSE;
        event_send_copy(event, event_wrap(event));
        return;
    }
    event->dead = true;
    event->reason = reason;
    event_say(event, LOG_LEVEL_WARNING, "dead-lettered, %s%s%s", reason, event->why != NULL ? ": " : "",
              event->why != NULL ? event->why : "");
    event_send_copy(event, event_wrap(event));
}

static void event_retry(struct hark_event *event)
{
    const struct dispatch_listener *listener = &event->instance->listener;
    struct delivery *delivery = event->delivery;
    struct outgoing *copy;
    int64_t delay;

    event_empty_outbox(event);
    if (delivery->attempt > listener->retry_count) {
        event_dead_letter(event, "attempts");
        return;
    }
    delay = listener->retry[delivery->attempt - 1];
    event->delay = delay;
    copy = event_wrap(event);
    if (copy == NULL) {
        event_dead_letter(event, "headers-too-large");
        return;
    }
    event_say(event, LOG_LEVEL_INFO, "failed: %s; retry %u of %zu in %lld ms",
              event->why != NULL ? event->why : "no reason given", delivery->attempt, listener->retry_count,
              (long long)delay);
    event_send_copy(event, copy);
}

/* ---- what it emitted ---- */

static void event_published(struct hark_event *event)
{
    if (event->delivery->abandoned) {
        event_finish(event);
    } else if (event->failed) {
        event_retry(event);
    } else {
        event_finish(event);
    }
}

static void event_emit_done(struct outgoing *outgoing, enum outcome outcome, const char *why)
{
    struct hark_event *event = outgoing->owner;
    static const char *const names[] = {[OUTCOME_RETURNED] = "returned, no queue took it",
                                        [OUTCOME_NACKED] = "not taken by the broker",
                                        [OUTCOME_REFUSED] = "refused"};

    if (HARK_LIKELY(outcome == OUTCOME_CONFIRMED)) {
        event->delivery->queue->dispatcher->counters.emitted++;
    } else if (outcome == OUTCOME_ABANDONED) {
        event->delivery->abandoned = true;
    } else if (!event->failed) {
        event->failed = true;
        event_set_why(event, "the message emitted to exchange \"%.*s\" with key \"%.*s\" was %s%s%s",
                      (int)outgoing->exchange.length, (const char *)outgoing->exchange.data,
                      (int)outgoing->routing_key.length, (const char *)outgoing->routing_key.data, names[outcome],
                      why[0] != '\0' ? ": " : "", why);
    }
    outgoing_free(outgoing);
    if (--event->unconfirmed == 0)
        event_published(event);
}

static void event_publish_outbox(struct hark_event *event)
{
    struct dispatch_ports *ports = &event->delivery->queue->dispatcher->ports;
    struct outgoing *outgoing = event->outbox;

    event->state = EVENT_PUBLISHING;
    event->outbox = NULL;
    event->outbox_end = &event->outbox;
    event->unconfirmed = 1; /* publish may call back at once: not before the last is handed over */
    while (outgoing != NULL) {
        struct outgoing *next = outgoing->next;

        outgoing->owner = event;
        outgoing->done = event_emit_done;
        event->unconfirmed++;
        ports->publish(ports->arg, outgoing);
        outgoing = next;
    }
    if (--event->unconfirmed == 0)
        event_published(event);
}

void event_conclude(struct hark_event *event, enum hark_verdict verdict)
{
    struct dispatcher *dispatcher = event->delivery->queue->dispatcher;

    if (HARK_UNLIKELY(event->let_go)) {
        event_empty_outbox(event);
        event_finish(event);
        return;
    }
    switch (verdict) {
    case HARK_DONE:
        dispatcher->counters.done++;
        if (event->outbox != NULL)
            event_publish_outbox(event);
        else
            event_finish(event);
        return;
    case HARK_REJECT:
        dispatcher->counters.rejected++;
        event_dead_letter(event, "rejected");
        return;
    case HARK_RETRY:
        event_retry(event);
        return;
    case HARK_LATER:
    default:
        event_set_why(event, "module \"%s\" gave a verdict that does not exist: %d",
                      event->instance->listener.module->name, (int)verdict);
        event_dead_letter(event, "rejected");
    }
}
