/* SPDX-License-Identifier: MIT */
/* Methods: the table of them, who may send what where, what the decoder must never see, and the
 * fast routes. */
#include "wire/method.h"
#include "wire/table.h"
#include "suite.h"

#include <stdlib.h>

static amqp_pool_t pool;
static amqp_method_t method;
static struct reply error;
static struct buf out;

static void setup(void)
{
    init_amqp_pool(&pool, 4096);
    out = (struct buf){0};
    error = (struct reply){0};
}

static void teardown(void)
{
    empty_amqp_pool(&pool);
    buf_free(&out);
}

/* A payload of its own, so that a sanitizer sees a read behind it. Decodes, and gives the reply
 * code; 0: decoded. */
static uint16_t decode(enum method_from from, uint16_t channel, const void *bytes, size_t length)
{
    uint8_t *copy = malloc(length + 1);
    struct frame frame = {.type = FRAME_METHOD, .channel = channel, .payload = {.data = copy + 1, .length = length}};
    int result;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy + 1, bytes, length);
    error = (struct reply){0};
    result = method_decode(&frame, from, &pool, &method, &error);
    ck_assert_int_eq(result, error.code == 0 ? 0 : -1);
    free(copy);
    return error.code;
}

#define from_server(channel, text) decode(METHOD_FROM_SERVER, channel, text, sizeof(text) - 1)
#define from_client(channel, text) decode(METHOD_FROM_CLIENT, channel, text, sizeof(text) - 1)

/* The frame in `out`. */
static struct frame written(void)
{
    struct frame frame;

    ck_assert(!out.failed);
    ck_assert_int_eq(frame_cut(out.data, out.end, FRAME_LIMIT, &frame, &error), (ssize_t)out.end);
    return frame;
}

START_TEST(test_table)
{
    const struct method_info *last = NULL, *info;
    size_t count = 0;

    for (info = method_next(NULL); info != NULL; info = method_next(info)) {
        ck_assert(last == NULL || last->id < info->id);
        ck_assert_ptr_eq(method_find(info->id), info);
        ck_assert_str_eq(method_name(info->id), info->name);
        ck_assert(info->connection == (info->id >> 16 == 10));
        ck_assert((info->table != METHOD_NO_TABLE) == (strchr(info->signature, 'T') != NULL));
        last = info;
        count++;
    }
    ck_assert_uint_eq(count, 66);
    ck_assert_ptr_null(method_find(0));
    ck_assert_ptr_null(method_find(60 << 16 | 73));
    ck_assert_ptr_null(method_find(UINT32_MAX));
    ck_assert_str_eq(method_name(99 << 16), "unknown method");
}
END_TEST

/* What the codec writes is what the signature says: all arguments 0, and all bits set. */
START_TEST(test_signatures)
{
    for (const struct method_info *info = method_next(NULL); info != NULL; info = method_next(info)) {
        uint64_t zero[64] = {0};
        enum method_from from = info->from == METHOD_FROM_SERVER ? METHOD_FROM_SERVER : METHOD_FROM_CLIENT;
        struct frame frame;

        if (info->id >> 16 == 10 && (info->id & 0xffff) >= 70)
            continue; /* connection.update-secret: not in the codec */
        buf_clear(&out);
        method_put(&out, info->connection ? 0 : 1, info->id, zero);
        frame = written();
        ck_assert_msg(method_decode(&frame, from, &pool, &method, &error) == 0, "%s", error.text);
        ck_assert_uint_eq(method.id, info->id);
    }
}
END_TEST

START_TEST(test_who_may_send_what_where)
{
    ck_assert_uint_eq(from_server(1, "\0\x14\0\x29"), 0); /* channel.close-ok */
    ck_assert_uint_eq(from_server(0, "\0\x14\0\x29"), REPLY_CHANNEL_ERROR);
    ck_assert_str_eq(error.text, "CHANNEL_ERROR - channel.close-ok on channel 0");
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x33"), 0); /* connection.close-ok */
    ck_assert_uint_eq(from_server(7, "\0\x0a\0\x33"), REPLY_COMMAND_INVALID);
    ck_assert_str_eq(error.text, "COMMAND_INVALID - connection.close-ok on channel 7");
    ck_assert_uint_eq(error.class_id, 10);
    ck_assert_uint_eq(error.method_id, 51);
    ck_assert_uint_eq(from_client(1, "\0\x5a\0\x0a"), 0); /* tx.select */
    ck_assert_uint_eq(from_server(1, "\0\x5a\0\x0a"), REPLY_COMMAND_INVALID);
    ck_assert_str_eq(error.text, "COMMAND_INVALID - tx.select is not for a server to send");
    ck_assert_uint_eq(from_client(1, "\0\x5a\0\x0b"), REPLY_COMMAND_INVALID); /* tx.select-ok */
    ck_assert_uint_eq(from_client(1, "\0\x3c\0\x50\0\0\0\0\0\0\0\1\0"), 0);   /* basic.ack: both */
    ck_assert_uint_eq(from_server(1, "\0\x3c\0\x50\0\0\0\0\0\0\0\1\0"), 0);
}
END_TEST

START_TEST(test_unknown)
{
    ck_assert_uint_eq(from_server(1, "\0\x63\0\1"), REPLY_NOT_IMPLEMENTED);
    ck_assert_str_eq(error.text, "NOT_IMPLEMENTED - unknown method 1 of class 99");
    ck_assert_uint_eq(from_client(0, "\0\x0a\0\x46\0\0\0\1x\1y"), REPLY_NOT_IMPLEMENTED);
    ck_assert_str_eq(error.text, "NOT_IMPLEMENTED - connection.update-secret is not implemented");
}
END_TEST

START_TEST(test_malformed)
{
    ck_assert_uint_eq(from_server(0, ""), REPLY_SYNTAX_ERROR);
    ck_assert_uint_eq(from_server(0, "\0\x0a\0"), REPLY_SYNTAX_ERROR);
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x33x"), REPLY_SYNTAX_ERROR); /* trailing */
    ck_assert_str_eq(error.text, "SYNTAX_ERROR - the arguments of connection.close-ok are malformed");
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x1e\0\1\0\0\x10\0\0"), REPLY_SYNTAX_ERROR); /* tune: cut */
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x1e\0\1\0\0\x10\0\0\0"), 0);
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x3c\5abcd"), REPLY_SYNTAX_ERROR); /* a short string that lies */
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x3c"), REPLY_SYNTAX_ERROR);
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x14\0\0\0\2x"), REPLY_SYNTAX_ERROR); /* a long one */
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x14\xff\xff\xff\xffx"), REPLY_SYNTAX_ERROR);
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x14\0\0"), REPLY_SYNTAX_ERROR);
    ck_assert_uint_eq(from_server(0, "\0\x0a\0\x14\0\0\0\2xy"), 0);
    /* queue.unbind: a table that is longer than the frame, and one with an unknown type */
    ck_assert_uint_eq(from_client(1, "\0\x32\0\x32\0\0\1q\1e\1k\0\0\0\4\1aV"), REPLY_SYNTAX_ERROR);
    ck_assert_uint_eq(from_client(1, "\0\x32\0\x32\0\0\1q\1e\1k\0\0\0\3\1a?"), REPLY_SYNTAX_ERROR);
    ck_assert_uint_eq(from_client(1, "\0\x32\0\x32\0\0\1q\1e\1k\0\0\0\3\1aV"), 0);
}
END_TEST

/* queue.unbind with `levels` tables or arrays in its arguments, one in the other. */
static uint16_t decode_nested(int levels, char kind)
{
    size_t *open = calloc((size_t)levels + 1, sizeof(*open));
    uint16_t code;

    ck_assert_ptr_nonnull(open);
    buf_clear(&out);
    buf_put(&out, "\0\x32\0\x32\0\0\1q\1e\1k", 12);
    open[0] = table_begin(&out);
    for (int i = 1; i <= levels; i++) {
        if (i == 1 || kind == 'F')
            buf_put_u8(&out, 0); /* an empty name */
        buf_put_u8(&out, (uint8_t)kind);
        open[i] = table_begin(&out);
    }
    for (int i = levels; i >= 0; i--)
        table_end(&out, open[i]);
    code = decode(METHOD_FROM_CLIENT, 1, out.data, out.end);
    free(open);
    return code;
}

START_TEST(test_nesting)
{
    ck_assert_uint_eq(decode_nested(METHOD_TABLE_DEPTH, 'F'), 0);
    ck_assert_uint_eq(decode_nested(METHOD_TABLE_DEPTH, 'A'), 0);
    ck_assert_uint_eq(decode_nested(METHOD_TABLE_DEPTH + 1, 'F'), REPLY_SYNTAX_ERROR);
    ck_assert_uint_eq(decode_nested(METHOD_TABLE_DEPTH + 1, 'A'), REPLY_SYNTAX_ERROR);
    ck_assert_uint_eq(decode_nested(20000, 'F'), REPLY_SYNTAX_ERROR); /* the codec alone would overflow its stack */
    ck_assert_uint_eq(decode_nested(20000, 'A'), REPLY_SYNTAX_ERROR);
}
END_TEST

START_TEST(test_put)
{
    amqp_queue_declare_t declare = {.queue = amqp_cstring_bytes("q"), .durable = 1, .exclusive = 1};

    buf_put_u8(&out, 0xaa); /* not at the beginning */
    method_put(&out, 0x102, AMQP_QUEUE_DECLARE_METHOD, &declare);
    ck_assert(!out.failed);
    ck_assert_uint_eq(out.end, 1 + 7 + 13 + 1);
    ck_assert_mem_eq(out.data, "\xaa\1\1\2\0\0\0\x0d\0\x32\0\x0a\0\0\1q\6\0\0\0\0\xce", out.end);
}
END_TEST

START_TEST(test_put_large)
{
    static uint8_t secret[100000];
    amqp_connection_secure_t secure = {.challenge = {.len = sizeof(secret), .bytes = secret}};

    method_put(&out, 0, AMQP_CONNECTION_SECURE_METHOD, &secure);
    ck_assert_uint_eq(written().payload.length, sizeof(secret) + 8);
    buf_free(&out);
    secure.challenge.len = 1 << 30; /* not looked at: it cannot fit */
    method_put(&out, 0, AMQP_CONNECTION_SECURE_METHOD, &secure);
    ck_assert(out.failed);
}
END_TEST

START_TEST(test_put_refused)
{
    static char name[300];
    amqp_table_entry_t inner = {.key = amqp_cstring_bytes("ok"), .value = {.kind = AMQP_FIELD_KIND_BOOLEAN}};
    amqp_field_value_t item = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = {.num_entries = 1, .entries = &inner}};
    amqp_table_entry_t entry = {
        .key = amqp_cstring_bytes("array"),
        .value = {.kind = AMQP_FIELD_KIND_ARRAY, .value.array = {.num_entries = 1, .entries = &item}},
    };
    amqp_queue_bind_t bind = {.arguments = {.num_entries = 1, .entries = &entry}};

    method_put(&out, 1, AMQP_QUEUE_BIND_METHOD, &bind);
    ck_assert(!out.failed);
    inner.key = (amqp_bytes_t){.len = 256, .bytes = name}; /* the codec would write its length as 0 */
    method_put(&out, 1, AMQP_QUEUE_BIND_METHOD, &bind);
    ck_assert(out.failed);
    buf_free(&out);
    bind.arguments.num_entries = 0;
    bind.queue = (amqp_bytes_t){.len = 256, .bytes = name};
    method_put(&out, 1, AMQP_QUEUE_BIND_METHOD, &bind);
    ck_assert(out.failed);
    buf_free(&out);
    method_put(&out, 1, 99 << 16 | 1, &bind);
    ck_assert(out.failed);
}
END_TEST

/* A table that holds itself would be followed for ever. */
START_TEST(test_put_too_deep)
{
    amqp_table_entry_t entry = {.key = amqp_cstring_bytes("x"), .value = {.kind = AMQP_FIELD_KIND_TABLE}};
    amqp_queue_bind_t bind = {.arguments = {.num_entries = 1, .entries = &entry}};

    entry.value.value.table = bind.arguments;
    method_put(&out, 1, AMQP_QUEUE_BIND_METHOD, &bind);
    ck_assert(out.failed);
}
END_TEST

START_TEST(test_deliver)
{
    static const char bytes[] = "\0\x3c\0\x3c\2ct\1\2\3\4\5\6\7\x08\1\2ex\0";
    struct method_deliver deliver;

    ck_assert_int_eq(method_get_deliver(span_of(bytes, sizeof(bytes) - 1), &deliver, &error), 0);
    ck_assert(span_is(deliver.consumer_tag, "ct"));
    ck_assert_uint_eq(deliver.delivery_tag, 0x0102030405060708);
    ck_assert(deliver.redelivered);
    ck_assert(span_is(deliver.exchange, "ex"));
    ck_assert_uint_eq(deliver.routing_key.length, 0);
    for (size_t length = 0; length < sizeof(bytes) - 1; length++) {
        uint8_t *copy = malloc(length + 1);

        ck_assert_ptr_nonnull(copy);
        memcpy(copy + 1, bytes, length);
        ck_assert_int_eq(method_get_deliver(span_of(copy + 1, length), &deliver, &error), -1);
        ck_assert_uint_eq(error.code, REPLY_SYNTAX_ERROR);
        free(copy);
    }
    ck_assert_int_eq(method_get_deliver(span_of(bytes, sizeof(bytes)), &deliver, &error), -1); /* trailing */
    ck_assert_int_eq(method_get_deliver(span_str("a basic.publish, say"), &deliver, &error), -1);
}
END_TEST

START_TEST(test_fast_routes_write_what_the_codec_does)
{
    static uint8_t name[256];
    struct span longest = span_of(name, 255);
    amqp_basic_publish_t publish = {.exchange = amqp_span(longest), .routing_key = amqp_cstring_bytes("a.b")};
    amqp_basic_ack_t ack = {.delivery_tag = 0x0102030405060708, .multiple = 1};
    struct buf slow = {0};

    for (int mandatory = 0; mandatory < 2; mandatory++) {
        publish.mandatory = mandatory;
        method_put(&slow, 0xfff0, AMQP_BASIC_PUBLISH_METHOD, &publish);
        method_put_publish(&out, 0xfff0, longest, span_str("a.b"), mandatory);
        ack.multiple = mandatory;
        method_put(&slow, 0xfff0, AMQP_BASIC_ACK_METHOD, &ack);
        method_put_ack(&out, 0xfff0, ack.delivery_tag, mandatory);
    }
    ck_assert(!slow.failed && !out.failed);
    ck_assert(span_equal(buf_span(&slow), buf_span(&out)));
    buf_free(&slow);
    method_put_publish(&out, 1, span_str("e"), span_of(name, 256), false);
    ck_assert(out.failed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("method");
    TCase *tests = tcase_create("method");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_table);
    tcase_add_test(tests, test_signatures);
    tcase_add_test(tests, test_who_may_send_what_where);
    tcase_add_test(tests, test_unknown);
    tcase_add_test(tests, test_malformed);
    tcase_add_test(tests, test_nesting);
    tcase_add_test(tests, test_put);
    tcase_add_test(tests, test_put_large);
    tcase_add_test(tests, test_put_refused);
    tcase_add_test(tests, test_put_too_deep);
    tcase_add_test(tests, test_deliver);
    tcase_add_test(tests, test_fast_routes_write_what_the_codec_does);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
