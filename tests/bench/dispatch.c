/* SPDX-License-Identifier: MIT */
/*
 * dispatch [-k patterns] [-n messages] [-f batch]
 *
 * Dispatch alone, on one core, without a socket: deliveries as they come on the wire are cut, decoded, dispatched to
 * `forward` listeners with all the bookkeeping of the worker, and what these emit is written as it goes out on the
 * wire; at the end of each batch everything is confirmed and acknowledged. Prints JSON.
 *
 * Five patterns are the job's routing keys, a listener each. The others are listeners, too, whose patterns never match:
 * what looking a key up costs beside them is what -k is for.
 */
#include "base/log.h"
#include "base/settings.h"
#include "daemon/slot.h"
#include "dispatch/dispatcher.h"
#include "raw.h"
#include "wire/content.h"
#include "wire/method.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHANNEL 1
#define FRAME_MAX 131072
#define BODY_MAX (16 * 1024 * 1024)

extern const struct hark_module hark_module_forward;

struct bench {
    struct dispatcher *dispatcher;
    struct dispatch_queue *queue;
    struct event_base *base;
    struct slot *slot;
    void *settings;     /* forward's own, all fallbacks */
    struct buf in, out; /* a batch of deliveries; what goes out */
    struct outgoing *unconfirmed, **end;
    uint64_t acked, emitted, out_bytes;
};

static void bench_fail(const char *what)
{
    fprintf(stderr, "dispatch: %s\n", what);
    exit(1);
}

/* ---- the ports: what the worker does with them, without the client behind ---- */

static void bench_ack(void *arg, const struct dispatch_ticket *ticket)
{
    struct bench *bench = arg;

    (void)ticket;
    bench->acked++;
}

static void bench_publish(void *arg, struct outgoing *outgoing)
{
    struct bench *bench = arg;

    method_put_publish(&bench->out, CHANNEL, outgoing->exchange, outgoing->routing_key, true);
    content_put(&bench->out, CHANNEL, FRAME_MAX, outgoing->raw_properties, outgoing->body);
    bench->emitted++;
    outgoing->next = NULL;
    *bench->end = outgoing;
    bench->end = &outgoing->next;
}

static void bench_redeclare(void *arg)
{
    (void)arg;
}

static void bench_enter(void *arg, const struct dispatch_call *call)
{
    slot_enter(((struct bench *)arg)->slot, call->listener, call->queue, call->routing_key, call->message_id,
               call->identity);
}

static void bench_leave(void *arg)
{
    slot_leave(((struct bench *)arg)->slot);
}

/* ---- setting up ---- */

static void bench_add_listener(struct bench *bench, const char *name, const char *pattern)
{
    static const char *const queues[] = {"bench.jobs"};
    static const int64_t retry[] = {1000, 5000, 30000, 120000, 600000};
    struct dispatch_listener listener = {
        .name = strdup(name),
        .module = &hark_module_forward,
        .settings = bench->settings,
        .queues = queues,
        .queue_count = HARK_COUNT(queues),
        .emit_exchange = "bench.out",
        .retry = retry,
        .retry_count = HARK_COUNT(retry),
        .timeout = 60000,
        .concurrency = 16,
    };
    char **patterns = calloc(1, sizeof(*patterns));

    if (listener.name == NULL || patterns == NULL || (patterns[0] = strdup(pattern)) == NULL)
        bench_fail("out of memory");
    listener.patterns = (const char *const *)patterns;
    listener.pattern_count = 1;
    if (dispatcher_add_listener(bench->dispatcher, &listener) != 0)
        bench_fail("cannot add a listener");
}

/* Five shapes in turn, all near the job's keys, so that wildcards have to be followed and fail. */
static void bench_add_strangers(struct bench *bench, unsigned count)
{
    static const char *const shapes[] = {"order.created.n%u", "order.*.n%u", "#.n%u", "*.n%u", "n%u.#"};

    for (unsigned i = 0; i < count; i++) {
        char name[32], pattern[64];

        snprintf(name, sizeof(name), "stranger-%u", i);
        snprintf(pattern, sizeof(pattern), shapes[i % HARK_COUNT(shapes)], i); /* NOLINT */
        bench_add_listener(bench, name, pattern);
    }
}

static void bench_open(struct bench *bench, unsigned patterns)
{
    struct dispatch_options options = {
        .dead_letter = "hark.dead",
        .dead_letter_queue = "hark.dead",
        .frame_max = FRAME_MAX,
        .max_hops = 32,
        .crash_limit = 3,
        .persistent = true,
        .slow_call = 100,
    };
    struct dispatch_ports ports = {
        .arg = bench,
        .ack = bench_ack,
        .publish = bench_publish,
        .redeclare = bench_redeclare,
        .enter = bench_enter,
        .leave = bench_leave,
    };
    struct settings settings;
    char error[256];

    bench->end = &bench->unconfirmed;
    bench->slot = slot_open();
    bench->settings = calloc(1, hark_module_forward.settings_size);
    options.base = bench->base = event_base_new();
    if (bench->slot == NULL || bench->settings == NULL || bench->base == NULL)
        bench_fail("out of memory");
    settings_init(&settings, hark_module_forward.settings, bench->settings);
    if (settings_finish(&settings, error, sizeof(error)) != 0)
        bench_fail(error);
    bench->dispatcher = dispatcher_new(&options, &ports);
    bench->queue = bench->dispatcher ? dispatcher_add_queue(bench->dispatcher, "bench.jobs", 0) : NULL;
    if (bench->queue == NULL)
        bench_fail("out of memory");
    for (size_t key = 0; key < HARK_COUNT(bench_keys); key++)
        bench_add_listener(bench, bench_keys[key], bench_keys[key]);
    if (patterns > HARK_COUNT(bench_keys))
        bench_add_strangers(bench, patterns - (unsigned)HARK_COUNT(bench_keys));
}

static void bench_put_deliveries(struct bench *bench, unsigned count)
{
    char body[BENCH_BODY];

    memset(body, 'x', sizeof(body));
    for (unsigned i = 0; i < count; i++) {
        size_t method = raw_method(&bench->in, CHANNEL, RAW_DELIVER);

        raw_short(&bench->in, span_str("hark.bench.jobs"));
        buf_put_u64(&bench->in, i + 1);
        buf_put_u8(&bench->in, 0);
        raw_short(&bench->in, span_str("bench.in"));
        raw_short(&bench->in, span_str(bench_keys[i % HARK_COUNT(bench_keys)]));
        raw_end(&bench->in, method);
        raw_content(&bench->in, CHANNEL, true, body, sizeof(body));
    }
}

/* ---- running ---- */

static void bench_frame(struct bench *bench, struct content *content, uint64_t *tag, const struct frame *frame)
{
    struct method_deliver deliver;
    struct message *message;
    struct reply error;

    if (frame->type == FRAME_METHOD) {
        if (method_get_deliver(frame->payload, &deliver, &error) != 0 ||
            content_begin(content, deliver.exchange, deliver.routing_key, &error) != 0)
            bench_fail(error.text);
        *tag = deliver.delivery_tag;
        return;
    }
    switch (content_frame(content, frame, BODY_MAX, &message, &error)) {
    case 0:
        return;
    case 1:
        dispatcher_deliver(bench->queue, &(struct dispatch_ticket){.consumer = bench, .tag = *tag}, false, message, 0);
        return;
    default:
        bench_fail(error.text);
    }
}

static void bench_batch(struct bench *bench, struct content *content)
{
    const uint8_t *at = bench->in.data + bench->in.start, *end = bench->in.data + bench->in.end;
    struct outgoing *outgoing;
    struct reply error;
    struct frame frame;
    uint64_t tag = 0;

    while (at < end) {
        ssize_t used = frame_cut(at, (size_t)(end - at), FRAME_MAX, &frame, &error);

        if (used <= 0)
            bench_fail("a frame that is none");
        bench_frame(bench, content, &tag, &frame);
        at += used;
    }
    while ((outgoing = bench->unconfirmed) != NULL) {
        bench->unconfirmed = outgoing->next;
        outgoing->done(outgoing, OUTCOME_CONFIRMED, "");
    }
    bench->end = &bench->unconfirmed;
    method_put_ack(&bench->out, CHANNEL, tag, true);
    bench->out_bytes += buf_length(&bench->out);
    buf_clear(&bench->out);
}

int main(int argc, char **argv)
{
    static struct content content;
    static struct bench bench;
    uint64_t messages = 3000000, done = 0;
    unsigned patterns = 5, batch = 200;
    int64_t started;
    double seconds;
    int option;

    while ((option = getopt(argc, argv, "k:n:f:")) != -1) {
        switch (option) {
        case 'k':
            patterns = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            messages = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            batch = (unsigned)strtoul(optarg, NULL, 10);
            break;
        default:
            batch = 0;
        }
    }
    if (batch == 0 || messages == 0) {
        fprintf(stderr, "usage: dispatch [-k patterns] [-n messages] [-f batch]\n");
        return 2;
    }
    log_set_level(LOG_LEVEL_ERROR);
    bench_open(&bench, patterns);
    bench_put_deliveries(&bench, batch);
    bench_batch(&bench, &content); /* warm */
    bench.acked = bench.emitted = bench.out_bytes = 0;
    started = bench_cpu();
    for (; done < messages; done += batch)
        bench_batch(&bench, &content);
    seconds = (double)(bench_cpu() - started) / 1e9;
    if (bench.acked != done || bench.emitted != done)
        bench_fail("not every message was emitted and acknowledged");
    printf("{\"messages\": %lu, \"patterns\": %u, \"rate\": %.0f, \"ns\": %.1f, \"bytes_out\": %.1f}\n", done, patterns,
           (double)done / seconds, seconds * 1e9 / (double)done, (double)bench.out_bytes / (double)done);
    dispatcher_free(bench.dispatcher);
    return 0;
}
