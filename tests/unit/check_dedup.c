/* SPDX-License-Identifier: MIT */
/* The dedup table: what it remembers and for how long, and that processes that share it may die at
 * any point. */
#include "dispatch/dedup.h"
#include "suite.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WINDOW 1000

static struct dedup *open_table(size_t entries)
{
    void *memory = mmap(NULL, dedup_size(entries), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert(memory != MAP_FAILED);
    return dedup_open(memory, entries);
}

/* Spread like real hashes, and none of them twice. */
static uint64_t hash_of(uint64_t i)
{
    return (i + 1) * 0x9e3779b97f4a7c15u;
}

START_TEST(seen)
{
    struct dedup *dedup = open_table(64);

    ck_assert(!dedup_seen(dedup, 5, 100, WINDOW));
    dedup_add(dedup, 5, 100);
    ck_assert(dedup_seen(dedup, 5, 100, WINDOW));
    ck_assert(dedup_seen(dedup, 5, 1100, WINDOW));
    ck_assert(!dedup_seen(dedup, 5, 1101, WINDOW));
    ck_assert(dedup_seen(dedup, 5, 1101, 2 * WINDOW));
    ck_assert(!dedup_seen(dedup, 6, 100, WINDOW));
    dedup_add(dedup, 5, 2000);
    ck_assert(dedup_seen(dedup, 5, 2500, WINDOW));

    /* 0 is a hash like any other, and a time like any other. */
    ck_assert(!dedup_seen(dedup, 0, 100, WINDOW));
    dedup_add(dedup, 0, 0);
    ck_assert(dedup_seen(dedup, 0, 100, WINDOW));
}
END_TEST

START_TEST(capacity)
{
    static const size_t sizes[] = {1, 7, 8, 9, 1000, 65536};

    for (size_t s = 0; s < HARK_COUNT(sizes); s++) {
        struct dedup *dedup = open_table(sizes[s]);
        size_t kept = 0, half = sizes[s] / 2 + 1;

        for (size_t i = 0; i < half; i++)
            dedup_add(dedup, hash_of(i), 1);
        for (size_t i = 0; i < half; i++)
            kept += dedup_seen(dedup, hash_of(i), 1, WINDOW);
        /* Half full, hardly a bucket overflows. */
        ck_assert_msg(kept * 100 >= half * 97, "%zu entries: %zu of %zu kept", sizes[s], kept, half);
        ck_assert_uint_ge(dedup_size(sizes[s]), sizes[s] * 16);
        ck_assert_uint_le(dedup_size(sizes[s]), (sizes[s] + 8) * 32 + 64);
    }
}
END_TEST

/* In one bucket: the oldest goes first, an expired entry before one that is not, and a renewed one
 * stays. */
START_TEST(oldest_goes)
{
    struct dedup *dedup = open_table(8);

    for (uint64_t i = 0; i < 8; i++)
        dedup_add(dedup, hash_of(i), 10 + (int64_t)i);
    dedup_add(dedup, hash_of(0), 30);
    dedup_add(dedup, hash_of(8), 31);
    ck_assert(dedup_seen(dedup, hash_of(0), 31, WINDOW));
    ck_assert(dedup_seen(dedup, hash_of(8), 31, WINDOW));
    ck_assert(!dedup_seen(dedup, hash_of(1), 31, WINDOW));
    for (uint64_t i = 2; i < 8; i++)
        ck_assert(dedup_seen(dedup, hash_of(i), 31, WINDOW));
}
END_TEST

/* Many more messages than entries: bounded, and nothing is seen that was not added. */
START_TEST(no_false_positive)
{
    struct dedup *dedup = open_table(512);

    for (uint64_t i = 0; i < 100000; i++) {
        ck_assert(!dedup_seen(dedup, hash_of(i), (int64_t)i, 1 << 30));
        dedup_add(dedup, hash_of(i), (int64_t)i);
        ck_assert(dedup_seen(dedup, hash_of(i), (int64_t)i, WINDOW));
    }
}
END_TEST

/* Three writers, killed wherever they are, again and again, in a small table. What is seen was
 * added by somebody (even numbers only), and the table works as before. */
START_TEST(killed_writers)
{
    struct dedup *dedup = open_table(64);

    for (int round = 0; round < 10; round++) {
        pid_t writers[3];

        for (size_t w = 0; w < HARK_COUNT(writers); w++) {
            writers[w] = fork();
            ck_assert_int_ge(writers[w], 0);
            if (writers[w] == 0)
                for (uint64_t i = 0;; i++)
                    dedup_add(dedup, hash_of(2 * (i % 1000)), 1 + (int64_t)(i % 100));
        }
        for (uint64_t i = 0; i < 20000; i++)
            if (dedup_seen(dedup, hash_of(2 * (i % 1000) + 1), 100, WINDOW))
                ck_abort_msg("seen, but never added");
        for (size_t w = 0; w < HARK_COUNT(writers); w++)
            kill(writers[w], SIGKILL);
        for (size_t w = 0; w < HARK_COUNT(writers); w++)
            ck_assert_int_eq(waitpid(writers[w], NULL, 0), writers[w]);
        dedup_add(dedup, hash_of(5000 + (uint64_t)round), 1000);
        ck_assert(dedup_seen(dedup, hash_of(5000 + (uint64_t)round), 1000, WINDOW));
    }
}
END_TEST

/* Two processes add different messages at the same time: neither loses its own while there is room.
 */
START_TEST(two_writers)
{
    struct dedup *dedup = open_table(65536);
    size_t kept = 0;
    int status;
    pid_t other = fork();

    ck_assert_int_ge(other, 0);
    for (uint64_t i = 0; i < 10000; i++)
        dedup_add(dedup, hash_of(2 * i + (other == 0)), 1);
    if (other == 0)
        _exit(0);
    ck_assert_int_eq(waitpid(other, &status, 0), other);
    ck_assert_int_eq(status, 0);
    for (uint64_t i = 0; i < 20000; i++)
        kept += dedup_seen(dedup, hash_of(i), 1, WINDOW);
    ck_assert_uint_ge(kept, 19950);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dedup");
    TCase *tcase = tcase_create("dedup");

    tcase_add_test(tcase, seen);
    tcase_add_test(tcase, capacity);
    tcase_add_test(tcase, oldest_goes);
    tcase_add_test(tcase, no_false_positive);
    tcase_add_test(tcase, killed_writers);
    tcase_add_test(tcase, two_writers);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
