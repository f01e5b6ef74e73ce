/* SPDX-License-Identifier: MIT */
/* The configuration: what a file turns into, and each complaint word by word. */
#include "base/log.h"
#include "daemon/config.h"
#include "suite.h"

#include <hark/listener.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- modules of our own in place of those that configure chose ---- */

struct mail {
    struct hark_list command;
    int64_t room;
    struct hark_map headers;
};

static const struct hark_setting mail_settings[] = {
    {.name = "command",
     .type = HARK_LIST,
     .offset = offsetof(struct mail, command),
     .required = true,
     .help = "program and arguments"},
    {.name = "room", .type = HARK_SIZE, .offset = offsetof(struct mail, room), .fallback = "1M", .help = "how much"},
    {.name = "header.", .type = HARK_MAP, .offset = offsetof(struct mail, headers), .help = "headers"},
    {0},
};

static int check_mail(const void *settings, char *why, size_t size)
{
    const struct mail *mail = settings;

    if (mail->command.items[0][0] == '/')
        return 0;
    snprintf(why, size, "command: expected an absolute path");
    return -1;
}

static const struct hark_setting clash_settings[] = {
    {.name = "timeout", .type = HARK_LIST, .offset = 0, .help = "a name that is taken"},
    {0},
};

static const struct hark_module mail = {.api = HARK_API,
                                        .name = "mail",
                                        .help = "mails",
                                        .settings = mail_settings,
                                        .settings_size = sizeof(struct mail),
                                        .check = check_mail};
static const struct hark_module plain = {.api = HARK_API, .name = "plain", .help = "has no keys"};
static const struct hark_module old = {.api = HARK_API - 1, .name = "old", .help = "is old"};
static const struct hark_module clash = {
    .api = HARK_API, .name = "clash", .help = "clashes", .settings = clash_settings, .settings_size = 64};

extern const struct hark_module *const hark_modules[];
const struct hark_module *const hark_modules[] = {&mail, &plain, &old, &clash, NULL};

/* ---- */

static struct ini_errors errors;
static struct config *config;

static void setup(void)
{
    errors = (struct ini_errors){0};
    config = NULL;
}

static void teardown(void)
{
    config_free(config);
    ini_errors_free(&errors);
    config = NULL;
}

static void parse(const char *text)
{
    teardown();
    config = config_parse("hark.ini", text, strlen(text), &errors);
}

static void good(const char *text)
{
    parse(text);
    ck_assert_msg(errors.count == 0, "%s", errors.lines[0]);
    ck_assert_ptr_nonnull(config);
}

/* All complaints about a text, joined by line ends. */
static const char *bad(const char *text)
{
    static char all[8000];
    size_t used = 0;

    parse(text);
    ck_assert_ptr_null(config);
    ck_assert_uint_gt(errors.count, 0);
    for (size_t i = 0; i < errors.count; i++)
        used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i > 0 ? "\n" : "", errors.lines[i]);
    return all;
}

#define QUEUE "[queue q]\n"
#define LISTENER QUEUE "[listener l]\nmodule = plain\nqueue = q\n"

START_TEST(test_empty)
{
    good("");
    ck_assert_uint_eq(config->url.host_count, 1);
    ck_assert_str_eq(config->url.hosts[0].host, "127.0.0.1");
    ck_assert_uint_eq(config->url.hosts[0].port, 5672);
    ck_assert_str_eq(config->url.vhost, "/");
    ck_assert_str_eq(config->url.user, "guest");
    ck_assert_str_eq(config->url.password, "guest");
    ck_assert_int_eq(config->general.workers, 1);
    ck_assert_int_eq(config->general.heartbeat, 20000);
    ck_assert_int_eq(config->general.frame_max, 131072);
    ck_assert_int_eq(config->general.max_message_size, 128 * 1024 * 1024);
    ck_assert_str_eq(config->general.dead_letter, "hark.dead");
    ck_assert_str_eq(config->general.dead_letter_queue, "hark.dead");
    ck_assert_int_eq(config->general.log, LOG_FORMAT_AUTO);
    ck_assert_int_eq(config->general.log_level, LOG_LEVEL_INFO);
    ck_assert_uint_eq(config->queue_count, 0);
}
END_TEST

START_TEST(test_general)
{
    good("[hark]\nworkers = 0\nlog = journald\nlog_level = debug\ndead_letter = dead\ndead_letter_queue =\n"
         "heartbeat = 0\nconfirm = no\nauth = plain\n");
    ck_assert_int_ge(config->general.workers, 1);
    ck_assert_int_eq(config->general.log, LOG_FORMAT_JOURNALD);
    ck_assert_int_eq(config->general.log_level, LOG_LEVEL_DEBUG);
    ck_assert_str_eq(config->general.dead_letter_queue, "");
    ck_assert_int_eq(config->general.heartbeat, 0);
    ck_assert(!config->general.confirm && config->general.persistent);
}
END_TEST

START_TEST(test_sections)
{
    const struct config_queue *queue;
    const struct config_listener *listener;
    const struct mail *settings;

    good("[listener l]\nmodule = mail\nqueue = q \"r s\"\non = user.* \"a b.#\"\nemit = events mail.sent\n"
         "command = /bin/true \"x y\"\nretry =\ntimeout = 0\nheader.a = 1\n"
         "[exchange events]\ntype = direct\ninternal = yes\nbind = amq.topic a.#\nargument.alternate-exchange = lost\n"
         "[queue q]\ntype = quorum\nbind = events user.#\nbind = \"my events\" #\nbind = fan\nprefetch = 7\n"
         "priority = -3\nargument.x-max-length = 1000\nargument.x-text = \"1000\"\nargument.x-yes = true\n"
         "argument.x-name = drop-head\nbind_argument.x-match = any\nconsume_argument.x-stream-offset = first\n"
         "dedup = 10m\n"
         "[queue \"r s\"]\ndeclare = passive\n");
    queue = config_find_queue(config, "q");
    ck_assert_str_eq(queue->where.label, "[queue q]");
    ck_assert_int_eq(queue->where.line, 15);
    ck_assert_uint_eq(queue->bindings.count, 3);
    ck_assert_str_eq(queue->bindings.items[0].pattern, "user.#");
    ck_assert_int_eq(queue->bindings.items[0].line, 17);
    ck_assert_str_eq(queue->bindings.items[1].exchange, "my events");
    ck_assert_str_eq(queue->bindings.items[1].pattern, "#");
    ck_assert_str_eq(queue->bindings.items[2].pattern, "");
    ck_assert_int_eq(queue->prefetch, 7);
    ck_assert_int_eq(queue->dedup, 600000);
    ck_assert_uint_eq(queue->listener_count, 1);
    ck_assert_uint_eq(queue->arguments.count, 5);
    ck_assert_str_eq(queue->arguments.items[0].name, "x-queue-type");
    ck_assert_str_eq(queue->arguments.items[0].string, "quorum");
    ck_assert_int_eq(queue->arguments.items[1].kind, 'l');
    ck_assert_int_eq(queue->arguments.items[1].integer, 1000);
    ck_assert_int_eq(queue->arguments.items[2].kind, 'S');
    ck_assert_int_eq(queue->arguments.items[3].kind, 't');
    ck_assert(queue->arguments.items[3].boolean);
    ck_assert_str_eq(queue->arguments.items[4].string, "drop-head");
    ck_assert_uint_eq(queue->bind_arguments.count, 1);
    ck_assert_uint_eq(queue->consume_arguments.count, 2);
    ck_assert_str_eq(queue->consume_arguments.items[0].name, "x-priority");
    ck_assert_int_eq(queue->consume_arguments.items[0].integer, -3);
    ck_assert_int_eq(config_find_queue(config, "r s")->declare, CONFIG_DECLARE_PASSIVE);
    ck_assert_str_eq(config_find_exchange(config, "events")->type, "direct");
    ck_assert_str_eq(config_find_exchange(config, "events")->bindings.items[0].exchange, "amq.topic");
    ck_assert_ptr_null(config_find_exchange(config, "none"));
    listener = &config->listeners[0];
    ck_assert_str_eq(listener->name, "l");
    ck_assert_ptr_eq(listener->module, &mail);
    ck_assert_uint_eq(listener->queue_count, 2);
    ck_assert_ptr_eq(listener->queues[0], queue);
    ck_assert_uint_eq(listener->on.count, 2);
    ck_assert_str_eq(listener->on.items[1], "a b.#");
    ck_assert_str_eq(listener->emit_exchange, "events");
    ck_assert_str_eq(listener->emit_key, "mail.sent");
    ck_assert_uint_eq(listener->retry.count, 0);
    ck_assert_int_eq(listener->timeout, 0);
    settings = listener->settings;
    ck_assert_uint_eq(settings->command.count, 2);
    ck_assert_int_eq(settings->room, 1024 * 1024);
    ck_assert_str_eq(settings->headers.pairs[0].name, "a");
}
END_TEST

START_TEST(test_listener_defaults)
{
    good(LISTENER);
    ck_assert_str_eq(config->listeners[0].on.items[0], "#");
    ck_assert_uint_eq(config->listeners[0].retry.count, 5);
    ck_assert_int_eq(config->listeners[0].retry.ms[4], 600000);
    ck_assert_int_eq(config->listeners[0].timeout, 60000);
    ck_assert_int_eq(config->listeners[0].concurrency, 16);
    ck_assert_ptr_null(config->listeners[0].emit_exchange);
    ck_assert_ptr_null(config->listeners[0].settings);
}
END_TEST

START_TEST(test_emit)
{
    good(LISTENER "emit = events\n");
    ck_assert_str_eq(config->listeners[0].emit_exchange, "events");
    ck_assert_ptr_null(config->listeners[0].emit_key);
    good(LISTENER "emit = \"\" jobs\n");
    ck_assert_str_eq(config->listeners[0].emit_exchange, "");
    ck_assert_str_eq(config->listeners[0].emit_key, "jobs");
    good(LISTENER "emit = \"\"\n");
    ck_assert_str_eq(config->listeners[0].emit_exchange, "");
    good(LISTENER "emit = \"my events\"\n");
    ck_assert_str_eq(config->listeners[0].emit_exchange, "my events");
}
END_TEST

/* ---- mistakes ---- */

START_TEST(test_unknown)
{
    ck_assert_str_eq(bad("[queue q]\n[listener mail]\nmodule = mail\nqueue = q\ncommand = /x\ncomand = /x\n"),
                     "hark.ini:6: [listener mail] unknown key \"comand\"; did you mean \"command\"?");
    ck_assert_str_eq(bad("[hark]\nworker = 2\nfoo.bar = 1\n"),
                     "hark.ini:2: [hark] unknown key \"worker\"; did you mean \"workers\"?\n"
                     "hark.ini:3: [hark] unknown key \"foo.bar\"");
    ck_assert_str_eq(bad("[queue q]\narguments.x-max-length = 1\n"),
                     "hark.ini:2: [queue q] unknown key \"arguments.x-max-length\"; did you mean "
                     "\"argument.x-max-length\"?");
    ck_assert_str_eq(bad("[queue q]\n[listener l]\nmodule = plain\nqueue = q\nprefetch = 1\n"),
                     "hark.ini:5: [listener l] unknown key \"prefetch\"; it is one of [queue NAME]");
    ck_assert_str_eq(bad("[queues q]\n"), "hark.ini:1: [queues q] unknown section; did you mean [queue q]?");
    ck_assert_str_eq(bad("[elsewhere]\n"),
                     "hark.ini:1: [elsewhere] unknown section; there are [hark], [broker], [exchange NAME], "
                     "[queue NAME], [listener NAME] and [user NAME]");
    ck_assert_str_eq(bad("[hark x]\n"), "hark.ini:1: [hark x] the section [hark] has no name");
    ck_assert_str_eq(bad("[queue]\n"), "hark.ini:1: [queue] the section needs a name, as in [queue signups]");
}
END_TEST

START_TEST(test_values)
{
    ck_assert_str_eq(
        bad("[hark]\nworkers = 300\nheartbeat = 20\nlog = jsn\nworkers = 2\n"),
        "hark.ini:2: [hark] workers = 300: must be from 0 to 256\n"
        "hark.ini:3: [hark] heartbeat = 20: 20 has no unit; a duration is written 20ms, 20s, 20m, 20h or "
        "20d\n"
        "hark.ini:4: [hark] log = jsn: expected auto, text, logfmt, json or journald; did you mean \"json\"?");
    ck_assert_str_eq(bad("[hark]\nworkers = 2\n\nworkers = 3\n"),
                     "hark.ini:4: [hark] \"workers\" was already set on line 2");
    ck_assert_str_eq(bad("[hark]\nreconnect_max = 1s\nreconnect_min = 2s\ndead_letter =\n"),
                     "hark.ini:3: [hark] reconnect_min is longer than reconnect_max\n"
                     "hark.ini:4: [hark] dead_letter: expected the name of an exchange, of at most 255 bytes");
    ck_assert_str_eq(bad("[hark]\nauth = external\n"),
                     "hark.ini:2: [hark] auth = external: needs TLS, an amqps:// url");
    ck_assert_ptr_nonnull(strstr(
        bad("[hark]\nurl = amqps://h\ntls_key = k\ntls_ca = /nonexistent\n"),
        "hark.ini:3: [hark] tls_key: needs tls_certificate\nhark.ini:4: [hark] cannot load tls_ca /nonexistent"));
    ck_assert_str_eq(bad("[hark]\npassword_file = /nonexistent\n"),
                     "hark.ini:2: [hark] password_file = /nonexistent: No such file or directory");
}
END_TEST

START_TEST(test_queue_mistakes)
{
    ck_assert_str_eq(
        bad("[queue q]\n\nbind = a b c\nbind = \"\" x\nbind =\n"),
        "hark.ini:3: [queue q] bind = a b c: expected EXCHANGE PATTERN; a name with blanks stands in double "
        "quotes\n"
        "hark.ini:4: [queue q] bind = \"\" x: nothing can be bound to the default exchange: every queue is "
        "bound to it by its own name\n"
        "hark.ini:5: [queue q] bind = : expected EXCHANGE PATTERN; a name with blanks stands in double quotes");
    ck_assert_str_eq(bad("[queue q]\ntype = quorum\nexclusive = yes\n"),
                     "hark.ini:2: [queue q] type = quorum: such queues are always durable, never exclusive, never "
                     "auto_delete");
    ck_assert_str_eq(
        bad("[hark]\nworkers = 2\n[queue q]\nexclusive = yes\n"),
        "hark.ini:4: [queue q] exclusive = yes: the queue belongs to one connection, so workers must be 1");
    ck_assert_str_eq(bad("[queue q]\npriority = high\n"),
                     "hark.ini:2: [queue q] priority = high: expected a whole number");
    ck_assert_str_eq(bad("[queue q]\nargument.x-queue-type = quorum\nconsume_argument.x-priority = 1\n"),
                     "hark.ini:2: [queue q] argument.x-queue-type: set by the key \"type\"\n"
                     "hark.ini:3: [queue q] consume_argument.x-priority: set by the key \"priority\"");
    ck_assert_str_eq(
        bad("[exchange amq.topic]\n"),
        "hark.ini:1: [exchange amq.topic] names that begin with \"amq.\" are the broker's own: set declare = "
        "passive or no");
    ck_assert_str_eq(
        bad("[exchange e]\ntype = topci\n"),
        "hark.ini:2: [exchange e] type = topci: expected direct, fanout, topic, headers or a plugin's x-...; "
        "did you mean \"topic\"?");
}
END_TEST

START_TEST(test_listener_mistakes)
{
    ck_assert_str_eq(bad("[listener l]\n"),
                     "hark.ini:1: [listener l] missing key \"module\" (the listener module: what to "
                     "do with a message), and \"queue\" (queues to listen on)");
    ck_assert_str_eq(bad(QUEUE "[listener l]\nmodule = mial\nqueue = q\nfoo = bar\n"),
                     "hark.ini:3: [listener l] module = mial: there is no such module; did you mean \"mail\"?");
    ck_assert_str_eq(
        bad(QUEUE "[listener l]\nmodule = python\nqueue = q\n"),
        "hark.ini:3: [listener l] module = python: there is no such module; this harkd has mail, plain, old, "
        "clash");
    ck_assert_str_eq(bad(QUEUE "[listener l]\nmodule = old\nqueue = q\n"),
                     "hark.ini:3: [listener l] module = old: it was made for API 0, this is 1");
    ck_assert_str_eq(bad(QUEUE "[listener l]\nmodule = clash\nqueue = q\n"),
                     "hark.ini:3: [listener l] module = clash: its key \"timeout\" is one that every listener has");
    ck_assert_str_eq(bad(QUEUE "[listener l]\nmodule = mail\nqueue = q\n"),
                     "hark.ini:2: [listener l] missing key \"command\" (program and arguments)");
    ck_assert_str_eq(bad(QUEUE "[listener l]\nmodule = mail\nqueue = q\ncommand = relative\n"),
                     "hark.ini:5: [listener l] command: expected an absolute path");
    ck_assert_str_eq(bad("[queue signups]\n[listener l]\nmodule = plain\nqueue = signup\n"),
                     "hark.ini:4: [listener l] queue = signup: there is no section [queue signup]; did you mean "
                     "\"signups\"?");
    ck_assert_str_eq(bad(QUEUE "[listener l]\nmodule = plain\nqueue = q q\n"),
                     "hark.ini:4: [listener l] queue: \"q\" is named twice");
    ck_assert_str_eq(bad(LISTENER "on = a, b\n"),
                     "hark.ini:5: [listener l] on = a,: patterns are separated by blanks, without commas");
    ck_assert_str_eq(bad(LISTENER "on =\n"),
                     "hark.ini:5: [listener l] on = : expected at least one pattern; # is every key");
    ck_assert_str_eq(
        bad(LISTENER "emit = a b c\n"),
        "hark.ini:5: [listener l] emit = a b c: expected EXCHANGE or EXCHANGE ROUTING-KEY; \"\" is the default "
        "exchange");
}
END_TEST

/* After a mistake in the syntax the rest is judged, but nothing that may just not have been
 * understood is missed. */
START_TEST(test_syntax_and_sense)
{
    ck_assert_str_eq(
        bad("[hark]\nworkers = many\n[queue q\n[listener l]\nqueue = q\nmodule = \"plain\nconcurency = 3\n"),
        "hark.ini:3: expected a section such as [queue signups]\n"
        "hark.ini:6: [listener l] module: a double quote is not closed\n"
        "hark.ini:2: [hark] workers = many: expected a whole number\n"
        "hark.ini:7: [listener l] unknown key \"concurency\"; did you mean \"concurrency\"?");
}
END_TEST

START_TEST(test_unreadable)
{
    config = config_read("/nonexistent/hark.ini", &errors);
    ck_assert_ptr_null(config);
    ck_assert_uint_eq(errors.count, 1);
    ck_assert_str_eq(errors.lines[0], "/nonexistent/hark.ini: No such file or directory");
}
END_TEST

/* ---- secrets ---- */

static void put(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

START_TEST(test_password)
{
    char folder[] = "/tmp/check_config.XXXXXX", path[100], text[300];

    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/amqp-password", folder);
    put(path, "s3cret \r\nsecond line\n");
    snprintf(text, sizeof(text), "[hark]\nurl = amqp://me:other@h\npassword_file = %s\n", path);
    good(text);
    ck_assert_str_eq(config->url.password, "s3cret ");
    ck_assert_str_eq(config->url.shown, "amqp://me@h:5672/%2f");
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    good("[hark]\nurl = amqp://me@h\npassword_file = amqp-password\n");
    ck_assert_str_eq(config->url.password, "s3cret ");
    unsetenv("CREDENTIALS_DIRECTORY");
    put(path, "\n");
    ck_assert_ptr_nonnull(strstr(bad(text), ": its first line is empty"));
    unlink(path);
    rmdir(folder);
}
END_TEST

/* The defaults are a file that says nothing, and says all of it. */
START_TEST(test_defaults)
{
    char *text = NULL;
    size_t length;
    FILE *memory = open_memstream(&text, &length);

    config_print_defaults(memory);
    fclose(memory);
    good(text);
    ck_assert_ptr_nonnull(strstr(text, "\nworkers = 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n;[listener NAME]\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n;on = #\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n;module = mail\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n;command =\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n;header.NAME =\n"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *cases = tcase_create("config");

    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_empty);
    tcase_add_test(cases, test_general);
    tcase_add_test(cases, test_sections);
    tcase_add_test(cases, test_listener_defaults);
    tcase_add_test(cases, test_emit);
    tcase_add_test(cases, test_unknown);
    tcase_add_test(cases, test_values);
    tcase_add_test(cases, test_queue_mistakes);
    tcase_add_test(cases, test_listener_mistakes);
    tcase_add_test(cases, test_syntax_and_sense);
    tcase_add_test(cases, test_unreadable);
    tcase_add_test(cases, test_password);
    tcase_add_test(cases, test_defaults);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
