/* SPDX-License-Identifier: MIT */
#include "client/topology.h"

#include "base/log.h"
#include "client/complaint.h"

#include <stdio.h>
#include <stdlib.h>

struct topology_note {
    bool declared;
    bool hopeless; /* the server closes the connection over it */
    bool said;     /* of its last refusal: in the log, and not put down to another item's */
    uint16_t code; /* of its last refusal; 0: it was declared, or not yet tried */
    uint64_t text; /* complaint_hash() of the server's words */
    struct complaint complaint;
};

struct topology {
    struct session *session;
    const struct topology_item *items;
    size_t count;
    const struct topology_ops *ops;
    void *arg;
    struct channel channel;
    size_t sent, answered; /* of the items, in their order */
    size_t failed;
    bool running, again;
    bool careful;                /* one at a time: one of them cost the connection */
    struct topology_note *notes; /* one for each item */
};

static void topology_finish(struct topology *topology)
{
    topology->running = topology->careful = false;
    channel_close(&topology->channel, NULL, NULL);
    if (topology->again) {
        topology->again = false;
        topology_declare(topology);
        return;
    }
    topology->ops->done(topology->arg, topology->failed);
}

/* ---- one item ---- */

static void topology_send_table(struct topology *topology, const struct topology_item *item, const amqp_table_t *table)
{
    amqp_bytes_t name = amqp_span(span_str(item->name));
    amqp_bytes_t source = amqp_span(span_str(item->source)), pattern = amqp_span(span_str(item->pattern));

    switch (item->kind) {
    case TOPOLOGY_EXCHANGE: {
        amqp_exchange_declare_t declare = {.exchange = name,
                                           .type = amqp_span(span_str(item->type)),
                                           .passive = item->passive,
                                           .durable = item->durable,
                                           .auto_delete = item->auto_delete,
                                           .internal = item->internal,
                                           .arguments = *table};

        channel_send(&topology->channel, AMQP_EXCHANGE_DECLARE_METHOD, &declare);
        return;
    }
    case TOPOLOGY_QUEUE: {
        amqp_queue_declare_t declare = {.queue = name,
                                        .passive = item->passive,
                                        .durable = item->durable,
                                        .exclusive = item->exclusive,
                                        .auto_delete = item->auto_delete,
                                        .arguments = *table};

        channel_send(&topology->channel, AMQP_QUEUE_DECLARE_METHOD, &declare);
        return;
    }
    case TOPOLOGY_BIND_QUEUE: {
        amqp_queue_bind_t bind = {.queue = name, .exchange = source, .routing_key = pattern, .arguments = *table};

        channel_send(&topology->channel, AMQP_QUEUE_BIND_METHOD, &bind);
        return;
    }
    case TOPOLOGY_BIND_EXCHANGE: {
        amqp_exchange_bind_t bind = {
            .destination = name, .source = source, .routing_key = pattern, .arguments = *table};

        channel_send(&topology->channel, AMQP_EXCHANGE_BIND_METHOD, &bind);
        return;
    }
    }
}

static void topology_send_item(struct topology *topology, const struct topology_item *item)
{
    amqp_table_t table;

    if (arguments_table(item->arguments, item->argument_count, &table) == 0)
        topology_send_table(topology, item, &table);
    else /* declared without them it would stay so: the link ends, and all is tried anew */
        channel_out(&topology->channel)->failed = true;
    link_send(session_link(topology->session));
    arguments_free(&table);
}

/* Counts those that are answered without asking. */
static void topology_skip(struct topology *topology)
{
    while (topology->answered < topology->count && topology->notes[topology->answered].hopeless) {
        topology->failed++;
        topology->answered++;
    }
}

/* All at once: the answers come in the same order, and after a refusal the channel is gone and the
 * rest is sent anew. */
static void topology_send(struct topology *topology)
{
    topology_skip(topology);
    if (topology->answered == topology->count) {
        topology_finish(topology);
        return;
    }
    if (topology->sent < topology->answered)
        topology->sent = topology->answered;
    while (topology->sent < topology->count && (!topology->careful || topology->sent == topology->answered)) {
        const struct topology_item *item = &topology->items[topology->sent];

        if (!topology->notes[topology->sent].hopeless)
            topology_send_item(topology, item);
        topology->sent++;
    }
}

static void topology_what(const struct topology_item *item, char *to, size_t size)
{
    switch (item->kind) {
    case TOPOLOGY_EXCHANGE:
        snprintf(to, size, "exchange \"%s\"", item->name);
        return;
    case TOPOLOGY_QUEUE:
        snprintf(to, size, "queue \"%s\"", item->name);
        return;
    case TOPOLOGY_BIND_QUEUE:
    case TOPOLOGY_BIND_EXCHANGE:
        snprintf(to, size, "the binding of \"%s\" to exchange \"%s\" with \"%s\"", item->name, item->source,
                 item->pattern);
        return;
    }
}

static const char *topology_advice(const struct topology_item *item, uint16_t code)
{
    bool binding = item->kind == TOPOLOGY_BIND_QUEUE || item->kind == TOPOLOGY_BIND_EXCHANGE;

    switch (code) {
    case REPLY_PRECONDITION_FAILED:
        return "it exists with other properties: make the section equal to what exists, delete that, or set `declare = passive`";
    case REPLY_ACCESS_REFUSED:
        return binding ? "the user of `url` needs write permission on the destination and read permission on the source"
                       : "the user of `url` needs configure permission on it, or set `declare = passive`";
    case REPLY_NOT_FOUND:
        return binding ? "declare what it binds, or correct its name"
                       : "with `declare = passive` it must exist already";
    case REPLY_RESOURCE_LOCKED:
        return "it is exclusive to another connection";
    default:
        return reply_is_hard(code)
                   ? "the broker closes the connection over it, so it is left out until a reload or restart"
                   : "see the broker's log";
    }
}

/* Does the refusal of this item explain that of something which needs it? It is not there, or it
 * is out of reach for the same reason. */
static bool topology_explains(const struct topology_note *note, const struct reply *error)
{
    return note->code != 0 && (error->code == REPLY_NOT_FOUND || error->code == note->code);
}

static bool topology_is_named(const struct topology_item *item, enum topology_kind kind, const char *name)
{
    return item->kind == kind && name != NULL && strcmp(item->name, name) == 0;
}

/* What the binding needs was refused, or another one was told the same before. */
static bool topology_follows(const struct topology *topology, size_t at, const struct reply *error)
{
    const struct topology_item *item = &topology->items[at];
    enum topology_kind to = item->kind == TOPOLOGY_BIND_QUEUE ? TOPOLOGY_QUEUE : TOPOLOGY_EXCHANGE;
    uint64_t text = complaint_hash(error->text);

    if (item->kind != TOPOLOGY_BIND_QUEUE && item->kind != TOPOLOGY_BIND_EXCHANGE)
        return false;
    for (size_t i = 0; i < topology->count; i++) {
        const struct topology_item *other = &topology->items[i];
        const struct topology_note *note = &topology->notes[i];

        if ((topology_is_named(other, to, item->name) || topology_is_named(other, TOPOLOGY_EXCHANGE, item->source)) &&
            topology_explains(note, error))
            return true;
        if (i != at && note->said && error->code == REPLY_NOT_FOUND && note->code == error->code && note->text == text)
            return true;
    }
    return false;
}

bool topology_has_said(const struct topology *topology, const char *queue, const struct reply *error)
{
    uint64_t text = complaint_hash(error->text);

    for (size_t i = 0; i < topology->count; i++) {
        const struct topology_item *item = &topology->items[i];
        const struct topology_note *note = &topology->notes[i];

        if (topology_is_named(item, TOPOLOGY_QUEUE, queue) && topology_explains(note, error))
            return true;
        if (topology_is_named(item, TOPOLOGY_BIND_QUEUE, queue) && note->said && note->code == error->code &&
            note->text == text)
            return true;
    }
    return false;
}

static void topology_refused(struct topology *topology, const struct reply *error)
{
    size_t at = topology->answered;
    const struct topology_item *item = &topology->items[at];
    struct topology_note *note = &topology->notes[at];
    char what[800], line[1400];

    topology_what(item, what, sizeof(what));
    snprintf(line, sizeof(line), "%s: the broker refused %s: %s (%s)", item->section, what, error->text,
             topology_advice(item, error->code));
    note->said = !topology_follows(topology, at, error);
    if (note->said && complaint_is_news(&note->complaint, session_complaints(topology->session), line,
                                        loop_now(session_loop(topology->session))))
        log_error("%s", line);
    else
        log_debug("%s", line);
    note->declared = false;
    note->code = error->code;
    note->text = complaint_hash(error->text);
    topology->failed++;
    topology->answered++;
}

/* ---- the channel ---- */

static void topology_open(struct topology *topology);

static void topology_channel_opened(void *arg)
{
    struct topology *topology = arg;

    topology->sent = topology->answered; /* what an earlier channel was asked was not answered */
    topology_send(topology);
}

static void topology_method(void *arg, const amqp_method_t *method)
{
    struct topology *topology = arg;

    (void)method; /* declare-ok or bind-ok, of the next in line */
    if (topology->answered >= topology->sent)
        return;
    topology->notes[topology->answered] = (struct topology_note){.declared = true};
    topology->answered++;
    topology_send(topology);
}

static void topology_channel_closed(void *arg, const struct reply *error)
{
    struct topology *topology = arg;
    bool hard = reply_is_hard(error->code) && error->code != REPLY_CONNECTION_FORCED;

    if (hard && topology->sent > topology->answered) {
        if (topology->careful) {
            topology->notes[topology->answered].hopeless = true;
            topology_refused(topology, error);
        }
        topology->careful = true; /* in the next run */
    }
    if (error->code == 0 || reply_is_hard(error->code) || topology->answered >= topology->count)
        return; /* with the connection; topology_declare() will come with the next */
    topology_refused(topology, error);
    topology_open(topology);
}

static const struct channel_ops topology_channel_ops = {
    .opened = topology_channel_opened,
    .method = topology_method,
    .closed = topology_channel_closed,
};

static void topology_open(struct topology *topology)
{
    if (channel_open(&topology->channel, topology->session, &topology_channel_ops, topology) == 0)
        return;
    topology->running = topology->again = false; /* whoever waits for it tries again */
    topology->ops->done(topology->arg, topology->count - topology->answered + topology->failed);
}

/* ---- the owner's calls ---- */

struct topology *topology_new(struct session *session, const struct topology_item *items, size_t count,
                              const struct topology_ops *ops, void *arg)
{
    struct topology *topology = calloc(1, sizeof(*topology));

    if (topology == NULL)
        return NULL;
    topology->session = session;
    topology->items = items;
    topology->count = count;
    topology->ops = ops;
    topology->arg = arg;
    topology->notes = calloc(count + 1, sizeof(*topology->notes));
    if (topology->notes != NULL)
        return topology;
    free(topology);
    return NULL;
}

void topology_declare(struct topology *topology)
{
    if (topology->running) {
        topology->again = true;
        return;
    }
    topology->running = true;
    topology->sent = topology->answered = topology->failed = 0;
    topology_open(topology);
}

void topology_session_lost(struct topology *topology)
{
    topology->running = topology->again = false;
}

bool topology_is_declared(const struct topology *topology, enum topology_kind kind, const char *name)
{
    for (size_t i = 0; i < topology->count; i++)
        if (topology->items[i].kind == kind && strcmp(topology->items[i].name, name) == 0)
            return topology->notes[i].declared;
    return false;
}

bool topology_is_running(const struct topology *topology)
{
    return topology->running;
}

void topology_free(struct topology *topology)
{
    channel_close(&topology->channel, NULL, NULL);
    free(topology->notes);
    free(topology);
}
