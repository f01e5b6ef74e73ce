/* SPDX-License-Identifier: MIT */
#include "unit/broker_kit.h"

#include "base/log.h"
#include "broker/invariants.h"
#include "wire/content.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 10000

static void silent(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    (void)level;
    (void)text;
}

static int64_t clock_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* ---- the broker ---- */

void broking_begin(struct broker_kit *kit)
{
    *kit = (struct broker_kit){.options = {
                                   .memory_limit = 64 << 20,
                                   .disk_free_limit = 1,
                                   .max_message_size = 16 << 20,
                                   .frame_max = FRAME_LIMIT,
                                   .channel_max = 2047,
                                   .connection_max = 100,
                                   .queue_max = 20000,
                                   .consumer_max = 100000,
                                   .handshake_timeout = 60000,
                               }};
    if (getenv("KIT_LOG") == NULL)
        log_divert(silent, NULL);
    snprintf(kit->folder, sizeof(kit->folder), "/tmp/check_broker.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(kit->folder));
}

void broking_open(struct broker_kit *kit)
{
    char error[512];

    kit->options.data = kit->folder;
    kit->loop = loop_new();
    ck_assert_ptr_nonnull(kit->loop);
    kit->broker = broker_new(kit->loop, &kit->options, error, sizeof(error));
    ck_assert_msg(kit->broker != NULL, "%s", error);
}

void broking_close(struct broker_kit *kit)
{
    broker_free(kit->broker);
    kit->broker = NULL;
    loop_free(kit->loop);
}

void broking_end(struct broker_kit *kit)
{
    char command[128];

    if (kit->broker != NULL)
        broking_close(kit);
    snprintf(command, sizeof(command), "rm -rf %s", kit->folder);
    ck_assert_int_eq(system(command), 0);
}

void broking_turn(struct broker_kit *kit, bool wait)
{
    ck_assert_int_eq(loop_turn(kit->loop, wait), 0);
    broker_check(kit->broker);
}

void broking_sync(struct broker_kit *kit)
{
    uint64_t batch = store_batch(kit->broker->store);
    int64_t end = clock_ms() + WAIT_MS;

    while (store_committed(kit->broker->store) < batch && clock_ms() < end)
        broking_turn(kit, true);
    ck_assert_uint_ge(store_committed(kit->broker->store), batch);
}

struct queue *raw_queue(struct broker_kit *kit, const char *name)
{
    return vhost_queue(broker_vhost(kit->broker, span_str("/")), span_str(name));
}

/* ---- clients ---- */

void raw_put(struct raw_client *client, uint16_t channel, uint32_t id, const void *decoded)
{
    method_put(&client->out, channel, id, decoded);
}

static void put_content(struct raw_client *client, uint16_t channel, const struct properties *properties, size_t body)
{
    static uint8_t bytes[1 << 20];
    struct properties none = {0};
    struct buf raw = {0};

    ck_assert_uint_le(body, sizeof(bytes));
    properties_put(&raw, properties != NULL ? properties : &none);
    content_put(&client->out, channel, FRAME_LIMIT, buf_span(&raw), span_of(bytes, body));
    buf_free(&raw);
}

void raw_put_publish(struct raw_client *client, uint16_t channel, const char *exchange, const char *key,
                     const struct properties *properties, size_t body)
{
    method_put_publish(&client->out, channel, span_str(exchange), span_str(key), false);
    put_content(client, channel, properties, body);
}

void raw_put_mandatory(struct raw_client *client, uint16_t channel, const char *exchange, const char *key, size_t body)
{
    method_put_publish(&client->out, channel, span_str(exchange), span_str(key), true);
    put_content(client, channel, NULL, body);
}

void raw_push(struct raw_client *client)
{
    while (buf_length(&client->out) > 0 && !client->gone) {
        ssize_t put = send(client->fd, client->out.data + client->out.start, buf_length(&client->out),
                           MSG_NOSIGNAL | MSG_DONTWAIT);

        if (put <= 0) {
            client->gone = errno != EAGAIN;
            return;
        }
        client->out.start += (size_t)put;
    }
    buf_clear(&client->out);
}

void raw_flush(struct raw_client *client)
{
    int64_t end = clock_ms() + WAIT_MS;
    size_t left = SIZE_MAX;

    ck_assert(!client->out.failed);
    for (raw_push(client); buf_length(&client->out) > 0 && !client->gone; raw_push(client)) {
        if (buf_length(&client->out) < left)
            end = clock_ms() + WAIT_MS; /* it reads, if slowly */
        left = buf_length(&client->out);
        broking_turn(client->kit, false);
        ck_assert_msg(clock_ms() < end, "the broker does not read");
    }
}

static void client_pull(struct raw_client *client)
{
    uint8_t *to = buf_reserve(&client->in, 65536);
    ssize_t got = recv(client->fd, to, 65536, MSG_DONTWAIT);

    if (got > 0)
        client->in.end += (size_t)got;
    else if (got == 0 || errno != EAGAIN)
        client->gone = true;
}

static bool client_cut(struct raw_client *client, struct frame *frame)
{
    struct reply error;
    ssize_t used = frame_cut(client->in.data + client->in.start, buf_length(&client->in), FRAME_LIMIT, frame, &error);

    ck_assert_int_ge(used, 0);
    client->in.start += (size_t)used;
    return used > 0;
}

uint32_t raw_next(struct raw_client *client, int64_t ms)
{
    int64_t end = clock_ms() + ms;
    struct frame frame;
    struct reply error;

    for (;;) {
        while (buf_length(&client->in) > 0 && client_cut(client, &frame)) {
            if (frame.type == FRAME_HEADER) {
                client->contents++;
                client->header_bytes += frame.payload.length;
            } else if (frame.type == FRAME_BODY) {
                client->body_bytes += frame.payload.length;
            } else if (frame.type == FRAME_METHOD) {
                recycle_amqp_pool(&client->pool);
                ck_assert_int_eq(method_decode(&frame, METHOD_FROM_SERVER, &client->pool, &client->method, &error), 0);
                return client->method.id;
            }
        }
        if (buf_length(&client->in) == 0)
            buf_clear(&client->in);
        if (client->gone || clock_ms() >= end)
            return 0;
        raw_push(client);
        broking_turn(client->kit, false);
        client_pull(client);
    }
}

void raw_expect(struct raw_client *client, uint32_t id)
{
    uint32_t got = raw_next(client, WAIT_MS);

    ck_assert_msg(got == id, "expected %s, got %s", method_name(id), got != 0 ? method_name(got) : "nothing");
}

void raw_call(struct raw_client *client, uint16_t channel, uint32_t id, const void *decoded, uint32_t answer)
{
    raw_put(client, channel, id, decoded);
    raw_flush(client);
    raw_expect(client, answer);
}

void raw_connect(struct broker_kit *kit, struct raw_client *client)
{
    amqp_table_entry_t name = {
        .key = amqp_span(span_str("connection_name")),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_span(span_str("raw client"))}};
    amqp_connection_start_ok_t start = {.client_properties = {.num_entries = 1, .entries = &name},
                                        .mechanism = amqp_span(span_str("PLAIN")),
                                        .response = amqp_span(span_of("\0guest\0guest", 12)),
                                        .locale = amqp_span(span_str("en_US"))};
    amqp_connection_tune_ok_t tune = {.channel_max = kit->options.channel_max, .frame_max = FRAME_LIMIT};
    amqp_connection_open_t open = {.virtual_host = amqp_span(span_str("/"))};
    amqp_channel_open_t channel = {0};
    int fds[2];

    *client = (struct raw_client){.kit = kit};
    init_amqp_pool(&client->pool, 4096);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    client->fd = fds[1];
    ck_assert_ptr_nonnull(peer_accept(kit->broker, fds[0], NULL, false));
    frame_put_protocol_header(&client->out);
    raw_flush(client);
    raw_expect(client, AMQP_CONNECTION_START_METHOD);
    raw_call(client, 0, AMQP_CONNECTION_START_OK_METHOD, &start, AMQP_CONNECTION_TUNE_METHOD);
    raw_put(client, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &tune);
    raw_call(client, 0, AMQP_CONNECTION_OPEN_METHOD, &open, AMQP_CONNECTION_OPEN_OK_METHOD);
    raw_call(client, 1, AMQP_CHANNEL_OPEN_METHOD, &channel, AMQP_CHANNEL_OPEN_OK_METHOD);
}

void raw_disconnect(struct raw_client *client)
{
    close(client->fd);
    buf_free(&client->in);
    buf_free(&client->out);
    empty_amqp_pool(&client->pool);
    broking_turn(client->kit, false);
    broking_turn(client->kit, false);
}

void raw_declare(struct raw_client *client, const char *queue, bool durable, const amqp_table_t *arguments)
{
    amqp_queue_declare_t declare = {.queue = amqp_span(span_str(queue)), .durable = durable};

    if (arguments != NULL)
        declare.arguments = *arguments;
    raw_call(client, 1, AMQP_QUEUE_DECLARE_METHOD, &declare, AMQP_QUEUE_DECLARE_OK_METHOD);
}

void raw_consume(struct raw_client *client, const char *queue, const char *tag, bool no_ack)
{
    amqp_basic_consume_t consume = {
        .queue = amqp_span(span_str(queue)), .consumer_tag = amqp_span(span_str(tag)), .no_ack = no_ack};

    raw_call(client, 1, AMQP_BASIC_CONSUME_METHOD, &consume, AMQP_BASIC_CONSUME_OK_METHOD);
}

void raw_ack(struct raw_client *client, uint64_t tag, bool multiple)
{
    method_put_ack(&client->out, 1, tag, multiple);
    raw_flush(client);
}
