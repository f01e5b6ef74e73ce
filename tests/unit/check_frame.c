/* SPDX-License-Identifier: MIT */
/* Cutting frames: what is one, what is none, and that neither depends on how the bytes arrive. */
#include "wire/frame.h"
#include "suite.h"

#include <stdlib.h>

static struct frame frame;
static struct reply error;

static void setup(void)
{
    frame = (struct frame){0};
    error = (struct reply){0};
}

static ssize_t cut(const void *bytes, size_t length)
{
    return frame_cut(bytes, length, FRAME_UNTUNED_MAX, &frame, &error);
}

/* Refused with 501 and this text when `length` bytes are there, not earlier and not later. */
#define ck_refused(bytes, length, message) \
    do { \
        for (size_t early = 0; early < (length); early++) \
            ck_assert_int_eq(cut(bytes, early), 0); \
        ck_assert_int_eq(cut(bytes, length), -1); \
        ck_assert_uint_eq(error.code, REPLY_FRAME_ERROR); \
        ck_assert_str_eq(error.text, "FRAME_ERROR - " message); \
    } while (0)

START_TEST(test_method)
{
    static const uint8_t bytes[] = {1, 0, 7, 0, 0, 0, 4, 20, 0, 0, 41, 0xce, 99};

    for (size_t length = 0; length < 12; length++)
        ck_assert_int_eq(cut(bytes, length), 0);
    ck_assert_int_eq(cut(bytes, 12), 12);
    ck_assert_int_eq(cut(bytes, 13), 12);
    ck_assert_uint_eq(frame.type, FRAME_METHOD);
    ck_assert_uint_eq(frame.channel, 7);
    ck_assert_ptr_eq(frame.payload.data, bytes + 7);
    ck_assert_uint_eq(frame.payload.length, 4);
}
END_TEST

START_TEST(test_empty_body)
{
    ck_assert_int_eq(cut("\3\1\2\0\0\0\0\xce", 8), 8);
    ck_assert_uint_eq(frame.type, FRAME_BODY);
    ck_assert_uint_eq(frame.channel, 0x102);
    ck_assert_uint_eq(frame.payload.length, 0);
}
END_TEST

START_TEST(test_refused)
{
    ck_refused("\0", 1, "unknown frame type 0");
    ck_refused("\4", 1, "unknown frame type 4");
    ck_refused("HTTP/1.1 400", 1, "unknown frame type 72");
    ck_refused("AMQ\3", 4, "unknown frame type 65");
    ck_refused("AMQP\1\1\0\12", 8, "a protocol header instead of a frame: the peer speaks AMQP 1.0.10, not 0.9.1");
    ck_refused("\1\0\1\0\0\0\3", 7, "a frame of type 1 with only 3 bytes");
    ck_refused("\2\0\1\0\0\0\15", 7, "a frame of type 2 with only 13 bytes");
    ck_refused("\10\0\0\0\0\0\1", 7, "a heartbeat with 1 bytes");
    ck_refused("\3\0\1\0\0\x1f\xf9", 7, "a frame of 8193 bytes, type 3, channel 1; at most 8192 are agreed");
    ck_refused("\3\0\1\xff\xff\xff\xff", 7, "a frame of 4294967303 bytes, type 3, channel 1; at most 8192 are agreed");
    ck_refused("\3\0\1\0\0\0\1x\xcd", 9, "a frame of type 3, 1 bytes, ends in 0xcd instead of 0xce");
}
END_TEST

START_TEST(test_heartbeat_on_a_channel)
{
    ck_assert_int_eq(cut("\10\0\1\0\0\0\0", 7), -1);
    ck_assert_uint_eq(error.code, REPLY_UNEXPECTED_FRAME);
    ck_assert_str_eq(error.text, "UNEXPECTED_FRAME - a heartbeat on channel 1, expected on 0 only");
}
END_TEST

START_TEST(test_largest)
{
    uint8_t bytes[FRAME_UNTUNED_MAX] = {3, 0, 1, 0, 0, 0x1f, 0xf8};

    bytes[sizeof(bytes) - 1] = FRAME_END;
    ck_assert_int_eq(cut(bytes, sizeof(bytes) - 1), 0);
    ck_assert_int_eq(cut(bytes, sizeof(bytes)), FRAME_UNTUNED_MAX);
}
END_TEST

START_TEST(test_put)
{
    struct buf out = {0};
    size_t position;

    frame_put_protocol_header(&out);
    frame_put_heartbeat(&out);
    position = frame_begin(&out, FRAME_BODY, 0x1234);
    buf_put(&out, "abc", 3);
    frame_finish(&out, position);
    ck_assert_uint_eq(buf_length(&out), 27);
    ck_assert_mem_eq(out.data,
                     "AMQP\0\0\11\1"
                     "\10\0\0\0\0\0\0\xce"
                     "\3\x12\x34\0\0\0\3abc\xce",
                     27);
    buf_free(&out);
}
END_TEST

START_TEST(test_put_without_memory)
{
    struct buf out = {.failed = true};
    size_t position = frame_begin(&out, FRAME_BODY, 1);

    frame_finish(&out, position);
    frame_put_heartbeat(&out);
    ck_assert(out.failed);
    ck_assert_ptr_null(out.data);
}
END_TEST

START_TEST(test_reply_codes)
{
    ck_assert_str_eq(reply_name(406), "PRECONDITION_FAILED");
    ck_assert_str_eq(reply_name(0), "UNKNOWN");
    ck_assert(!reply_is_hard(404));
    ck_assert(reply_is_hard(501));
    ck_assert_int_eq(reply_set(&error, REPLY_NOT_FOUND, 60 << 16 | 20, "no queue %s", "q"), -1);
    ck_assert_str_eq(error.text, "NOT_FOUND - no queue q");
    ck_assert_uint_eq(error.class_id, 60);
    ck_assert_uint_eq(error.method_id, 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame");
    TCase *tests = tcase_create("frame");

    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, test_method);
    tcase_add_test(tests, test_empty_body);
    tcase_add_test(tests, test_refused);
    tcase_add_test(tests, test_heartbeat_on_a_channel);
    tcase_add_test(tests, test_largest);
    tcase_add_test(tests, test_put);
    tcase_add_test(tests, test_put_without_memory);
    tcase_add_test(tests, test_reply_codes);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
