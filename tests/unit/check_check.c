/* SPDX-License-Identifier: MIT */
/* --check and --explain: what is found in a configuration, and what is rightly not. */
#include "daemon/check.h"
#include "daemon/explain.h"
#include "suite.h"

#include <hark/listener.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct forward {
    char *exchange, *routing_key;
};

static const struct hark_setting forward_settings[] = {
    {.name = "exchange", .type = HARK_STRING, .offset = offsetof(struct forward, exchange), .help = "where to"},
    {.name = "routing_key", .type = HARK_STRING, .offset = offsetof(struct forward, routing_key), .help = "which"},
    {0},
};

struct program {
    struct hark_list command;
};

static const struct hark_setting program_settings[] = {
    {.name = "command", .type = HARK_LIST, .offset = offsetof(struct program, command), .help = "what to run"},
    {0},
};

static const struct hark_module program = {.api = HARK_API,
                                           .name = "program",
                                           .help = "runs",
                                           .settings = program_settings,
                                           .settings_size = sizeof(struct program)};
static const struct hark_module plain = {.api = HARK_API, .name = "plain", .help = "has no keys"};
static const struct hark_module forward = {.api = HARK_API,
                                           .name = "forward",
                                           .help = "forwards",
                                           .settings = forward_settings,
                                           .settings_size = sizeof(struct forward)};

extern const struct hark_module *const hark_modules[];
const struct hark_module *const hark_modules[] = {&plain, &forward, &program, NULL};

static struct config *config;
static char *text;

static void teardown(void)
{
    config_free(config);
    free(text);
    config = NULL;
    text = NULL;
}

static FILE *open_with(const char *ini)
{
    static size_t length;
    struct ini_errors errors = {0};

    teardown();
    config = config_parse("hark.ini", ini, strlen(ini), &errors);
    ck_assert_msg(config != NULL, "%s", errors.count > 0 ? errors.lines[0] : "?");
    return open_memstream(&text, &length);
}

/* The findings without the last line, which counts them. */
static const char *findings(const char *ini, int expected)
{
    FILE *out = open_with(ini);
    char *last;

    ck_assert_int_eq(check_config(config, out), expected);
    fclose(out);
    last = text + strlen(text) - 1;
    while (last > text && last[-1] != '\n')
        last--;
    ck_assert_ptr_nonnull(strstr(last, " listener"));
    *last = 0;
    return text;
}

static const char *explain(const char *ini, const char *key, const char *exchange, int expected)
{
    FILE *out = open_with(ini);

    ck_assert_int_eq(explain_key(config, key, exchange, out), expected);
    fclose(out);
    return text;
}

#define EVENTS "[exchange events]\n"
#define LISTENER(name, keys) "[listener " name "]\nmodule = plain\nqueue = q\n" keys

START_TEST(test_nothing_to_say)
{
    ck_assert_str_eq(findings(EVENTS "[queue q]\nbind = events user.#\n" LISTENER("l", "on = user.#\n"), 0), "");
    /* Through the default exchange, by the queue's name. */
    ck_assert_str_eq(findings("[queue q]\n" LISTENER("l", ""), 0), "");
    ck_assert_str_eq(findings("[queue q]\nbind = amq.topic a.*.b\n" LISTENER("l", "on = a.*.b\n"), 0), "");
    /* Together they hear all. */
    ck_assert_str_eq(findings(EVENTS "[queue q]\nbind = events a.#\n" LISTENER("l", "on = a a.*\n")
                                  LISTENER("m", "on = a.*.*.#\n"),
                              0),
                     "");
    ck_assert_str_eq(findings("[exchange d]\ntype = direct\n[exchange f]\ntype = fanout\n[queue q]\nbind = d a.b\n"
                              "bind = f\n" LISTENER("l", ""),
                              0),
                     "");
    /* Others bind this queue. */
    ck_assert_str_eq(findings("[queue q]\ndeclare = no\n" LISTENER("l", "on = a.b\n"), 0), "");
    ck_assert_str_eq(findings("[queue hark.dead]\n[listener l]\nmodule = plain\nqueue = hark.dead\n", 0), "");
}
END_TEST

START_TEST(test_unreachable)
{
    ck_assert_str_eq(
        findings(EVENTS "[queue q]\nbind = events user.*\n" LISTENER("l", "on = user.* order.#\n"), 0),
        "hark.ini:7: [listener l] warning: on = order.#: no binding of its queue q lets such a key through\n");
    ck_assert_str_eq(findings("[queue q]\n" LISTENER("l", "on = a.b c.d\n"), 0),
                     "hark.ini:5: [listener l] warning: on = a.b: no binding of its queue q lets such a key through\n"
                     "hark.ini:5: [listener l] warning: on = c.d: no binding of its queue q lets such a key through\n"
                     "hark.ini:5: [listener l] warning: it can never run: none of its patterns can be reached\n");
    ck_assert_str_eq(
        findings("[exchange d]\ntype = direct\n[queue q]\nbind = d a.b\n" LISTENER("l", "on = a.b a.c\n"), 0),
        "hark.ini:8: [listener l] warning: on = a.c: no binding of its queue q lets such a key through\n");
    ck_assert_str_eq(
        findings(EVENTS "[exchange inner]\ninternal = yes\nbind = events audit.#\n[queue q]\nbind = inner #\n" LISTENER(
                     "l", "on = user.a #.x\n") LISTENER("m", ""),
                 0),
        "hark.ini:10: [listener l] warning: on = user.a: no binding of its queue q lets such a key through\n");
}
END_TEST

START_TEST(test_unheard)
{
    ck_assert_str_eq(
        findings(EVENTS "[queue q]\nbind = events user.#\n" LISTENER("l", "on = user.*\n"), 0),
        "hark.ini:3: [queue q] warning: bind = events user.#: lets keys through that no listener of this queue "
        "hears, such as \"user\": such messages go to the dead letters\n");
    ck_assert_str_eq(
        findings(EVENTS "[queue q]\nbind = events user.#\n" LISTENER("l", "on = user.x.# user\n"), 0),
        "hark.ini:3: [queue q] warning: bind = events user.#: lets keys through that no listener of this queue "
        "hears, such as \"user.xx\": such messages go to the dead letters\n");
    ck_assert_str_eq(findings("[exchange f]\ntype = fanout\n[queue q]\nbind = f\n" LISTENER("l", "on = #.# q.*\n"), 0),
                     "");
    ck_assert_str_eq(
        findings("[exchange d]\ntype = direct\n[queue q]\nbind = d a.c\nbind = d a.b\n" LISTENER("l", "on = a.b\n"), 0),
        "hark.ini:4: [queue q] warning: bind = d a.c: no listener of this queue hears that key: its messages go "
        "to the dead letters\n");
    ck_assert_str_eq(
        findings("[queue q]\nbind = amq.fanout\n" LISTENER("l", "on = a.*\n"), 0),
        "hark.ini:2: [queue q] warning: bind = amq.fanout: lets keys through that no listener of this queue "
        "hears, such as \"x\": such messages go to the dead letters\n");
}
END_TEST

START_TEST(test_names)
{
    ck_assert_str_eq(
        findings(EVENTS "[queue q]\nbind = event #\nbind = elsewhere #\n[queue r]\n" LISTENER("l", ""), 0),
        "hark.ini:3: [queue q] warning: bind = event #: there is no section [exchange event]; did you mean "
        "\"events\"?\n"
        "hark.ini:4: [queue q] warning: bind = elsewhere #: there is no section [exchange elsewhere]: it must "
        "exist already; with a section it is declared, or with `declare = no` known\n"
        "hark.ini:5: [queue r] note: no listener names it: it is declared and not consumed\n");
    ck_assert_str_eq(findings("[queue hark.retry.5]\n", -1),
                     "hark.ini: [hark] note: there is no [listener NAME]: nothing will be consumed\n"
                     "hark.ini:1: [queue hark.retry.5] error: names that begin with hark.retry. are harkd's own\n"
                     "hark.ini:1: [queue hark.retry.5] note: no listener names it: it is declared and not consumed\n");
    ck_assert_str_eq(
        findings("[queue q]\n" LISTENER("l", "on = user.sig* #\n"), 0),
        "hark.ini:5: [listener l] warning: user.sig*: * and # are wildcards as whole words only; here they "
        "stand for themselves\n"
        "hark.ini:5: [listener l] warning: on = user.sig*: no binding of its queue q lets such a key through\n");
    ck_assert_str_eq(
        findings("[queue q]\nbind = amq.topic a,b\n" LISTENER("l", "on = a,b #\n"), 0),
        "hark.ini:6: [listener l] warning: on = a,b: one pattern with a comma in it; did you mean several? they are "
        "separated by blanks\n");
}
END_TEST

START_TEST(test_program)
{
    const char *begin = "[queue q]\nbind = amq.fanout\n[listener l]\nmodule = program\nqueue = q\n";
    char ini[200];

    snprintf(ini, sizeof(ini), "%scommand = /nonexistent/program --fast\n", begin);
    ck_assert_str_eq(findings(ini, 0),
                     "hark.ini:6: [listener l] warning: command = /nonexistent/program: No such file or "
                     "directory; until it can be run its events are retried\n");
    snprintf(ini, sizeof(ini), "%scommand = /bin/sh -c true\n", begin);
    ck_assert_str_eq(findings(ini, 0), "");
    snprintf(ini, sizeof(ini), "%scommand = true\n", begin);
    ck_assert_str_eq(findings(ini, 0), "");
}
END_TEST

START_TEST(test_general)
{
    ck_assert_str_eq(
        findings("[hark]\nurl = amqp://me@h\ntls_server_name = h\nconfirm = no\n[queue q]\n" LISTENER("l", ""), 0),
        "hark.ini:2: [hark] warning: no password for the user me: RabbitMQ refuses an empty one; set "
        "password_file\n"
        "hark.ini:2: [hark] warning: keys about TLS have no effect: url is not amqps://\n"
        "hark.ini:4: [hark] note: confirm = no: messages that listeners emit can be lost\n");
    ck_assert_str_eq(findings("[hark]\nurl = amqps://h\ntls_verify = no\n[queue q]\n" LISTENER("l", ""), 0),
                     "hark.ini:3: [hark] warning: tls_verify = no: whoever answers at that address is trusted\n");
}
END_TEST

START_TEST(test_channels)
{
    char ini[1000];

    for (int most = 2; most <= 3; most++) {
        snprintf(ini, sizeof(ini),
                 "[hark]\nurl = embedded:\n[broker]\nchannel_max = %d\n[queue a]\n[queue b]\n[queue c]\n"
                 "[listener l]\nmodule = plain\nqueue = a b c\n",
                 most);
        ck_assert_str_eq(findings(ini, 0),
                         most == 3
                             ? ""
                             : "hark.ini:4: [broker] warning: channel_max = 2: a worker needs a channel for each of "
                               "the 3 queues that listeners name; the rest are never consumed\n");
    }
}
END_TEST

START_TEST(test_dead_letters)
{
    ck_assert_str_eq(findings("[queue q]\n[queue hark.dead]\ntype = quorum\n" LISTENER(
                                  "l", "") "[listener d]\nmodule = plain\nqueue = hark.dead\n",
                              0),
                     "");
    ck_assert_str_eq(
        findings("[hark]\ndead_letter = d\n[exchange d]\ntype = direct\ninternal = yes\n[queue q]\n" LISTENER("l", ""),
                 -1),
        "hark.ini:2: [hark] warning: dead_letter = d: a direct exchange; dead letters keep their keys, which "
        "reach the queue d through a topic or fanout exchange only\n"
        "hark.ini:5: [exchange d] error: it takes the dead letters, and nobody may publish to an internal "
        "exchange\n");
    ck_assert_str_eq(
        findings("[hark]\ndead_letter_queue =\n[queue q]\n" LISTENER("l", ""), 0),
        "hark.ini:2: [hark] warning: dead_letter_queue is empty, and no queue here is bound to hark.dead: unless "
        "one is elsewhere, dead letters come back and their events are never done\n");
}
END_TEST

START_TEST(test_emit)
{
    ck_assert_str_eq(
        findings(
            "[exchange inner]\ninternal = yes\n[queue q]\n[queue r]\nbind = inner\n" LISTENER("l", "emit = inner k\n"),
            -1),
        "hark.ini:4: [queue r] note: no listener names it: it is declared and not consumed\n"
        "hark.ini:9: [listener l] error: emit: the exchange inner is internal: nobody may publish to it\n"
        "hark.ini:9: [listener l] warning: emit: no queue here is bound to inner for the key k; unless one is "
        "elsewhere, the message comes back and its event is retried\n");
    ck_assert_str_eq(
        findings("[queue q]\n" LISTENER("l", "emit = \"\" jobs\n"), 0),
        "hark.ini:5: [listener l] warning: emit: there is no section [queue jobs]; what no queue takes comes "
        "back, and its event is retried\n");
    ck_assert_str_eq(
        findings("[queue q]\n[listener l]\nmodule = forward\nqueue = q\n", 0),
        "hark.ini:2: [listener l] warning: neither emit nor exchange is set: what it emits has nowhere to go\n");
    /* An alternate exchange takes what nothing else does. */
    ck_assert_str_eq(
        findings(EVENTS "argument.alternate-exchange = amq.fanout\n[queue q]\n[queue r]\nbind = amq.fanout\n" LISTENER(
                     "l", "emit = events k\n"),
                 0),
        "hark.ini:4: [queue r] note: no listener names it: it is declared and not consumed\n");
}
END_TEST

START_TEST(test_cycles)
{
    /* The key stays. */
    ck_assert_str_eq(
        findings(EVENTS "[queue q]\nbind = events #\n" LISTENER("l", "emit = events\n"), 0),
        "hark.ini:7: [listener l] warning: what it emits can come back to it: l -> l; a message that goes round "
        "is dead-lettered after 32 hops\n");
    ck_assert_str_eq(
        findings(EVENTS "[queue q]\nbind = events #\n" LISTENER("a", "on = a\nemit = events b\n")
                     LISTENER("b", "on = b\nemit = events c\n") LISTENER("c", "on = c\nemit = events a\n")
                         LISTENER("d", "emit = \"\" elsewhere\n"),
                 0),
        "hark.ini:22: [listener d] warning: emit: there is no section [queue elsewhere]; what no queue takes "
        "comes back, and its event is retried\n"
        "hark.ini:8: [listener a] warning: what it emits can come back to it: a -> b -> c -> a; a message that "
        "goes round is dead-lettered after 32 hops\n");
    /* A chain is no circle. */
    ck_assert_str_eq(findings(EVENTS "[queue q]\nbind = events *\n" LISTENER("a", "on = a\nemit = events b\n")
                                  LISTENER("b", "on = b\nemit = events c\n") LISTENER("c", "on = *\n"),
                              0),
                     "");
    /* A module's own keys, with a placeholder. */
    ck_assert_str_eq(
        findings(EVENTS "[queue q]\nbind = events a.#\n[listener l]\nmodule = forward\nqueue = q\n"
                        "exchange = events\nrouting_key = a.{header.x.y}.c\n",
                 0),
        "hark.ini:4: [listener l] warning: what it emits can come back to it: l -> l; a message that goes round "
        "is dead-lettered after 32 hops\n");
    ck_assert_str_eq(findings(EVENTS
                              "[queue q]\nbind = events a.#\n[listener l]\nmodule = forward\nqueue = q\non = a.#\n"
                              "exchange = {header.x}\nrouting_key = a\n",
                              0),
                     "");
}
END_TEST

/* Where all emit to all, the answer still comes. */
START_TEST(test_many)
{
    size_t size = 200000, used;
    char *ini = malloc(size);

    used = (size_t)snprintf(ini, size, EVENTS "[queue q]\nbind = events #\n");
    for (int i = 0; i < 100; i++)
        used += (size_t)snprintf(ini + used, size - used, "[listener l%d]\nmodule = plain\nqueue = q\nemit = events\n",
                                 i);
    ck_assert_ptr_nonnull(strstr(findings(ini, 0), "l99 -> l99"));
    ck_assert_ptr_nonnull(strstr(explain(ini, "a", "events", 0), "... and more"));
    ck_assert_uint_lt(strlen(text), 200000);
    free(ini);
}
END_TEST

/* In tenths of a second; sanitizers and valgrind take their time. */
static int large_limit(void)
{
#ifdef HARK_CHECKED
    return 60;
#else
    return getenv("CK_TIMEOUT_MULTIPLIER") != NULL ? 100 : 6;
#endif
}

/* Each thing is looked for among as many others. */
START_TEST(test_large)
{
    enum { MANY = 9990, FORWARDS = 7000, CROWD = 300 };
    size_t size = MANY * 200, used;
    char *ini = malloc(size);
    clock_t before = clock();

    used = (size_t)snprintf(ini, size, EVENTS);
    for (int i = 0; i < MANY; i++)
        used += (size_t)snprintf(ini + used, size - used,
                                 "[queue q%d]\nbind = events k.%d\n[listener l%d]\nmodule = plain\nqueue = q%d\n"
                                 "on = k.%d\n",
                                 i, i, i, i, i);
    ck_assert_str_eq(
        findings(ini, 0),
        "hark.ini: [hark] warning: listeners name 9990 queues, and a worker needs a channel for each: "
        "RabbitMQ allows 2047 on a connection unless its channel_max says otherwise, and the rest are never "
        "consumed\n");
    ck_assert_int_lt((clock() - before) * 10 / CLOCKS_PER_SEC, large_limit());
    before = clock();
    used = (size_t)snprintf(ini, size, EVENTS);
    for (int i = 0; i < FORWARDS; i++)
        used += (size_t)snprintf(ini + used, size - used,
                                 "[queue q%d]\nbind = events k.%d\n[listener l%d]\nmodule = forward\nqueue = q%d\n"
                                 "on = k.%d\nexchange = events\nrouting_key = k.%d\n",
                                 i, i, i, i, i, (i + 1) % FORWARDS);
    ck_assert_ptr_nonnull(strstr(findings(ini, 0), "what it emits can come back to it: l0 -> "));
    ck_assert_int_lt((clock() - before) * 10 / CLOCKS_PER_SEC, large_limit());
    used = (size_t)snprintf(ini, size, EVENTS "[queue q]\nbind = events #\n");
    for (int i = 0; i < CROWD; i++)
        used += (size_t)snprintf(ini + used, size - used, "[listener l%d]\nmodule = plain\nqueue = q\nemit = events\n",
                                 i);
    ck_assert_ptr_nonnull(strstr(findings(ini, 0), "l299 -> l299"));
    free(ini);
}
END_TEST

START_TEST(test_explain)
{
    static const char ini[] = EVENTS "[exchange inner]\ninternal = yes\nbind = events audit.#\n"
                                     "[queue signups]\nbind = events user.#\n"
                                     "[queue audit]\nbind = inner audit.login\n"
                                     "[listener welcome-mail]\nmodule = plain\nqueue = signups\non = user.signed-up\n"
                                     "emit = events audit.login\n"
                                     "[listener auditor]\nmodule = plain\nqueue = audit\n";

    ck_assert_str_eq(explain(ini, "user.signed-up", NULL, 0),
                     "user.signed-up, published to events (topic exchange):\n"
                     "  -> queue signups\n"
                     "    bind = events user.# (hark.ini:6)\n"
                     "    runs welcome-mail (hark.ini:9, module plain), on = user.signed-up\n"
                     "      emits to events (topic exchange) with the key audit.login\n"
                     "        -> queue audit\n"
                     "          through inner: bind = events audit.# (hark.ini:4)\n"
                     "          bind = inner audit.login (hark.ini:8)\n"
                     "          runs auditor (hark.ini:14, module plain), on = #\n"
                     "\n"
                     "user.signed-up: no queue here takes it when it is published to inner, \"\"\n");
    ck_assert_str_eq(explain(ini, "user.left", "events", 1),
                     "user.left, published to events (topic exchange):\n"
                     "  -> queue signups\n"
                     "    bind = events user.# (hark.ini:6)\n"
                     "    no listener of this queue hears it: to the dead letters\n");
    ck_assert_str_eq(explain(ini, "audit", "", 0),
                     "audit, published to \"\" (default exchange):\n"
                     "  -> queue audit\n"
                     "    its name: the default exchange brings each key to the queue of that name\n"
                     "    runs auditor (hark.ini:14, module plain), on = #\n");
    ck_assert_str_eq(explain(ini, "nothing", NULL, 1),
                     "nothing: no queue here takes it when it is published to events, inner, \"\"\n");
    ck_assert_str_eq(explain(ini, "x", "elsewhere", 1),
                     "x, published to elsewhere (exchange that is not in the file):\n"
                     "  no queue here takes it\n");
}
END_TEST

START_TEST(test_explain_circle)
{
    ck_assert_str_eq(
        explain(EVENTS "[queue q]\nbind = events #\n" LISTENER("l", "emit = events\n"), "a.b", "events", 0),
        "a.b, published to events (topic exchange):\n"
        "  -> queue q\n"
        "    bind = events # (hark.ini:3)\n"
        "    runs l (hark.ini:4, module plain), on = #\n"
        "      emits to events (topic exchange) with the key a.b\n"
        "        -> queue q\n"
        "          bind = events # (hark.ini:3)\n"
        "          runs l (hark.ini:4, module plain), on = #\n"
        "            and so on: it has been here before\n");
}
END_TEST

START_TEST(test_explain_mistakes)
{
    char key[300] = {0};

    memset(key, 'k', 256);
    ck_assert_str_eq(explain("", key, NULL, -1), "A routing key has at most 255 bytes.\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("check");
    TCase *cases = tcase_create("check"), *explains = tcase_create("explain");

    tcase_add_checked_fixture(cases, NULL, teardown);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, test_nothing_to_say);
    tcase_add_test(cases, test_unreachable);
    tcase_add_test(cases, test_unheard);
    tcase_add_test(cases, test_names);
    tcase_add_test(cases, test_program);
    tcase_add_test(cases, test_general);
    tcase_add_test(cases, test_channels);
    tcase_add_test(cases, test_dead_letters);
    tcase_add_test(cases, test_emit);
    tcase_add_test(cases, test_cycles);
    tcase_add_test(cases, test_many);
    tcase_add_test(cases, test_large);
    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(explains, NULL, teardown);
    tcase_add_test(explains, test_explain);
    tcase_add_test(explains, test_explain_circle);
    tcase_add_test(explains, test_explain_mistakes);
    suite_add_tcase(suite, explains);
    return suite_run(suite);
}
