/* SPDX-License-Identifier: MIT */
/* The ini reader: values, sections, includes, bounds, and each complaint word by word. */
#include "base/ini.h"
#include "suite.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct ini_errors errors;
static struct ini *ini;
static char directory[] = "/tmp/check_ini.XXXXXX";

static void setup(void)
{
    errors = (struct ini_errors){0};
    ini = NULL;
}

static void teardown(void)
{
    ini_free(ini);
    ini_errors_free(&errors);
}

static void parse(const char *text)
{
    teardown();
    ini = ini_parse("hark.ini", text, strlen(text), &errors);
    ck_assert_ptr_nonnull(ini);
}

/* The only value of a one-line [x] section. */
static const char *value(const char *line)
{
    char text[1000];

    snprintf(text, sizeof(text), "[x]\n%s\n", line);
    parse(text);
    ck_assert_msg(errors.count == 0, "%s", errors.lines[0]);
    ck_assert_uint_eq(ini->section_count, 1);
    ck_assert_uint_eq(ini->sections[0].count, 1);
    ck_assert_str_eq(ini->sections[0].entries[0].key, "k");
    return ini->sections[0].entries[0].value;
}

static const char *mistake(const char *text)
{
    parse(text);
    ck_assert_uint_eq(errors.count, 1);
    return errors.lines[0];
}

START_TEST(test_values)
{
    ck_assert_str_eq(value("k = v"), "v");
    ck_assert_str_eq(value("  k=v  "), "v");
    ck_assert_str_eq(value("k ="), "");
    ck_assert_str_eq(value("k = a b ; note"), "a b");
    ck_assert_str_eq(value("k = ; note"), "");
    ck_assert_str_eq(value("k = a;b"), "a;b");
    ck_assert_str_eq(value("k = a=b"), "a=b");
    ck_assert_str_eq(value("k = a\\b"), "a\\b");
    ck_assert_str_eq(value("k = a\tb\r"), "a\tb");
    ck_assert_str_eq(value("k = a \\\n    b\\\nc"), "a  b c");
    ck_assert_str_eq(value("k = a\\\\"), "a\\\\");
    ck_assert_str_eq(value("; comment \\\nk = v"), "v");
}
END_TEST

START_TEST(test_quotes)
{
    ck_assert_str_eq(value("k = \" a ; b # c \""), " a ; b # c ");
    ck_assert(ini->sections[0].entries[0].quoted);
    ck_assert_str_eq(value("k = \"\" ; empty"), "");
    ck_assert(ini->sections[0].entries[0].quoted);
    ck_assert_str_eq(value("k = \"q\\\"\\\\ \\n\\t\""), "q\"\\ \n\t");
    ck_assert_str_eq(value("k = \"a b\" \"c ; d\" ; note"), "\"a b\" \"c ; d\"");
    ck_assert(!ini->sections[0].entries[0].quoted);
    ck_assert_str_eq(value("k = \"\" key"), "\"\" key");
    ck_assert(!ini->sections[0].entries[0].quoted);
}
END_TEST

START_TEST(test_hash)
{
    ck_assert_str_eq(value("k = #"), "#");
    ck_assert_str_eq(value("k = events #"), "events #");
    ck_assert_str_eq(value("k = events # ; all"), "events #");
    ck_assert_str_eq(value("k = #.error a.# #.b"), "#.error a.# #.b");
    ck_assert_str_eq(value("k = \"# \""), "# ");
    ck_assert_str_eq(value("# k = no\n  # k = no\nk = v"), "v");
    ck_assert_str_eq(
        mistake("[x]\nk = 200 # many\n"),
        "hark.ini:2: [x] k: \"#\" starts a comment at the start of a line only: put \";\" before a comment "
        "behind a value, and double quotes around a value with \"#\" in it");
}
END_TEST

START_TEST(test_environment)
{
    setenv("CHECK_INI", "a ;\"b\" #x", 1);
    setenv("CHECK_EMPTY", "", 1);
    unsetenv("CHECK_UNSET");
    ck_assert_str_eq(value("k = <${CHECK_INI}>"), "<a ;\"b\" #x>");
    ck_assert(!ini->sections[0].entries[0].quoted);
    ck_assert_str_eq(value("k = \"${CHECK_INI}\""), "a ;\"b\" #x");
    ck_assert_str_eq(value("k = ${CHECK_EMPTY}"), "");
    ck_assert_str_eq(value("k = ${CHECK_EMPTY:-x y}"), "x y");
    ck_assert_str_eq(value("k = ${CHECK_UNSET:-}"), "");
    ck_assert_str_eq(value("k = $$ $x $${CHECK_INI}"), "$ $x ${CHECK_INI}");
    ck_assert_str_eq(mistake("[x]\nk = ${CHECK_UNSET}\n"),
                     "hark.ini:2: [x] k: the environment variable CHECK_UNSET is not set; ${CHECK_UNSET:-text} would "
                     "give a default");
    ck_assert_str_eq(mistake("[x]\nk = ${A B}\n"),
                     "hark.ini:2: [x] k: expected ${NAME} or ${NAME:-default}; a dollar is written $$");
    ck_assert_str_eq(mistake("[x]\nk = ${A\n"), "hark.ini:2: [x] k: ${ is not closed; a dollar is written $$");
    ck_assert_str_eq(mistake("[x]\nk = \"${A\" }\n"), "hark.ini:2: [x] k: expected ${NAME} or ${NAME:-default}; "
                                                      "a dollar is written $$");
    ck_assert_str_eq(mistake("[x]\nk = ${A:-a ;}\n"), "hark.ini:2: [x] k: ${ is not closed; a dollar is written $$");
}
END_TEST

START_TEST(test_sections)
{
    parse("[hark]\na = 1\na = 2\n\n[ queue  sign ups ] ; note\n[queue \"x]\\\"y\"]\r\n  [broker]# note\nb=3");
    ck_assert_uint_eq(errors.count, 0);
    ck_assert_uint_eq(ini->section_count, 4);
    ck_assert_str_eq(ini->sections[0].label, "[hark]");
    ck_assert_str_eq(ini->sections[0].name, "");
    ck_assert_uint_eq(ini->sections[0].count, 2);
    ck_assert_int_eq(ini->sections[0].entries[1].line, 3);
    ck_assert_str_eq(ini->sections[1].kind, "queue");
    ck_assert_str_eq(ini->sections[1].name, "sign ups");
    ck_assert_str_eq(ini->sections[1].label, "[queue sign ups]");
    ck_assert_int_eq(ini->sections[1].line, 5);
    ck_assert_str_eq(ini->sections[2].name, "x]\"y");
    ck_assert_str_eq(ini->sections[3].entries[0].value, "3");
}
END_TEST

START_TEST(test_mistakes)
{
    ck_assert_str_eq(mistake("k = v\n"), "hark.ini:1: k: a key stands in a section such as [hark]");
    ck_assert_str_eq(mistake("[x]\nword\n"), "hark.ini:2: [x] expected \"key = value\"");
    ck_assert_str_eq(mistake("[x]\n= v\n"), "hark.ini:2: [x] expected \"key = value\"");
    ck_assert_str_eq(mistake("[x]\na b = v\n"),
                     "hark.ini:2: [x] expected \"key = value\"; a key is one word of at most 255 bytes without quotes");
    ck_assert_str_eq(mistake("[x\nk = v\n"), "hark.ini:1: expected a section such as [queue signups]");
    ck_assert_str_eq(mistake("[]\nk = v\n"), "hark.ini:1: expected a section such as [queue signups]");
    ck_assert_str_eq(mistake("[x] y\n"), "hark.ini:1: something follows the section's \"]\"");
    ck_assert_str_eq(mistake("[x \"y]\n"), "hark.ini:1: a double quote is not closed");
    ck_assert_str_eq(mistake("[x]\nk = \"v\n"), "hark.ini:2: [x] k: a double quote is not closed");
    ck_assert_str_eq(mistake("[x]\nk = \"\\d\"\n"),
                     "hark.ini:2: [x] k: in double quotes a backslash stands before \", \\, n or t only");
    ck_assert_str_eq(mistake("[x]\nk = a\x01z\n"),
                     "hark.ini:2: [x] a control character; in double quotes, a new line is written \\n, a tab \\t");
    ck_assert_str_eq(mistake("[x]\n\n[y]\n[x]\n"), "hark.ini:4: [x] the section stands already in hark.ini:1");
    ck_assert_str_eq(mistake("include = a.ini\n"), "hark.ini:1: include works in files only");
}
END_TEST

START_TEST(test_all_mistakes_are_reported)
{
    parse("[x\n[y]\nword\nk = \"\n[z]\nword\n[y]\n");
    ck_assert_uint_eq(errors.count, 5);
}
END_TEST

START_TEST(test_bytes)
{
    static const char text[] = "\xef\xbb\xbf[x]\nk = a\0b\n";
    struct ini_errors none = {0};
    struct ini *empty = ini_parse("e", "", 0, &none);

    ck_assert_uint_eq(none.count, 0);
    ck_assert_uint_eq(empty->section_count, 0);
    ini_free(empty);
    ini = ini_parse("hark.ini", text, sizeof(text) - 1, &errors);
    ck_assert_uint_eq(errors.count, 1);
    ck_assert_uint_eq(ini->section_count, 1);
}
END_TEST

/* `times` copies of a piece, between a head and a tail. */
static void parse_many(const char *head, const char *piece, size_t times)
{
    size_t length = strlen(head), one = strlen(piece);
    char *text = malloc(length + one * times + 1);

    memcpy(text, head, length);
    for (size_t i = 0; i < times; i++, length += one)
        memcpy(text + length, piece, one);
    text[length] = 0;
    parse(text);
    free(text);
}

START_TEST(test_bounds)
{
    setenv("CHECK_LONG", "0123456789", 1);
    parse_many("[x]\nk = ", "a", INI_LINE_MAX);
    ck_assert_str_eq(errors.lines[0], "hark.ini:2: [x] the line is too long");
    parse_many("[x]\nk = ", "a\\\n", INI_LINE_MAX);
    ck_assert_str_eq(errors.lines[0], "hark.ini:2: [x] the line is too long");
    parse_many("[x]\nk = ", "${CHECK_LONG:-x}", 4000);
    ck_assert_uint_eq(errors.count, 0);
    setenv("CHECK_LONG", "01234567890123456789", 1);
    parse_many("[x]\nk = ", "${CHECK_LONG:-x}", 4000);
    ck_assert_str_eq(errors.lines[0], "hark.ini:2: [x] k: the value is too long");
    parse_many("", "#", INI_FILE_MAX + 1);
    ck_assert_str_eq(errors.lines[0], "hark.ini: File too large");
    parse_many("[x]\n", "k=\n", INI_ENTRIES_MAX + 9);
    ck_assert_uint_eq(errors.count, 1);
    ck_assert_str_eq(errors.lines[0], "hark.ini:200002: [x] too many keys");
    parse_many("", "[x]\n", INI_SECTIONS_MAX + 1);
    ck_assert_str_eq(errors.lines[0], "hark.ini:20001: too many sections");
    parse_many("", "word\n", 5000);
    ck_assert_uint_eq(errors.count, 5000);
    ck_assert_str_eq(errors.lines[INI_ERRORS_MAX - 1], "hark.ini:100: expected \"key = value\"");
}
END_TEST

/* ---- files ---- */

static const char *path(const char *name)
{
    static char full[200];

    snprintf(full, sizeof(full), "%s/%s", directory, name);
    return full;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path(name), "w");

    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void read_main(void)
{
    teardown();
    ini = ini_read(path("main.ini"), &errors);
    ck_assert_ptr_nonnull(ini);
}

/* An error without the directory that no test can know. */
static const char *error_at(size_t index)
{
    static char text[500];
    const char *from = errors.lines[index], *found;
    size_t used = 0;

    while ((found = strstr(from, directory)) != NULL) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%.*s", (int)(found - from), from);
        from = found + strlen(directory) + 1;
    }
    snprintf(text + used, sizeof(text) - used, "%s", from);
    return text;
}

START_TEST(test_include)
{
    put("main.ini", "include = one.ini\n[hark]\na = 1\ninclude = conf.d/*.ini\nb = 2\ninclude = none*.ini\n");
    put("one.ini", "[one]\n");
    put("conf.d/20.ini", "[b]\nb = x\n");
    put("conf.d/10.ini", "[a]\ninclude = taken as a key here\n");
    put("conf.d/30.txt", "[c]\n");
    read_main();
    ck_assert_msg(errors.count == 0, "%s", errors.lines[0]);
    ck_assert_uint_eq(ini->section_count, 4);
    ck_assert_str_eq(ini->sections[0].label, "[one]");
    ck_assert_str_eq(ini->sections[1].label, "[hark]");
    ck_assert_uint_eq(ini->sections[1].count, 2);
    ck_assert_str_eq(ini->sections[1].entries[1].key, "b");
    ck_assert_str_eq(ini->sections[2].label, "[a]");
    ck_assert_str_eq(ini->sections[2].entries[0].key, "include");
    ck_assert_str_eq(ini->sections[3].label, "[b]");
    ck_assert_str_eq(ini->sections[3].file, path("conf.d/20.ini"));
}
END_TEST

START_TEST(test_include_mistakes)
{
    put("main.ini", "[hark]\ninclude = absent.ini\ninclude = conf.d/*.ini\ninclude =\n");
    put("conf.d/10.ini", "a = 1\n[a]\n");
    put("conf.d/20.ini", "[a]\n");
    read_main();
    ck_assert_uint_eq(errors.count, 4);
    ck_assert_str_eq(error_at(0), "main.ini:2: [hark] include = absent.ini: No such file or directory");
    ck_assert_str_eq(error_at(1), "conf.d/10.ini:1: a: a key stands in a section such as [hark]");
    ck_assert_str_eq(error_at(2), "main.ini:4: [hark] include = : expected a file name");
    ck_assert_str_eq(error_at(3), "conf.d/20.ini:1: [a] the section stands already in conf.d/10.ini:2");
}
END_TEST

START_TEST(test_include_cycle)
{
    put("main.ini", "include = one.ini\n");
    put("one.ini", "include = conf.d/../main.ini\n");
    read_main();
    ck_assert_uint_eq(errors.count, 1);
    ck_assert_str_eq(error_at(0), "one.ini:1: include: the file includes itself");
}
END_TEST

START_TEST(test_include_depth)
{
    char name[20], text[50];

    put("main.ini", "include = 0.ini\n");
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof(name), "%d.ini", i);
        snprintf(text, sizeof(text), "[s%d]\n[hark]\ninclude = %d.ini\n", i, i + 1);
        put(name, i > 0 ? text + strcspn(text, "\n") + 8 : text);
    }
    read_main();
    ck_assert_uint_eq(errors.count, 1);
    ck_assert_str_eq(error_at(0), "7.ini:1: includes are nested too deep");
}
END_TEST

START_TEST(test_unreadable)
{
    ini = ini_read("/nonexistent/hark.ini", &errors);
    ck_assert_str_eq(errors.lines[0], "/nonexistent/hark.ini: No such file or directory");
    teardown();
    ini = ini_read("/tmp", &errors);
    ck_assert_str_eq(errors.lines[0], "/tmp: Is a directory");
    teardown();
    ini = ini_read("/dev/zero", &errors);
    ck_assert_str_eq(errors.lines[0], "/dev/zero: File too large");
}
END_TEST

static int remove_one(const char *name, const struct stat *status, int kind, struct FTW *where)
{
    (void)status, (void)kind, (void)where;
    return remove(name);
}

int main(void)
{
    Suite *suite = suite_create("ini");
    TCase *cases = tcase_create("ini"), *files = tcase_create("files");
    int failed;

    if (mkdtemp(directory) == NULL || mkdir(path("conf.d"), 0700) != 0)
        return 1;
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, test_values);
    tcase_add_test(cases, test_quotes);
    tcase_add_test(cases, test_hash);
    tcase_add_test(cases, test_environment);
    tcase_add_test(cases, test_sections);
    tcase_add_test(cases, test_mistakes);
    tcase_add_test(cases, test_all_mistakes_are_reported);
    tcase_add_test(cases, test_bytes);
    tcase_add_test(cases, test_bounds);
    suite_add_tcase(suite, cases);
    tcase_add_checked_fixture(files, setup, teardown);
    tcase_add_test(files, test_include);
    tcase_add_test(files, test_include_mistakes);
    tcase_add_test(files, test_include_cycle);
    tcase_add_test(files, test_include_depth);
    tcase_add_test(files, test_unreadable);
    suite_add_tcase(suite, files);
    failed = suite_run(suite);
    nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return failed;
}
