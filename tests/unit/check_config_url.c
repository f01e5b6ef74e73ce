/* SPDX-License-Identifier: MIT */
/* The broker's URL. */
#include "daemon/config_private.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>

static struct config_url url;
static char error[500];

static void teardown(void)
{
    config_url_free(&url);
    url = (struct config_url){0};
}

static void good(const char *text, const char *shown)
{
    teardown();
    error[0] = 0;
    ck_assert_msg(config_url_parse(text, &url, error, sizeof(error)) == 0, "%s: %s", text, error);
    ck_assert_str_eq(url.shown, shown);
}

static const char *bad(const char *text)
{
    teardown();
    ck_assert_int_eq(config_url_parse(text, &url, error, sizeof(error)), -1);
    ck_assert_ptr_null(strstr(error, "s3cret"));
    return error;
}

START_TEST(test_good)
{
    good("amqp://", "amqp://guest@127.0.0.1:5672/%2f");
    good("amqp:///v", "amqp://guest@127.0.0.1:5672/v");
    good("amqp://h/", "amqp://guest@h:5672/%2f");
    good("amqps://h", "amqps://guest@h:5671/%2f");
    ck_assert(url.tls);
    good("amqp://me%40home:s3cret%2f%25:@h:1,[::1],[fe80::1%25eth0]:65535,%68/a%2fb",
         "amqp://me@home@h:1,[::1]:5672,"
         "[fe80::1%eth0]:65535,h:5672/a/b");
    ck_assert_str_eq(url.user, "me@home");
    ck_assert_str_eq(url.password, "s3cret/%:");
    ck_assert_uint_eq(url.host_count, 4);
    ck_assert_str_eq(url.hosts[1].host, "::1");
    ck_assert_str_eq(url.hosts[2].host, "fe80::1%eth0");
    ck_assert_uint_eq(url.hosts[2].port, 65535);
    ck_assert_str_eq(url.vhost, "a/b");
    good("amqp://me:s3@cret@h", "amqp://me@h:5672/%2f");
    ck_assert_str_eq(url.password, "s3@cret");
    good("amqp://me@h", "amqp://me@h:5672/%2f");
    ck_assert_str_eq(url.password, "");
}
END_TEST

START_TEST(test_unix)
{
    good("amqp+unix:///run/a%20b.sock", "amqp+unix://guest@/run/a b.sock?vhost=%2f");
    ck_assert_str_eq(url.hosts[0].path, "/run/a b.sock");
    ck_assert_ptr_null(url.hosts[0].host);
    good("amqp+unix://me:s3cret@/run/x?vhost=%2fv", "amqp+unix://me@/run/x?vhost=/v");
    ck_assert_str_eq(url.password, "s3cret");
    ck_assert_str_eq(url.vhost, "/v");
}
END_TEST

START_TEST(test_bad)
{
    static const char port[] = "expected a port from 1 to 65535 behind the colon of a host; in a password, @ : / are "
                               "written %40 %3a %2f";

    ck_assert_str_eq(bad("http://h"), "expected amqp://, amqps://, amqp+unix:// or embedded:");
    ck_assert_str_eq(bad(""), "expected amqp://, amqps://, amqp+unix:// or embedded:");
    ck_assert_str_eq(bad("amqp://h:"), port);
    ck_assert_str_eq(bad("amqp://h:0"), port);
    ck_assert_str_eq(bad("amqp://h:65536"), port);
    ck_assert_str_eq(bad("amqp://me:s3cret/x@h"), port);
    ck_assert_str_eq(bad("amqp://h,"), "a host without a name");
    ck_assert_str_eq(bad("amqp://:5672"), "a host without a name");
    ck_assert_str_eq(bad("amqp://[]"), "a host without a name");
    ck_assert_str_eq(bad("amqp://[::1"), "a [ without its ]");
    ck_assert_str_eq(bad("amqp://[::1]x"), "expected :port or the end of the host behind ]");
    ck_assert_str_eq(bad("amqp://::1"), "more than one colon in a host: an IPv6 address stands in [ ]");
    ck_assert_str_eq(bad("amqp://h/a/b"),
                     "the virtual host is one name; in names and passwords, / @ are written %2f %40");
    ck_assert_str_eq(bad("amqp://h/v?heartbeat=5"),
                     "options behind a ? are not known: heartbeat and the like are keys of their own");
    ck_assert_str_eq(bad("amqp://h/%"), "a % must be followed by two hexadecimal digits, and not by 00");
    ck_assert_str_eq(bad("amqp://h/%00"), "a % must be followed by two hexadecimal digits, and not by 00");
    ck_assert_str_eq(bad("amqp://h/%zz"), "a % must be followed by two hexadecimal digits, and not by 00");
    ck_assert_str_eq(bad("amqp+unix://run/x"), "expected amqp+unix:///path");
    ck_assert_str_eq(bad("amqp+unix:///run/x?v=1"), "?vhost=NAME is the only option here");
}
END_TEST

START_TEST(test_long)
{
    char text[600] = "amqp://h/";

    memset(text + strlen(text), 'v', 256);
    ck_assert_str_eq(bad(text), "the virtual host's name has more than 255 bytes");
    strcpy(text, "amqp+unix:///");
    memset(text + strlen(text), 'p', 110);
    ck_assert_str_eq(bad(text), "the path of a Unix socket has at most 107 bytes");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_url");
    TCase *cases = tcase_create("config_url");

    tcase_add_checked_fixture(cases, NULL, teardown);
    tcase_add_test(cases, test_good);
    tcase_add_test(cases, test_unix);
    tcase_add_test(cases, test_bad);
    tcase_add_test(cases, test_long);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
