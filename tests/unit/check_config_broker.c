/* SPDX-License-Identifier: MIT */
/* The sections of the embedded broker, what --check says about them, and the default of its memory. */
#include "daemon/check.h"
#include "daemon/config.h"
#include "daemon/memory.h"
#include "suite.h"

#include <hark/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct hark_module plain = {.api = HARK_API, .name = "plain", .help = "has no keys"};

extern const struct hark_module *const hark_modules[];
const struct hark_module *const hark_modules[] = {&plain, NULL};

static struct ini_errors errors;
static struct config *config;
static char text[8000];

static void teardown(void)
{
    config_free(config);
    ini_errors_free(&errors);
    config = NULL;
}

static void parse(const char *ini)
{
    teardown();
    config = config_parse("hark.ini", ini, strlen(ini), &errors);
}

static void good(const char *ini)
{
    parse(ini);
    ck_assert_msg(errors.count == 0, "%s", errors.lines[0]);
    ck_assert_ptr_nonnull(config);
}

/* All complaints, joined by line ends. */
static const char *bad(const char *ini)
{
    size_t used = 0;

    parse(ini);
    ck_assert_ptr_null(config);
    ck_assert_uint_gt(errors.count, 0);
    for (size_t i = 0; i < errors.count; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i > 0 ? "\n" : "", errors.lines[i]);
    return text;
}

/* What --check says, without the last line, which counts. */
static const char *findings(const char *ini)
{
    FILE *memory;

    good(ini);
    memory = fmemopen(text, sizeof(text), "w");
    ck_assert_int_eq(check_config(config, memory), 0);
    fclose(memory);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        if (end[1] == 0)
            *line = 0;
    return text;
}

#define EMBEDDED "[hark]\nurl = embedded:\n"

START_TEST(test_url)
{
    unsetenv("STATE_DIRECTORY");
    good("");
    ck_assert(!config->url.embedded);
    ck_assert_uint_eq(config->broker.listen.count, 0);
    good(EMBEDDED);
    ck_assert(config->url.embedded && !config->url.tls);
    ck_assert_uint_eq(config->url.host_count, 1);
    ck_assert_str_eq(config->url.hosts[0].path, "/var/lib/hark/workers.sock");
    ck_assert_str_eq(config->url.vhost, "/");
    ck_assert_str_eq(config->url.shown, "embedded:/%2f");
    good("[hark]\nurl = embedded:/\n");
    ck_assert_str_eq(config->url.vhost, "/");
    good("[hark]\nurl = embedded:/%2fmy%20shop\n");
    ck_assert_str_eq(config->url.vhost, "/my shop");
    ck_assert_str_eq(config->url.shown, "embedded://my shop");
    ck_assert_str_eq(
        bad("[hark]\nurl = embedded:shop\n"),
        "hark.ini:2: [hark] url: expected embedded: or embedded:/vhost, where / @ ? in the virtual host's name "
        "are written %2f %40 %3f");
    ck_assert_ptr_nonnull(strstr(bad("[hark]\nurl = embedded://host/v\n"), "expected embedded: or embedded:/vhost"));
    ck_assert_ptr_nonnull(strstr(bad("[hark]\nurl = embedded:/%zz\n"), "two hexadecimal digits"));
}
END_TEST

START_TEST(test_defaults)
{
    const struct config_broker *broker;

    good(EMBEDDED);
    broker = &config->broker;
    ck_assert_uint_eq(broker->listen.count, 1);
    ck_assert_str_eq(broker->listen.items[0].host.host, "127.0.0.1");
    ck_assert_uint_eq(broker->listen.items[0].host.port, 5672);
    ck_assert_int_eq(broker->listen.items[0].line, 0);
    ck_assert_uint_eq(broker->listen_tls.count, 0);
    ck_assert_int_eq(broker->memory_limit, memory_default_limit());
    ck_assert_int_eq(broker->disk_free_limit, 50 * 1024 * 1024);
    ck_assert_int_eq(broker->max_message_size, 128 * 1024 * 1024);
    ck_assert_int_eq(broker->frame_max, 131072);
    ck_assert_int_eq(broker->channel_max, 2047);
    ck_assert_int_eq(broker->heartbeat, 60000);
    ck_assert_int_eq(broker->connection_max, 10000);
    ck_assert_int_eq(broker->queue_max, 10000);
    ck_assert_int_eq(broker->consumer_max, 10000);
    ck_assert_int_eq(broker->handshake_timeout, 10000);
    ck_assert_int_eq(broker->where.line, 0);
    ck_assert(!broker->tls_verify);
    ck_assert_ptr_null(broker->definitions);
    ck_assert_uint_eq(config->user_count, 0);
}
END_TEST

START_TEST(test_listen)
{
    const struct config_addresses *listen;

    good(EMBEDDED "[broker]\nlisten = *:5673 [::1]:5672\nlisten = unix:/run/hark.sock example\nmemory_limit = 100M\n");
    listen = &config->broker.listen;
    ck_assert_uint_eq(listen->count, 4);
    ck_assert_str_eq(listen->items[0].host.host, "*");
    ck_assert_uint_eq(listen->items[0].host.port, 5673);
    ck_assert_int_eq(listen->items[0].line, 4);
    ck_assert_str_eq(listen->items[1].host.host, "::1");
    ck_assert_str_eq(listen->items[2].host.path, "/run/hark.sock");
    ck_assert_ptr_null(listen->items[2].host.host);
    ck_assert_int_eq(listen->items[2].line, 5);
    ck_assert_str_eq(listen->items[3].host.host, "example");
    ck_assert_uint_eq(listen->items[3].host.port, 5672);
    ck_assert_int_eq(config->broker.memory_limit, 100 * 1024 * 1024);
    ck_assert_int_eq(config->broker.where.line, 3);
    good(EMBEDDED "[broker]\nlisten =\n");
    ck_assert_uint_eq(config->broker.listen.count, 0);
    ck_assert_str_eq(
        bad(EMBEDDED "[broker]\nlisten = 1:2:3\nlisten = :5672 h:0 unix:x\n"),
        "hark.ini:4: [broker] listen = 1:2:3: more than one colon in a host: an IPv6 address stands in [ ]\n"
        "hark.ini:5: [broker] listen = :5672: a host without a name\n"
        "hark.ini:5: [broker] listen = h:0: expected a port from 1 to 65535 behind the colon of a host\n"
        "hark.ini:5: [broker] listen = unix:x: expected unix:/path, of at most 107 bytes");
}
END_TEST

START_TEST(test_tls)
{
    ck_assert_str_eq(bad(EMBEDDED "[broker]\nlisten_tls = *\n"),
                     "hark.ini:4: [broker] listen_tls: needs tls_certificate");
    ck_assert_str_eq(bad(EMBEDDED "[broker]\ntls_key = /k\n"), "hark.ini:4: [broker] tls_key: needs tls_certificate");
    ck_assert_str_eq(bad(EMBEDDED "[broker]\nlisten_tls = *\ntls_certificate = /nonexistent\n"),
                     "hark.ini:5: [broker] cannot load tls_certificate /nonexistent: No such file or directory");
}
END_TEST

START_TEST(test_data)
{
    char ini[400], folder[200];

    setenv("STATE_DIRECTORY", "/run/state:/run/other", 1);
    good(EMBEDDED);
    ck_assert_str_eq(config->broker.data, "/run/state");
    ck_assert_str_eq(config->url.hosts[0].path, "/run/state/workers.sock");
    good(EMBEDDED "[broker]\ndata = /srv/hark\n");
    ck_assert_str_eq(config->broker.data, "/srv/hark");
    unsetenv("STATE_DIRECTORY");
    memset(folder, 'x', sizeof(folder));
    snprintf(ini, sizeof(ini), EMBEDDED "[broker]\ndata = /%.94s\n", folder);
    ck_assert_ptr_nonnull(strstr(bad(ini), "so it has at most 94 bytes"));
    snprintf(ini, sizeof(ini), EMBEDDED "[broker]\ndata = /%.93s\n", folder);
    good(ini);
    ck_assert_str_eq(bad(EMBEDDED "[broker]\ndata =\n"), "hark.ini:4: [broker] data: expected a folder");
    ck_assert_str_eq(bad(EMBEDDED "[broker]\ndefinitions = /nonexistent\n"),
                     "hark.ini:4: [broker] definitions = /nonexistent: No such file or directory");
}
END_TEST

START_TEST(test_vhosts)
{
    good(EMBEDDED "[broker]\nvhost = shop\nvhost = my shop\n");
    ck_assert_uint_eq(config->broker.vhosts.count, 2);
    ck_assert_str_eq(config->broker.vhosts.items[1], "my shop");
    ck_assert_str_eq(bad(EMBEDDED "[broker]\nvhost =\n"),
                     "hark.ini:4: [broker] vhost = : expected a name of at most 255 bytes");
}
END_TEST

START_TEST(test_user)
{
    const struct config_user *user;

    good(EMBEDDED "[user shop]\npassword = \"s3cret x\"\ntags = administrator monitoring\nloopback_only = yes\n"
                  "permission = / ^shop\\. \"\" .*\npermission = \"my shop\" .* .* \"a b\"\n[user other]\n");
    ck_assert_uint_eq(config->user_count, 2);
    user = &config->users[0];
    ck_assert_str_eq(user->name, "shop");
    ck_assert_str_eq(user->password, "s3cret x");
    ck_assert_str_eq(user->tags, "administrator monitoring");
    ck_assert(user->loopback_only);
    ck_assert_uint_eq(user->permission_count, 2);
    ck_assert_str_eq(user->permissions[0].vhost, "/");
    ck_assert_str_eq(user->permissions[0].configure, "^shop\\.");
    ck_assert_str_eq(user->permissions[0].write, "");
    ck_assert_str_eq(user->permissions[0].read, ".*");
    ck_assert_int_eq(user->permissions[0].line, 7);
    ck_assert_str_eq(user->permissions[1].vhost, "my shop");
    ck_assert_str_eq(user->permissions[1].read, "a b");
    user = &config->users[1];
    ck_assert_ptr_null(user->password);
    ck_assert_str_eq(user->tags, "");
    ck_assert_int_eq(user->hashing_algorithm, CONFIG_HASHING_SHA256);
    ck_assert_uint_eq(user->permission_count, 1);
    ck_assert_str_eq(user->permissions[0].vhost, "/");
    ck_assert_str_eq(user->permissions[0].read, ".*");
    ck_assert_int_eq(user->permissions[0].line, 0);
}
END_TEST

START_TEST(test_user_mistakes)
{
    ck_assert_str_eq(bad(EMBEDDED "[user]\npassword =\n"),
                     "hark.ini:3: [user] the section needs a name, as in [user shop]\n"
                     "hark.ini:4: [user] password: an empty one lets nobody in; without the key only certificates do");
    ck_assert_str_eq(
        bad(EMBEDDED "[user a]\npassword = x\npassword_file = /nonexistent\npermission = / .*\n"),
        "hark.ini:5: [user a] password, password_file and password_hash: expected one of them\n"
        "hark.ini:5: [user a] password_file = /nonexistent: No such file or directory\n"
        "hark.ini:6: [user a] permission = / .*: expected VHOST CONFIGURE WRITE READ, the last three as regular "
        "expressions: .* is every name, \"\" none");
    ck_assert_str_eq(
        bad(EMBEDDED "[user a]\npermission = \"\" .* .* .*\n"),
        "hark.ini:4: [user a] permission = \"\" .* .* .*: the name of a virtual host has from 1 to 255 bytes");
}
END_TEST

/* A configuration for RabbitMQ with a section that would quietly do nothing. */
START_TEST(test_not_embedded)
{
    ck_assert_str_eq(bad("[broker]\n[user a]\npassword = secret\n"),
                     "hark.ini:1: [broker] is for the embedded broker, and needs url = embedded: in [hark]\n"
                     "hark.ini:2: [user a] is for the embedded broker, and needs url = embedded: in [hark]");
    ck_assert_str_eq(
        bad("[hark]\nurl = embedded:x\n[broker]\nlisten_tsl = *\n"),
        "hark.ini:2: [hark] url: expected embedded: or embedded:/vhost, where / @ ? in the virtual host's name "
        "are written %2f %40 %3f\n"
        "hark.ini:4: [broker] unknown key \"listen_tsl\"; did you mean \"listen_tls\"?");
    ck_assert_str_eq(bad(EMBEDDED "[broker x]\n"), "hark.ini:3: [broker x] the section [broker] has no name");
}
END_TEST

START_TEST(test_check)
{
    static const char *const listener = "[queue q]\n[listener l]\nmodule = plain\nqueue = q\n";
    char ini[1000];

    snprintf(ini, sizeof(ini), EMBEDDED "[exchange e]\n[queue q]\nbind = e #\n%s", strchr(listener, '\n') + 1);
    ck_assert_str_eq(findings(ini), "");
    ck_assert_str_eq(
        findings(EMBEDDED "auth = external\n[broker]\nlisten = *:5672\ntls_verify = yes\n"),
        "hark.ini:3: [hark] warning: auth has no effect: with url = embedded: workers are known to the broker\n"
        "hark.ini:5: [broker] warning: *:5672: there is no [user NAME], and guest may log in from this machine "
        "only: nobody can from outside\n"
        "hark.ini:4: [broker] warning: keys about TLS have no effect: listen_tls is empty\n"
        "hark.ini:1: [hark] note: there is no [listener NAME]: nothing will be consumed; the broker serves its "
        "clients\n");
    ck_assert_str_eq(
        findings(EMBEDDED "[broker]\nlisten =\n[user a]\npermission = shop .* .* .*\n[user b]\npassword = b\n"),
        "hark.ini:4: [broker] warning: the broker listens nowhere, and there is no [listener NAME]: nobody can "
        "reach it\n"
        "hark.ini:5: [user a] warning: has no password, and without tls_ca or tls_verify = yes in [broker] there "
        "are no certificates: cannot log in\n"
        "hark.ini:6: [user a] warning: permission: there is no virtual host \"shop\": it needs a line `vhost = "
        "shop` in [broker]\n"
        "hark.ini:8: [user b] warning: the password is the user's name: everybody tries that one first; set "
        "loopback_only = yes or a better one\n"
        "hark.ini:1: [hark] note: there is no [listener NAME]: nothing will be consumed; the broker serves its "
        "clients\n");
}
END_TEST

/* ---- memory ---- */

static void put(const char *folder, const char *name, const char *content)
{
    char path[300];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(content, file);
    fclose(file);
}

START_TEST(test_memory)
{
    char root[] = "/tmp/check_memory.XXXXXX", folder[100], command[200];

    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(folder, sizeof(folder), "%s/a", root);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(memory_cgroup_limit("0::/a/b\n", root), INT64_MAX);
    put(folder, "memory.max", "max\n");
    ck_assert_int_eq(memory_cgroup_limit("0::/a/b\n", root), INT64_MAX);
    put(folder, "memory.max", "1000000\n");
    ck_assert_int_eq(memory_cgroup_limit("0::/a/b\n", root), 1000000); /* of the group above */
    ck_assert_int_eq(memory_cgroup_limit("0::/\n", root), INT64_MAX);
    put(root, "memory.max", "2000\n"); /* of a container */
    ck_assert_int_eq(memory_cgroup_limit("0::/elsewhere\n", root), 2000);
    ck_assert_int_eq(memory_cgroup_limit("0::/", root), 2000);
    ck_assert_int_eq(memory_cgroup_limit("garbage\n\n", root), INT64_MAX);
    snprintf(folder, sizeof(folder), "%s/memory", root);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    put(folder, "memory.limit_in_bytes", "5000\n");
    ck_assert_int_eq(memory_cgroup_limit("12:cpu,cpuacct:/\n5:memory:/x\n", root), 5000);
    ck_assert_int_gt(memory_total(), 0);
    ck_assert_int_ge(memory_default_limit(), 64 * 1024 * 1024);
    snprintf(command, sizeof(command), "rm -r %s", root);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_broker");
    TCase *cases = tcase_create("config");

    tcase_add_checked_fixture(cases, NULL, teardown);
    tcase_add_test(cases, test_url);
    tcase_add_test(cases, test_defaults);
    tcase_add_test(cases, test_listen);
    tcase_add_test(cases, test_tls);
    tcase_add_test(cases, test_data);
    tcase_add_test(cases, test_vhosts);
    tcase_add_test(cases, test_user);
    tcase_add_test(cases, test_user_mistakes);
    tcase_add_test(cases, test_not_embedded);
    tcase_add_test(cases, test_check);
    tcase_add_test(cases, test_memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
