/* SPDX-License-Identifier: MIT */
/*
 * One queue against a model of it, at random: published, taken, put back, acknowledged, rejected, purged, left to the
 * disk and read again, restarted. Each message comes as often as it should and in its order.
 */
#include "unit/broker_kit.h"

#include "broker/class.h"
#include "broker/queue_private.h"
#include "broker/publish.h"
#include "suite.h"

#include <stdlib.h>
#include <unistd.h>

#define MESSAGES 20000
#define RANKS 4

enum state { NEW, READY, TAKEN, DONE };

static struct broker_kit kit;
static struct {
    enum state state;
    uint8_t rank;
    bool durable;
    struct entry entry; /* while TAKEN */
} model[MESSAGES];
static unsigned published;
static unsigned taken[MESSAGES], taken_count;
static struct queue *queue;
static unsigned random_state;

static unsigned any(unsigned below)
{
    random_state = random_state * 1103515245 + 12345;
    return (random_state >> 8) % below;
}

/* What is taken here is nobody's in the broker: broker_check() would not agree. */
static void turn(void)
{
    ck_assert_int_eq(loop_turn(kit.loop, false), 0);
}

static void find_queue(void)
{
    queue = raw_queue(&kit, "q");
    ck_assert_ptr_nonnull(queue);
}

static void publish(void)
{
    struct properties properties = {.flags = PROPERTY_DELIVERY_MODE | PROPERTY_PRIORITY};
    struct exchange *exchange = vhost_exchange(queue->vhost, span_str(""));
    struct published result;
    struct message *message;
    struct buf raw = {0};
    struct reply error;

    if (published == MESSAGES)
        return;
    model[published].rank = (uint8_t)any(queue->ranks);
    model[published].durable = any(2) == 0;
    properties.priority = (uint8_t)(RANKS - 1 - model[published].rank);
    properties.delivery_mode = model[published].durable ? 2 : 1;
    properties_put(&raw, &properties);
    message = message_new(span_str(""), span_str("q"), buf_span(&raw), sizeof(published), &error);
    ck_assert_ptr_nonnull(message);
    memcpy(message_body_bytes(message), &published, sizeof(published));
    ck_assert_int_eq(publish_message(exchange, message, &result), 0);
    ck_assert_uint_eq(result.queues, 1);
    message_drop(message);
    buf_free(&raw);
    model[published++].state = READY;
}

/* Which must be next: of those of the best rank the oldest. */
static unsigned next_ready(void)
{
    unsigned best = MESSAGES;

    for (unsigned i = 0; i < published; i++)
        if (model[i].state == READY && (best == MESSAGES || model[i].rank < model[best].rank))
            best = i;
    return best;
}

static void take(void)
{
    struct entry entry;
    unsigned number;

    if (!queue_take(queue, &entry)) {
        if (queue->ready_count == 0)
            ck_assert_uint_eq(next_ready(), MESSAGES);
        return;
    }
    ck_assert_uint_eq(entry.message->body.length, sizeof(number));
    memcpy(&number, entry.message->body.data, sizeof(number));
    ck_assert_uint_eq(number, next_ready());
    model[number].state = TAKEN;
    model[number].entry = entry;
    taken[taken_count++] = number;
}

static unsigned pick_taken(void)
{
    unsigned at = any(taken_count), number = taken[at];

    taken[at] = taken[--taken_count];
    return number;
}

static void settle(unsigned what)
{
    unsigned number;

    if (taken_count == 0)
        return;
    number = pick_taken();
    if (what == 0) {
        queue_requeue(queue, &model[number].entry);
        model[number].state = READY;
    } else if (what == 1) {
        queue_rejected(queue, &model[number].entry);
        model[number].state = DONE;
    } else {
        queue_acknowledged(queue, &model[number].entry);
        model[number].state = DONE;
    }
}

static void all_taken_back(void)
{
    while (taken_count > 0)
        settle(0);
}

static void read_what_is_on_disk(void)
{
    struct ring *ring;

    queue->expiring = true; /* somebody wants them */
    queue_schedule(queue);
    for (int i = 0; i < 2000 && queue->ready_count > 0 && queue_first(queue, &ring) == NULL; i++) {
        turn();
        usleep(100);
    }
}

static void restart(void)
{
    all_taken_back();
    broking_sync(&kit);
    broking_close(&kit);
    broking_open(&kit);
    find_queue();
    for (unsigned i = 0; i < published; i++)
        if (model[i].state == READY && !model[i].durable)
            model[i].state = DONE;
}

static void purge(void)
{
    queue_purge(queue);
    for (unsigned i = 0; i < published; i++)
        if (model[i].state == READY)
            model[i].state = DONE;
}

static void counts_agree(void)
{
    uint64_t ready = 0;

    for (unsigned i = 0; i < published; i++)
        ready += model[i].state == READY;
    ck_assert_uint_eq(queue->ready_count, ready);
    ck_assert_uint_eq(queue->unacked_count, taken_count);
}

static void run(unsigned seed, bool ranked)
{
    amqp_table_entry_t entry = {.key = amqp_span(span_str("x-max-priority")),
                                .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = RANKS - 1}};
    amqp_table_t arguments = {.num_entries = ranked, .entries = &entry};
    struct raw_client client;

    memset(model, 0, sizeof(model));
    published = taken_count = 0;
    random_state = seed;
    broking_begin(&kit);
    broking_open(&kit);
    raw_connect(&kit, &client);
    raw_declare(&client, "q", true, &arguments);
    raw_disconnect(&client);
    find_queue();
    for (int step = 0; step < 3000; step++) {
        switch (any(40)) {
        case 0:
            queue_page_out(queue, any(20), any(2) == 0, UINT64_MAX);
            break;
        case 1:
            read_what_is_on_disk();
            break;
        case 2:
            if (any(20) == 0)
                purge();
            break;
        case 3:
            if (any(20) == 0)
                restart();
            break;
        case 4:
            all_taken_back();
            break;
        default:
            if (any(3) == 0)
                settle(any(3));
            else if (any(2) == 0)
                take();
            else
                for (unsigned i = any(4); i > 0; i--)
                    publish();
        }
        counts_agree();
        if (any(3) == 0)
            turn();
    }
    all_taken_back();
    while (queue->ready_count > 0) {
        read_what_is_on_disk();
        take();
        settle(2);
    }
    ck_assert_uint_eq(next_ready(), MESSAGES);
    broking_end(&kit);
}

START_TEST(in_order)
{
    run((unsigned)_i + 1, false);
}
END_TEST

START_TEST(in_order_of_priorities)
{
    run((unsigned)_i + 1, true);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("broker");
    TCase *tests = tcase_create("model");

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, in_order, 0, 5);
    tcase_add_loop_test(tests, in_order_of_priorities, 0, 10);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
