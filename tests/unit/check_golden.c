/* SPDX-License-Identifier: MIT */
/*
 * Golden streams: real frames (tests/golden, the dissection above the bytes), cut whole, in two parts at every offset, and byte by
 * byte; methods decoded and encoded again; content assembled; every truncation of every payload refused.
 */
#include "wire/content.h"
#include "wire/method.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAMES_MAX 256

struct stream {
    struct buf bytes;
    struct frame frames[FRAMES_MAX];
    size_t count;
};

static struct stream server, client;

static void read_hex(const char *path, struct buf *to)
{
    FILE *file = fopen(path, "re");
    char line[512];
    unsigned byte;

    ck_assert_msg(file != NULL, "%s cannot be opened: run from the top of the tree", path);
    while (fgets(line, sizeof(line), file) != NULL) {
        const char *at = line;
        int used;

        if (line[0] == '#')
            continue;
        while (sscanf(at, " %2x%n", &byte, &used) == 1) {
            buf_put_u8(to, (uint8_t)byte);
            at += used;
        }
    }
    fclose(file);
}

static void load(struct stream *stream, const char *path, size_t skip)
{
    struct reply error;

    read_hex(path, &stream->bytes);
    ck_assert_uint_gt(buf_length(&stream->bytes), skip);
    stream->bytes.start = skip; /* the protocol header */
    for (size_t at = skip; at < stream->bytes.end; stream->count++) {
        ssize_t used = frame_cut(stream->bytes.data + at, stream->bytes.end - at, FRAME_LIMIT,
                                 &stream->frames[stream->count], &error);

        ck_assert_msg(used > 0, "frame %zu", stream->count);
        at += (size_t)used;
    }
}

static void setup(void)
{
    load(&server, "tests/golden/server.hex", 0);
    load(&client, "tests/golden/client.hex", 8);
}

static void teardown(void)
{
    buf_free(&server.bytes);
    buf_free(&client.bytes);
}

/* Feeds the stream in pieces that end at `cut` and then every `step` bytes; the same frames must come out. */
static void feed(const struct stream *stream, size_t cut, size_t step)
{
    const uint8_t *data = stream->bytes.data;
    size_t start = stream->bytes.start, there = start + cut, found = 0;
    struct frame frame;
    struct reply error;

    while (start < stream->bytes.end) {
        ssize_t used = frame_cut(data + start, there - start, FRAME_LIMIT, &frame, &error);

        ck_assert_int_ge(used, 0);
        if (used == 0) {
            ck_assert_uint_lt(there, stream->bytes.end);
            there = there + step < stream->bytes.end ? there + step : stream->bytes.end;
            continue;
        }
        ck_assert_ptr_eq(frame.payload.data, stream->frames[found].payload.data);
        ck_assert_uint_eq(frame.payload.length, stream->frames[found].payload.length);
        found++;
        start += (size_t)used;
    }
    ck_assert_uint_eq(found, stream->count);
}

START_TEST(test_cut_anywhere)
{
    const struct stream *stream = _i == 0 ? &server : &client;
    size_t length = buf_length(&stream->bytes);

    feed(stream, length, length);
    feed(stream, 1, 1);
    for (size_t cut = 0; cut < length; cut++)
        feed(stream, cut, length);
}
END_TEST

START_TEST(test_methods_both_ways)
{
    const struct stream *stream = _i == 0 ? &server : &client;
    enum method_from from = _i == 0 ? METHOD_FROM_SERVER : METHOD_FROM_CLIENT;
    amqp_pool_t pool;
    amqp_method_t method;
    struct reply error;
    size_t methods = 0;

    init_amqp_pool(&pool, 4096);
    for (size_t i = 0; i < stream->count; i++) {
        const struct frame *frame = &stream->frames[i];
        struct buf out = {0};

        if (frame->type != FRAME_METHOD)
            continue;
        methods++;
        ck_assert_int_eq(method_decode(frame, from, &pool, &method, &error), 0);
        method_put(&out, frame->channel, method.id, method.decoded);
        ck_assert(!out.failed);
        ck_assert_uint_eq(buf_length(&out), frame->payload.length + FRAME_OVERHEAD);
        ck_assert_mem_eq(out.data + out.start, frame->payload.data - FRAME_HEAD, buf_length(&out));
        buf_free(&out);
        recycle_amqp_pool(&pool);
    }
    ck_assert_uint_gt(methods, 10);
    empty_amqp_pool(&pool);
}
END_TEST

START_TEST(test_truncated_methods)
{
    const struct stream *stream = _i == 0 ? &server : &client;
    enum method_from from = _i == 0 ? METHOD_FROM_SERVER : METHOD_FROM_CLIENT;
    amqp_pool_t pool;
    amqp_method_t method;
    struct reply error;

    init_amqp_pool(&pool, 4096);
    for (size_t i = 0; i < stream->count; i++) {
        struct frame frame = stream->frames[i];

        for (size_t length = 4; frame.type == FRAME_METHOD && length < stream->frames[i].payload.length; length++) {
            uint8_t *copy = malloc(length); /* its own, so that a sanitizer sees a read behind it */

            memcpy(copy, stream->frames[i].payload.data, length);
            frame.payload = span_of(copy, length);
            ck_assert_int_eq(method_decode(&frame, from, &pool, &method, &error), -1);
            ck_assert_uint_eq(error.code, REPLY_SYNTAX_ERROR);
            recycle_amqp_pool(&pool);
            free(copy);
        }
    }
    empty_amqp_pool(&pool);
}
END_TEST

START_TEST(test_content)
{
    const struct stream *stream = _i == 0 ? &server : &client;
    struct content content = {.state = CONTENT_IDLE};
    struct message *message;
    struct reply error;
    size_t whole = 0;

    for (size_t i = 0; i < stream->count; i++) {
        const struct frame *frame = &stream->frames[i];
        int result;

        if (frame->type == FRAME_HEADER) {
            struct span raw = span_of(frame->payload.data + 12, frame->payload.length - 12);
            struct properties properties;
            struct buf out = {0};

            ck_assert_int_eq(content_begin(&content, span_str("e"), span_str("k"), &error), 0);
            ck_assert_int_eq(properties_parse(raw, &properties, &error), 0);
            properties_put(&out, &properties);
            ck_assert_uint_eq(buf_length(&out), raw.length);
            ck_assert_mem_eq(out.data + out.start, raw.data, raw.length);
            buf_free(&out);
            for (size_t length = 0; length < raw.length; length++)
                ck_assert_int_eq(properties_parse(span_of(raw.data, length), &properties, &error), -1);
        } else if (frame->type != FRAME_BODY) {
            continue;
        }
        result = content_frame(&content, frame, 4096, &message, &error);
        ck_assert_int_ge(result, 0);
        if (result > 0) {
            whole++;
            message_drop(message);
        }
    }
    ck_assert_uint_ge(whole, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("golden");
    TCase *tests = tcase_create("golden");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, test_cut_anywhere, 0, 2);
    tcase_add_loop_test(tests, test_methods_both_ways, 0, 2);
    tcase_add_loop_test(tests, test_truncated_methods, 0, 2);
    tcase_add_loop_test(tests, test_content, 0, 2);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
