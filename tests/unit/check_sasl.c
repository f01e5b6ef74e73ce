/* SPDX-License-Identifier: MIT */
/* Logging in: what RabbitMQ 3.10 answers to each response, and that no password is repeated. */
#include "broker/sasl.h"

#include "wire/codec.h"
#include "wire/table.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>

#define BYTES(text) span_of(text, sizeof(text) - 1)

static struct users *users;
static struct sasl_peer peer;
static struct reply error;
static char who[128];

static void put(const char *name, const char *password, bool loopback_only)
{
    struct user_options options = {.name = name, .password = password, .loopback_only = loopback_only};
    char why[256];

    ck_assert_int_eq(users_put(users, &options, why, sizeof(why)), 0);
}

static void setup(void)
{
    users = users_new();
    put("alice", "sesame", false);
    put("near", "sesame", true);
    peer = (struct sasl_peer){0};
}

static void teardown(void)
{
    users_free(users);
}

/* The response stands at the end of a block of its size: a sanitizer sees what reads further. */
static struct user *login(const char *mechanism, struct span response)
{
    uint8_t *bytes = malloc(response.length > 0 ? response.length : 1);
    struct user *user;

    if (response.length > 0)
        memcpy(bytes, response.data, response.length);
    error = (struct reply){0};
    user = sasl_login(users, &peer, span_str(mechanism), span_of(response.length > 0 ? bytes : NULL, response.length),
                      who, sizeof(who), &error);
    free(bytes);
    return user;
}

static void admits(const char *mechanism, struct span response, const char *name)
{
    struct user *user = login(mechanism, response);

    ck_assert_msg(user != NULL, "%s: %s", error.text, who);
    ck_assert_str_eq(user_name(user), name);
    ck_assert_str_eq(who, name);
    ck_assert_uint_eq(error.code, 0);
    user_drop(user);
}

static void refuses(const char *mechanism, struct span response, const char *expected)
{
    char text[256];

    ck_assert_ptr_null(login(mechanism, response));
    snprintf(
        text, sizeof(text),
        "ACCESS_REFUSED - Login was refused using authentication mechanism %s. For details see the broker logfile.",
        mechanism);
    ck_assert_uint_eq(error.code, REPLY_ACCESS_REFUSED);
    ck_assert_uint_eq(error.class_id, 0);
    ck_assert_uint_eq(error.method_id, 0);
    ck_assert_str_eq(error.text, text);
    ck_assert_str_eq(who, expected);
}

static void fails(const char *mechanism, struct span response, enum reply_code code, const char *expected)
{
    ck_assert_ptr_null(login(mechanism, response));
    ck_assert_uint_eq(error.code, code);
    ck_assert_uint_eq(error.class_id, 10);
    ck_assert_uint_eq(error.method_id, 11);
    ck_assert_str_eq(error.text, expected);
    ck_assert_str_eq(who, "");
}

START_TEST(test_plain)
{
    char name[400];

    admits("PLAIN", BYTES("\0alice\0sesame"), "alice");
    refuses("PLAIN", BYTES("\0alice\0wrong"), "user 'alice' - invalid credentials");
    refuses("PLAIN", BYTES("\0alice\0sesame1"), "user 'alice' - invalid credentials");
    refuses("PLAIN", BYTES("\0alice\0sesam"), "user 'alice' - invalid credentials");
    refuses("PLAIN", BYTES("\0bob\0sesame"), "user 'bob' - invalid credentials");
    refuses("PLAIN", BYTES("\0\0sesame"), "user '' - invalid credentials");
    refuses("PLAIN", BYTES("\0alice\0"), "user 'alice' attempted to log in with a blank password");
    refuses("PLAIN", BYTES("\0a\n\033b\0x"), "user 'a\\n\\x1Bb' - invalid credentials");
    /* A name that fills a frame is cut. */
    memset(name, 'n', sizeof(name));
    name[0] = name[sizeof(name) - 2] = 0;
    ck_assert_ptr_null(login("PLAIN", span_of(name, sizeof(name))));
    ck_assert_uint_eq(error.code, REPLY_ACCESS_REFUSED);
    ck_assert(strncmp(who, "user 'nnnnnn", 12) == 0);
}
END_TEST

START_TEST(test_plain_malformed)
{
    static const struct {
        const char *bytes;
        size_t length;
    } responses[] = {
        {"", 0},          {"\0", 1},
        {"guest", 5},     {"\0guest", 6},
        {"\0a\0b\0", 5},  {"me\0alice\0sesame", 15}, /* an authorization identity */
        {"\0a\0b\0c", 6}, {"alice\0sesame", 12},
    };

    fails("PLAIN", span_of(responses[_i].bytes, responses[_i].length), REPLY_SYNTAX_ERROR,
          "SYNTAX_ERROR - response of PLAIN invalid");
}
END_TEST

START_TEST(test_loopback)
{
    refuses("PLAIN", BYTES("\0near\0sesame"), "user 'near' can only connect via localhost");
    refuses("PLAIN", BYTES("\0near\0wrong"), "user 'near' - invalid credentials");
    peer.loopback = true;
    admits("PLAIN", BYTES("\0near\0sesame"), "near");
}
END_TEST

START_TEST(test_guest)
{
    ck_assert(users_remove(users, "alice"));
    ck_assert(users_remove(users, "near"));
    refuses("PLAIN", BYTES("\0guest\0guest"), "user 'guest' can only connect via localhost");
    peer.loopback = true;
    admits("PLAIN", BYTES("\0guest\0guest"), "guest");
}
END_TEST

static struct span amqplain(struct buf *to, const char *login, char kind, const char *password)
{
    buf_clear(to);
    if (login != NULL)
        table_put_string(to, span_str("LOGIN"), span_str(login));
    if (password != NULL)
        table_put_value(to, span_str("PASSWORD"), kind, span_str(password));
    return buf_span(to);
}

START_TEST(test_amqplain)
{
    struct buf to = {0};
    struct span whole;

    admits("AMQPLAIN", amqplain(&to, "alice", 'S', "sesame"), "alice");
    refuses("AMQPLAIN", amqplain(&to, "alice", 'S', "wrong"), "user 'alice' - invalid credentials");
    refuses("AMQPLAIN", amqplain(&to, "", 'S', "wrong"), "user '' - invalid credentials");
    refuses("AMQPLAIN", amqplain(&to, "alice", 'S', ""), "user 'alice' attempted to log in with a blank password");
    fails("AMQPLAIN", amqplain(&to, "alice", 'S', NULL), REPLY_SYNTAX_ERROR,
          "SYNTAX_ERROR - AMQPLAIN auth info is missing LOGIN or PASSWORD field");
    fails("AMQPLAIN", span_of(NULL, 0), REPLY_SYNTAX_ERROR,
          "SYNTAX_ERROR - AMQPLAIN auth info is missing LOGIN or PASSWORD field");
    fails("AMQPLAIN", amqplain(&to, "alice", 'x', "sesame"), REPLY_SYNTAX_ERROR,
          "SYNTAX_ERROR - AMQPLAIN auth info uses unsupported type for LOGIN or PASSWORD field");
    fails("AMQPLAIN", BYTES("\0alice\0sesame"), REPLY_SYNTAX_ERROR, "SYNTAX_ERROR - response of AMQPLAIN invalid");
    whole = amqplain(&to, "alice", 'S', "sesame");
    for (size_t length = 0; length < whole.length; length++) {
        ck_assert_ptr_null(login("AMQPLAIN", span_of(whole.data, length)));
        ck_assert_uint_eq(error.code, REPLY_SYNTAX_ERROR);
    }
    buf_free(&to);
}
END_TEST

START_TEST(test_external)
{
    ck_assert_str_eq(sasl_mechanisms(users, &peer), "PLAIN AMQPLAIN");
    fails("EXTERNAL", BYTES(""), REPLY_COMMAND_INVALID,
          "COMMAND_INVALID - invalid authentication mechanism 'EXTERNAL'");
    peer.certificate_name = "alice";
    ck_assert_str_eq(sasl_mechanisms(users, &peer), "EXTERNAL PLAIN AMQPLAIN");
    admits("EXTERNAL", BYTES(""), "alice");
    admits("EXTERNAL", BYTES("bob"), "alice");
    peer.certificate_name = "bob";
    ck_assert_str_eq(sasl_mechanisms(users, &peer), "PLAIN AMQPLAIN");
    refuses("EXTERNAL", BYTES(""), "user 'bob' - no such user");
    peer.certificate_name = "near";
    refuses("EXTERNAL", BYTES(""), "user 'near' can only connect via localhost");
    peer.loopback = true;
    admits("EXTERNAL", BYTES(""), "near");
    /* The other mechanisms are not bound to the certificate. */
    admits("PLAIN", BYTES("\0alice\0sesame"), "alice");
}
END_TEST

START_TEST(test_trusted)
{
    struct user *user;

    peer.trusted = true;
    ck_assert_str_eq(sasl_mechanisms(users, &peer), "EXTERNAL PLAIN AMQPLAIN");
    user = login("EXTERNAL", BYTES(""));
    ck_assert_ptr_nonnull(user);
    ck_assert(user_may(user, "any", PERMISSION_CONFIGURE, span_str("thing")));
    user_drop(user);
    refuses("PLAIN", BYTES("\0alice\0wrong"), "user 'alice' - invalid credentials");
}
END_TEST

START_TEST(test_unknown)
{
    fails("GSSAPI", BYTES("x"), REPLY_COMMAND_INVALID, "COMMAND_INVALID - unknown authentication mechanism 'GSSAPI'");
    fails("", BYTES("\0alice\0sesame"), REPLY_COMMAND_INVALID, "COMMAND_INVALID - unknown authentication mechanism ''");
    fails("plain", BYTES("\0alice\0sesame"), REPLY_COMMAND_INVALID,
          "COMMAND_INVALID - unknown authentication mechanism 'plain'");
    fails("\n", BYTES(""), REPLY_COMMAND_INVALID, "COMMAND_INVALID - unknown authentication mechanism '\\n'");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sasl");
    TCase *tcase = tcase_create("sasl");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_plain);
    tcase_add_loop_test(tcase, test_plain_malformed, 0, 8);
    tcase_add_test(tcase, test_loopback);
    tcase_add_test(tcase, test_guest);
    tcase_add_test(tcase, test_amqplain);
    tcase_add_test(tcase, test_external);
    tcase_add_test(tcase, test_trusted);
    tcase_add_test(tcase, test_unknown);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
