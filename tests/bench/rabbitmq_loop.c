/* SPDX-License-Identifier: MIT */
/*
 * rabbitmq_loop -P port [-n messages] [-f prefetch] [-a acknowledge every] [-c] [-i 1|2]
 *
 * What harkd is measured against: consume from bench.jobs, publish the body to bench.out, acknowledge, as tightly as
 * rabbitmq-c's own API allows and with no dispatcher at all. One connection, one channel.
 *
 * Without -c: transient, acknowledged as soon as it is written. With -c: persistent, confirmed, acknowledged after the
 * confirm; publishing does not wait for confirms, so the prefetch is what is in flight. Acknowledgements are
 * `multiple`, one for every -a messages (default: a tenth of the prefetch). -i: with the ids and headers that harkd
 * gives what it emits, so that the broker has the same to do; 1: for messages without a message_id, 2: with. -n 0: until
 * killed.
 */
#include "rabbitmq.h"

#include <unistd.h>

struct relay {
    amqp_connection_state_t connection;
    uint64_t messages, interval;
    bool confirm;
    /* The first delivery has tag 1 and the first publish number 1, in step from there on. */
    uint64_t delivered, published, safe, acked;
    uint8_t confirmed[65536]; /* ring by number: confirmed, but not all before it are */
    char key[256];
    char *body;
    size_t body_size, body_left, body_capacity;
    amqp_basic_properties_t properties;
    int64_t started, cpu_started;
};

static void relay_fail(const char *what)
{
    fprintf(stderr, "rabbitmq_loop: %s\n", what);
    exit(1);
}

static void relay_acknowledge(struct relay *relay)
{
    int status;

    if (relay->safe == relay->acked)
        return;
    status = amqp_basic_ack(relay->connection, 1, relay->safe, 1);
    if (status != AMQP_STATUS_OK)
        bench_die("basic.ack", status);
    relay->acked = relay->safe;
}

static void relay_safe(struct relay *relay, uint64_t number)
{
    relay->safe = number;
    if (relay->safe - relay->acked >= relay->interval || relay->safe == relay->messages)
        relay_acknowledge(relay);
}

static void relay_publish(struct relay *relay)
{
    amqp_bytes_t body = {.len = relay->body_size, .bytes = relay->body};
    int status = amqp_basic_publish(relay->connection, 1, amqp_cstring_bytes("bench.out"),
                                    amqp_cstring_bytes(relay->key), 0, 0, &relay->properties, body);

    if (status != AMQP_STATUS_OK)
        bench_die("basic.publish", status);
    relay->published++;
    if (!relay->confirm)
        relay_safe(relay, relay->published);
}

static void relay_confirmed(struct relay *relay, const amqp_basic_ack_t *ack)
{
    uint64_t safe = relay->safe;

    if (ack->delivery_tag > relay->published || ack->delivery_tag <= safe)
        relay_fail("a confirm for nothing");
    if (ack->multiple)
        for (; safe < ack->delivery_tag; safe++)
            relay->confirmed[(safe + 1) % HARK_COUNT(relay->confirmed)] = 0;
    else
        relay->confirmed[ack->delivery_tag % HARK_COUNT(relay->confirmed)] = 1;
    while (relay->confirmed[(safe + 1) % HARK_COUNT(relay->confirmed)]) {
        safe++;
        relay->confirmed[safe % HARK_COUNT(relay->confirmed)] = 0;
    }
    if (safe > relay->safe)
        relay_safe(relay, safe);
}

static void relay_delivery(struct relay *relay, const amqp_basic_deliver_t *deliver)
{
    if (relay->delivered == 0) {
        relay->started = bench_now();
        relay->cpu_started = bench_cpu();
    }
    if (deliver->delivery_tag != ++relay->delivered)
        relay_fail("a delivery tag out of step");
    memcpy(relay->key, deliver->routing_key.bytes, deliver->routing_key.len);
    relay->key[deliver->routing_key.len] = '\0';
}

/* A decoded header or body frame. */
static void relay_content(struct relay *relay, const amqp_frame_t *frame)
{
    if (frame->frame_type == AMQP_FRAME_HEADER) {
        relay->body_size = relay->body_left = (size_t)frame->payload.properties.body_size;
        if (relay->body_size > relay->body_capacity) {
            relay->body = realloc(relay->body, relay->body_size);
            if (relay->body == NULL)
                relay_fail("out of memory");
            relay->body_capacity = relay->body_size;
        }
    } else {
        size_t length = frame->payload.body_fragment.len;

        if (length > relay->body_left)
            relay_fail("more body than announced");
        memcpy(relay->body + relay->body_size - relay->body_left, frame->payload.body_fragment.bytes, length);
        relay->body_left -= length;
    }
    if (relay->body_left == 0)
        relay_publish(relay);
}

static void relay_run(struct relay *relay)
{
    while (relay->messages == 0 || relay->acked < relay->messages) {
        amqp_frame_t frame;
        int status;

        amqp_maybe_release_buffers_on_channel(relay->connection, 1);
        status = amqp_simple_wait_frame(relay->connection, &frame);
        if (status != AMQP_STATUS_OK)
            bench_die("wait for a frame", status);
        if (frame.frame_type == AMQP_FRAME_HEADER || frame.frame_type == AMQP_FRAME_BODY)
            relay_content(relay, &frame);
        else if (frame.frame_type != AMQP_FRAME_METHOD)
            continue;
        else if (frame.payload.method.id == AMQP_BASIC_DELIVER_METHOD)
            relay_delivery(relay, frame.payload.method.decoded);
        else if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD)
            relay_confirmed(relay, frame.payload.method.decoded);
        else
            relay_fail(amqp_method_name(frame.payload.method.id));
    }
}

static void relay_identify(struct relay *relay, bool parent)
{
    static amqp_table_entry_t headers[2];

    relay->properties._flags |= AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_HEADERS_FLAG;
    relay->properties.message_id = amqp_cstring_bytes("ABCDEFGHIJKLMN");
    headers[0].key = amqp_cstring_bytes("x-hark-hops");
    headers[0].value.kind = AMQP_FIELD_KIND_I32;
    headers[0].value.value.i32 = 1;
    if (parent) {
        relay->properties._flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
        relay->properties.correlation_id = amqp_cstring_bytes(RAW_MESSAGE_ID);
        headers[1].key = amqp_cstring_bytes("x-hark-cause");
        headers[1].value.kind = AMQP_FIELD_KIND_UTF8;
        headers[1].value.value.bytes = amqp_cstring_bytes(RAW_MESSAGE_ID);
    }
    relay->properties.headers = (amqp_table_t){.num_entries = parent ? 2 : 1, .entries = headers};
}

int main(int argc, char **argv)
{
    static struct relay relay = {.messages = 120000};
    int option, port = 5672, prefetch = 200, identified = 0;
    double seconds;

    while ((option = getopt(argc, argv, "P:n:f:a:ci:")) != -1) {
        switch (option) {
        case 'P':
            port = atoi(optarg);
            break;
        case 'n':
            relay.messages = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            prefetch = atoi(optarg);
            break;
        case 'a':
            relay.interval = strtoull(optarg, NULL, 10);
            break;
        case 'c':
            relay.confirm = true;
            break;
        case 'i':
            identified = atoi(optarg);
            break;
        default:
            fprintf(stderr, "usage: rabbitmq_loop -P port [-n messages] [-f prefetch] [-a every] [-c] [-i 1|2]\n");
            return 2;
        }
    }
    if (relay.interval == 0)
        relay.interval = prefetch < 10 ? 1 : (uint64_t)prefetch / 10;
    relay.properties = (amqp_basic_properties_t){
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG,
        .content_type = amqp_cstring_bytes(RAW_CONTENT_TYPE),
        .delivery_mode = relay.confirm ? 2 : 1,
    };

    if (identified > 0)
        relay_identify(&relay, identified == 2);
    relay.connection = bench_connect(port);
    if (relay.confirm) {
        amqp_confirm_select(relay.connection, 1);
        bench_check(relay.connection, "confirm.select");
    }
    amqp_basic_qos(relay.connection, 1, 0, (uint16_t)prefetch, 0);
    bench_check(relay.connection, "basic.qos");
    amqp_basic_consume(relay.connection, 1, amqp_cstring_bytes("bench.jobs"), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    bench_check(relay.connection, "basic.consume");
    relay_run(&relay);

    seconds = (double)(bench_now() - relay.started) / 1e9;
    printf("{\"messages\": %lu, \"seconds\": %.6f, \"rate\": %.0f, \"cpu_us\": %.3f}\n", relay.messages, seconds,
           (double)relay.messages / seconds, (double)(bench_cpu() - relay.cpu_started) / 1e3 / (double)relay.messages);
    fflush(stdout);
    bench_disconnect(relay.connection);
    free(relay.body);
    return 0;
}
