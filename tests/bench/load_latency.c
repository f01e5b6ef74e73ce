/* SPDX-License-Identifier: MIT */
/*
 * At a steady rate: how long from publishing to delivery, and to the confirm.
 *
 * Each message is one write of its own, with the time in its body. Whoever is late (a broker that
 * holds the publisher, a probe that was not scheduled) makes up for it, and the time counts from
 * when the message was due.
 */
#include "load.h"

#include <errno.h>
#include <sys/prctl.h>

#define LATENCY_WARM_UP_S 1 /* not counted */

struct samples {
    int64_t *values;
    uint64_t count, seen, skip;
};

struct probe {
    struct load_publisher publisher;
    struct load_consumer consumer;
    struct buf frames[HARK_COUNT(bench_keys)]; /* one message per routing key */
    int64_t *sent;                             /* when each message was due */
    struct samples delivered, confirmed;
};

static void samples_init(struct samples *samples, const struct load_options *options)
{
    samples->skip = options->rate * LATENCY_WARM_UP_S;
    errno = 0;
    if (options->messages <= samples->skip)
        load_die("more than a second's messages, please");
    samples->values = calloc(options->messages - samples->skip, sizeof(*samples->values));
    if (samples->values == NULL)
        load_die("samples");
}

static void samples_add(struct samples *samples, int64_t value)
{
    if (samples->seen++ >= samples->skip)
        samples->values[samples->count++] = value;
}

static int samples_compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return left < right ? -1 : left > right;
}

static void samples_print(struct samples *samples, const char *prefix)
{
    static const struct {
        const char *name;
        double share;
    } shares[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};

    qsort(samples->values, samples->count, sizeof(*samples->values), samples_compare);
    for (size_t i = 0; i < HARK_COUNT(shares); i++)
        printf(", \"%s%s_us\": %.1f", prefix, shares[i].name,
               (double)samples->values[(uint64_t)(shares[i].share * (double)(samples->count - 1))] / 1e3);
    free(samples->values);
}

static void probe_arrived(struct load_consumer *consumer, const uint8_t *body, size_t length)
{
    struct probe *probe = consumer->arg;
    int64_t due;

    errno = 0;
    if (length < sizeof(due))
        load_die("a body without its time");
    memcpy(&due, body, sizeof(due));
    samples_add(&probe->delivered, bench_now() - due);
}

static void probe_send(struct probe *probe, int64_t due)
{
    struct load_publisher *publisher = &probe->publisher;
    const struct load_options *options = publisher->options;
    struct buf *frame = &probe->frames[publisher->published % options->keys];

    /* The body stands at the end of the frame, before the frame's end. */
    memcpy(frame->data + buf_length(frame) - 1 - options->body, &due, sizeof(due));
    buf_put(&publisher->line.out, frame->data, buf_length(frame));
    probe->sent[publisher->published++] = due;
    load_line_flush(&publisher->line);
}

static void probe_turn(struct probe *probe, int64_t until)
{
    struct load_publisher *publisher = &probe->publisher;
    struct pollfd polled[] = {load_line_poll(&publisher->line, false), load_line_poll(&probe->consumer.line, false)};
    uint64_t confirmed = publisher->confirmed;

    load_wait(polled, HARK_COUNT(polled), until);
    if (polled[1].revents)
        load_consumer_read(&probe->consumer);
    if (polled[0].revents & POLLIN)
        load_publisher_read(publisher);
    load_line_flush(&publisher->line);
    while (confirmed < publisher->confirmed)
        samples_add(&probe->confirmed, bench_now() - probe->sent[confirmed++]);
}

void load_latency(const struct load_options *options)
{
    static struct probe probe;
    int64_t period = INT64_C(1000000000) / (int64_t)options->rate, due;
    char *body = calloc(1, options->body);

    prctl(PR_SET_TIMERSLACK, 1);
    probe.sent = calloc(options->messages, sizeof(*probe.sent));
    errno = 0;
    if (body == NULL || probe.sent == NULL || options->body < sizeof(due))
        load_die("no room for a message and its time");
    samples_init(&probe.delivered, options);
    samples_init(&probe.confirmed, options);
    for (unsigned key = 0; key < options->keys; key++)
        load_put_message(&probe.frames[key], options, key, body);
    probe.consumer.message = probe_arrived;
    probe.consumer.arg = &probe;
    load_publisher_open(&probe.publisher, options);
    load_consumer_open(&probe.consumer, options);

    for (due = bench_now() + period; probe.publisher.published < options->messages; due += period) {
        while (bench_now() < due)
            probe_turn(&probe, due);
        probe_send(&probe, due);
    }
    while (!load_publisher_done(&probe.publisher) || !load_consumer_done(&probe.consumer))
        probe_turn(&probe, 0);

    printf("{\"messages\": %lu, \"rate\": %lu", options->messages, options->rate);
    samples_print(&probe.delivered, "");
    if (options->window > 0)
        samples_print(&probe.confirmed, "confirm_");
    printf("}\n");
    load_publisher_close(&probe.publisher);
    load_consumer_close(&probe.consumer);
    for (unsigned key = 0; key < options->keys; key++)
        buf_free(&probe.frames[key]);
    free(probe.sent);
    free(body);
}
