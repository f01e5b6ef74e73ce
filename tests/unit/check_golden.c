/* SPDX-License-Identifier: MIT */
/*
 * Golden streams: real frames (tests/golden, with their dissection), cut whole, in two parts at
 * every offset, and byte by byte; methods and properties decoded and encoded again, content
 * assembled and split again, to the same bytes; every truncation of every payload refused.
 */
#include "wire/content.h"
#include "wire/method.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>

#define FRAMES_MAX 128
#define LINE_SIZE 64
#define GOLDEN_FRAME_MAX 4096 /* what both sides had agreed on */

struct stream {
    const char *path;
    enum method_from from;
    struct buf bytes;
    size_t expected_count, count;
    char expected[FRAMES_MAX][LINE_SIZE]; /* the lines with > */
    struct frame frames[FRAMES_MAX];      /* without the protocol header */
};

static struct stream streams[] = {
    {.path = "tests/golden/topology.client.hex", .from = METHOD_FROM_CLIENT},
    {.path = "tests/golden/topology.server.hex", .from = METHOD_FROM_SERVER},
    {.path = "tests/golden/messages.client.hex", .from = METHOD_FROM_CLIENT},
    {.path = "tests/golden/messages.server.hex", .from = METHOD_FROM_SERVER},
    {.path = "tests/golden/closed.client.hex", .from = METHOD_FROM_CLIENT},
    {.path = "tests/golden/closed.server.hex", .from = METHOD_FROM_SERVER},
};

static struct reply error;
static amqp_pool_t pool;

/* Pairs of hex digits, one or "61*4088" of them at a time, up to a comment or the end of the line.
 */
static void read_line(const char *line, struct buf *to)
{
    unsigned byte, times;
    int used;

    for (; sscanf(line, " %2x%n", &byte, &used) == 1; line += used) {
        times = 1;
        if (line[used] == '*') {
            line += used;
            ck_assert_int_eq(sscanf(line, "*%u%n", &times, &used), 1);
        }
        while (times-- > 0)
            buf_put_u8(to, (uint8_t)byte);
    }
}

static void read_stream(struct stream *stream)
{
    FILE *file = fopen(stream->path, "re");
    char line[512];

    ck_assert_msg(file != NULL, "%s cannot be opened: run from the top of the tree", stream->path);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (line[0] == '>') {
            ck_assert_uint_lt(stream->expected_count, FRAMES_MAX);
            line[strcspn(line, "\n")] = 0;
            ck_assert_uint_lt(strlen(line + 2), LINE_SIZE);
            strcpy(stream->expected[stream->expected_count++], line + 2);
        } else if (line[0] != '#') {
            read_line(line, &stream->bytes);
        }
    }
    fclose(file);
}

static void load(struct stream *stream)
{
    struct span bytes;
    size_t at = 0;

    *stream = (struct stream){.path = stream->path, .from = stream->from};
    read_stream(stream);
    bytes = buf_span(&stream->bytes);
    if (strcmp(stream->expected[0], "protocol-header") == 0)
        stream->bytes.start = at = 8;
    while (at < bytes.length) {
        ssize_t used = frame_cut(bytes.data + at, bytes.length - at, GOLDEN_FRAME_MAX, &stream->frames[stream->count],
                                 &error);

        ck_assert_msg(used > 0, "%s: frame %zu: %s", stream->path, stream->count, error.text);
        stream->count++;
        at += (size_t)used;
    }
}

static void setup(void)
{
    init_amqp_pool(&pool, 4096);
    for (size_t i = 0; i < HARK_COUNT(streams); i++)
        load(&streams[i]);
}

static void teardown(void)
{
    empty_amqp_pool(&pool);
    for (size_t i = 0; i < HARK_COUNT(streams); i++)
        buf_free(&streams[i].bytes);
}

/* The frame with its head and end, as it stands in the stream. */
static struct span whole(const struct frame *frame)
{
    return span_of(frame->payload.data - FRAME_HEAD, frame->payload.length + FRAME_OVERHEAD);
}

#define ck_same(out, span) \
    do { \
        ck_assert(!(out)->failed); \
        ck_assert_uint_eq(buf_length(out), (span).length); \
        ck_assert_mem_eq((out)->data + (out)->start, (span).data, (span).length); \
    } while (0)

START_TEST(test_dissection)
{
    const struct stream *stream = &streams[_i];
    size_t skip = stream->bytes.start > 0; /* the protocol header is no frame */

    ck_assert_uint_eq(stream->count + skip, stream->expected_count);
    for (size_t i = 0; i < stream->count; i++) {
        const struct frame *frame = &stream->frames[i];
        char what[LINE_SIZE];

        if (frame->type == FRAME_METHOD)
            snprintf(what, sizeof(what), "method %u %s", frame->channel, method_name(get_u32(frame->payload.data)));
        else if (frame->type == FRAME_HEADER)
            snprintf(what, sizeof(what), "header %u %u", frame->channel, get_u32(frame->payload.data + 8));
        else if (frame->type == FRAME_BODY)
            snprintf(what, sizeof(what), "body %u %zu", frame->channel, frame->payload.length);
        else
            snprintf(what, sizeof(what), "heartbeat %u", frame->channel);
        ck_assert_str_eq(what, stream->expected[i + skip]);
    }
}
END_TEST

static bool same_frame(const struct frame *a, const struct frame *b)
{
    return a->type == b->type && a->channel == b->channel && a->payload.data == b->payload.data &&
           a->payload.length == b->payload.length;
}

/* Feeds the stream in pieces that end at `cut` and then every `step` bytes; the same frames must
 * come out. */
static bool feed(const struct stream *stream, size_t cut, size_t step)
{
    const uint8_t *data = stream->bytes.data;
    size_t start = stream->bytes.start, there = start + cut, found = 0;
    struct frame frame;

    while (start < stream->bytes.end) {
        ssize_t used = frame_cut(data + start, there - start, GOLDEN_FRAME_MAX, &frame, &error);

        if (used < 0 || (used == 0 && there == stream->bytes.end))
            return false;
        if (used == 0) {
            there = there + step < stream->bytes.end ? there + step : stream->bytes.end;
        } else {
            if (found == stream->count || !same_frame(&frame, &stream->frames[found]))
                return false;
            found++;
            start += (size_t)used;
        }
    }
    return found == stream->count;
}

START_TEST(test_cut_anywhere)
{
    const struct stream *stream = &streams[_i];
    size_t length = buf_length(&stream->bytes);

    ck_assert(feed(stream, length, length));
    ck_assert(feed(stream, 1, 1));
    for (size_t cut = 0; cut < length; cut++)
        if (!feed(stream, cut, length))
            ck_abort_msg("%s cut at byte %zu", stream->path, cut);
}
END_TEST

/* The methods that have a route of their own: it writes the same. */
static void put_by_hand(const struct frame *frame, const amqp_method_t *method)
{
    struct buf out = {0};

    if (method->id == AMQP_BASIC_PUBLISH_METHOD) {
        const amqp_basic_publish_t *publish = method->decoded;

        method_put_publish(&out, frame->channel, span_amqp(publish->exchange), span_amqp(publish->routing_key),
                           publish->mandatory);
        ck_same(&out, whole(frame));
    } else if (method->id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *ack = method->decoded;

        method_put_ack(&out, frame->channel, ack->delivery_tag, ack->multiple);
        ck_same(&out, whole(frame));
    } else if (method->id == AMQP_BASIC_DELIVER_METHOD) {
        const amqp_basic_deliver_t *deliver = method->decoded;
        struct method_deliver hot;

        ck_assert_int_eq(method_get_deliver(frame->payload, &hot, &error), 0);
        ck_assert(span_equal(hot.consumer_tag, span_amqp(deliver->consumer_tag)));
        ck_assert(span_equal(hot.exchange, span_amqp(deliver->exchange)));
        ck_assert(span_equal(hot.routing_key, span_amqp(deliver->routing_key)));
        ck_assert_uint_eq(hot.delivery_tag, deliver->delivery_tag);
        ck_assert_int_eq(hot.redelivered, deliver->redelivered);
    }
    buf_free(&out);
}

START_TEST(test_methods_both_ways)
{
    const struct stream *stream = &streams[_i];
    amqp_method_t method;

    for (size_t i = 0; i < stream->count; i++) {
        const struct frame *frame = &stream->frames[i];
        struct buf out = {0};

        if (frame->type != FRAME_METHOD)
            continue;
        ck_assert_msg(method_decode(frame, stream->from, &pool, &method, &error) == 0, "%s", error.text);
        method_put(&out, frame->channel, method.id, method.decoded);
        ck_same(&out, whole(frame));
        buf_free(&out);
        put_by_hand(frame, &method);
        if (method_find(method.id)->from != METHOD_FROM_BOTH) {
            ck_assert_int_eq(method_decode(frame, METHOD_FROM_BOTH ^ stream->from, &pool, &method, &error), -1);
            ck_assert_uint_eq(error.code, REPLY_COMMAND_INVALID);
        }
        recycle_amqp_pool(&pool);
    }
}
END_TEST

START_TEST(test_truncated_methods)
{
    const struct stream *stream = &streams[_i];
    struct method_deliver deliver;
    amqp_method_t method;

    for (size_t i = 0; i < stream->count; i++) {
        struct frame frame = stream->frames[i];

        for (size_t length = 0; frame.type == FRAME_METHOD && length < stream->frames[i].payload.length; length++) {
            uint8_t *copy = malloc(length + 1); /* its own, so that a sanitizer sees a read behind it */

            ck_assert_ptr_nonnull(copy);
            memcpy(copy + 1, stream->frames[i].payload.data, length);
            frame.payload = span_of(copy + 1, length);
            ck_assert_int_eq(method_decode(&frame, stream->from, &pool, &method, &error), -1);
            ck_assert_uint_eq(error.code, REPLY_SYNTAX_ERROR);
            ck_assert_int_eq(method_get_deliver(frame.payload, &deliver, &error), -1);
            recycle_amqp_pool(&pool);
            free(copy);
        }
    }
}
END_TEST

/* Properties and message of the content whose header is frames[at]; splits it again. Returns its
 * last frame. */
static size_t content_both_ways(const struct stream *stream, size_t at)
{
    const struct frame *frame = &stream->frames[at];
    struct span raw = span_of(frame->payload.data + 12, frame->payload.length - 12);
    struct content content = {.state = CONTENT_IDLE};
    struct properties properties;
    struct message *message = NULL;
    struct buf out = {0};
    size_t last = at;
    int result;

    ck_assert_int_eq(properties_parse(raw, &properties, &error), 0);
    properties_put(&out, &properties);
    ck_same(&out, raw);
    buf_clear(&out);

    ck_assert_int_eq(content_begin(&content, span_str("e"), span_str("k"), &error), 0);
    while ((result = content_frame(&content, &stream->frames[last], UINT32_MAX, &message, &error)) == 0)
        last++;
    ck_assert_msg(result == 1, "%s", error.text);
    ck_assert(span_equal(message->raw_properties, raw));
    content_put(&out, frame->channel, GOLDEN_FRAME_MAX, message->raw_properties, message->body);
    raw = whole(frame);
    raw.length = (size_t)(whole(&stream->frames[last]).data - raw.data) + whole(&stream->frames[last]).length;
    ck_same(&out, raw);
    message_drop(message);
    buf_free(&out);
    return last;
}

START_TEST(test_content)
{
    const struct stream *stream = &streams[_i];

    for (size_t i = 0; i < stream->count; i++)
        if (stream->frames[i].type == FRAME_HEADER)
            i = content_both_ways(stream, i);
        else
            ck_assert_uint_ne(stream->frames[i].type, FRAME_BODY);
}
END_TEST

START_TEST(test_truncated_headers)
{
    const struct stream *stream = &streams[_i];
    struct content content = {.state = CONTENT_IDLE};
    struct message *message;

    for (size_t i = 0; i < stream->count; i++) {
        struct frame frame = stream->frames[i];

        for (size_t length = 0; frame.type == FRAME_HEADER && length < stream->frames[i].payload.length; length++) {
            uint8_t *copy = malloc(length + 1);

            ck_assert_ptr_nonnull(copy);
            memcpy(copy + 1, stream->frames[i].payload.data, length);
            frame.payload = span_of(copy + 1, length);
            ck_assert_int_eq(content_begin(&content, span_str("e"), span_str("k"), &error), 0);
            ck_assert_int_eq(content_frame(&content, &frame, UINT32_MAX, &message, &error), -1);
            ck_assert_uint_eq(error.code, REPLY_SYNTAX_ERROR);
            ck_assert(content_is_idle(&content));
            free(copy);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("golden");
    TCase *tests = tcase_create("golden");
    int count = HARK_COUNT(streams);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, test_dissection, 0, count);
    tcase_add_loop_test(tests, test_cut_anywhere, 0, count);
    tcase_add_loop_test(tests, test_methods_both_ways, 0, count);
    tcase_add_loop_test(tests, test_truncated_methods, 0, count);
    tcase_add_loop_test(tests, test_content, 0, count);
    tcase_add_loop_test(tests, test_truncated_headers, 0, count);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
