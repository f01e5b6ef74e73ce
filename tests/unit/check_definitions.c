/* SPDX-License-Identifier: MIT */
/* Definitions: RabbitMQ's own export, every kind of argument, and where each mistake is. */
#include "broker/definitions.h"

#include "base/log.h"
#include "wire/table.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What was handed over, one line each; tables as name, letter and value. */
static char seen[16384];
static char error[512];
static char warning[512];
static const char *refuse; /* the line that the receiver refuses */

static void note(const char *text)
{
    ck_assert_uint_lt(strlen(seen) + strlen(text), sizeof(seen));
    strcat(seen, text);
}

static void note_value(const struct table_entry *entry)
{
    char text[512] = "";
    struct table_entry inner;
    double number;
    uint64_t bits;
    size_t cursor = 0;

    snprintf(text, sizeof(text), " %.*s:%c", (int)entry->name.length, (const char *)entry->name.data, entry->kind);
    note(text);
    switch (entry->kind) {
    case 'l':
        snprintf(text, sizeof(text), "%lld", (long long)get_u64(entry->value.data));
        break;
    case 'd':
        bits = get_u64(entry->value.data);
        memcpy(&number, &bits, sizeof(number));
        snprintf(text, sizeof(text), "%g", number);
        break;
    case 't':
        snprintf(text, sizeof(text), "%d", entry->value.data[0]);
        break;
    case 'S':
        snprintf(text, sizeof(text), "%.*s", (int)entry->value.length, (const char *)entry->value.data);
        break;
    case 'V':
        text[0] = 0;
        break;
    default:
        note("(");
        while (entry->kind == 'F' ? table_next(entry->value, &cursor, &inner)
                                  : table_next_item(entry->value, &cursor, &inner))
            note_value(&inner);
        snprintf(text, sizeof(text), " )");
    }
    note(text);
}

static void note_table(struct span table)
{
    struct table_entry entry;
    size_t cursor = 0;

    ck_assert_int_eq(table_check(table, 16), 0);
    while (table_next(table, &cursor, &entry))
        note_value(&entry);
}

static int noted(char *to, size_t size, size_t from)
{
    if (refuse != NULL && strcmp(seen + from, refuse) == 0) {
        snprintf(to, size, "not this one");
        return -1;
    }
    note("\n");
    return 0;
}

static int on_vhost(void *arg, const char *name, char *to, size_t size)
{
    size_t from = strlen(seen);
    char text[300];

    ck_assert_ptr_eq(arg, seen);
    snprintf(text, sizeof(text), "vhost %s", name);
    note(text);
    return noted(to, size, from);
}

static int on_user(void *arg, const struct user_options *user, char *to, size_t size)
{
    size_t from = strlen(seen);
    char text[1024];

    (void)arg;
    snprintf(text, sizeof(text), "user %s [%s] %s %s %s", user->name, user->tags,
             user->password != NULL ? user->password : "-", user->password_hash != NULL ? user->password_hash : "-",
             user->algorithm != NULL ? user->algorithm : "-");
    note(text);
    ck_assert(!user->loopback_only);
    return noted(to, size, from);
}

static int on_permission(void *arg, const struct definitions_permission *permission, char *to, size_t size)
{
    size_t from = strlen(seen);
    char text[1024];

    (void)arg;
    snprintf(text, sizeof(text), "permission %s %s %s,%s,%s", permission->user, permission->vhost,
             permission->configure, permission->write, permission->read);
    note(text);
    return noted(to, size, from);
}

static int on_exchange(void *arg, const struct definitions_exchange *exchange, char *to, size_t size)
{
    size_t from = strlen(seen);
    char text[1024];

    (void)arg;
    snprintf(text, sizeof(text), "exchange %s %s %s%s%s%s", exchange->vhost, exchange->name, exchange->type,
             exchange->durable ? " durable" : "", exchange->auto_delete ? " auto_delete" : "",
             exchange->internal ? " internal" : "");
    note(text);
    note_table(exchange->arguments);
    return noted(to, size, from);
}

static int on_queue(void *arg, const struct definitions_queue *queue, char *to, size_t size)
{
    size_t from = strlen(seen);
    char text[1024];

    (void)arg;
    snprintf(text, sizeof(text), "queue %s %s%s%s", queue->vhost, queue->name, queue->durable ? " durable" : "",
             queue->auto_delete ? " auto_delete" : "");
    note(text);
    note_table(queue->arguments);
    return noted(to, size, from);
}

static int on_binding(void *arg, const struct definitions_binding *binding, char *to, size_t size)
{
    size_t from = strlen(seen);
    char text[1024];

    (void)arg;
    snprintf(text, sizeof(text), "binding %s %s %s%s <%s>", binding->vhost, binding->source,
             binding->to_exchange ? "exchange " : "", binding->destination, binding->routing_key);
    note(text);
    note_table(binding->arguments);
    return noted(to, size, from);
}

static const struct definitions_ops ops = {.vhost = on_vhost,
                                           .user = on_user,
                                           .permission = on_permission,
                                           .exchange = on_exchange,
                                           .queue = on_queue,
                                           .binding = on_binding};

static void on_line(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    ck_assert_int_eq(level, LOG_LEVEL_WARNING);
    snprintf(warning + strlen(warning), sizeof(warning) - strlen(warning), "%s\n", text);
}

static void setup(void)
{
    seen[0] = error[0] = warning[0] = 0;
    refuse = NULL;
    log_divert(on_line, NULL);
}

static void teardown(void)
{
    log_divert(NULL, NULL);
}

static int parse_bytes(const char *text, size_t length)
{
    char *copy = malloc(length + 1);
    int result;

    memcpy(copy, text, length);
    copy[length] = 0;
    seen[0] = error[0] = 0;
    result = definitions_parse("f.json", copy, length, &ops, seen, error, sizeof(error));
    free(copy);
    return result;
}

static void takes(const char *text, const char *expected)
{
    ck_assert_msg(parse_bytes(text, strlen(text)) == 0, "%s", error);
    ck_assert_str_eq(seen, expected);
}

static void refuses(const char *text, const char *expected)
{
    ck_assert_int_eq(parse_bytes(text, strlen(text)), -1);
    ck_assert_str_eq(error, expected);
}

/* ---- what RabbitMQ 3.10 wrote ---- */

START_TEST(test_export)
{
    int result = definitions_load("tests/golden/definitions.json", &ops, seen, error, sizeof(error));

    ck_assert_msg(result == 0, "%s", error);
    ck_assert_str_eq(
        seen,
        "vhost shop\n"
        "vhost /\n"
        "user nopass [] -  rabbit_password_hashing_sha256\n"
        "user bob [] - IIgkP3OHRJ4r8h0TES6oLpagmUav4m9YRYfZGaPgNPo9kslR5iIllHSR6CMfKIbgk4ZkiMUrtL9o4lBzaZ6QunuYtyQ= "
        "rabbit_password_hashing_sha512\n"
        "user alice [administrator monitoring] - ED6+bQTelNdPsQ6iziuR+Szyg/eRs/7LZayP2Aynts4CwOLT "
        "rabbit_password_hashing_sha256\n"
        "user guest [administrator] - VSKCLrBrE6q9leUL/eGHwVzkk+0J3M1+Ig2O8ynhsBsl8DDT rabbit_password_hashing_sha256\n"
        "user carol [] - DmlkeOoCGxnb9LI+VXAq3JCIilo= rabbit_password_hashing_md5\n"
        "permission alice shop .*,.*,.*\n"
        "permission alice / ^a\\.,,.*\n"
        "permission guest / .*,.*,.*\n"
        "exchange / parts headers durable auto_delete\n"
        "exchange / events topic durable alternate-exchange:Slost\n"
        "queue / big durable x-delivery-limit:l5 x-queue-type:Squorum\n"
        "queue / mail durable x-dead-letter-exchange:S x-dead-letter-routing-key:Smail.dead x-max-length:l5 "
        "x-max-priority:l9 x-message-ttl:l3000000000 x-note:A( :l1 :Stwo :Sundefined :F( no:t0 three:l3 ) ) "
        "x-single-active-consumer:t1\n"
        "queue / passing\n"
        "binding / events exchange lost <lost.*>\n"
        "binding / events mail <user.#>\n"
        "binding / parts mail <> b:t1 n:l1 s:St\xc3\xa9xt x-match:Sall\n");
    ck_assert_str_eq(
        warning, "tests/golden/definitions.json: policies are not supported and left out: 'short' (put what they say "
                 "into the arguments of queues and exchanges)\n");
}
END_TEST

/* ---- what else there may be ---- */

START_TEST(test_values)
{
    takes(
        "{\"queues\":[{\"vhost\":\"/\",\"name\":\"q\",\"arguments\":{\"i\":-1,\"z\":1.0,\"d\":2.5,\"n\":null,\"s\":\"\","
        "\"t\":true,\"a\":[],\"o\":{},\"m\":9007199254740991,\"deep\":[[{\"k\":[null]}]]}}]}",
        "queue / q durable i:l-1 z:l1 d:d2.5 n:V s:S t:t1 a:A( ) o:F( ) m:l9007199254740991 deep:A( :A( :F( k:A( "
        ":V ) ) ) )\n");
    takes(
        "\xef\xbb\xbf {\"queues\":[{\"vhost\":\"/\",\"name\":\"q\\u00fc\\\\u0000\",\"durable\":false,\"auto_delete\":true,"
        "\"arguments\":[]}]} \n",
        "queue / q\xc3\xbc\\u0000 auto_delete\n");
    takes("{\"bindings\":[{\"source\":\"\",\"destination\":\"q\"}]}", "");
    takes("{}", "");
    takes("{\"rabbit_version\":\"3.12.0\",\"parameters\":7,\"policies\":[],\"topic_permissions\":[],\"queues\":[],"
          "\"QUEUES\":3}",
          "");
    ck_assert_str_eq(warning, "");
}
END_TEST

START_TEST(test_users)
{
    takes("{\"users\":[{\"name\":\"a\",\"password\":\"p\",\"tags\":\"administrator,monitoring\"},{\"name\":\"b\"},"
          "{\"name\":\"c\",\"tags\":null,\"password_hash\":\"x\"},{\"name\":\"d\",\"tags\":[\"x\",\"y,z\"]}]}",
          "user a [administrator monitoring] p - -\nuser b [] - - -\nuser c [] - x -\nuser d [x y z] - - -\n");
}
END_TEST

START_TEST(test_warnings)
{
    char text[1024] = "{\"policies\":[";

    for (unsigned i = 0; i < 12; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s{\"name\":\"p%u\"}", i > 0 ? "," : "", i);
    strcat(text, "],\"topic_permissions\":[{}]}");
    takes(text, "");
    ck_assert_ptr_nonnull(strstr(warning, "left out: 'p0', 'p1', "));
    ck_assert_ptr_nonnull(strstr(warning, "'p9', ... (put"));
    ck_assert_ptr_nonnull(strstr(warning, "f.json: topic permissions are not supported and left out: "));
}
END_TEST

/* ---- what is wrong ---- */

#define QUEUE "{\"vhost\":\"/\",\"name\":\"q\",\"arguments\":"
#define BINDING "{\"vhost\":\"/\",\"source\":\"s\",\"destination\":\"d\",\"arguments\":{}"

static const struct {
    const char *text, *says;
} wrong[] = {
    {"", "f.json: line 1, column 1: this is not JSON (or memory is short)"},
    {"{\n\"queues\": [\n  oops]}", "f.json: line 3, column 3: this is not JSON (or memory is short)"},
    {"{} {}", "f.json: line 1, column 4: this is not JSON (or memory is short)"},
    {"{\"vhosts\":\n[{\"name\":\"a\\u0000b\"}]}", "f.json: line 2, column 12: a byte 0"},
    {"[]", "f.json: expected an object with users, vhosts, queues and so on"},
    {"{\"queues\":{}}", "f.json: queues: expected a list"},
    {"{\"queues\":[" QUEUE "{}},7]}", "f.json: queues[1]: expected an object"},
    {"{\"vhosts\":[{}]}", "f.json: vhosts[0].name: expected a string, found none"},
    {"{\"vhosts\":[{\"name\":\"\"}]}", "f.json: vhosts[0].name: expected a name of 1 to 255 bytes"},
    {"{\"vhosts\":[{\"name\":7}]}", "f.json: vhosts[0].name: expected a string"},
    {"{\"users\":[{\"name\":\"a\",\"tags\":7}]}", "f.json: users[0].tags: expected a list of strings, or a string"},
    {"{\"users\":[{\"name\":\"a\",\"tags\":[7]}]}", "f.json: users[0].tags: expected strings in the list"},
    {"{\"users\":[{\"name\":\"a\",\"password_hash\":[]}]}", "f.json: users[0].password_hash: expected a string"},
    {"{\"permissions\":[{\"user\":\"a\",\"vhost\":\"/\",\"configure\":\"\",\"write\":\"\"}]}",
     "f.json: permissions[0].read: expected a string, found none"},
    {"{\"exchanges\":[{\"vhost\":\"/\",\"name\":\"e\"}]}", "f.json: exchanges[0].type: expected a string, found none"},
    {"{\"exchanges\":[{\"vhost\":\"/\",\"name\":\"e\",\"type\":\"topic\",\"internal\":\"no\"}]}",
     "f.json: exchanges[0].internal: expected true or false"},
    {"{\"queues\":[" QUEUE "7}]}", "f.json: queues[0].arguments: expected an object"},
    {"{\"queues\":[" QUEUE "[1]}]}", "f.json: queues[0].arguments: expected an object"},
    {"{\"queues\":[" QUEUE "{}}," QUEUE "{\"x-max-length\":1e99}}]}",
     "f.json: queues[1].arguments.x-max-length: expected a whole number below 2^53 (larger ones are not read exactly)"},
    {"{\"queues\":[" QUEUE "{\"a\":[0,{\"b\\n\":1e999}]}}]}",
     "f.json: queues[0].arguments.a[1].b\\n: the number is too large"},
    {"{\"bindings\":[" BINDING "}]}", "f.json: bindings[0].destination_type: expected a string, found none"},
    {"{\"bindings\":[" BINDING ",\"routing_key\":\"\",\"destination_type\":\"topic\"}]}",
     "f.json: bindings[0].destination_type: expected \"queue\" or \"exchange\""},
    {"{\"bindings\":[" BINDING ",\"destination_type\":\"queue\"}]}",
     "f.json: bindings[0].routing_key: expected a string, found none"},
};

START_TEST(test_wrong)
{
    refuses(wrong[_i].text, wrong[_i].says);
}
END_TEST

/* A byte 0, and each place where the file may have been cut off. */
START_TEST(test_bytes)
{
    static const char text[] = "{\"queues\":[" QUEUE "{\"a\":[1,\"\\u00fc\"]}}]}";

    ck_assert_int_eq(parse_bytes("{}\0", 3), -1);
    ck_assert_str_eq(error, "f.json: line 1, column 3: a byte 0");
    for (size_t length = 0; length < sizeof(text) - 1; length++)
        ck_assert_int_eq(parse_bytes(text, length), -1);
    ck_assert_int_eq(parse_bytes(text, sizeof(text) - 1), 0);
}
END_TEST

static char *repeat(const char *before, const char *text, unsigned count, const char *after)
{
    size_t size = strlen(before) + count * strlen(text) + strlen(after) + 1;
    char *made = malloc(size), *end = stpcpy(made, before);

    while (count-- > 0)
        end = stpcpy(end, text);
    stpcpy(end, after);
    return made;
}

START_TEST(test_limits)
{
    static const struct {
        const char *before, *text, *after, *says;
        unsigned count, good;
    } limits[] = {
        {"{\"vhosts\":[{\"name\":\"", "n", "\"}]}", "vhosts[0].name: expected a name of 1 to 255 bytes", 256, 255},
        {"{\"users\":[{\"name\":\"a\",\"tags\":\"", "t", "\"}]}", "users[0].tags: expected at most 1024 bytes", 1025,
         1024},
        {"{\"queues\":[" QUEUE "{\"", "k", "\":1}}]}", ": expected a name of at most 255 bytes", 256, 255},
        {"{\"queues\":[" QUEUE "{\"a\":\"", "v", "\"}}]}", "queues[0].arguments: expected arguments of at most 32 KiB",
         33000, 9},
        {"{\"bindings\":[" BINDING ",\"destination_type\":\"queue\",\"routing_key\":\"", "r", "\"}]}",
         "bindings[0].routing_key: expected at most 255 bytes", 256, 255},
    };
    char *text, *whole;

    for (size_t i = 0; i < HARK_COUNT(limits); i++) {
        text = repeat(limits[i].before, limits[i].text, limits[i].count, limits[i].after);
        ck_assert_int_eq(parse_bytes(text, strlen(text)), -1);
        ck_assert_msg(strstr(error, limits[i].says) != NULL, "said: %s", error);
        free(text);
        text = repeat(limits[i].before, limits[i].text, limits[i].good, limits[i].after);
        ck_assert_msg(parse_bytes(text, strlen(text)) == 0, "%s", error);
        free(text);
    }
    for (unsigned depth = 16; depth <= 900; depth += depth == 16 ? 1 : 883) {
        text = repeat("{\"queues\":[" QUEUE "{\"a\":", "[", depth, "");
        whole = repeat(text, "]", depth, "}}]}");
        ck_assert_int_eq(parse_bytes(whole, strlen(whole)), depth == 16 ? 0 : -1);
        if (depth > 16)
            ck_assert_ptr_nonnull(strstr(error, ": expected at most 16 arrays and objects one in the other"));
        free(whole);
        free(text);
    }
}
END_TEST

START_TEST(test_receiver_refuses)
{
    refuse = "queue / b durable";
    refuses(
        "{\"queues\":[{\"vhost\":\"/\",\"name\":\"a\"},{\"vhost\":\"/\",\"name\":\"b\"},{\"vhost\":\"/\",\"name\":\"c\"}],"
        "\"vhosts\":[{\"name\":\"/\"}]}",
        "f.json: queues[1]: not this one");
    ck_assert_str_eq(seen, "vhost /\nqueue / a durable\nqueue / b durable");
}
END_TEST

START_TEST(test_files)
{
    char path[] = "/tmp/check_definitions.XXXXXX", expected[128];
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "{\"vhosts\":[{}]}", 15), 15);
    ck_assert_int_eq(definitions_load(path, &ops, seen, error, sizeof(error)), -1);
    snprintf(expected, sizeof(expected), "%s: vhosts[0].name: expected a string, found none", path);
    ck_assert_str_eq(error, expected);
    ck_assert_int_eq(ftruncate(fd, DEFINITIONS_MAX + 1), 0);
    ck_assert_int_eq(definitions_load(path, &ops, seen, error, sizeof(error)), -1);
    snprintf(expected, sizeof(expected), "%s: expected a file of at most 64 MiB", path);
    ck_assert_str_eq(error, expected);
    close(fd);
    unlink(path);
    ck_assert_int_eq(definitions_load(path, &ops, seen, error, sizeof(error)), -1);
    snprintf(expected, sizeof(expected), "%s: No such file or directory", path);
    ck_assert_str_eq(error, expected);
    ck_assert_int_eq(definitions_load("/tmp", &ops, seen, error, sizeof(error)), -1);
    ck_assert_str_eq(error, "/tmp: expected a file of at most 64 MiB");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("definitions");
    TCase *tcase = tcase_create("definitions");

    tcase_set_timeout(tcase, 15);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_export);
    tcase_add_test(tcase, test_values);
    tcase_add_test(tcase, test_users);
    tcase_add_test(tcase, test_warnings);
    tcase_add_loop_test(tcase, test_wrong, 0, (int)HARK_COUNT(wrong));
    tcase_add_test(tcase, test_bytes);
    tcase_add_test(tcase, test_limits);
    tcase_add_test(tcase, test_receiver_refuses);
    tcase_add_test(tcase, test_files);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
