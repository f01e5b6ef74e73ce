/* SPDX-License-Identifier: MIT */
/* Field tables in place: every type, every lie about a length, nesting without end. */
#include "wire/table.h"
#include "suite.h"

#include <stdlib.h>

#define BYTES(text) span_of(text, sizeof(text) - 1)

/* One entry of every kind, as other clients write them. */
#define EVERY_KIND \
    "\1tt\1" \
    "\1bb\xff" \
    "\1BB\xff" \
    "\1ss\xff\xfe" \
    "\1UU\xff\xfe" \
    "\1uu\xff\xfe" \
    "\1II\xff\xff\xff\xfd" \
    "\1ii\xff\xff\xff\xfd" \
    "\1ll\xff\xff\xff\xff\xff\xff\xff\xfc" \
    "\1LL\x7f\xff\xff\xff\xff\xff\xff\xff" \
    "\1ff\x40\x49\x0f\xdb" \
    "\1dd\x40\x09\x21\xfb\x54\x44\x2d\x18" \
    "\1DD\2\0\0\1\x3a" \
    "\1SS\0\0\0\3abc" \
    "\1xx\0\0\0\2\0\xff" \
    "\1AA\0\0\0\7t\0S\0\0\0\0" \
    "\1TT\0\0\0\0\x65\x92\0\x80" \
    "\1FF\0\0\0\4\1aB\7" \
    "\1VV"

static struct table_entry entry;
static int64_t number;

static bool find(struct span table, const char *name)
{
    return table_find(table, span_str(name), &entry);
}

START_TEST(test_every_kind)
{
    static const struct {
        char kind;
        bool numeric;
        int64_t value;
    } expected[] = {
        {'t', true, 1},     {'b', true, -1},         {'B', true, 255},        {'s', true, -2}, {'U', true, -2},
        {'u', true, 65534}, {'I', true, -3},         {'i', true, 4294967293}, {'l', true, -4}, {'L', true, INT64_MAX},
        {'f', false, 0},    {'d', false, 0},         {'D', false, 0},         {'S', false, 0}, {'x', false, 0},
        {'A', false, 0},    {'T', true, 0x65920080}, {'F', false, 0},         {'V', false, 0},
    };
    struct span table = BYTES(EVERY_KIND);
    struct buf copy = {0};
    size_t cursor = 0, count = 0;

    ck_assert_int_eq(table_check(table, 1), 0);
    ck_assert_int_eq(table_check(table, 0), -1);
    while (table_next(table, &cursor, &entry)) {
        ck_assert_uint_eq(entry.name.length, 1);
        ck_assert_int_eq(entry.name.data[0], expected[count].kind);
        ck_assert_int_eq(entry.kind, expected[count].kind);
        ck_assert(table_integer(&entry, &number) == expected[count].numeric);
        if (expected[count].numeric)
            ck_assert_int_eq(number, expected[count].value);
        table_put_value(&copy, entry.name, entry.kind, entry.value);
        count++;
    }
    ck_assert_uint_eq(count, HARK_COUNT(expected));
    ck_assert(span_equal(buf_span(&copy), table));
    buf_free(&copy);
}
END_TEST

START_TEST(test_every_truncation)
{
    static const char whole[] = EVERY_KIND;
    size_t sound = 0;

    for (size_t length = 0; length < sizeof(whole); length++) {
        uint8_t *exact = malloc(length + 1); /* so that the sanitizer sees a read past the end */

        memcpy(exact + 1, whole, length);
        sound += table_check(span_of(exact + 1, length), 1) == 0;
        free(exact);
    }
    ck_assert_uint_eq(sound, 20); /* the empty table, and one behind each entry */
}
END_TEST

START_TEST(test_find)
{
    struct span table = BYTES("\1aB\1"
                              "\2abB\2"
                              "\0B\3"
                              "\1aB\4");

    ck_assert(find(table, "a"));
    ck_assert(table_integer(&entry, &number));
    ck_assert_int_eq(number, 1);
    ck_assert(find(table, "ab") && entry.value.data[0] == 2);
    ck_assert(find(table, "") && entry.value.data[0] == 3);
    ck_assert(!find(table, "b"));
    ck_assert(!find(span_of(NULL, 0), "a"));
}
END_TEST

START_TEST(test_array)
{
    struct span table = BYTES("\2CCA\0\0\0\x10S\0\0\0\1aS\0\0\0\2bcVt\1");
    struct table_entry item;
    size_t cursor = 0;

    ck_assert_int_eq(table_check(table, 1), 0);
    ck_assert(find(table, "CC"));
    ck_assert(table_next_item(entry.value, &cursor, &item) && span_is(item.value, "a"));
    ck_assert(table_next_item(entry.value, &cursor, &item) && span_is(item.value, "bc"));
    ck_assert(table_next_item(entry.value, &cursor, &item) && item.kind == 'V');
    ck_assert(table_next_item(entry.value, &cursor, &item) && item.kind == 't' && item.whole.length == 2);
    ck_assert(!table_next_item(entry.value, &cursor, &item));
}
END_TEST

START_TEST(test_large_number)
{
    struct span table = BYTES("\1LL\x80\0\0\0\0\0\0\0");

    ck_assert(find(table, "L"));
    ck_assert(!table_integer(&entry, &number));
}
END_TEST

START_TEST(test_malformed)
{
    static const struct span bad[] = {
        {(const uint8_t *)"\1a", 2},                   /* no type */
        {(const uint8_t *)"\5ab", 3},                  /* a name longer than the table */
        {(const uint8_t *)"\1az", 3},                  /* unknown type */
        {(const uint8_t *)"\1a\0", 3},                 /* unknown type, 0 */
        {(const uint8_t *)"\1aS\0\0\0\2x", 8},         /* a value longer than the table */
        {(const uint8_t *)"\1aS\xff\xff\xff\xffx", 8}, /* and by far */
        {(const uint8_t *)"\1aF\0\0\0\2\1aV", 10},     /* the inner table ends inside its entry */
        {(const uint8_t *)"\1aA\0\0\0\1S", 8},         /* an item without its length */
        {(const uint8_t *)"\1aA\xff\xff\xff\xff", 7},
    };

    for (size_t i = 0; i < HARK_COUNT(bad); i++)
        ck_assert_msg(table_check(bad[i], 16) == -1, "table %zu passed", i);
}
END_TEST

/* `levels` tables (or arrays) one in the other. */
static struct buf nested(int levels, bool arrays)
{
    struct buf out = {0};
    size_t *open = malloc((size_t)levels * sizeof(*open));

    for (int i = 0; i < levels; i++) {
        if (!arrays || i == 0)
            buf_put_u8(&out, 0);
        buf_put_u8(&out, arrays ? 'A' : 'F');
        open[i] = table_begin(&out);
    }
    for (int i = levels; i-- > 0;)
        table_end(&out, open[i]);
    free(open);
    return out;
}

START_TEST(test_nesting)
{
    static const int levels[] = {1, 16, 17, 20000};

    for (size_t i = 0; i < 2 * HARK_COUNT(levels); i++) {
        struct buf deep = nested(levels[i / 2], i % 2);

        ck_assert_int_eq(table_check(buf_span(&deep), 16), levels[i / 2] <= 16 ? 0 : -1);
        ck_assert_int_eq(table_check(buf_span(&deep), 1 << 20), levels[i / 2] <= 32 ? 0 : -1);
        buf_free(&deep);
    }
}
END_TEST

START_TEST(test_put)
{
    struct buf out = {0};
    struct span table;
    size_t position = table_begin(&out);

    table_put_string(&out, span_str("s"), span_str("text"));
    table_put_integer(&out, span_str("small"), -5);
    table_put_integer(&out, span_str("large"), 1LL << 31);
    table_put_long(&out, span_str("long"), 5);
    table_put_boolean(&out, span_str("yes"), true);
    table_put_time(&out, span_str("time"), 1700000000);
    table_end(&out, position);
    ck_assert(!out.failed);
    ck_assert_uint_eq(get_u32(out.data), buf_length(&out) - 4);
    table = span_of(out.data + 4, buf_length(&out) - 4);
    ck_assert_int_eq(table_check(table, 0), 0);
    ck_assert(find(table, "s") && entry.kind == 'S' && span_is(entry.value, "text"));
    ck_assert(find(table, "small") && entry.kind == 'I' && table_integer(&entry, &number) && number == -5);
    ck_assert(find(table, "large") && entry.kind == 'l' && table_integer(&entry, &number) && number == 1LL << 31);
    ck_assert(find(table, "long") && entry.kind == 'l' && table_integer(&entry, &number) && number == 5);
    ck_assert(find(table, "yes") && entry.kind == 't' && table_integer(&entry, &number) && number == 1);
    ck_assert(find(table, "time") && entry.kind == 'T' && table_integer(&entry, &number) && number == 1700000000);
    buf_free(&out);
}
END_TEST

START_TEST(test_put_refused)
{
    static const uint8_t name[256];
    struct buf out = {0};

    table_put_boolean(&out, span_of(name, 255), true);
    ck_assert(!out.failed);
    table_put_boolean(&out, span_of(name, 256), true);
    ck_assert(out.failed);
    buf_free(&out);
    table_put_value(&out, span_str("a"), 'I', span_str("123"));
    ck_assert(out.failed);
    buf_free(&out);
    table_put_value(&out, span_str("a"), 'z', span_str(""));
    ck_assert(out.failed);
    buf_free(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("table");
    TCase *tests = tcase_create("table");

    tcase_add_test(tests, test_every_kind);
    tcase_add_test(tests, test_every_truncation);
    tcase_add_test(tests, test_find);
    tcase_add_test(tests, test_array);
    tcase_add_test(tests, test_large_number);
    tcase_add_test(tests, test_malformed);
    tcase_add_test(tests, test_nesting);
    tcase_add_test(tests, test_put);
    tcase_add_test(tests, test_put_refused);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
