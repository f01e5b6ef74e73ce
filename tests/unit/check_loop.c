/* SPDX-License-Identifier: MIT */
/* The turns of the loop: what runs when, once, and after what. */
#include "net/loop.h"
#include "suite.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct loop *loop;
static char order[64];

struct step {
    struct loop_task task;
    char name;
    int again; /* how often it queues itself anew */
    struct step *other;
    void (*queue)(struct loop *where, struct loop_task *task); /* how it queues the other, or itself */
};

static void step_run(struct loop_task *task)
{
    struct step *step = HARK_CONTAINER(task, struct step, task);
    size_t used = strlen(order);

    ck_assert(!task->queued);
    if (used + 1 < sizeof(order)) {
        order[used] = step->name;
        order[used + 1] = '\0';
    }
    if (step->other != NULL)
        step->queue(loop, &step->other->task);
    if (step->again-- > 0)
        step->queue(loop, task);
}

static struct step step_of(char name)
{
    return (struct step){.task = {.run = step_run}, .name = name};
}

static void setup(void)
{
    loop = loop_new();
    ck_assert_ptr_nonnull(loop);
}

static void teardown(void)
{
    loop_free(loop);
}

static void turn(void)
{
    ck_assert_int_eq(loop_turn(loop, false), 0);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct step *deferred = arg;

    (void)fd;
    (void)what;
    strcat(order, "e");
    loop_defer(loop, &deferred->task);
}

START_TEST(test_order)
{
    struct timeval now = {0, 0};
    struct step a = step_of('a'), b = step_of('b'), c = step_of('c'), d = step_of('d');
    struct event *event = evtimer_new(loop_base(loop), on_event, &d);

    loop_reap_later(loop, &c.task);
    loop_flush_later(loop, &b.task);
    loop_defer(loop, &a.task);
    loop_defer(loop, &a.task);
    evtimer_add(event, &now);
    turn();
    ck_assert_str_eq(order, "eadbc");
    turn();
    ck_assert_str_eq(order, "eadbc");
    event_free(event);
}
END_TEST

/* What a deferred task defers belongs to the same turn, what a flush defers to the next, which does not wait. */
START_TEST(test_nested)
{
    struct step a = step_of('a'), b = step_of('b'), f = step_of('f');

    a.other = &b;
    a.queue = loop_defer;
    loop_defer(loop, &a.task);
    turn();
    ck_assert_str_eq(order, "ab");
    f.other = &b;
    f.queue = loop_defer;
    loop_flush_later(loop, &f.task);
    turn();
    ck_assert_str_eq(order, "abf");
    ck_assert_int_eq(loop_turn(loop, true), 0);
    ck_assert_str_eq(order, "abfb");
}
END_TEST

/* A task that defers itself for ever does not hold the turn. */
START_TEST(test_endless)
{
    struct step a = step_of('a'), f = step_of('f');

    a.again = 1000;
    a.queue = loop_defer;
    loop_defer(loop, &a.task);
    loop_flush_later(loop, &f.task);
    turn();
    ck_assert_ptr_nonnull(strchr(order, 'f'));
    loop_task_cancel(&a.task);
}
END_TEST

START_TEST(test_cancel)
{
    struct step a = step_of('a'), b = step_of('b'), c = step_of('c'), f = step_of('f'), r = step_of('r');

    loop_defer(loop, &a.task);
    loop_defer(loop, &b.task);
    loop_defer(loop, &c.task);
    loop_flush_later(loop, &f.task);
    loop_reap_later(loop, &r.task);
    loop_task_cancel(&c.task); /* the last: what comes next must still find the end of the list */
    loop_task_cancel(&a.task);
    loop_task_cancel(&f.task);
    loop_task_cancel(&r.task);
    loop_task_cancel(&r.task);
    loop_defer(loop, &c.task);
    turn();
    ck_assert_str_eq(order, "bc");
}
END_TEST

static struct step *victim;

static void cancel_run(struct loop_task *task)
{
    (void)task;
    strcat(order, "x");
    loop_task_cancel(&victim->task);
}

START_TEST(test_cancel_within)
{
    struct step a = step_of('a');
    struct loop_task cancel = {.run = cancel_run};

    victim = &a;
    loop_defer(loop, &cancel);
    loop_defer(loop, &a.task);
    turn();
    ck_assert_str_eq(order, "x");
}
END_TEST

/* Walking the list for each of them would take minutes. */
START_TEST(test_cancel_many)
{
    enum { MANY = 400000 };
    struct step *steps = calloc(MANY, sizeof(*steps));

    ck_assert_ptr_nonnull(steps);
    for (int i = 0; i < MANY; i++) {
        steps[i] = step_of('m');
        (i % 2 == 0 ? loop_defer : loop_reap_later)(loop, &steps[i].task);
    }
    for (int i = MANY - 1; i > 0; i--)
        loop_task_cancel(&steps[i].task);
    turn();
    ck_assert_str_eq(order, "m");
    free(steps);
}
END_TEST

START_TEST(test_at_end)
{
    struct step a = step_of('a'), b = step_of('b'), r = step_of('r');

    a.other = &r;
    a.queue = loop_reap_later;
    loop_at_end(loop, &a.task);
    loop_at_end(loop, &b.task);
    loop_task_cancel(&b.task);
    turn();
    ck_assert_str_eq(order, "");
    loop_free(loop);
    ck_assert_str_eq(order, "ar");
    loop = loop_new();
}
END_TEST

static void stop_run(struct loop_task *task)
{
    (void)task;
    strcat(order, "s");
    loop_stop(loop);
}

START_TEST(test_run_and_stop)
{
    struct loop_task stop = {.run = stop_run};

    for (int i = 0; i < 2; i++) {
        loop_defer(loop, &stop);
        ck_assert_int_eq(loop_run(loop), 0);
    }
    ck_assert_str_eq(order, "ss");
}
END_TEST

static int64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t seen;

static void on_late(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    seen = loop_now(loop);
}

/* The time within a call-back is that after the wait, not that before. */
START_TEST(test_now)
{
    struct timeval later = {0, 50000};
    struct event *event = evtimer_new(loop_base(loop), on_late, NULL);
    int64_t before = loop_now(loop);

    evtimer_add(event, &later);
    ck_assert_int_eq(loop_turn(loop, true), 0);
    ck_assert_int_ge(seen, before + 45);
    ck_assert_int_le(seen, clock_ms());
    event_free(event);
}
END_TEST

START_TEST(test_gather)
{
    int64_t before = clock_ms();

    loop_gather(loop, 5000);
    turn();
    ck_assert_int_ge(clock_ms(), before + 4);
    /* Forgotten after one turn, and never longer than 5 ms. */
    before = clock_ms();
    for (int i = 0; i < 50; i++)
        turn();
    ck_assert_int_lt(clock_ms(), before + 100);
    before = clock_ms();
    loop_gather(loop, 1000000000);
    turn();
    ck_assert_int_lt(clock_ms(), before + 500);
}
END_TEST

START_TEST(test_no_sigpipe)
{
    ck_assert_int_eq(raise(SIGPIPE), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loop");
    TCase *turns = tcase_create("turns");

    tcase_add_checked_fixture(turns, setup, teardown);
    tcase_add_test(turns, test_order);
    tcase_add_test(turns, test_nested);
    tcase_add_test(turns, test_endless);
    tcase_add_test(turns, test_cancel);
    tcase_add_test(turns, test_cancel_within);
    tcase_add_test(turns, test_cancel_many);
    tcase_add_test(turns, test_at_end);
    tcase_add_test(turns, test_run_and_stop);
    tcase_add_test(turns, test_now);
    tcase_add_test(turns, test_gather);
    tcase_add_test(turns, test_no_sigpipe);
    suite_add_tcase(suite, turns);
    return suite_run(suite);
}
