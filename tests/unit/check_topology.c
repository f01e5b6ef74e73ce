/* SPDX-License-Identifier: MIT */
/* Declaring against a fake server: the order, what is refused, and what the server closes the
 * connection over. */
#include "client/topology.h"

#include "base/log.h"
#include "session_kit.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct topology *topology;
static unsigned done;
static size_t failed;

static struct {
    char asked[4096]; /* in order, of all channels and connections: "e:events q:signups
                         b:signups<events" */
    const char *bad;  /* refuses what has this name */
    uint16_t code;
    uint16_t binding_code; /* for bindings, if not the same */
    bool binding;
    bool closing;
    bool silent;
    unsigned largest; /* most that were asked on one channel */
    unsigned on_channel;
} server;

static void on_done(void *arg, size_t count)
{
    ck_assert_ptr_eq(arg, &topology);
    done++;
    failed = count;
}

static const struct topology_ops ops = {.done = on_done};

/* ---- the server ---- */

static void refuse(uint16_t number)
{
    amqp_channel_close_t close = {.reply_code = server.binding ? server.binding_code : server.code,
                                  .reply_text = amqp_span(span_str(server.binding ? "NO - binding" : "NO - because"))};
    amqp_connection_close_t end = {.reply_code = server.code,
                                   .reply_text = amqp_span(span_str("COMMAND_INVALID - unknown"))};

    server.closing = true;
    if (reply_is_hard(server.code))
        peer_say(peer, 0, AMQP_CONNECTION_CLOSE_METHOD, &end);
    else
        peer_say(peer, number, AMQP_CHANNEL_CLOSE_METHOD, &close);
}

/* True: it has been answered. */
static bool asked(uint16_t number, const char *kind, struct span name, struct span source)
{
    size_t at = strlen(server.asked);

    if (server.closing)
        return true;
    snprintf(server.asked + at, sizeof(server.asked) - at, "%s%s:%.*s%s%.*s", at > 0 ? " " : "", kind, (int)name.length,
             (const char *)name.data, source.length > 0 ? "<" : "", (int)source.length, (const char *)source.data);
    if (++server.on_channel > server.largest)
        server.largest = server.on_channel;
    if (server.bad == NULL || !span_is(name, server.bad))
        return server.silent;
    server.binding = source.length > 0 && server.binding_code != 0;
    refuse(number);
    return true;
}

static bool on_method(void *arg, uint16_t number, const amqp_method_t *method)
{
    static const struct span none;

    (void)arg;
    switch (method->id) {
    case AMQP_CHANNEL_OPEN_METHOD:
        server.closing = false;
        server.on_channel = 0;
        return false;
    case AMQP_EXCHANGE_DECLARE_METHOD: {
        const amqp_exchange_declare_t *declare = method->decoded;

        ck_assert(!declare->nowait);
        if (span_is(span_amqp(declare->exchange), "events")) {
            ck_assert(span_is(span_amqp(declare->type), "topic"));
            ck_assert(declare->durable && declare->internal && !declare->passive && !declare->auto_delete);
            ck_assert_int_eq(declare->arguments.num_entries, 1);
            ck_assert(span_is(span_amqp(declare->arguments.entries[0].key), "alternate-exchange"));
        }
        return asked(number, declare->passive ? "E" : "e", span_amqp(declare->exchange), none);
    }
    case AMQP_QUEUE_DECLARE_METHOD: {
        const amqp_queue_declare_t *declare = method->decoded;

        ck_assert(!declare->nowait);
        if (span_is(span_amqp(declare->queue), "signups")) {
            ck_assert(!declare->durable && declare->exclusive && declare->auto_delete);
            ck_assert_int_eq(declare->arguments.num_entries, 2);
            ck_assert_int_eq(declare->arguments.entries[0].value.kind, 'l');
            ck_assert_int_eq(declare->arguments.entries[0].value.value.i64, 1000);
            ck_assert_int_eq(declare->arguments.entries[1].value.kind, 't');
        }
        return asked(number, declare->passive ? "Q" : "q", span_amqp(declare->queue), none);
    }
    case AMQP_QUEUE_BIND_METHOD: {
        const amqp_queue_bind_t *bind = method->decoded;

        ck_assert(span_is(span_amqp(bind->routing_key), "user.#"));
        return asked(number, "b", span_amqp(bind->queue), span_amqp(bind->exchange));
    }
    case AMQP_EXCHANGE_BIND_METHOD: {
        const amqp_exchange_bind_t *bind = method->decoded;

        return asked(number, "x", span_amqp(bind->destination), span_amqp(bind->source));
    }
    default:
        return false;
    }
}

/* ---- fixture ---- */

static const struct consumer_argument alternate[] = {{.name = "alternate-exchange", .kind = 'S', .text = "rest"}};
static const struct consumer_argument limits[] = {
    {.name = "x-max-length", .kind = 'l', .number = 1000},
    {.name = "x-single-active-consumer", .kind = 't', .number = 1},
};
static const struct topology_item items[] = {
    {.kind = TOPOLOGY_EXCHANGE,
     .section = "[exchange events]",
     .name = "events",
     .type = "topic",
     .durable = true,
     .internal = true,
     .arguments = alternate,
     .argument_count = 1},
    {.kind = TOPOLOGY_EXCHANGE, .section = "[exchange other]", .name = "other", .type = "fanout", .passive = true},
    {.kind = TOPOLOGY_QUEUE,
     .section = "[queue signups]",
     .name = "signups",
     .exclusive = true,
     .auto_delete = true,
     .arguments = limits,
     .argument_count = 2},
    {.kind = TOPOLOGY_QUEUE, .section = "[queue late]", .name = "late", .passive = true},
    {.kind = TOPOLOGY_BIND_EXCHANGE,
     .section = "[exchange other]",
     .name = "other",
     .source = "events",
     .pattern = "#"},
    {.kind = TOPOLOGY_BIND_QUEUE,
     .section = "[queue signups]",
     .name = "signups",
     .source = "events",
     .pattern = "user.#"},
};
#define ALL "e:events E:other q:signups Q:late x:other<events b:signups<events"

static void setup(void)
{
    kit_setup();
    peer->on_method = on_method;
    peer->channel_max = 8;
    kit_start_open();
    topology = topology_new(session, items, HARK_COUNT(items), &ops, &topology);
    ck_assert_ptr_nonnull(topology);
}

static void teardown(void)
{
    topology_free(topology);
    kit_teardown();
}

static bool declared(enum topology_kind kind, const char *name)
{
    return topology_is_declared(topology, kind, name);
}

START_TEST(test_all)
{
    ck_assert(!declared(TOPOLOGY_QUEUE, "signups"));
    topology_declare(topology);
    peer_until(loop, done == 1);
    ck_assert_uint_eq(failed, 0);
    ck_assert_str_eq(server.asked, ALL);
    ck_assert(declared(TOPOLOGY_QUEUE, "signups"));
    ck_assert(declared(TOPOLOGY_EXCHANGE, "other"));
    ck_assert(!declared(TOPOLOGY_EXCHANGE, "signups"));
    ck_assert(!declared(TOPOLOGY_QUEUE, "unheard of"));
    peer_until(loop, peer_saw(peer, 1, AMQP_CHANNEL_CLOSE_METHOD) == 1);
    topology_declare(topology);
    peer_until(loop, done == 2);
    ck_assert_str_eq(server.asked, ALL " " ALL);
}
END_TEST

START_TEST(test_nothing_to_declare)
{
    topology_free(topology);
    topology = topology_new(session, NULL, 0, &ops, &topology);
    topology_declare(topology);
    peer_until(loop, done == 1);
    ck_assert_uint_eq(failed, 0);
}
END_TEST

/* One is refused: the others are declared, whichever it is. */
START_TEST(test_refused)
{
    static const char *const names[] = {"events", "signups", "late", "other"};

    server.bad = names[_i];
    server.code = _i == 1 ? 406 : _i == 2 ? 404 : 403;
    topology_declare(topology);
    peer_until(loop, done == 1);
    ck_assert_uint_eq(failed, _i == 1 || _i == 3 ? 2 : 1); /* a binding of that name, too */
    ck_assert(declared(TOPOLOGY_EXCHANGE, "events") == (_i != 0));
    ck_assert(declared(TOPOLOGY_QUEUE, "signups") == (_i != 1));
    ck_assert(declared(TOPOLOGY_QUEUE, "late") == (_i != 2));
    ck_assert(declared(TOPOLOGY_EXCHANGE, "other") == (_i != 3));
    server.bad = NULL;
    topology_declare(topology);
    peer_until(loop, done == 2);
    ck_assert_uint_eq(failed, 0);
    ck_assert(declared(TOPOLOGY_QUEUE, "late"));
    ck_assert_uint_eq(noted.lost, 0);
}
END_TEST

static char errors[4096];

static void on_log(void *arg, enum log_level level, const char *text)
{
    size_t at = strlen(errors);

    (void)arg;
    if (level == LOG_LEVEL_ERROR)
        snprintf(errors + at, sizeof(errors) - at, "%s\n", text);
}

static bool has_said(const char *queue, uint16_t code, const char *text)
{
    struct reply error = {.code = code};

    snprintf(error.text, sizeof(error.text), "%s", text);
    return topology_has_said(topology, queue, &error);
}

/* The queue is refused, and so is its binding, time and again: one line, whose it is, unless the
 * binding has a reason of its own. The consumer learns that it was said. */
START_TEST(test_refused_is_said_once)
{
    static const struct {
        uint16_t queue, binding;
        unsigned lines;
    } cases[] = {{406, 404, 1}, {403, 404, 1}, {403, 403, 1}, {405, 405, 1}, {406, 403, 2}};

    log_divert(on_log, NULL);
    server.bad = "signups";
    server.code = cases[_i].queue;
    server.binding_code = cases[_i].binding;
    for (unsigned run = 1; run <= 4; run++) {
        topology_declare(topology);
        peer_until(loop, done == run);
        ck_assert_uint_eq(failed, 2);
    }
    ck_assert_ptr_nonnull(strstr(errors, "[queue signups]: the broker refused queue \"signups\""));
    ck_assert_uint_eq(cases[_i].lines, strchr(errors, '\n') + 1 == errors + strlen(errors) ? 1 : 2);
    ck_assert(has_said("signups", 404, "no queue"));
    ck_assert(has_said("signups", cases[_i].queue, "whatever"));
    ck_assert(!has_said("signups", 541, "whatever"));
    ck_assert(!has_said("late", 404, "no queue"));
    server.bad = NULL;
    topology_declare(topology);
    peer_until(loop, done == 5);
    ck_assert(!has_said("signups", 404, "no queue"));
    log_divert(NULL, NULL);
}
END_TEST

/* Without memory for a queue's arguments it is not declared without them: it would stay so. */
START_TEST(test_no_memory_for_arguments)
{
    static const struct topology_item large[] = {
        {.kind = TOPOLOGY_QUEUE, .section = "large", .name = "large", .argument_count = (size_t)1 << 43}};

    topology_free(topology);
    topology = topology_new(session, large, 1, &ops, &topology);
    topology_declare(topology);
    peer_until(loop, noted.lost > 0);
    ck_assert_str_eq(server.asked, "");
    ck_assert_uint_eq(done, 0);
}
END_TEST

/* No channel is left: it is over all the same, or whoever waits for it would do so for ever. */
START_TEST(test_no_channel)
{
    static struct channel others[8];

    for (size_t i = 0; i < HARK_COUNT(others); i++)
        if (channel_open(&others[i], session, &kit_channel_ops, NULL) != 0)
            ck_abort();
    topology_declare(topology);
    peer_until(loop, done == 1);
    ck_assert_uint_gt(failed, 0);
    ck_assert(!topology_is_running(topology));
    channel_close(&others[0], kit_done, NULL);
    peer_until(loop, noted.closes_done == 1);
    topology_declare(topology);
    peer_until(loop, done == 2);
    ck_assert_uint_eq(failed, 0);
}
END_TEST

/* A queue that is not declared here and is not there: the first of its bindings says so. */
START_TEST(test_missing_is_said_once)
{
    static const struct topology_item bindings[] = {
        {.kind = TOPOLOGY_BIND_QUEUE, .section = "one", .name = "none", .source = "events", .pattern = "user.#"},
        {.kind = TOPOLOGY_BIND_QUEUE, .section = "two", .name = "none", .source = "other", .pattern = "user.#"},
    };

    topology_free(topology);
    topology = topology_new(session, bindings, HARK_COUNT(bindings), &ops, &topology);
    log_divert(on_log, NULL);
    server.bad = "none";
    server.code = 404;
    for (unsigned run = 1; run <= 3; run++) {
        topology_declare(topology);
        peer_until(loop, done == run);
    }
    ck_assert_str_eq(errors, "one: the broker refused the binding of \"none\" to exchange \"events\" with "
                             "\"user.#\": NO - because (declare what it binds, or correct its name)\n");
    ck_assert(has_said("none", 404, "NO - because"));
    ck_assert(!has_said("none", 404, "NO - another"));
    ck_assert(!has_said("other", 404, "NO - because"));
    log_divert(NULL, NULL);
}
END_TEST

/* The connection is closed over one: it is found, and left out; everything else is declared. */
START_TEST(test_connection_closed_over_one)
{
    unsigned connections = 1;

    server.bad = "signups";
    server.code = 503;
    topology_declare(topology);
    while (done == 0) {
        peer_until(loop, done > 0 || noted.lost > 0);
        if (done > 0)
            break;
        topology_session_lost(topology);
        peer_until(loop, session_is_open(session));
        noted.lost = 0;
        topology_declare(topology);
        ck_assert_uint_le(++connections, 5);
    }
    ck_assert_uint_eq(failed, 2); /* the queue and its binding */
    ck_assert(!declared(TOPOLOGY_QUEUE, "signups"));
    ck_assert(declared(TOPOLOGY_EXCHANGE, "events") && declared(TOPOLOGY_EXCHANGE, "other"));
    ck_assert(declared(TOPOLOGY_QUEUE, "late"));
    server.asked[0] = '\0';
    topology_declare(topology);
    peer_until(loop, done == 2);
    ck_assert_uint_eq(failed, 2);
    ck_assert_str_eq(server.asked, "e:events E:other Q:late x:other<events");
    ck_assert_uint_eq(noted.lost, 0);
}
END_TEST

START_TEST(test_session_lost)
{
    server.silent = true;
    topology_declare(topology);
    peer_until(loop, strcmp(server.asked, ALL) == 0); /* all at once, without waiting for answers */
    peer_hangup(peer);
    peer_until(loop, noted.lost > 0);
    topology_session_lost(topology);
    peer_until(loop, session_is_open(session));
    peer_wait(loop, 20);
    ck_assert_uint_eq(done, 0);
    server.silent = false;
    topology_declare(topology);
    peer_until(loop, done == 1);
    ck_assert_uint_eq(failed, 0);
}
END_TEST

START_TEST(test_asked_while_running)
{
    topology_declare(topology);
    topology_declare(topology);
    topology_declare(topology);
    peer_until(loop, done == 1);
    ck_assert_str_eq(server.asked, ALL " " ALL);
    peer_wait(loop, 20);
    ck_assert_uint_eq(done, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("topology");
    TCase *all = tcase_create("topology");

    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, test_all);
    tcase_add_test(all, test_nothing_to_declare);
    tcase_add_loop_test(all, test_refused, 0, 4);
    tcase_add_loop_test(all, test_refused_is_said_once, 0, 5);
    tcase_add_test(all, test_no_memory_for_arguments);
    tcase_add_test(all, test_no_channel);
    tcase_add_test(all, test_missing_is_said_once);
    tcase_add_test(all, test_connection_closed_over_one);
    tcase_add_test(all, test_session_lost);
    tcase_add_test(all, test_asked_while_running);
    suite_add_tcase(suite, all);

    return suite_run(suite);
}
