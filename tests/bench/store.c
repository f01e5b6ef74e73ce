/* SPDX-License-Identifier: MIT */
/*
 * The store alone: how fast it takes and gives back persistent messages, what that costs the loop, and how long one
 * that nobody keeps company waits for its commit.
 *
 *   store FOLDER [messages [body [queues]]]
 */
#include "broker/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TURN 100            /* messages of one turn of the loop */
#define PENDING (64u << 20) /* above it the loop waits, as the broker does */
#define LONELY 200

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void on_committed(void *arg, uint64_t batch)
{
    (void)arg;
    (void)batch;
}

static void on_low(void *arg, const char *why)
{
    (void)arg;
    if (why != NULL)
        fprintf(stderr, "%s\n", why);
}

static void on_record(void *arg, enum store_kind kind, struct span name, struct span value)
{
    (void)arg;
    (void)kind;
    (void)name;
    (void)value;
}

static void on_figures(void *arg, const struct store_figures *figures)
{
    uint64_t *next = arg;

    if (figures->next_position > *next)
        *next = figures->next_position;
}

static void turn(struct loop *loop, bool wait)
{
    if (loop_turn(loop, wait) != 0)
        exit(1);
}

static void sync_all(struct loop *loop, struct store *store)
{
    uint64_t batch = store_batch(store);

    while (store_committed(store) < batch)
        turn(loop, true);
}

static struct message *message_of(size_t body)
{
    static const uint8_t properties[] = {0x10, 0, 2};
    struct reply error;
    struct message *message = message_new(span_str("events"), span_str("user.signed-up"),
                                          span_of(properties, sizeof(properties)), body, &error);

    if (message == NULL)
        exit(1);
    memset(message_body_bytes(message), 'x', body);
    return message;
}

struct run {
    struct loop *loop;
    struct store *store;
    uint64_t first, queues;
    size_t count, body;
};

static struct store_entry entry_of(const struct run *run, size_t i)
{
    return (struct store_entry){.queue = 1 + i % run->queues, .position = run->first + i / run->queues};
}

static void measure(struct run *run, bool add, bool remove, const char *what)
{
    double start = now(), cost = 0, end;
    size_t behind = 20000;

    for (size_t i = 0; i < run->count + (add && remove ? behind : 0);) {
        double before = now();

        for (size_t k = 0; k < TURN; k++, i++) {
            if (add && i < run->count) {
                struct store_entry entry = entry_of(run, i);
                struct message *message = message_of(run->body);

                store_add(run->store, &entry, message, NULL);
                message_drop(message);
            }
            if (remove && (!add || i >= behind)) {
                struct store_entry entry = entry_of(run, add ? i - behind : i);

                store_remove(run->store, &entry, NULL);
            }
        }
        cost += now() - before;
        turn(run->loop, false);
        while (store_pending(run->store) > PENDING)
            turn(run->loop, true);
    }
    sync_all(run->loop, run->store);
    end = now();
    printf("%-16s %8.0f messages/s, the loop's part %.0f ns each\n", what, (double)run->count / (end - start),
           cost * 1e9 / (double)run->count);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void lonely(struct run *run)
{
    double times[LONELY];

    for (size_t i = 0; i < LONELY; i++) {
        struct store_entry entry = {.queue = 1000, .position = i};
        struct message *message = message_of(run->body);

        times[i] = now();
        store_add(run->store, &entry, message, NULL);
        message_drop(message);
        sync_all(run->loop, run->store);
        times[i] = now() - times[i];
    }
    qsort(times, LONELY, sizeof(times[0]), compare);
    printf("%-16s p50 %.2f ms, p99 %.2f ms\n", "one alone", times[LONELY / 2] * 1e3, times[LONELY * 99 / 100] * 1e3);
}

static void drop_queues(struct run *run)
{
    double start = now(), back;

    for (uint64_t queue = 1; queue <= run->queues; queue++)
        store_drop_queue(run->store, queue);
    sync_all(run->loop, run->store);
    back = now() - start;
    printf("%-16s %.2f ms until the commit\n", "drop", back * 1e3);
}

int main(int argc, char **argv)
{
    struct store_options options = {.folder = argc > 1 ? argv[1] : NULL};
    struct store_ops ops = {.committed = on_committed, .low = on_low};
    struct store_recovery recovery = {.record = on_record, .figures = on_figures};
    struct run run = {.loop = loop_new(),
                      .count = argc > 2 ? strtoul(argv[2], NULL, 10) : 500000,
                      .body = argc > 3 ? strtoul(argv[3], NULL, 10) : 200,
                      .queues = argc > 4 ? strtoul(argv[4], NULL, 10) : 1};
    char error[512];

    if (argc < 2 || run.loop == NULL || run.queues == 0) {
        fprintf(stderr, "usage: store FOLDER [messages [body [queues]]]\n");
        return 1;
    }
    run.store = store_open(run.loop, &options, &ops, NULL, error, sizeof(error));
    if (run.store == NULL || store_recover(run.store, &recovery, &run.first, error, sizeof(error)) != 0) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    lonely(&run);
    measure(&run, true, false, "add");
    measure(&run, false, true, "remove");
    measure(&run, true, true, "add and remove");
    run.first += run.count;
    measure(&run, true, false, "add again");
    drop_queues(&run);
    store_close(run.store, 60000);
    loop_free(run.loop);
    return 0;
}
