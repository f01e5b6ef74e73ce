/* SPDX-License-Identifier: MIT */
/*
 * Circles: an edge leads from a listener to each one that can hear what it emits; for each listener
 * the shortest way back to itself is looked for, breadth first, and each circle is told once, at
 * its first listener.
 */
#include "daemon/check_private.h"
#include "daemon/routes.h"

#include <stdlib.h>
#include <string.h>

struct edges {
    size_t count, capacity;
    size_t *to;
};

struct graph {
    struct check *check;
    struct edges *edges;   /* by listener */
    size_t from;           /* whose edges are being drawn */
    bool *told;            /* has been part of a circle */
    size_t *before, *line; /* by listener: whose edge led there last; and who is to be visited */
};

#define NOBODY SIZE_MAX

static void add_edge(struct graph *graph, size_t to)
{
    struct edges *edges = &graph->edges[graph->from];

    if (graph->before[to] == graph->from)
        return; /* it is there already */
    if (edges->count == edges->capacity) {
        size_t capacity = edges->capacity ? 2 * edges->capacity : 4;
        size_t *grown = realloc(edges->to, capacity * sizeof(*grown));

        if (grown == NULL) {
            graph->check->no_memory = true;
            return;
        }
        edges->to = grown;
        edges->capacity = capacity;
    }
    edges->to[edges->count++] = to;
    graph->before[to] = graph->from;
}

static void draw(void *arg, const struct route *route)
{
    struct graph *graph = arg;

    for (size_t i = 0; i < route->queue->listener_count; i++) {
        const struct config_listener *listener = route->queue->listeners[i];

        if (route_heard(listener, route) != NULL)
            add_edge(graph, (size_t)(listener - graph->check->config->listeners));
    }
}

static void draw_all(struct graph *graph)
{
    const struct config *config = graph->check->config;

    for (size_t i = 0; i < config->listener_count; i++)
        graph->before[i] = NOBODY;
    for (graph->from = 0; graph->from < config->listener_count; graph->from++) {
        struct route_emit emit;

        if (route_emit_of(&config->listeners[graph->from], &emit) != 0) {
            graph->check->no_memory = true;
            return;
        }
        for (size_t i = 0; emit.exchange != NULL && i < emit.count; i++)
            route_find(config, emit.exchange, emit.keys[i], draw, graph);
        route_emit_free(&emit);
    }
}

/* `a -> b -> a`, from the ends of the chain that `before` holds. */
static void tell(struct graph *graph, size_t start, size_t last)
{
    const struct config *config = graph->check->config;
    const struct config_listener *listener = &config->listeners[start];
    char path[1024], more[1024];
    size_t shown = 0;

    snprintf(path, sizeof(path), "%s", listener->name);
    for (size_t at = last; at != start; at = graph->before[at]) {
        graph->told[at] = true;
        if (shown++ < 20)
            snprintf(more, sizeof(more), "%.300s -> %.700s", config->listeners[at].name, path);
        else
            snprintf(more, sizeof(more), "... -> %.900s", strncmp(path, "...", 3) == 0 ? path + 7 : path);
        memcpy(path, more, sizeof(path));
    }
    graph->told[start] = true;
    check_warn(
        graph->check, &listener->where, config_line(&listener->where, "emit"),
        "what it emits can come back to it: %s -> %s; a message that goes round is dead-lettered after %lld hops",
        listener->name, path, (long long)config->general.max_hops);
}

static void search(struct graph *graph, size_t start)
{
    size_t count = graph->check->config->listener_count, first = 0, end = 0;

    for (size_t i = 0; i < count; i++)
        graph->before[i] = NOBODY;
    graph->line[end++] = start;
    while (first < end) {
        size_t at = graph->line[first++];
        const struct edges *edges = &graph->edges[at];

        for (size_t i = 0; i < edges->count; i++) {
            size_t to = edges->to[i];

            if (to == start) {
                tell(graph, start, at);
                return;
            }
            if (graph->before[to] == NOBODY) {
                graph->before[to] = at;
                graph->line[end++] = to;
            }
        }
    }
}

void check_cycles(struct check *check)
{
    size_t count = check->config->listener_count;
    struct graph graph = {.check = check,
                          .edges = calloc(count + 1, sizeof(*graph.edges)),
                          .told = calloc(count + 1, sizeof(*graph.told)),
                          .before = calloc(count + 1, sizeof(*graph.before)),
                          .line = calloc(count + 1, sizeof(*graph.line))};

    if (graph.edges == NULL || graph.told == NULL || graph.before == NULL || graph.line == NULL)
        check->no_memory = true;
    else
        draw_all(&graph);
    for (size_t i = 0; i < count && !check->no_memory; i++)
        if (!graph.told[i] && graph.edges[i].count > 0)
            search(&graph, i);
    for (size_t i = 0; graph.edges != NULL && i < count; i++)
        free(graph.edges[i].to);
    free(graph.edges);
    free(graph.told);
    free(graph.before);
    free(graph.line);
}
