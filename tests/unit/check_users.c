/* SPDX-License-Identifier: MIT */
/* Users: RabbitMQ's hashes, who may log in from where, and what a name must look like. */
#include "broker/password.h"
#include "broker/permission.h"
#include "broker/users.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct users *users;
static char error[512];

static void setup(void)
{
    users = users_new();
    ck_assert_ptr_nonnull(users);
    error[0] = 0;
}

static void teardown(void)
{
    users_free(users);
}

static void put(const char *name, const char *password)
{
    struct user_options options = {.name = name, .password = password};

    ck_assert_msg(users_put(users, &options, error, sizeof(error)) == 0, "%s", error);
}

static bool logs_in_from(const char *name, const char *password, bool loopback)
{
    struct user *user = users_login(users, span_str(name), span_str(password), loopback);
    bool in = user != NULL;

    if (in)
        ck_assert_str_eq(user_name(user), name);
    user_drop(user);
    return in;
}

static bool logs_in(const char *name, const char *password)
{
    return logs_in_from(name, password, false);
}

static struct user *known(const char *name)
{
    struct user *user = users_known(users, span_str(name), false);

    ck_assert_ptr_nonnull(user);
    return user;
}

static void permit(const char *name, const char *vhost, const char *configure, const char *write, const char *read)
{
    ck_assert_msg(users_permit(users, name, vhost, configure, write, read, error, sizeof(error)) == 0, "%s", error);
}

/* ---- hashes ---- */

/* Made by RabbitMQ 3.10. */
static const struct {
    const char *clear, *hash, *algorithm;
} hashes[] = {
    {"sesame", "ED6+bQTelNdPsQ6iziuR+Szyg/eRs/7LZayP2Aynts4CwOLT", "rabbit_password_hashing_sha256"},
    {"b0b", "IIgkP3OHRJ4r8h0TES6oLpagmUav4m9YRYfZGaPgNPo9kslR5iIllHSR6CMfKIbgk4ZkiMUrtL9o4lBzaZ6QunuYtyQ=",
     "rabbit_password_hashing_sha512"},
    {"c", "DmlkeOoCGxnb9LI+VXAq3JCIilo=", "rabbit_password_hashing_md5"},
};

START_TEST(test_hashes)
{
    struct password password;

    for (unsigned told = 0; told < 2; told++) {
        ck_assert_int_eq(
            password_read(&password, hashes[_i].hash, told ? hashes[_i].algorithm : NULL, error, sizeof(error)), 0);
        ck_assert(password_matches(&password, span_str(hashes[_i].clear)));
        ck_assert(!password_matches(&password, span_str("other")));
        ck_assert(!password_matches(&password, span_str("")));
    }
}
END_TEST

START_TEST(test_bad_hashes)
{
    static const struct {
        const char *hash, *algorithm, *says;
    } bad[] = {
        {"DmlkeOoCGxnb9LI+VXAq3JCIilo=", "rabbit_password_hashing_sha256", "4 bytes salt and a SHA-256 hash"},
        {"DmlkeOoCGxnb9LI+VXAq3JCIilo=", "bcrypt", "'bcrypt' is not known"},
        {"DmlkeOoCGxnb9LI+VXAq3JCIilo", NULL, "is not base64"},
        {"DmlkeOoC", NULL, "is not base64"},
        {"AAAA", "rabbit_password_hashing_md5", "and an MD5 hash"},
        {"====", NULL, "is not base64"},
        {" DmlkeOoCGxnb9LI+VXAq3JCIilo=", NULL, "is not base64"},
        {"Dmlk=OoCGxnb9LI+VXAq3JCIilo=", NULL, "is not base64"},
        {"ED6+bQTelNdPsQ6iziuR+Szyg/eRs/7LZayP2Aynts4CwOLTED6+bQTelNdPsQ6iziuR+Szyg/eRs/7LZayP2Aynts4CwOLT"
         "ED6+bQTelNdPsQ6iziuR+Szyg/eRs/7LZayP2Aynts4CwOLT",
         NULL, "is not base64"},
    };
    struct user_options options = {.name = "u"};

    for (size_t i = 0; i < HARK_COUNT(bad); i++) {
        options.password_hash = bad[i].hash;
        options.algorithm = bad[i].algorithm;
        ck_assert_int_eq(users_put(users, &options, error, sizeof(error)), -1);
        ck_assert_msg(strstr(error, bad[i].says) != NULL && strstr(error, "user 'u': ") == error, "said: %s", error);
    }
    ck_assert_ptr_null(users_next(users, NULL));
}
END_TEST

START_TEST(test_salt)
{
    struct password one, two;

    ck_assert_int_eq(password_make(&one, span_str("x"), error, sizeof(error)), 0);
    ck_assert_int_eq(password_make(&two, span_str("x"), error, sizeof(error)), 0);
    ck_assert(memcmp(one.salt, two.salt, PASSWORD_SALT) != 0);
    ck_assert(password_matches(&one, span_str("x")) && password_matches(&two, span_str("x")));
    ck_assert_int_eq(password_make(&one, span_str(""), error, sizeof(error)), -1);
    ck_assert_str_eq(error, "the password is empty");
}
END_TEST

/* ---- who there is ---- */

START_TEST(test_guest)
{
    struct user *guest;

    ck_assert(logs_in_from("guest", "guest", true));
    ck_assert(!logs_in_from("guest", "guest", false));
    ck_assert(!logs_in_from("guest", "Guest", true));
    ck_assert(!logs_in_from("other", "guest", true));
    ck_assert_ptr_null(users_next(users, NULL));
    guest = users_login(users, span_str("guest"), span_str("guest"), true);
    ck_assert_str_eq(user_tags(guest), "administrator");
    ck_assert(user_may_enter(guest, "/"));
    ck_assert(user_may(guest, "any", PERMISSION_WRITE, span_str("thing")));

    put("alice", "sesame");
    ck_assert(!logs_in_from("guest", "guest", true));
    ck_assert(!user_may_enter(guest, "/"));
    ck_assert(!user_may(guest, "/", PERMISSION_READ, span_str("thing")));
    user_drop(guest);

    ck_assert(users_remove(users, "alice"));
    ck_assert(logs_in_from("guest", "guest", true));
}
END_TEST

START_TEST(test_put)
{
    struct user_options options = {.name = "alice", .password = "new", .tags = "monitoring", .loopback_only = true};
    uint64_t generation = users_generation(users);
    struct user *alice;

    put("alice", "old");
    ck_assert_uint_ne(users_generation(users), generation);
    permit("alice", "/", ".*", ".*", ".*");
    ck_assert(logs_in("alice", "old"));
    ck_assert(!logs_in("alice", ""));
    ck_assert(!logs_in("alic", "old") && !logs_in("alice2", "old"));
    alice = known("alice");
    ck_assert_str_eq(user_tags(alice), "");

    generation = users_generation(users);
    ck_assert_int_eq(users_put(users, &options, error, sizeof(error)), 0);
    ck_assert_uint_ne(users_generation(users), generation);
    ck_assert(!logs_in_from("alice", "old", true));
    ck_assert(logs_in_from("alice", "new", true));
    ck_assert(!logs_in_from("alice", "new", false));
    ck_assert_ptr_null(users_known(users, span_str("alice"), false));
    ck_assert_str_eq(user_tags(alice), "monitoring");
    ck_assert(user_has_tag(alice, "monitoring"));
    ck_assert(!user_has_tag(alice, "monitor"));
    ck_assert(!user_has_tag(alice, "monitoring2"));
    ck_assert(!user_has_tag(alice, ""));
    ck_assert(user_may_enter(alice, "/"));
    user_drop(alice);
}
END_TEST

START_TEST(test_names)
{
    struct user_options options = {.name = "", .password = "x"};
    char longest[257];

    ck_assert_int_eq(users_put(users, &options, error, sizeof(error)), -1);
    ck_assert_str_eq(error, "a user's name has 1 to 255 bytes");
    memset(longest, 'n', sizeof(longest));
    longest[256] = 0;
    options.name = longest;
    ck_assert_int_eq(users_put(users, &options, error, sizeof(error)), -1);
    longest[255] = 0;
    ck_assert_int_eq(users_put(users, &options, error, sizeof(error)), 0);
    ck_assert(logs_in(longest, "x"));
    ck_assert_ptr_null(users_login(users, span_of("n\0", 2), span_str("x"), true));
    ck_assert_ptr_null(users_login(users, span_of(NULL, 0), span_of(NULL, 0), true));
}
END_TEST

/* Known by a certificate only. */
START_TEST(test_no_password)
{
    struct user_options options = {.name = "cert", .password_hash = ""};

    put("cert", NULL);
    ck_assert(!logs_in("cert", "") && !logs_in("cert", "guest") && !logs_in("cert", "cert"));
    user_drop(known("cert"));
    ck_assert_int_eq(users_put(users, &options, error, sizeof(error)), 0);
    ck_assert(!logs_in("cert", "") && !logs_in("cert", "guest"));
    ck_assert_ptr_null(users_known(users, span_str("other"), true));
    options.password = "";
    ck_assert_int_eq(users_put(users, &options, error, sizeof(error)), -1);
    ck_assert_str_eq(error, "user 'cert': the password is empty");
}
END_TEST

START_TEST(test_removed)
{
    struct user *alice;
    uint64_t generation;

    put("alice", "sesame");
    put("bob", "b0b");
    permit("alice", "/", ".*", ".*", ".*");
    alice = known("alice");
    generation = users_generation(users);
    ck_assert(users_remove(users, "alice"));
    ck_assert(!users_remove(users, "alice"));
    ck_assert_uint_eq(users_generation(users), generation + 1);
    ck_assert(!logs_in("alice", "sesame"));
    ck_assert_str_eq(user_name(alice), "alice");
    ck_assert(!user_may_enter(alice, "/"));

    /* Another one of that name is another one. */
    put("alice", "sesame");
    permit("alice", "/", ".*", ".*", ".*");
    ck_assert(!user_may_enter(alice, "/"));
    user_drop(alice);
}
END_TEST

/* Outlives even the list. */
START_TEST(test_held)
{
    struct user *alice, *again;

    put("alice", "sesame");
    alice = known("alice");
    again = user_hold(alice);
    users_free(users);
    ck_assert_str_eq(user_name(alice), "alice");
    user_drop(alice);
    ck_assert_str_eq(user_name(again), "alice");
    user_drop(again);
    user_drop(NULL);
    users_free(NULL);
    users = users_new();
}
END_TEST

START_TEST(test_next)
{
    const struct user *user = NULL;
    char name[16];
    unsigned count = 0;

    for (unsigned i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "u%u", i);
        put(name, NULL);
    }
    while ((user = users_next(users, user)) != NULL) {
        snprintf(name, sizeof(name), "u%u", count++);
        ck_assert_str_eq(user_name(user), name);
    }
    ck_assert_uint_eq(count, 500);
}
END_TEST

START_TEST(test_trusted)
{
    struct user *trusted;

    put("alice", "sesame");
    trusted = users_trusted(users);
    ck_assert(user_may_enter(trusted, "any"));
    ck_assert(user_may(trusted, "any", PERMISSION_CONFIGURE, span_str("")));
    ck_assert_ptr_null(users_known(users, span_str(user_name(trusted)), true));
    user_drop(trusted);
}
END_TEST

/* ---- permissions ---- */

START_TEST(test_permissions)
{
    static const enum permission all[] = {PERMISSION_CONFIGURE, PERMISSION_WRITE, PERMISSION_READ};
    struct user *alice;
    uint64_t generation;

    put("alice", "sesame");
    alice = known("alice");
    ck_assert(!user_may_enter(alice, "/"));
    permit("alice", "/", "^c", "^w", "^r");
    permit("alice", "none", "", "", "");
    ck_assert(user_may_enter(alice, "/") && user_may_enter(alice, "none") && !user_may_enter(alice, "other"));
    for (size_t i = 0; i < HARK_COUNT(all); i++) {
        ck_assert(user_may(alice, "/", all[i], span_str("c")) == (all[i] == PERMISSION_CONFIGURE));
        ck_assert(user_may(alice, "/", all[i], span_str("w")) == (all[i] == PERMISSION_WRITE));
        ck_assert(user_may(alice, "/", all[i], span_str("r")) == (all[i] == PERMISSION_READ));
        ck_assert(!user_may(alice, "none", all[i], span_str("c")));
        ck_assert(!user_may(alice, "none", all[i], span_str("")));
        ck_assert(!user_may(alice, "other", all[i], span_str("c")));
    }
    generation = users_generation(users);
    permit("alice", "/", "", "", "x");
    ck_assert_uint_ne(users_generation(users), generation);
    ck_assert(!user_may(alice, "/", PERMISSION_CONFIGURE, span_str("c")));
    ck_assert(user_may(alice, "/", PERMISSION_READ, span_str("ox")));

    generation = users_generation(users);
    permit("alice", "/", NULL, NULL, NULL);
    ck_assert_uint_ne(users_generation(users), generation);
    ck_assert(!user_may_enter(alice, "/"));
    ck_assert(user_may_enter(alice, "none"));
    permit("alice", "/", NULL, NULL, NULL);
    user_drop(alice);
}
END_TEST

START_TEST(test_bad_permissions)
{
    struct user *alice;

    put("alice", "sesame");
    alice = known("alice");
    permit("alice", "/", "a", "a", "a");
    ck_assert_int_eq(users_permit(users, "alice", "/", "b", "b", "(", error, sizeof(error)), -1);
    ck_assert_msg(strstr(error, "user 'alice', virtual host '/', read: pattern '(' is not a POSIX extended regular "
                                "expression: ") == error,
                  "said: %s", error);
    ck_assert(user_may(alice, "/", PERMISSION_CONFIGURE, span_str("a")));
    ck_assert_int_eq(users_permit(users, "bob", "/", "b", "b", "b", error, sizeof(error)), -1);
    ck_assert_str_eq(error, "there is no user 'bob'");
    user_drop(alice);
}
END_TEST

START_TEST(test_default_exchange)
{
    struct user *alice;

    put("alice", "sesame");
    alice = known("alice");
    permit("alice", "/", "", "^amq\\.default$", "^$");
    ck_assert(user_may(alice, "/", PERMISSION_WRITE, span_str("")));
    ck_assert(!user_may(alice, "/", PERMISSION_CONFIGURE, span_str("")));
    ck_assert(!user_may(alice, "/", PERMISSION_READ, span_str("")));
    user_drop(alice);
}
END_TEST

static const struct {
    const char *pattern, *name;
    bool matches;
} patterns[] = {
    {"", "", true},
    {"", "a", false},
    {".*", "", true},
    {".*", "a\nb", true},
    {"b", "abc", true},
    {"^b", "abc", false},
    {"^(a|b)$", "b", true},
    {"^(a|b)$", "ab", false},
    {"^amq\\.", "amq.topic", true},
    {"^amq\\.", "amqp", false},
    {"^[a-z]{2,3}$", "abcd", false},
    {"^[[:digit:]]+$", "0123", true},
    {"^\\w+$", "a_1", true},
    {"^\\w+$", "a.b", false},
    {"^[]a]$", "]", true},
    {"^[^]a]$", "a", false},
    {"^(foo|)$", "", true},
    {"^.$", "\xff", true},
    {"^a\\*+$", "a**", true},
    {"^(a|b\\.c)\\+$", "b.c+", true},
};

START_TEST(test_patterns)
{
    struct permission_pattern pattern;
    struct span name = span_str(patterns[_i].name);

    ck_assert_msg(permission_compile(&pattern, patterns[_i].pattern, error, sizeof(error)) == 0, "%s", error);
    ck_assert(permission_matches(&pattern, name) == patterns[_i].matches);
    /* A name ends where it ends, and holds any byte. */
    if (strcmp(patterns[_i].pattern, "^(a|b)$") == 0) {
        ck_assert(permission_matches(&pattern, span_of("ab", 1)));
        ck_assert(!permission_matches(&pattern, span_of("a\0", 2)));
    }
    permission_free(&pattern);
}
END_TEST

static const struct {
    const char *pattern, *says;
} refused[] = {
    {"(", "is not a POSIX extended regular expression: "},
    {"[a", "is not a POSIX extended regular expression: "},
    {"a\\", "is not a POSIX extended regular expression: "},
    {"(?:a|b)", "is not a POSIX extended regular expression: "},
    {"^(?!amq)", "is not a POSIX extended regular expression: "},
    {"(?i)a", "is not a POSIX extended regular expression: "},
    {"\\d+", "write [0-9] for \\d"},
    {"\\Aa\\z", "an escape of Perl's"},
    {"[\\w.]", "a backslash within [ ]"},
    {"[a\\-z]", "a backslash within [ ]"},
    {"[[:alpha:]\\]", "a backslash within [ ]"},
    {"(a)\\1", "a back reference"},
    {"a++", "possessive"},
    {"\\<a", "a backslash before <"},
    {"((a{100}){100}){100}", "too many repetitions"},
    {"a{1,99999999999999999999}", "too many repetitions"},
    {"(0123456789012345678901234567890123456789012345678901234567890123456789){1000}", "too many repetitions"},
};

START_TEST(test_refused)
{
    struct permission_pattern pattern;

    ck_assert_int_eq(permission_compile(&pattern, refused[_i].pattern, error, sizeof(error)), -1);
    ck_assert_msg(strstr(error, refused[_i].says) != NULL && strstr(error, refused[_i].pattern) != NULL, "said: %s",
                  error);
}
END_TEST

START_TEST(test_long_pattern)
{
    struct permission_pattern pattern;
    char text[PERMISSION_PATTERN_MAX + 2];

    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = 0;
    ck_assert_int_eq(permission_compile(&pattern, text, error, sizeof(error)), -1);
    ck_assert_ptr_nonnull(strstr(error, "is longer than 1024 bytes"));
    text[sizeof(text) - 2] = 0;
    ck_assert_int_eq(permission_compile(&pattern, text, error, sizeof(error)), 0);
    ck_assert(permission_matches(&pattern, span_str(text)));
    permission_free(&pattern);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("users");
    TCase *tcase = tcase_create("users");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, test_hashes, 0, (int)HARK_COUNT(hashes));
    tcase_add_test(tcase, test_bad_hashes);
    tcase_add_test(tcase, test_salt);
    tcase_add_test(tcase, test_guest);
    tcase_add_test(tcase, test_put);
    tcase_add_test(tcase, test_names);
    tcase_add_test(tcase, test_no_password);
    tcase_add_test(tcase, test_removed);
    tcase_add_test(tcase, test_held);
    tcase_add_test(tcase, test_next);
    tcase_add_test(tcase, test_trusted);
    tcase_add_test(tcase, test_permissions);
    tcase_add_test(tcase, test_bad_permissions);
    tcase_add_test(tcase, test_default_exchange);
    tcase_add_loop_test(tcase, test_patterns, 0, (int)HARK_COUNT(patterns));
    tcase_add_loop_test(tcase, test_refused, 0, (int)HARK_COUNT(refused));
    tcase_add_test(tcase, test_long_pattern);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
