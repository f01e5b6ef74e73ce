/* SPDX-License-Identifier: MIT */
#include "broker/deaths.h"

#include "broker/publish.h"
#include "broker/queue_private.h"

#include "base/log.h"

#include <stdlib.h>
#include <utlist.h>

#define DEATHS_AT_ONCE 500 /* then it is the others' turn; */
#define DEATH_BYTES 32768  /* of content: with more, one counts for several */
#define DEATH_HEADERS 32   /* a byte of them for so many: they are read, the body is copied only */

/* ---- the line ---- */

static struct death *deaths_append(struct death_line *line)
{
    if (line->end == line->capacity) {
        size_t capacity = line->capacity == 0 ? 64 : 2 * line->capacity;
        struct death *items = realloc(line->items, capacity * sizeof(*items));

        if (items == NULL)
            return NULL;
        line->items = items;
        line->capacity = capacity;
    }
    return &line->items[line->end++];
}

void deaths_add(struct queue *queue, const struct entry *entry, enum death_reason reason)
{
    struct deaths *deaths = &queue_broker(queue)->deaths;
    struct entry gone = *entry;
    struct death *death;

    if (!queue->policy.has_dead_exchange || queue->deleted) {
        queue_forget_entry(queue, &gone);
        return;
    }
    death = deaths_append(deaths->running ? &deaths->now : &deaths->later);
    if (death == NULL) {
        log_error("queue '%.*s': no memory for a dead letter: it is lost", (int)queue->name.length,
                  (const char *)queue->name.data);
        queue_forget_entry(queue, &gone);
        return;
    }
    death->queue = queue;
    death->entry = *entry;
    death->reason = reason;
    queue->references++;
}

static void deaths_forget_of(struct death_line *line, const struct vhost *vhost)
{
    size_t kept = 0;

    for (size_t i = 0; i < line->end; i++) {
        struct death *death = &line->items[i];

        if (vhost != NULL && death->queue->vhost != vhost) {
            line->items[kept++] = *death;
            continue;
        }
        queue_drop_entry(death->queue, &death->entry);
        queue_release(death->queue);
    }
    line->end = kept;
    if (kept > 0)
        return;
    free(line->items);
    *line = (struct death_line){0};
}

void deaths_forget(struct broker *broker, const struct vhost *vhost)
{
    struct deaths *deaths = &broker->deaths;

    deaths_forget_of(&deaths->now, vhost);
    deaths_forget_of(&deaths->later, vhost);
    deaths->turned = deaths->now.end;
}

/* ---- where it goes ---- */

static struct message *death_message(const struct death *death)
{
    const struct message *message = death->entry.message;
    const struct queue_policy *policy = &death->queue->policy;
    struct buf headers = {0}, raw = {0};
    struct message *letter = NULL;
    struct properties properties;
    struct reply error;

    message_properties(message, &properties);
    death_put_headers(&headers, death);
    properties.headers = buf_span(&headers);
    properties.flags |= PROPERTY_HEADERS;
    properties.flags &= (uint16_t)~PROPERTY_EXPIRATION;
    properties_put(&raw, &properties);
    if (!headers.failed && !raw.failed)
        letter = message_new(policy->dead_exchange, policy->has_dead_key ? policy->dead_key : message->routing_key,
                             buf_span(&raw), message->body.length, &error);
    if (letter != NULL && message->body.length > 0)
        memcpy(message_body_bytes(letter), message->body.data, message->body.length);
    buf_free(&headers);
    buf_free(&raw);
    return letter;
}

static void death_publish(struct broker *broker, const struct death *death)
{
    struct exchange *exchange = vhost_exchange(death->queue->vhost, death->queue->policy.dead_exchange);
    struct route *route = &broker->route;
    struct published published;
    struct message *letter;
    size_t kept = 0;

    if (exchange == NULL)
        return;
    letter = death_message(death);
    if (letter == NULL || route_message(route, exchange, letter) != 0) {
        log_error("queue '%.*s': no memory for a dead letter: it is lost", (int)death->queue->name.length,
                  (const char *)death->queue->name.data);
        message_drop(letter);
        return;
    }
    for (size_t i = 0; i < route->count; i++)
        if (death->reason == DEATH_REJECTED || !death_is_cycle(route->queues[i], letter->properties.headers))
            route->queues[kept++] = route->queues[i];
    publish_to(broker, route->queues, kept, letter, &published);
    message_drop(letter);
}

/* What has been added since: the first of it is next. */
static void deaths_turn(struct deaths *deaths)
{
    if (deaths->now.end == 0) {
        struct death_line done = deaths->now;

        deaths->now = deaths->later;
        deaths->later = done;
        deaths->turned = 0;
    }
    for (size_t low = deaths->turned, high = deaths->now.end; low + 1 < high; low++, high--) {
        struct death other = deaths->now.items[low];

        deaths->now.items[low] = deaths->now.items[high - 1];
        deaths->now.items[high - 1] = other;
    }
    deaths->turned = deaths->now.end;
}

static void deaths_trim(struct death_line *line)
{
    if (line->end > 0 || line->capacity <= 4096)
        return;
    free(line->items); /* a crowd has passed */
    *line = (struct death_line){0};
}

bool deaths_hold(struct queue *queue)
{
    struct deaths *deaths = &queue_broker(queue)->deaths;

    if (!deaths->resting)
        return false;
    if (!queue->held)
        DL_APPEND2(deaths->held, queue, held_prev, held_next);
    queue->held = true;
    return true;
}

void deaths_let_go(struct queue *queue)
{
    if (!queue->held)
        return;
    DL_DELETE2(queue_broker(queue)->deaths.held, queue, held_prev, held_next);
    queue->held = false;
}

static void deaths_are_over(struct deaths *deaths)
{
    struct queue *queue;

    while (HARK_UNLIKELY((queue = deaths->held) != NULL)) {
        deaths_let_go(queue);
        queue_schedule(queue);
    }
}

static size_t death_effort(const struct death *death)
{
    const struct message *message = death->entry.message;

    return 1 + (message->body.length + DEATH_HEADERS * message->raw_properties.length) / DEATH_BYTES;
}

void deaths_run(struct broker *broker)
{
    struct deaths *deaths = &broker->deaths;
    size_t left = DEATHS_AT_ONCE, effort;

    if (deaths->running || deaths->resting)
        return;
    if (HARK_LIKELY(deaths->now.end == 0 && deaths->later.end == 0)) {
        deaths_are_over(deaths);
        return;
    }
    deaths->running = true;
    for (deaths_turn(deaths); deaths->now.end > 0 && left > 0; deaths_turn(deaths)) {
        struct death death = deaths->now.items[--deaths->now.end];

        deaths->turned = deaths->now.end;
        effort = death_effort(&death);
        left -= effort < left ? effort : left;
        if (!death.queue->deleted)
            death_publish(broker, &death);
        broker->replacing = true;
        queue_forget_entry(death.queue, &death.entry);
        broker->replacing = false;
        queue_release(death.queue);
    }
    deaths->running = false;
    if (deaths->now.end > 0) {
        deaths->resting = true;
        evtimer_add(deaths->rest, &(struct timeval){0});
    } else {
        deaths_are_over(deaths);
    }
    deaths_trim(&deaths->now);
    deaths_trim(&deaths->later);
}
