/* SPDX-License-Identifier: MIT */
#include "daemon/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *plan_own(struct plan *plan, void *memory)
{
    if (memory == NULL)
        return NULL;
    if (plan->owned_count == plan->owned_capacity) {
        size_t capacity = plan->owned_capacity == 0 ? 64 : 2 * plan->owned_capacity;
        void **owned = realloc(plan->owned, capacity * sizeof(*owned));

        if (owned == NULL) {
            free(memory);
            return NULL;
        }
        plan->owned = owned;
        plan->owned_capacity = capacity;
    }
    plan->owned[plan->owned_count++] = memory;
    return memory;
}

static int plan_add(struct plan *plan, struct topology_item item)
{
    if (plan->count == plan->capacity) {
        size_t capacity = plan->capacity == 0 ? 64 : 2 * plan->capacity;
        struct topology_item *items = realloc(plan->items, capacity * sizeof(*items));

        if (items == NULL)
            return -1;
        plan->items = items;
        plan->capacity = capacity;
    }
    plan->items[plan->count++] = item;
    return 0;
}

const struct consumer_argument *plan_arguments(struct plan *plan, const struct config_arguments *arguments)
{
    struct consumer_argument *copies = plan_own(plan, calloc(arguments->count + 1, sizeof(*copies)));

    for (size_t i = 0; copies != NULL && i < arguments->count; i++) {
        const struct config_argument *from = &arguments->items[i];

        copies[i] = (struct consumer_argument){.name = from->name, .kind = from->kind};
        if (from->kind == 'S')
            copies[i].text = from->string;
        else
            copies[i].number = from->kind == 't' ? from->boolean : from->integer;
    }
    return copies;
}

static const char *plan_section(struct plan *plan, const struct config_where *where, int line)
{
    char *text = NULL;

    if (asprintf(&text, "%s (%s:%d)", where->label, where->file, line > 0 ? line : where->line) < 0)
        return NULL;
    return plan_own(plan, text);
}

/* ---- hark's own ---- */

static int plan_dead_letters(struct plan *plan, const struct config *config)
{
    const struct config_general *general = &config->general;
    struct topology_item exchange = {.kind = TOPOLOGY_EXCHANGE,
                                     .section = "dead_letter",
                                     .name = general->dead_letter,
                                     .type = "topic",
                                     .durable = true};
    struct topology_item queue = {
        .kind = TOPOLOGY_QUEUE, .section = "dead_letter_queue", .name = general->dead_letter_queue, .durable = true};

    if (config_find_exchange(config, general->dead_letter) == NULL && !config_exchange_builtin(general->dead_letter) &&
        plan_add(plan, exchange) != 0)
        return -1;
    if (general->dead_letter_queue[0] == '\0' || config_find_queue(config, general->dead_letter_queue) != NULL)
        return 0;
    return plan_add(plan, queue);
}

/* After all exchanges and queues: the file may have sections of its own for both. */
static int plan_dead_letter_binding(struct plan *plan, const struct config *config)
{
    const struct config_general *general = &config->general;

    if (general->dead_letter_queue[0] == '\0')
        return 0;
    return plan_add(plan, (struct topology_item){.kind = TOPOLOGY_BIND_QUEUE,
                                                 .section = "dead_letter_queue",
                                                 .name = general->dead_letter_queue,
                                                 .source = general->dead_letter,
                                                 .pattern = "#"});
}

static int plan_retry(struct plan *plan, int64_t delay)
{
    struct consumer_argument *arguments = plan_own(plan, calloc(2, sizeof(*arguments)));
    char *text = NULL, *name;

    if (asprintf(&text, "hark.retry.%lld", (long long)delay) < 0)
        return -1;
    name = plan_own(plan, text);
    if (arguments == NULL || name == NULL)
        return -1;
    arguments[0] = (struct consumer_argument){.name = "x-message-ttl", .kind = 'l', .number = delay};
    arguments[1] = (struct consumer_argument){.name = "x-dead-letter-exchange", .kind = 'S', .text = ""};
    if (plan_add(plan,
                 (struct topology_item){
                     .kind = TOPOLOGY_EXCHANGE, .section = "retry", .name = name, .type = "fanout", .durable = true}) !=
            0 ||
        plan_add(plan, (struct topology_item){.kind = TOPOLOGY_QUEUE,
                                              .section = "retry",
                                              .name = name,
                                              .durable = true,
                                              .arguments = arguments,
                                              .argument_count = 2}) != 0)
        return -1;
    return plan_add(plan,
                    (struct topology_item){
                        .kind = TOPOLOGY_BIND_QUEUE, .section = "retry", .name = name, .source = name, .pattern = ""});
}

/* ---- the file's ---- */

static int plan_exchange(struct plan *plan, const struct config_exchange *exchange)
{
    const struct consumer_argument *arguments = plan_arguments(plan, &exchange->arguments);
    const char *section = plan_section(plan, &exchange->where, 0);

    if (arguments == NULL || section == NULL)
        return -1;
    if (exchange->declare == CONFIG_DECLARE_NO)
        return 0;
    return plan_add(plan, (struct topology_item){.kind = TOPOLOGY_EXCHANGE,
                                                 .section = section,
                                                 .name = exchange->name,
                                                 .type = exchange->type,
                                                 .passive = exchange->declare == CONFIG_DECLARE_PASSIVE,
                                                 .durable = exchange->durable,
                                                 .auto_delete = exchange->auto_delete,
                                                 .internal = exchange->internal,
                                                 .arguments = arguments,
                                                 .argument_count = exchange->arguments.count});
}

static int plan_queue(struct plan *plan, const struct config_queue *queue)
{
    const struct consumer_argument *arguments = plan_arguments(plan, &queue->arguments);
    const char *section = plan_section(plan, &queue->where, 0);

    if (arguments == NULL || section == NULL)
        return -1;
    if (queue->declare == CONFIG_DECLARE_NO)
        return 0;
    return plan_add(plan, (struct topology_item){.kind = TOPOLOGY_QUEUE,
                                                 .section = section,
                                                 .name = queue->name,
                                                 .passive = queue->declare == CONFIG_DECLARE_PASSIVE,
                                                 .durable = queue->durable,
                                                 .auto_delete = queue->auto_delete,
                                                 .exclusive = queue->exclusive,
                                                 .arguments = arguments,
                                                 .argument_count = queue->arguments.count});
}

static int plan_bindings(struct plan *plan, enum topology_kind kind, const char *name, const struct config_where *where,
                         const struct config_bindings *bindings, const struct config_arguments *given)
{
    static const struct config_arguments none = {0};
    const struct consumer_argument *arguments = plan_arguments(plan, given != NULL ? given : &none);

    for (size_t i = 0; i < bindings->count; i++) {
        const struct config_binding *binding = &bindings->items[i];
        const char *section = plan_section(plan, where, binding->line);

        if (section == NULL || arguments == NULL ||
            plan_add(plan, (struct topology_item){.kind = kind,
                                                  .section = section,
                                                  .name = name,
                                                  .source = binding->exchange,
                                                  .pattern = binding->pattern,
                                                  .arguments = arguments,
                                                  .argument_count = given != NULL ? given->count : 0}) != 0)
            return -1;
    }
    return 0;
}

static int plan_fill(struct plan *plan, const struct config *config, const int64_t *delays, size_t delay_count)
{
    if (plan_dead_letters(plan, config) != 0)
        return -1;
    for (size_t i = 0; i < delay_count; i++)
        if (plan_retry(plan, delays[i]) != 0)
            return -1;
    for (size_t i = 0; i < config->exchange_count; i++)
        if (plan_exchange(plan, &config->exchanges[i]) != 0)
            return -1;
    for (size_t i = 0; i < config->queue_count; i++)
        if (plan_queue(plan, &config->queues[i]) != 0)
            return -1;
    if (plan_dead_letter_binding(plan, config) != 0)
        return -1;
    for (size_t i = 0; i < config->exchange_count; i++) {
        const struct config_exchange *exchange = &config->exchanges[i];

        if (plan_bindings(plan, TOPOLOGY_BIND_EXCHANGE, exchange->name, &exchange->where, &exchange->bindings, NULL) !=
            0)
            return -1;
    }
    for (size_t i = 0; i < config->queue_count; i++) {
        const struct config_queue *queue = &config->queues[i];

        if (plan_bindings(plan, TOPOLOGY_BIND_QUEUE, queue->name, &queue->where, &queue->bindings,
                          &queue->bind_arguments) != 0)
            return -1;
    }
    return 0;
}

struct plan *plan_new(const struct config *config, const int64_t *delays, size_t delay_count)
{
    struct plan *plan = calloc(1, sizeof(*plan));

    if (plan != NULL && plan_fill(plan, config, delays, delay_count) == 0)
        return plan;
    plan_free(plan);
    return NULL;
}

void plan_free(struct plan *plan)
{
    if (plan == NULL)
        return;
    for (size_t i = 0; i < plan->owned_count; i++)
        free(plan->owned[i]);
    free(plan->owned);
    free(plan->items);
    free(plan);
}
