/* SPDX-License-Identifier: MIT */
/*
 * latency -P port [-r messages a second] [-n messages] [-b]
 *
 * Publishes to bench.in at a steady rate, receives from bench.results, and prints as JSON how long that took: with a
 * contender between bench.jobs and bench.out, the broker's two hops and what the contender adds.
 *
 * With -b it is its own contender, on a third connection, and does not count the time that it holds a message: what is
 * left are the broker's own two hops, wake-ups of the receivers included.
 *
 * rabbitmq-c connects and subscribes; from then on whole frames are written and read on its sockets, one system call
 * each way per message, so that the probe itself weighs little. Each body begins with the time of sending and the time
 * for which it was held.
 */
#include "rabbitmq.h"

#include <errno.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LATENCY_WARM_UP 500 /* messages that are not counted */
#define LATENCY_PATIENCE INT64_C(30000000000)

/* A connection that consumes, publishes or both. */
struct line {
    amqp_connection_state_t connection;
    int fd;
    struct buf in;
    struct buf frames[HARK_COUNT(bench_keys)]; /* a finished publish per routing key */
    size_t body_at[HARK_COUNT(bench_keys)];
};

struct stamp {
    int64_t sent, held;
};

struct probe {
    struct line publisher, relay, receiver;
    bool baseline;
    uint64_t messages, sent, received;
    int64_t *samples;
};

static void probe_die(const char *what)
{
    fprintf(stderr, "latency: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void line_open(struct line *line, int port, const char *queue, const char *exchange)
{
    char body[BENCH_BODY] = {0};

    line->connection = bench_connect(port);
    line->fd = amqp_get_sockfd(line->connection);
    for (size_t key = 0; exchange != NULL && key < HARK_COUNT(bench_keys); key++) {
        struct buf *out = &line->frames[key];
        size_t method = raw_method(out, 1, RAW_PUBLISH);

        buf_put_u16(out, 0);
        raw_short(out, span_str(exchange));
        raw_short(out, span_str(bench_keys[key]));
        buf_put_u8(out, 0);
        raw_end(out, method);
        raw_content(out, 1, false, body, sizeof(body));
        line->body_at[key] = buf_length(out) - 1 - sizeof(body);
    }
    if (queue == NULL)
        return;
    amqp_basic_consume(line->connection, 1, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 1, 0, amqp_empty_table);
    bench_check(line->connection, queue);
}

static void line_close(struct line *line)
{
    if (line->connection == NULL)
        return;
    bench_disconnect(line->connection);
    buf_free(&line->in);
    for (size_t key = 0; key < HARK_COUNT(bench_keys); key++)
        buf_free(&line->frames[key]);
}

static void line_publish(struct line *line, uint64_t number, struct stamp stamp)
{
    size_t key = number % HARK_COUNT(bench_keys);
    struct buf *out = &line->frames[key];

    memcpy(out->data + line->body_at[key], &stamp, sizeof(stamp));
    /* A kilobyte now and then always fits into the socket. */
    if (send(line->fd, out->data, buf_length(out), MSG_NOSIGNAL) != (ssize_t)buf_length(out))
        probe_die("send");
}

static void probe_arrived(struct probe *probe, struct stamp stamp, int64_t now)
{
    if (probe->received >= LATENCY_WARM_UP)
        probe->samples[probe->received - LATENCY_WARM_UP] = now - stamp.sent - stamp.held;
    probe->received++;
}

static void probe_forward(struct probe *probe, uint64_t number, struct stamp stamp, int64_t now)
{
    stamp.held = bench_now() - now;
    line_publish(&probe->relay, number, stamp);
}

static void probe_read(struct probe *probe, struct line *line)
{
    uint8_t *to = buf_reserve(&line->in, 65536);
    ssize_t got = to ? recv(line->fd, to, 65536, 0) : -1;
    int64_t now = bench_now();
    size_t length;

    if (got <= 0)
        probe_die("recv");
    line->in.end += (size_t)got;
    while ((length = raw_frame_length(line->in.data + line->in.start, buf_length(&line->in))) > 0) {
        const uint8_t *frame = line->in.data + line->in.start;
        struct stamp stamp;

        if (frame[0] == RAW_BODY && length >= RAW_OVERHEAD + sizeof(stamp)) {
            memcpy(&stamp, frame + RAW_HEAD, sizeof(stamp));
            if (line == &probe->receiver)
                probe_arrived(probe, stamp, now);
            else
                probe_forward(probe, probe->received, stamp, now);
        }
        line->in.start += length;
    }
    if (buf_length(&line->in) == 0)
        buf_clear(&line->in);
}

/* Waits for messages until the time comes. */
static void probe_wait(struct probe *probe, int64_t until)
{
    struct pollfd polled[] = {{.fd = probe->receiver.fd, .events = POLLIN},
                              {.fd = probe->baseline ? probe->relay.fd : -1, .events = POLLIN}};
    int64_t left = until - bench_now();
    struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};

    if (left <= 0)
        return;
    if (ppoll(polled, HARK_COUNT(polled), &timeout, NULL) < 0 && errno != EINTR)
        probe_die("poll");
    if (polled[0].revents)
        probe_read(probe, &probe->receiver);
    if (polled[1].revents)
        probe_read(probe, &probe->relay);
}

static void probe_send(struct probe *probe)
{
    line_publish(&probe->publisher, probe->sent++, (struct stamp){.sent = bench_now()});
}

static void probe_run(struct probe *probe, uint64_t rate)
{
    int64_t period = INT64_C(1000000000) / (int64_t)rate, due, give_up = bench_now() + LATENCY_PATIENCE;

    /* The first one waits for a contender that is still starting. */
    probe_send(probe);
    while (probe->received == 0 && bench_now() < give_up)
        probe_wait(probe, give_up);
    for (due = bench_now() + period; probe->sent < probe->messages; due += period) {
        while (bench_now() < due)
            probe_wait(probe, due);
        probe_send(probe);
    }
    give_up = bench_now() + LATENCY_PATIENCE;
    while (probe->received < probe->messages && bench_now() < give_up)
        probe_wait(probe, give_up);
    if (probe->received < probe->messages) {
        fprintf(stderr, "latency: %lu of %lu messages came back\n", probe->received, probe->messages);
        exit(1);
    }
}

static int sample_compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return left < right ? -1 : left > right;
}

static void probe_report(struct probe *probe)
{
    uint64_t count = probe->messages - LATENCY_WARM_UP;
    double us[] = {0.5, 0.9, 0.99, 1};

    qsort(probe->samples, count, sizeof(*probe->samples), sample_compare);
    for (size_t i = 0; i < HARK_COUNT(us); i++)
        us[i] = (double)probe->samples[(uint64_t)(us[i] * (double)(count - 1))] / 1e3;
    printf("{\"messages\": %lu, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n", count,
           us[0], us[1], us[2], us[3]);
}

int main(int argc, char **argv)
{
    static struct probe probe = {.messages = 10000};
    int option, port = 5672;
    uint64_t rate = 1000;

    while ((option = getopt(argc, argv, "P:r:n:b")) != -1) {
        switch (option) {
        case 'P':
            port = atoi(optarg);
            break;
        case 'r':
            rate = strtoull(optarg, NULL, 10);
            break;
        case 'n':
            probe.messages = strtoull(optarg, NULL, 10);
            break;
        case 'b':
            probe.baseline = true;
            break;
        default:
            rate = 0;
        }
    }
    if (rate == 0 || probe.messages <= LATENCY_WARM_UP) {
        fprintf(stderr, "usage: latency -P port [-r rate] [-n messages, more than %d] [-b]\n", LATENCY_WARM_UP);
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1);
    probe.samples = calloc(probe.messages, sizeof(*probe.samples));
    if (probe.samples == NULL)
        probe_die("samples");
    line_open(&probe.publisher, port, NULL, "bench.in");
    line_open(&probe.receiver, port, "bench.results", NULL);
    if (probe.baseline)
        line_open(&probe.relay, port, "bench.jobs", "bench.out");
    probe_run(&probe, rate);
    probe_report(&probe);
    line_close(&probe.publisher);
    line_close(&probe.receiver);
    line_close(&probe.relay);
    free(probe.samples);
    return 0;
}
