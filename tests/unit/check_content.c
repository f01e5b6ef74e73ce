/* SPDX-License-Identifier: MIT */
/* Content and messages: put together from frames, in any number of them, within bounds; and taken
 * apart again. */
#include "wire/content.h"
#include "suite.h"

#include <stdlib.h>

#define MAX_SIZE 100000

static struct content content;
static struct message *message;
static struct reply error;
static struct buf out;

static void setup(void)
{
    content = (struct content){.state = CONTENT_IDLE};
    message = NULL;
    out = (struct buf){0};
}

static void teardown(void)
{
    content_reset(&content);
    message_drop(message);
    buf_free(&out);
}

static void begin(void)
{
    ck_assert_int_eq(content_begin(&content, span_str("events"), span_str("a.b"), &error), 0);
}

static int give(enum frame_type type, const void *data, size_t length)
{
    struct frame frame = {.type = (uint8_t)type, .channel = 1, .payload = span_of(data, length)};

    return content_frame(&content, &frame, MAX_SIZE, &message, &error);
}

static int header(uint64_t size)
{
    uint8_t bytes[14] = {0, 60};

    size = __builtin_bswap64(size);
    memcpy(bytes + 4, &size, sizeof(size));
    return give(FRAME_HEADER, bytes, sizeof(bytes));
}

#define ck_refused(result, expected_code, message_text) \
    do { \
        ck_assert_int_eq(result, -1); \
        ck_assert_uint_eq(error.code, expected_code); \
        ck_assert_str_eq(error.text, message_text); \
        ck_assert(content_is_idle(&content)); \
        ck_assert_ptr_null(content.message); \
    } while (0)

START_TEST(test_empty_body)
{
    begin();
    ck_assert(!content_is_idle(&content));
    ck_assert_int_eq(give(FRAME_HEADER, "\0\x3c\0\0\0\0\0\0\0\0\0\0\x10\0\2", 15), 1);
    ck_assert(content_is_idle(&content));
    ck_assert(span_is(message->exchange, "events") && message->exchange.data[6] == 0);
    ck_assert(span_is(message->routing_key, "a.b") && message->routing_key.data[3] == 0);
    ck_assert_uint_eq(message->properties.delivery_mode, 2);
    ck_assert_uint_eq(message->raw_properties.length, 3);
    ck_assert_uint_eq(message->body.length, 0);
}
END_TEST

START_TEST(test_body_in_parts)
{
    begin();
    ck_assert_int_eq(header(6), 0);
    ck_assert_int_eq(give(FRAME_BODY, "ab", 2), 0);
    ck_assert_int_eq(give(FRAME_BODY, "", 0), 0);
    ck_assert_int_eq(give(FRAME_BODY, "c", 1), 0);
    ck_assert(!content_is_idle(&content));
    ck_assert_int_eq(give(FRAME_BODY, "def", 3), 1);
    ck_assert(content_is_idle(&content));
    ck_assert(span_is(message->body, "abcdef"));
    ck_assert(!content.oversized);
}
END_TEST

START_TEST(test_names)
{
    static const uint8_t name[256];

    ck_assert_int_eq(content_begin(&content, span_of(name, 255), span_of(name, 255), &error), 0);
    ck_assert_int_eq(header(0), 1);
    ck_assert_uint_eq(message->exchange.length + message->routing_key.length, 510);
    ck_refused(content_begin(&content, span_of(NULL, 0), span_of(name, 256), &error), REPLY_SYNTAX_ERROR,
               "SYNTAX_ERROR - a name over 255 bytes");
}
END_TEST

START_TEST(test_oversized)
{
    static const uint8_t part[60000];

    begin();
    ck_assert_int_eq(header(MAX_SIZE + 1), 0);
    ck_assert_uint_lt(content.message->body.length, 1);
    ck_assert_int_eq(give(FRAME_BODY, part, sizeof(part)), 0);
    ck_assert_int_eq(give(FRAME_BODY, part, MAX_SIZE + 1 - sizeof(part)), 1);
    ck_assert(content.oversized);
    ck_assert_uint_eq(content.size, MAX_SIZE + 1);
    ck_assert_uint_eq(message->body.length, 0);
    ck_assert(span_is(message->routing_key, "a.b"));
    message_drop(message);
    message = NULL;
    /* and the next one is not */
    begin();
    ck_assert(!content.oversized);
    ck_assert_int_eq(header(MAX_SIZE), 0);
    ck_assert_uint_eq(content.message->body.length, MAX_SIZE);
}
END_TEST

/* A lie about the size costs nothing; and one byte behind the largest number there is, is too many.
 */
START_TEST(test_size_lies)
{
    begin();
    ck_assert_int_eq(header(UINT64_MAX), 0);
    ck_assert(content.oversized);
    ck_assert_int_eq(give(FRAME_BODY, "x", 1), 0);
    content.filled = UINT64_MAX - 1;
    ck_refused(give(FRAME_BODY, "xy", 2), REPLY_FRAME_ERROR,
               "FRAME_ERROR - a body of more than the announced 18446744073709551615 bytes");
}
END_TEST

START_TEST(test_more_than_announced)
{
    begin();
    ck_assert_int_eq(header(3), 0);
    ck_assert_int_eq(give(FRAME_BODY, "ab", 2), 0);
    ck_refused(give(FRAME_BODY, "cd", 2), REPLY_FRAME_ERROR, "FRAME_ERROR - a body of more than the announced 3 bytes");
    begin(); /* it is ready for another one */
}
END_TEST

START_TEST(test_out_of_order)
{
    ck_refused(give(FRAME_BODY, "x", 1), REPLY_UNEXPECTED_FRAME,
               "UNEXPECTED_FRAME - a frame of type 3, expected a method");
    ck_refused(header(1), REPLY_UNEXPECTED_FRAME, "UNEXPECTED_FRAME - a frame of type 2, expected a method");
    begin();
    ck_refused(give(FRAME_BODY, "x", 1), REPLY_UNEXPECTED_FRAME,
               "UNEXPECTED_FRAME - a frame of type 3, expected a content header");
    begin();
    ck_assert_int_eq(header(1), 0);
    ck_refused(header(1), REPLY_UNEXPECTED_FRAME, "UNEXPECTED_FRAME - a frame of type 2, expected a content body");
    begin();
    ck_assert_int_eq(header(1), 0);
    ck_refused(content_begin(&content, span_str(""), span_str(""), &error), REPLY_UNEXPECTED_FRAME,
               "UNEXPECTED_FRAME - a method with content inside another's content");
}
END_TEST

START_TEST(test_bad_header)
{
    begin();
    ck_refused(give(FRAME_HEADER, "\0\x3c\0\0\0\0\0\0\0\0\0\0\0", 13), REPLY_SYNTAX_ERROR,
               "SYNTAX_ERROR - a content header of 13 bytes");
    begin();
    ck_refused(give(FRAME_HEADER, "\0\x32\0\0\0\0\0\0\0\0\0\0\0\0", 14), REPLY_UNEXPECTED_FRAME,
               "UNEXPECTED_FRAME - a content header of class 50, expected basic");
    begin();
    ck_refused(give(FRAME_HEADER, "\0\x3c\0\1\0\0\0\0\0\0\0\0\0\0", 14), REPLY_UNEXPECTED_FRAME,
               "UNEXPECTED_FRAME - a content header with weight 1");
    begin();
    ck_refused(give(FRAME_HEADER, "\0\x3c\0\0\0\0\0\0\0\0\0\0\0\1", 14), REPLY_SYNTAX_ERROR,
               "SYNTAX_ERROR - unknown property flags 0x0001");
}
END_TEST

START_TEST(test_reset)
{
    begin();
    ck_assert_int_eq(header(10), 0);
    ck_assert_int_eq(give(FRAME_BODY, "abc", 3), 0);
    content_reset(&content);
    content_reset(&content);
    ck_assert(content_is_idle(&content));
    begin();
    ck_assert_int_eq(header(2), 0);
    ck_assert_int_eq(give(FRAME_BODY, "ok", 2), 1);
    ck_assert(span_is(message->body, "ok"));
}
END_TEST

/* Out and in again, for sizes around what fills a frame. */
START_TEST(test_both_ways)
{
    static const size_t sizes[] = {0, 1, 200, 4087, 4088, 4089, 8175, 8176, 8177, MAX_SIZE};
    static uint8_t body[MAX_SIZE];

    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t i = 0; i < HARK_COUNT(sizes); i++) {
        size_t at = 0, frames = 0;

        buf_clear(&out);
        content_put(&out, 9, FRAME_MIN_MAX, span_of("\x10\0\1", 3), span_of(body, sizes[i]));
        ck_assert(!out.failed);
        begin();
        for (int result = 0; result == 0; frames++) {
            struct frame frame;
            ssize_t used = frame_cut(out.data + at, out.end - at, FRAME_MIN_MAX, &frame, &error);

            ck_assert_msg(used > 0, "%s", error.text);
            at += (size_t)used;
            ck_assert_uint_eq(frame.channel, 9);
            result = content_frame(&content, &frame, MAX_SIZE, &message, &error);
            ck_assert_msg(result >= 0, "%s", error.text);
        }
        ck_assert_uint_eq(at, out.end);
        ck_assert_uint_eq(frames, 1 + (sizes[i] + 4087) / 4088);
        ck_assert(span_equal(message->body, span_of(body, sizes[i])));
        message_drop(message);
        message = NULL;
    }
}
END_TEST

START_TEST(test_put_refused)
{
    static const uint8_t raw[FRAME_MIN_MAX];

    ck_assert(content_header_fits(FRAME_MIN_MAX, span_of(raw, FRAME_MIN_MAX - 20)));
    ck_assert(!content_header_fits(FRAME_MIN_MAX, span_of(raw, FRAME_MIN_MAX - 19)));
    content_put(&out, 1, FRAME_MIN_MAX, span_of(raw, FRAME_MIN_MAX - 20), span_of(NULL, 0));
    ck_assert(!out.failed);
    ck_assert_uint_eq(out.end, FRAME_MIN_MAX);
    content_put(&out, 1, FRAME_MIN_MAX, span_of(raw, FRAME_MIN_MAX - 19), span_of(NULL, 0));
    ck_assert(out.failed);
}
END_TEST

/* ---- messages on their own ---- */

START_TEST(test_message)
{
    struct message *second;

    message = message_new(span_of(NULL, 0), span_str("k"), span_of("\0\x80\2id", 5), 4, &error);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(message->body.length, 4);
    memcpy(message_body_bytes(message), "body", 4);
    ck_assert(span_is(message->body, "body"));
    ck_assert(span_is(message_id(message), "id"));
    ck_assert_ptr_eq(message_id(message).data, message->raw_properties.data + 3);
    ck_assert_uint_eq(message->exchange.length, 0);
    ck_assert_uint_eq(message->exchange.data[0], 0);
    second = message_hold(message);
    message_drop(message);
    ck_assert(span_is(second->body, "body"));
}
END_TEST

START_TEST(test_message_refused)
{
    ck_assert_ptr_null(message_new(span_of(NULL, 0), span_of(NULL, 0), span_of("\0\x80\3id", 5), 0, &error));
    ck_assert_uint_eq(error.code, REPLY_SYNTAX_ERROR);
    ck_assert_ptr_null(message_new(span_of(NULL, 0), span_of(NULL, 0), span_of("\0\0", 2), SIZE_MAX, &error));
    ck_assert_uint_eq(error.code, REPLY_RESOURCE_ERROR);
    ck_assert_ptr_null(message_new(span_of(NULL, 0), span_of(NULL, 0), span_of("\0\0", 2), PTRDIFF_MAX, &error));
    ck_assert_uint_eq(error.code, REPLY_RESOURCE_ERROR);
    message_drop(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("content");
    TCase *tests = tcase_create("content");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_empty_body);
    tcase_add_test(tests, test_body_in_parts);
    tcase_add_test(tests, test_names);
    tcase_add_test(tests, test_oversized);
    tcase_add_test(tests, test_size_lies);
    tcase_add_test(tests, test_more_than_announced);
    tcase_add_test(tests, test_out_of_order);
    tcase_add_test(tests, test_bad_header);
    tcase_add_test(tests, test_reset);
    tcase_add_test(tests, test_both_ways);
    tcase_add_test(tests, test_put_refused);
    tcase_add_test(tests, test_message);
    tcase_add_test(tests, test_message_refused);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
