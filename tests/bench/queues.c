/* SPDX-License-Identifier: MIT */
/*
 * queues -P port COMMAND: prepares job J on a real broker and watches it.
 *
 *   setup            declares topic exchanges bench.in and bench.out, durable queues bench.jobs and bench.results, and
 *                    empties both queues
 *   fill N MODE IDS  publishes N messages, delivery mode 1 or 2, with a message_id (IDS 1) or without (0), through
 *                    bench.in with five routing keys, and returns when all are in bench.jobs
 *   watch N          looks at bench.results until N messages are there and prints, as JSON, the span of time from the
 *                    first look that saw some to the one that saw all, and how many came within it; gives up when
 *                    nothing has come for 20 seconds
 *   left             prints how many messages bench.jobs holds (with nobody consuming)
 */
#include "rabbitmq.h"

#include <poll.h>
#include <unistd.h>

#define WATCH_MS 10
#define WATCH_PATIENCE INT64_C(20000000000)

static void queues_exchange(amqp_connection_state_t connection, const char *name)
{
    amqp_exchange_declare(connection, 1, amqp_cstring_bytes(name), amqp_cstring_bytes("topic"), 0, 1, 0, 0,
                          amqp_empty_table);
    bench_check(connection, name);
}

static uint32_t queues_count(amqp_connection_state_t connection, const char *name)
{
    amqp_queue_declare_ok_t *ok = amqp_queue_declare(connection, 1, amqp_cstring_bytes(name), 1, 1, 0, 0,
                                                     amqp_empty_table);
    uint32_t count;

    bench_check(connection, name);
    count = ok->message_count;
    amqp_maybe_release_buffers_on_channel(connection, 1);
    return count;
}

static void queues_queue(amqp_connection_state_t connection, const char *name, const char *exchange, const char *key)
{
    amqp_queue_declare(connection, 1, amqp_cstring_bytes(name), 0, 1, 0, 0, amqp_empty_table);
    bench_check(connection, name);
    amqp_queue_bind(connection, 1, amqp_cstring_bytes(name), amqp_cstring_bytes(exchange), amqp_cstring_bytes(key),
                    amqp_empty_table);
    bench_check(connection, name);
}

static void queues_setup(amqp_connection_state_t connection)
{
    queues_exchange(connection, "bench.in");
    queues_exchange(connection, "bench.out");
    for (size_t key = 0; key < HARK_COUNT(bench_keys); key++)
        queues_queue(connection, "bench.jobs", "bench.in", bench_keys[key]);
    queues_queue(connection, "bench.results", "bench.out", "#");
    amqp_queue_purge(connection, 1, amqp_cstring_bytes("bench.jobs"));
    bench_check(connection, "purge");
    amqp_queue_purge(connection, 1, amqp_cstring_bytes("bench.results"));
    bench_check(connection, "purge");
}

static int queues_fill(amqp_connection_state_t connection, uint32_t messages, int mode, bool ids)
{
    char body[BENCH_BODY], id[sizeof(RAW_MESSAGE_ID)];
    amqp_basic_properties_t properties = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | (ids ? AMQP_BASIC_MESSAGE_ID_FLAG : 0),
        .content_type = amqp_cstring_bytes(RAW_CONTENT_TYPE),
        .delivery_mode = (uint8_t)mode,
    };
    int64_t give_up;

    memset(body, 'x', sizeof(body));
    for (uint32_t number = 0; number < messages; number++) {
        int status;

        snprintf(id, sizeof(id), "%.28s%08x", RAW_MESSAGE_ID, number);
        properties.message_id = amqp_cstring_bytes(id);
        status = amqp_basic_publish(connection, 1, amqp_cstring_bytes("bench.in"),
                                    amqp_cstring_bytes(bench_keys[number % HARK_COUNT(bench_keys)]), 0, 0, &properties,
                                    (amqp_bytes_t){.len = sizeof(body), .bytes = body});
        if (status != AMQP_STATUS_OK)
            bench_die("basic.publish", status);
    }
    for (give_up = bench_now() + WATCH_PATIENCE; queues_count(connection, "bench.jobs") < messages;) {
        if (bench_now() > give_up) {
            fprintf(stderr, "queues: bench.jobs does not fill\n");
            return 1;
        }
        poll(NULL, 0, WATCH_MS);
    }
    return 0;
}

static int queues_watch(amqp_connection_state_t connection, uint32_t messages)
{
    int64_t first = 0, last = bench_now();
    uint32_t seen = 0, at_first = 0;

    while (seen < messages) {
        uint32_t count = queues_count(connection, "bench.results");
        int64_t now = bench_now();

        if (count > seen) {
            if (seen == 0) {
                first = now;
                at_first = count;
            }
            seen = count;
            last = now;
        } else if (now - last > WATCH_PATIENCE) {
            fprintf(stderr, "queues: bench.results stays at %u of %u messages\n", seen, messages);
            return 1;
        }
        if (seen < messages)
            poll(NULL, 0, WATCH_MS);
    }
    printf("{\"messages\": %u, \"seconds\": %.6f, \"first_ns\": %ld}\n", seen - at_first, (double)(last - first) / 1e9,
           first);
    return 0;
}

int main(int argc, char **argv)
{
    amqp_connection_state_t connection;
    int option, port = 5672, result = 0;
    const char *command;
    uint32_t number;

    while ((option = getopt(argc, argv, "P:")) != -1)
        if (option == 'P')
            port = atoi(optarg);
    command = argc > optind ? argv[optind] : "";
    number = argc > optind + 1 ? (uint32_t)strtoul(argv[optind + 1], NULL, 10) : 0;

    connection = bench_connect(port);
    if (strcmp(command, "setup") == 0) {
        queues_setup(connection);
    } else if (strcmp(command, "fill") == 0 && argc > optind + 3) {
        result = queues_fill(connection, number, atoi(argv[optind + 2]), atoi(argv[optind + 3]) != 0);
    } else if (strcmp(command, "watch") == 0) {
        result = queues_watch(connection, number);
    } else if (strcmp(command, "left") == 0) {
        printf("%u\n", queues_count(connection, "bench.jobs"));
    } else {
        fprintf(stderr, "usage: queues -P port setup | fill N MODE IDS | watch N | left\n");
        result = 2;
    }
    bench_disconnect(connection);
    return result;
}
