/* SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "suite.h"

#include <stdlib.h>

static void check_holds(const struct buf *buf, const void *bytes, size_t length)
{
    ck_assert_uint_eq(buf_length(buf), length);
    ck_assert(!buf->failed);
    ck_assert(span_equal(buf_span(buf), span_of(bytes, length)));
    ck_assert_uint_le(buf->end, buf->capacity);
}

START_TEST(puts_are_big_endian)
{
    struct buf buf = {0};

    buf_put_u8(&buf, 1);
    buf_put_u16(&buf, 0x0203);
    buf_put_u32(&buf, 0x04050607);
    buf_put_u64(&buf, 0x08090a0b0c0d0e0f);
    check_holds(&buf, "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17", 15);
    ck_assert_uint_eq(get_u16(buf.data + 1), 0x0203);
    ck_assert_uint_eq(get_u32(buf.data + 3), 0x04050607);
    ck_assert_uint_eq(get_u64(buf.data + 7), 0x08090a0b0c0d0e0f);
    buf_free(&buf);
}
END_TEST

START_TEST(empty_puts_change_nothing)
{
    struct buf buf = {0};

    check_holds(&buf, NULL, 0);
    buf_put(&buf, NULL, 0);
    buf_put_span(&buf, span_str(NULL));
    ck_assert_uint_eq(buf_length(&buf), 0);
    ck_assert(!buf.failed);
    buf_free(&buf);
    buf_free(&buf);
}
END_TEST

START_TEST(grows_and_keeps_what_it_holds)
{
    struct buf buf = {0};
    const size_t many = 100000;

    for (size_t i = 0; i < many; i++)
        buf_put_u32(&buf, (uint32_t)i);
    ck_assert_uint_eq(buf_length(&buf), many * 4);
    for (size_t i = 0; i < many; i++)
        if (get_u32(buf.data + buf.start + 4 * i) != i)
            ck_abort_msg("number %zu is lost", i);
    buf_free(&buf);
}
END_TEST

/* A queue: what is consumed at the front makes room at the end, and memory stays bounded. */
START_TEST(reuses_the_room_at_the_front)
{
    struct buf buf = {0};
    uint32_t in = 0, out = 0;

    for (int round = 0; round < 20000; round++) {
        for (int i = 0; i < 50; i++)
            buf_put_u32(&buf, in++);
        for (int i = 0; i < 50 - (round < 10); i++, buf.start += 4)
            if (get_u32(buf.data + buf.start) != out++)
                ck_abort_msg("number %u is lost", out - 1);
    }
    ck_assert_uint_eq(buf_length(&buf), 40);
    ck_assert_uint_le(buf.capacity, 2048);
    buf_free(&buf);
}
END_TEST

START_TEST(positions_survive_growth)
{
    struct buf buf = {0};
    size_t position;

    buf_put(&buf, "skip", 4);
    buf.start += 4;
    buf_put(&buf, "ab", 2);
    position = buf_length(&buf);
    buf_put_u32(&buf, 0);
    for (int i = 0; i < 1000; i++)
        buf_put_u8(&buf, 'x');
    buf_set_u32(&buf, position, 1000);
    ck_assert_uint_eq(get_u32(buf.data + buf.start + position), 1000);
    ck_assert_int_eq(memcmp(buf.data + buf.start, "ab", 2), 0);
    buf_free(&buf);
}
END_TEST

START_TEST(printf_short_exact_and_long)
{
    struct buf buf = {0};
    char *text = malloc(5001);

    for (size_t length = 0; length < 700; length++) {
        buf_clear(&buf);
        memset(text, 'a', length);
        text[length] = 0;
        buf_printf(&buf, "%s", text);
        check_holds(&buf, text, length);
    }
    memset(text, 'b', 5000);
    text[5000] = 0;
    buf_clear(&buf);
    buf_printf(&buf, "%d:", 7);
    buf_printf(&buf, "%s", text);
    ck_assert_uint_eq(buf_length(&buf), 5002);
    ck_assert_int_eq(memcmp(buf.data, "7:b", 3), 0);
    ck_assert_int_eq(buf.data[buf.end - 1], 'b');
    free(text);
    buf_free(&buf);
}
END_TEST

START_TEST(trims_only_when_empty)
{
    struct buf buf = {0};

    for (int i = 0; i < 1000; i++)
        buf_put_u64(&buf, 0);
    buf_trim(&buf, 256);
    ck_assert_uint_eq(buf_length(&buf), 8000);
    buf.start = buf.end;
    buf_trim(&buf, 1 << 20);
    ck_assert_uint_ge(buf.capacity, 8000);
    ck_assert_uint_eq(buf.start, 0);
    buf_trim(&buf, 256);
    ck_assert_ptr_null(buf.data);
    ck_assert_uint_eq(buf.capacity, 0);
    buf_put_u8(&buf, 9);
    check_holds(&buf, "\11", 1);
    buf_free(&buf);
}
END_TEST

START_TEST(out_of_memory_is_remembered)
{
    struct buf buf = {0};

    buf_put(&buf, "held", 4);
    ck_assert_ptr_null(buf_grow(&buf, PTRDIFF_MAX / 4));
    ck_assert(buf.failed);
    ck_assert_ptr_null(buf_reserve(&buf, 1));
    buf_put_u32(&buf, 1);
    buf_printf(&buf, "%d", 1);
    buf_set_u32(&buf, 1000000, 1);
    ck_assert_uint_eq(buf_length(&buf), 4);
    buf_clear(&buf);
    buf_put_u8(&buf, 5);
    check_holds(&buf, "\5", 1);

    ck_assert_ptr_null(buf_grow(&buf, SIZE_MAX));
    ck_assert(buf.failed);
    buf_free(&buf);
    ck_assert(!buf.failed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("buf");
    TCase *tests = tcase_create("buf");

    suite_add_tcase(suite, tests);
    tcase_add_test(tests, puts_are_big_endian);
    tcase_add_test(tests, empty_puts_change_nothing);
    tcase_add_test(tests, grows_and_keeps_what_it_holds);
    tcase_add_test(tests, reuses_the_room_at_the_front);
    tcase_add_test(tests, positions_survive_growth);
    tcase_add_test(tests, printf_short_exact_and_long);
    tcase_add_test(tests, trims_only_when_empty);
    tcase_add_test(tests, out_of_memory_is_remembered);
    return suite_run(suite);
}
