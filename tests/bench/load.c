/* SPDX-License-Identifier: MIT */
#include "load.h"

#include <errno.h>
#include <unistd.h>

#define LOAD_USAGE \
    "usage: load -P port [options] publish | consume | both | latency | limit | ready\n" \
    "\n" \
    "  publish   as fast as it goes; done when the queue holds all, or all are confirmed\n" \
    "  consume   from a queue that was filled before the clock starts\n" \
    "  both      at once, on two connections\n" \
    "  latency   at a steady rate (-r): from when a message was due to delivery and to confirm\n" \
    "  limit     as both, with no broker but a process that passes bytes on\n" \
    "  ready     waits for a broker that is starting, with -n until the queue holds so many;\n" \
    "            prints when that was, by the monotonic clock\n" \
    "\n" \
    "  -n N      messages (100000)           -b BYTES  of body (200)\n" \
    "  -q QUEUE  (load)                      -x NAME   through this topic exchange\n" \
    "  -k N      routing keys, with -x (5)   -i        with content_type and message_id\n" \
    "  -p        persistent, durable queue   -d        durable queue, whatever the messages are\n" \
    "  -c N      confirms, at most so many messages unconfirmed (none)\n" \
    "  -f N      prefetch (none)             -a N      acknowledge, multiple, every N (no_ack)\n" \
    "  -r N      messages a second (1000)    -K        keep the queue and what is in it\n" \
    "  -E        the queue exists already: declare nothing\n"

#define LOAD_WATCH_MS 1
#define LOAD_BODY_MAX 65536

static _Noreturn void load_usage(void)
{
    fputs(LOAD_USAGE, stderr);
    exit(2);
}

struct measured {
    int64_t started, cpu_started;
    double seconds, cpu;
};

static void measured_start(struct measured *measured)
{
    measured->started = bench_now();
    measured->cpu_started = bench_cpu();
}

static void measured_stop(struct measured *measured)
{
    measured->seconds = (double)(bench_now() - measured->started) / 1e9;
    measured->cpu = (double)(bench_cpu() - measured->cpu_started) / 1e3;
}

static void measured_print(const struct measured *measured, const struct load_options *options, uint64_t reads,
                           uint64_t writes)
{
    double messages = (double)options->messages;

    printf("{\"messages\": %lu, \"seconds\": %.6f, \"rate\": %.0f, \"client_cpu_us\": %.3f, "
           "\"reads_per_message\": %.4f, \"writes_per_message\": %.4f}\n",
           options->messages, measured->seconds, messages / measured->seconds, measured->cpu / messages,
           (double)reads / messages, (double)writes / messages);
}

/* Until the queue holds all messages: what waits in a socket does not count as taken. */
static void load_await_ready(struct load_line *line, const struct load_options *options)
{
    int64_t give_up = bench_now() + LOAD_PATIENCE;
    uint64_t ready, before = 0;

    while ((ready = load_ready(line, options)) < options->messages) {
        if (ready > before)
            give_up = bench_now() + LOAD_PATIENCE;
        before = ready;
        if (bench_now() > give_up) {
            fprintf(stderr, "load: the queue stays at %lu of %lu messages\n", ready, options->messages);
            exit(1);
        }
        poll(NULL, 0, LOAD_WATCH_MS);
    }
}

static void load_push(struct load_publisher *publisher)
{
    while (!load_publisher_done(publisher)) {
        struct pollfd polled;

        polled = load_line_poll(&publisher->line, load_publisher_wants_write(publisher));
        load_wait(&polled, 1, 0);
        if (polled.revents & POLLOUT)
            load_publisher_write(publisher);
        if (polled.revents & POLLIN)
            load_publisher_read(publisher);
    }
    if (publisher->options->window == 0)
        load_await_ready(&publisher->line, publisher->options);
}

static void load_publish(const struct load_options *options)
{
    struct load_publisher publisher;
    struct measured measured;

    load_publisher_open(&publisher, options);
    measured_start(&measured);
    load_push(&publisher);
    measured_stop(&measured);
    load_await_ready(&publisher.line, options);
    measured_print(&measured, options, publisher.line.reads, publisher.line.writes);
    load_publisher_close(&publisher);
}

static void load_consume(const struct load_options *options)
{
    struct load_publisher publisher;
    struct load_consumer consumer = {0};
    struct measured measured;

    load_publisher_open(&publisher, options);
    load_push(&publisher);
    load_publisher_close(&publisher);

    measured_start(&measured);
    load_consumer_open(&consumer, options);
    load_consumer_read(&consumer);
    while (!load_consumer_done(&consumer)) {
        struct pollfd polled = load_line_poll(&consumer.line, false);

        load_wait(&polled, 1, 0);
        load_consumer_read(&consumer);
    }
    load_ready(&consumer.line, options); /* its answer comes behind the acknowledgements */
    measured_stop(&measured);
    measured_print(&measured, options, consumer.line.reads, consumer.line.writes);
    load_consumer_close(&consumer);
}

static void load_both(const struct load_options *options)
{
    struct load_publisher publisher;
    struct load_consumer consumer = {0};
    struct measured measured;

    load_publisher_open(&publisher, options);
    load_consumer_open(&consumer, options);
    measured_start(&measured);
    while (!load_publisher_done(&publisher) || !load_consumer_done(&consumer)) {
        struct pollfd polled[] = {load_line_poll(&publisher.line, load_publisher_wants_write(&publisher)),
                                  load_line_poll(&consumer.line, false)};

        load_wait(polled, HARK_COUNT(polled), 0);
        if (polled[1].revents)
            load_consumer_read(&consumer);
        if (polled[0].revents & POLLIN)
            load_publisher_read(&publisher);
        if (polled[0].revents & POLLOUT)
            load_publisher_write(&publisher);
    }
    load_ready(&consumer.line, options);
    measured_stop(&measured);
    measured_print(&measured, options, publisher.line.reads + consumer.line.reads,
                   publisher.line.writes + consumer.line.writes);
    load_publisher_close(&publisher);
    load_consumer_close(&consumer);
}

static void load_await_start(const struct load_options *options)
{
    int64_t give_up = bench_now() + 10 * LOAD_PATIENCE;
    struct load_line line;

    while (!load_line_open(&line, options->port, true))
        if (bench_now() > give_up)
            load_die("the broker does not start");
    if (options->messages > 0)
        load_await_ready(&line, options);
    printf("{\"ready_ns\": %ld}\n", bench_now());
    load_line_close(&line);
}

static void load_run(const char *command, const struct load_options *options)
{
    static const struct {
        const char *name;
        void (*run)(const struct load_options *options);
    } commands[] = {
        {"publish", load_publish}, {"consume", load_consume}, {"both", load_both}, {"latency", load_latency}};
    struct load_line line;

    for (size_t i = 0; i < HARK_COUNT(commands); i++) {
        if (strcmp(command, commands[i].name) != 0)
            continue;
        load_line_open(&line, options->port, false);
        if (!options->exists)
            load_setup(&line, options);
        commands[i].run(options);
        fflush(stdout);
        if (!options->keep)
            load_delete(&line, options);
        load_line_close(&line);
        return;
    }
    load_usage();
}

static bool load_option(struct load_options *options, int option, const char *value)
{
    uint64_t number = value ? strtoull(value, NULL, 10) : 0;

    switch (option) {
    case 'P':
        options->port = (int)number;
        return true;
    case 'n':
        options->messages = number;
        return true;
    case 'b':
        options->body = number;
        return number > 0 && number <= LOAD_BODY_MAX;
    case 'q':
        options->queue = value;
        return true;
    case 'x':
        options->exchange = value;
        return true;
    case 'k':
        options->keys = (unsigned)number;
        return number > 0 && number <= HARK_COUNT(bench_keys);
    case 'i':
        options->identified = true;
        return true;
    case 'p':
        options->persistent = options->durable = true;
        return true;
    case 'd':
        options->durable = true;
        return true;
    case 'c':
        options->window = number;
        return number <= LOAD_WINDOW_MAX;
    case 'f':
        options->prefetch = (unsigned)number;
        return number <= UINT16_MAX;
    case 'a':
        options->every = number;
        return true;
    case 'r':
        options->rate = number;
        return number > 0;
    case 'K':
        options->keep = true;
        return true;
    case 'E':
        options->exists = true;
        return true;
    default:
        return false;
    }
}

int main(int argc, char **argv)
{
    static struct load_options options = {
        .port = 5672, .queue = "load", .keys = HARK_COUNT(bench_keys), .body = BENCH_BODY, .rate = 1000};
    int option;

    while ((option = getopt(argc, argv, "P:n:b:q:x:k:ipdc:f:a:r:KE")) != -1)
        if (!load_option(&options, option, optarg))
            load_usage();
    if (optind != argc - 1)
        load_usage();
    if (strcmp(argv[optind], "ready") == 0) {
        load_await_start(&options);
        return 0;
    }
    if (options.messages == 0)
        options.messages = 100000;
    if (strcmp(argv[optind], "limit") == 0) {
        load_limit(&options);
        return 0;
    }
    load_run(argv[optind], &options);
    return 0;
}
