/* SPDX-License-Identifier: MIT */
/* Properties: each alone, all together, every way in which they can be malformed. */
#include "wire/properties.h"
#include "suite.h"

#include <stdlib.h>

#define BYTES(text) span_of(text, sizeof(text) - 1)

static struct properties properties;
static struct reply error;
static struct buf out;

static void setup(void)
{
    memset(&properties, 0x5a, sizeof(properties)); /* what is not set has to be cleared by whoever reads */
    out = (struct buf){0};
}

static void teardown(void)
{
    buf_free(&out);
}

static const char every[] = "\xff\xfc"
                            "\4text"
                            "\3utf"
                            "\0\0\0\4\1aB\7"
                            "\2"
                            "\x09"
                            "\1c"
                            "\1r"
                            "\0042500"
                            "\1m"
                            "\0\0\0\0\x65\x92\0\x80"
                            "\1t"
                            "\1u"
                            "\1p"
                            "\0";

START_TEST(test_every_property)
{
    ck_assert_int_eq(properties_parse(BYTES(every), &properties, &error), 0);
    ck_assert_uint_eq(properties.flags, 0xfffc);
    ck_assert(span_is(properties.content_type, "text"));
    ck_assert(span_is(properties.content_encoding, "utf"));
    ck_assert(span_equal(properties.headers, BYTES("\1aB\7")));
    ck_assert_uint_eq(properties.delivery_mode, 2);
    ck_assert_uint_eq(properties.priority, 9);
    ck_assert(span_is(properties.correlation_id, "c"));
    ck_assert(span_is(properties.reply_to, "r"));
    ck_assert(span_is(properties.expiration, "2500"));
    ck_assert(span_is(properties.message_id, "m"));
    ck_assert_uint_eq(properties.timestamp, 0x65920080);
    ck_assert(span_is(properties.type, "t"));
    ck_assert(span_is(properties.user_id, "u"));
    ck_assert(span_is(properties.app_id, "p"));
    ck_assert_uint_eq(properties.cluster_id.length, 0);
    properties_put(&out, &properties);
    ck_assert(span_equal(buf_span(&out), BYTES(every)));
}
END_TEST

START_TEST(test_every_truncation)
{
    for (size_t length = 0; length < sizeof(every) - 1; length++) {
        uint8_t *copy = malloc(length + 1); /* its own, so that a sanitizer sees a read behind it */

        ck_assert_ptr_nonnull(copy);
        memcpy(copy + 1, every, length);
        ck_assert_int_eq(properties_parse(span_of(copy + 1, length), &properties, &error), -1);
        ck_assert_uint_eq(error.code, REPLY_SYNTAX_ERROR);
        free(copy);
    }
}
END_TEST

/* Every set of flags: what is set is read, in order, and all else is empty. */
START_TEST(test_every_combination)
{
    for (unsigned flags = 0; flags <= 0xfffc; flags += 4) {
        struct properties full, again;

        ck_assert_int_eq(properties_parse(BYTES(every), &full, &error), 0);
        full.flags = (uint16_t)flags;
        buf_clear(&out);
        properties_put(&out, &full);
        memset(&again, 0x5a, sizeof(again));
        if (out.failed || properties_parse(buf_span(&out), &again, &error) != 0 || again.flags != flags)
            ck_abort_msg("flags %04x: %s", flags, error.text);

#define SAME(flag, field) \
    if (!span_equal(again.field, flags & (flag) ? full.field : span_of(NULL, 0))) \
    ck_abort_msg("flags %04x: " #field, flags)
        SAME(PROPERTY_CONTENT_TYPE, content_type);
        SAME(PROPERTY_CONTENT_ENCODING, content_encoding);
        SAME(PROPERTY_HEADERS, headers);
        SAME(PROPERTY_CORRELATION_ID, correlation_id);
        SAME(PROPERTY_REPLY_TO, reply_to);
        SAME(PROPERTY_EXPIRATION, expiration);
        SAME(PROPERTY_MESSAGE_ID, message_id);
        SAME(PROPERTY_TYPE, type);
        SAME(PROPERTY_USER_ID, user_id);
        SAME(PROPERTY_APP_ID, app_id);
        SAME(PROPERTY_CLUSTER_ID, cluster_id);
#undef SAME
        if (again.delivery_mode != (flags & PROPERTY_DELIVERY_MODE ? 2 : 0) ||
            again.priority != (flags & PROPERTY_PRIORITY ? 9 : 0) ||
            again.timestamp != (flags & PROPERTY_TIMESTAMP ? 0x65920080 : 0))
            ck_abort_msg("flags %04x: a number", flags);
    }
}
END_TEST

#define ck_refused(bytes, message) \
    do { \
        ck_assert_int_eq(properties_parse(BYTES(bytes), &properties, &error), -1); \
        ck_assert_uint_eq(error.code, REPLY_SYNTAX_ERROR); \
        ck_assert_str_eq(error.text, "SYNTAX_ERROR - " message); \
    } while (0)

START_TEST(test_refused)
{
    ck_refused("", "a content header without property flags");
    ck_refused("\0", "a content header without property flags");
    ck_refused("\0\1\0\0", "unknown property flags 0x0001");
    ck_refused("\0\2", "unknown property flags 0x0002");
    ck_refused("\0\0\0", "1 bytes behind the last property");
    ck_refused("\x10\0\2x", "1 bytes behind the last property");
    ck_refused("\x10\0", "the property delivery-mode is cut short");
    ck_refused("\0\x80\4abc", "the property message-id is cut short");
    ck_refused("\0\x40\0\0\0\0\0\0\0", "the property timestamp is cut short");
    ck_refused("\x20\0\0\0\0", "the property headers is cut short");
    ck_refused("\x20\0\0\0\0\4\1aB", "the property headers is cut short");
    ck_refused("\x20\0\xff\xff\xff\xff", "the property headers is cut short");
    ck_refused("\x20\0\0\0\0\3\1a?", "a headers table that is malformed or nested too deep");
}
END_TEST

START_TEST(test_put_refused)
{
    static const uint8_t text[256];
    struct properties long_id = {.flags = PROPERTY_MESSAGE_ID, .message_id = span_of(text, 255)};

    properties_put(&out, &long_id);
    ck_assert(!out.failed);
    long_id.message_id.length = 256;
    properties_put(&out, &long_id);
    ck_assert(out.failed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("properties");
    TCase *tests = tcase_create("properties");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_every_property);
    tcase_add_test(tests, test_every_truncation);
    tcase_add_test(tests, test_every_combination);
    tcase_add_test(tests, test_refused);
    tcase_add_test(tests, test_put_refused);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
