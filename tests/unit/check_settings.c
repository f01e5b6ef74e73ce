/* SPDX-License-Identifier: MIT */
/* Settings tables: every type, every kind of mistake, and that all of it is given back. */
#include "base/settings.h"
#include "suite.h"

#include <stdlib.h>

struct thing {
    char *name;
    int64_t count, room, wait;
    bool loud;
    int colour;
    struct hark_list words, lines;
    struct hark_durations ladder;
    struct hark_map arguments;
    char *password;
};

static const char *const colours[] = {"red", "green", "blue", NULL};

#define ROW(key, kind, where) .name = key, .type = kind, .offset = offsetof(struct thing, where)
static const struct hark_setting table[] = {
    {ROW("name", HARK_STRING, name), .required = true, .help = "what it is called"},
    {ROW("count", HARK_INTEGER, count), .fallback = "3", .min = 1, .max = 10, .help = "how many"},
    {ROW("room", HARK_SIZE, room), .fallback = "16M", .min = 8192, .max = INT64_MAX, .help = "how large"},
    {ROW("wait", HARK_DURATION, wait), .fallback = "90s", .max = 3600000, .help = "how long"},
    {ROW("loud", HARK_BOOLEAN, loud), .fallback = "yes", .help = "shout"},
    {ROW("colour", HARK_ENUM, colour), .fallback = "green", .words = colours, .help = "looks"},
    {ROW("words", HARK_LIST, words), .fallback = "#", .help = "patterns"},
    {ROW("lines", HARK_LINES, lines), .help = "one each"},
    {ROW("ladder", HARK_DURATIONS, ladder), .fallback = "1s 5s", .min = 1, .max = 86400000, .help = "delays"},
    {ROW("argument.", HARK_MAP, arguments), .help = "anything"},
    {ROW("password", HARK_STRING, password), .secret = true, .help = "hush"},
    {0},
};

static struct thing thing;
static struct settings settings;
static char error[512];

static void setup(void)
{
    thing = (struct thing){0};
    settings_init(&settings, table, &thing);
    error[0] = 0;
}

static void teardown(void)
{
    settings_free(table, &thing);
}

static int set(const char *key, const char *value)
{
    return settings_set(&settings, key, value, false, 7, error, sizeof(error));
}

#define ck_set(key, value) ck_assert_msg(set(key, value) == 0, "%s", error)
#define ck_refused(key, value, message) \
    do { \
        ck_assert_int_eq(set(key, value), -1); \
        ck_assert_str_eq(error, message); \
    } while (0)

START_TEST(test_fallbacks)
{
    ck_set("name", "x y");
    ck_assert_int_eq(settings_finish(&settings, error, sizeof(error)), 0);
    ck_assert_str_eq(thing.name, "x y");
    ck_assert_int_eq(thing.count, 3);
    ck_assert_int_eq(thing.room, 16 * 1024 * 1024);
    ck_assert_int_eq(thing.wait, 90000);
    ck_assert(thing.loud);
    ck_assert_int_eq(thing.colour, 1);
    ck_assert_uint_eq(thing.words.count, 1);
    ck_assert_str_eq(thing.words.items[0], "#");
    ck_assert_uint_eq(thing.lines.count, 0);
    ck_assert_uint_eq(thing.ladder.count, 2);
    ck_assert_int_eq(thing.ladder.ms[1], 5000);
    ck_assert_ptr_null(thing.password);
}
END_TEST

START_TEST(test_values)
{
    ck_set("count", "10");
    ck_set("room", "1G");
    ck_set("wait", "0");
    ck_set("loud", "off");
    ck_set("colour", "blue");
    ck_set("words", "a  \"b c\" d\"e f\"g \"\" \"q\\\"\\\\\\n\"");
    ck_set("words", "last");
    ck_set("lines", "one two");
    ck_set("lines", "three");
    ck_set("ladder", "250ms");
    ck_set("ladder", "2m 1h 1d");
    ck_set("argument.x-max-length", "1000");
    ck_assert_int_eq(settings_set(&settings, "argument.a.b", "5", true, 9, error, sizeof(error)), 0);
    ck_assert_int_eq(thing.count, 10);
    ck_assert_int_eq(thing.room, 1 << 30);
    ck_assert_int_eq(thing.wait, 0);
    ck_assert(!thing.loud);
    ck_assert_int_eq(thing.colour, 2);
    ck_assert_uint_eq(thing.words.count, 6);
    ck_assert_str_eq(thing.words.items[1], "b c");
    ck_assert_str_eq(thing.words.items[2], "de fg");
    ck_assert_str_eq(thing.words.items[3], "");
    ck_assert_str_eq(thing.words.items[4], "q\"\\\n");
    ck_assert_str_eq(thing.words.items[5], "last");
    ck_assert_uint_eq(thing.lines.count, 2);
    ck_assert_str_eq(thing.lines.items[0], "one two");
    ck_assert_uint_eq(thing.ladder.count, 4);
    ck_assert_int_eq(thing.ladder.ms[0], 250);
    ck_assert_int_eq(thing.ladder.ms[3], 86400000);
    ck_assert_uint_eq(thing.arguments.count, 2);
    ck_assert_str_eq(thing.arguments.pairs[0].name, "x-max-length");
    ck_assert_str_eq(thing.arguments.pairs[1].name, "a.b");
    ck_assert(!thing.arguments.pairs[0].quoted && thing.arguments.pairs[1].quoted);
}
END_TEST

START_TEST(test_quoted_list_is_one_word)
{
    ck_assert_int_eq(settings_set(&settings, "words", "a b", true, 1, error, sizeof(error)), 0);
    ck_assert_uint_eq(thing.words.count, 1);
    ck_assert_str_eq(thing.words.items[0], "a b");
}
END_TEST

START_TEST(test_empty_durations)
{
    ck_set("name", "x");
    ck_set("ladder", "1s");
    ck_set("ladder", "");
    ck_assert_uint_eq(thing.ladder.count, 0);
    ck_assert_int_eq(settings_finish(&settings, error, sizeof(error)), 0);
    ck_assert_uint_eq(thing.ladder.count, 0);
}
END_TEST

START_TEST(test_mistakes)
{
    ck_refused("count", "eleven", "count = eleven: expected a whole number");
    ck_refused("count", "3x", "count = 3x: expected a whole number");
    ck_refused("count", "", "count = : expected a whole number");
    ck_refused("count", "11", "count = 11: must be from 1 to 10");
    ck_refused("count", "-1", "count = -1: must be from 1 to 10");
    ck_refused("count", "99999999999999999999", "count = 99999999999999999999: expected a whole number");
    ck_refused("room", "1T", "room = 1T: expected a size such as 65536, 64K, 16M or 1G");
    ck_refused("room", "1K", "room = 1K: must be at least 8K");
    ck_refused("room", "9999999999G", "room = 9999999999G: expected a size such as 65536, 64K, 16M or 1G");
    ck_refused("wait", "5", "wait = 5: 5 has no unit; a duration is written 5ms, 5s, 5m, 5h or 5d");
    ck_refused("wait", "5 s", "wait = 5 s: expected a duration such as 100ms, 5s, 2m, 1h or 1d");
    ck_refused("wait", "-5s", "wait = -5s: expected a duration such as 100ms, 5s, 2m, 1h or 1d");
    ck_refused("wait", "2h", "wait = 2h: must be from 0 to 1h");
    ck_refused("loud", "maybe", "loud = maybe: expected yes or no");
    ck_refused("colour", "bleu", "colour = bleu: expected red, green or blue; did you mean \"blue\"?");
    ck_refused("colour", "", "colour = : expected red, green or blue");
    ck_refused("words", "a \"b", "words = a \"b: a double quote is not closed");
    ck_refused("ladder", "1s 5", "ladder = 1s 5: 5 has no unit; a duration is written 5ms, 5s, 5m, 5h or 5d");
    ck_refused("ladder", "0", "ladder = 0: must be from 1ms to 1d");
    ck_refused("argument.", "x", "argument. = x: a name is missing behind the dot");
    ck_refused("nmae", "x", "unknown key \"nmae\"");
}
END_TEST

START_TEST(test_twice)
{
    ck_set("name", "x");
    ck_refused("name", "y", "\"name\" was already set on line 7");
    ck_set("argument.x", "1");
    ck_refused("argument.x", "2", "argument.x = 2: set twice");
}
END_TEST

START_TEST(test_missing)
{
    ck_assert_int_eq(settings_finish(&settings, error, sizeof(error)), -1);
    ck_assert_str_eq(error, "missing key \"name\" (what it is called)");
    ck_set("name", "");
    ck_assert_int_eq(settings_finish(&settings, error, sizeof(error)), -1);
}
END_TEST

START_TEST(test_secret_is_not_shown)
{
    static const struct hark_setting secrets[] = {
        {ROW("count", HARK_INTEGER, count), .secret = true, .help = "hush"},
        {0},
    };

    settings_init(&settings, secrets, &thing);
    ck_refused("count", "hunter2", "count: expected a whole number");
}
END_TEST

START_TEST(test_long_value_is_cut)
{
    char value[2000] = {0};

    memset(value, 'a', sizeof(value) - 1);
    ck_assert_int_eq(set("count", value), -1);
    ck_assert_uint_lt(strlen(error), 120);
    ck_assert_ptr_nonnull(strstr(error, "aaa...: expected a whole number"));
}
END_TEST

START_TEST(test_nearest)
{
    const struct hark_setting *const tables[] = {table, NULL};
    static const char *const words[] = {"signups", "payments"};

    ck_assert_str_eq(settings_nearest(tables, "nmae"), "name");
    ck_assert_str_eq(settings_nearest(tables, "colours"), "colour");
    ck_assert_str_eq(settings_nearest(tables, "color"), "colour");
    ck_assert_str_eq(settings_nearest(tables, "arguments.x-max-length"), "argument.");
    ck_assert_str_eq(settings_nearest(tables, "COLOUR"), "colour");
    ck_assert_ptr_null(settings_nearest(tables, "entirely-different"));
    ck_assert_ptr_null(settings_nearest(tables, ""));
    ck_assert_str_eq(settings_nearest_word(words, 2, "signup"), "signups");
    ck_assert_ptr_null(settings_nearest_word(words, 2, "x"));
}
END_TEST

static char *print(const struct hark_setting *setting)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    settings_print(setting, to);
    fclose(to);
    return text;
}

START_TEST(test_print)
{
    static const struct hark_setting odd = {.name = "odd", .type = HARK_STRING, .fallback = " $a ;b", .help = "odd"};
    char *text;

    text = print(settings_find(table, "wait"));
    ck_assert_str_eq(text, "; how long\n; duration, 0 to 1h\nwait = 90s\n");
    free(text);
    text = print(settings_find(table, "colour"));
    ck_assert_str_eq(text, "; looks\n; one word: red | green | blue\ncolour = green\n");
    free(text);
    text = print(settings_find(table, "name"));
    ck_assert_str_eq(text, "; what it is called\n; string, required\n;name =\n");
    free(text);
    text = print(settings_find(table, "argument.x"));
    ck_assert_str_eq(text, "; anything\n; value per NAME\n;argument.NAME =\n");
    free(text);
    text = print(&odd);
    ck_assert_str_eq(text, "; odd\n; string\nodd = \" $$a ;b\"\n");
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settings");
    TCase *cases = tcase_create("settings");

    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_fallbacks);
    tcase_add_test(cases, test_values);
    tcase_add_test(cases, test_quoted_list_is_one_word);
    tcase_add_test(cases, test_empty_durations);
    tcase_add_test(cases, test_mistakes);
    tcase_add_test(cases, test_twice);
    tcase_add_test(cases, test_missing);
    tcase_add_test(cases, test_secret_is_not_shown);
    tcase_add_test(cases, test_long_value_is_cut);
    tcase_add_test(cases, test_nearest);
    tcase_add_test(cases, test_print);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
