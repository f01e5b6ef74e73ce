/* SPDX-License-Identifier: MIT */
/* Which acknowledgements go out for what was settled in a turn. */
#include "client/unacked.h"

#include "wire/method.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>

#define COUNT 200

static struct unacked unacked;
static struct buf out;
static uint32_t slots[COUNT + 1]; /* by tag */

static void setup(void)
{
    unacked_init(&unacked);
}

static void teardown(void)
{
    unacked_free(&unacked);
    buf_free(&out);
}

static void deliver(uint64_t from, uint64_t to)
{
    for (uint64_t tag = from; tag <= to; tag++) {
        slots[tag] = unacked_add(&unacked, tag);
        ck_assert_uint_ne(slots[tag], UNACKED_NONE);
    }
}

/* "3+ 5" for a multiple one of 3 and a single one of 5. */
static void expect(const char *wanted)
{
    char text[4096] = "";
    struct frame frame;
    struct reply error;
    ssize_t used;

    unacked_put(&unacked, &out, 7);
    for (; buf_length(&out) > 0; out.start += (size_t)used) {
        size_t at = strlen(text);

        used = frame_cut(out.data + out.start, buf_length(&out), FRAME_MIN_MAX, &frame, &error);
        ck_assert_int_gt(used, 0);
        ck_assert_uint_eq(frame.channel, 7);
        ck_assert_uint_eq(frame.payload.length, 13);
        ck_assert_uint_eq(get_u32(frame.payload.data), AMQP_BASIC_ACK_METHOD);
        snprintf(text + at, sizeof(text) - at, "%s%llu%s", at > 0 ? " " : "",
                 (unsigned long long)get_u64(frame.payload.data + 4), frame.payload.data[12] != 0 ? "+" : "");
    }
    ck_assert_str_eq(text, wanted);
}

START_TEST(test_nothing)
{
    expect("");
    deliver(1, 3);
    expect("");
    ck_assert_uint_eq(unacked.count, 3);
}
END_TEST

START_TEST(test_front_at_once_others_singly)
{
    deliver(1, 8);
    unacked_settle(&unacked, slots[3]);
    unacked_settle(&unacked, slots[1]);
    unacked_settle(&unacked, slots[6]);
    unacked_settle(&unacked, slots[2]);
    unacked_settle(&unacked, slots[5]);
    expect("3+ 6 5");
    ck_assert_uint_eq(unacked.count, 3);
    unacked_settle(&unacked, slots[4]);
    expect("4"); /* 5 and 6 were told before: naming them again would close the channel */
    unacked_settle(&unacked, slots[8]);
    unacked_settle(&unacked, slots[7]);
    expect("8+");
    ck_assert_uint_eq(unacked.count, 0);
    expect("");
}
END_TEST

START_TEST(test_front_over_what_is_gone)
{
    deliver(1, 4);
    unacked_settle(&unacked, slots[3]);
    expect("3");
    unacked_drop(&unacked, slots[2]);
    unacked_settle(&unacked, slots[1]);
    unacked_settle(&unacked, slots[4]);
    expect("4+");
}
END_TEST

START_TEST(test_holds)
{
    deliver(1, 2);
    ck_assert(unacked_holds(&unacked, slots[1], 1));
    ck_assert(!unacked_holds(&unacked, slots[1], 2));
    ck_assert(!unacked_holds(&unacked, 1000, 1));
    ck_assert(!unacked_holds(&unacked, UNACKED_NONE, 1));
    unacked_settle(&unacked, slots[1]);
    ck_assert(!unacked_holds(&unacked, slots[1], 1));
    expect("1");
    ck_assert(!unacked_holds(&unacked, slots[1], 1));
    ck_assert(!unacked_holds(&unacked, slots[1], 0));
    unacked_drop(&unacked, slots[2]);
    ck_assert(!unacked_holds(&unacked, slots[2], 2));
}
END_TEST

START_TEST(test_grows_and_clears)
{
    deliver(1, COUNT);
    ck_assert_uint_eq(unacked.count, COUNT);
    for (uint64_t tag = 2; tag <= COUNT; tag += 2)
        unacked_settle(&unacked, slots[tag]);
    unacked_clear(&unacked);
    ck_assert_uint_eq(unacked.count, 0);
    expect("");
    deliver(1, COUNT);
    for (uint64_t tag = COUNT; tag >= 1; tag--)
        unacked_settle(&unacked, slots[tag]);
    expect("200+");
}
END_TEST

/* One delivery is held while very many pass it by. */
START_TEST(test_memory_is_bounded)
{
    uint32_t held = unacked_add(&unacked, 1), size;

    deliver(2, 3);
    size = unacked.size;
    for (uint64_t tag = 4; tag < 300000; tag++) {
        uint32_t slot = unacked_add(&unacked, tag);

        unacked_settle(&unacked, slot);
        unacked_put(&unacked, &out, 1);
        ck_assert_uint_eq(buf_length(&out), 21);
        buf_clear(&out);
    }
    ck_assert_uint_eq(unacked.size, size);
    ck_assert(unacked_holds(&unacked, held, 1));
}
END_TEST

/* Any order of settling acknowledges each tag exactly once, as a broker counts. */
START_TEST(test_any_order)
{
    bool known[COUNT + 1] = {false};
    unsigned seed = (unsigned)_i + 1;
    struct frame frame;
    struct reply error;
    ssize_t used;

    deliver(1, COUNT);
    for (uint64_t tag = 1; tag <= COUNT; tag++)
        known[tag] = true;
    while (unacked.count > 0) {
        for (int i = 0; i < 20; i++) {
            uint64_t tag = 1 + (uint64_t)rand_r(&seed) % COUNT;

            if (known[tag] && unacked_holds(&unacked, slots[tag], tag))
                unacked_settle(&unacked, slots[tag]);
        }
        unacked_put(&unacked, &out, 1);
        for (; buf_length(&out) > 0; out.start += (size_t)used) {
            uint64_t tag;

            used = frame_cut(out.data + out.start, buf_length(&out), FRAME_MIN_MAX, &frame, &error);
            ck_assert_int_gt(used, 0);
            tag = get_u64(frame.payload.data + 4);
            ck_assert_msg(known[tag], "tag %llu acknowledged twice", (unsigned long long)tag);
            for (uint64_t i = frame.payload.data[12] != 0 ? 1 : tag; i <= tag; i++)
                if (known[i]) {
                    ck_assert_msg(!unacked_holds(&unacked, slots[i], i), "tag %llu acknowledged by a multiple",
                                  (unsigned long long)i);
                    known[i] = false;
                }
        }
    }
    for (uint64_t tag = 1; tag <= COUNT; tag++)
        ck_assert(!known[tag]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unacked");
    TCase *acks = tcase_create("acks");

    tcase_add_checked_fixture(acks, setup, teardown);
    tcase_add_test(acks, test_nothing);
    tcase_add_test(acks, test_front_at_once_others_singly);
    tcase_add_test(acks, test_front_over_what_is_gone);
    tcase_add_test(acks, test_holds);
    tcase_add_test(acks, test_grows_and_clears);
    tcase_add_test(acks, test_memory_is_bounded);
    tcase_add_loop_test(acks, test_any_order, 0, 5);
    suite_add_tcase(suite, acks);

    return suite_run(suite);
}
