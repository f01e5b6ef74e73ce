/* SPDX-License-Identifier: MIT */
/* The broker's process: what it makes of its configuration, and what it does when it is told. The broker itself is a
 * fake that notes its calls. */
#include "base/log.h"
#include "daemon/embedded.h"
#include "daemon/embedded_apply.h"
#include "suite.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/* ---- the broker ---- */

struct broker {
    struct users *users;
    struct loop *loop;
    void (*stopped)(void *arg);
    void *arg;
    struct event *event;
};

static char noted[4000];
static int to = -1; /* in a process of its own: where the notes go */

static void note(const char *format, ...)
{
    size_t used = strlen(noted);
    va_list args;

    va_start(args, format);
    vsnprintf(noted + used, sizeof(noted) - used, format, args);
    va_end(args);
    if (to >= 0)
        ck_assert_int_ge(write(to, noted + used, strlen(noted + used)), 0);
}

struct broker *broker_new(struct loop *loop, const struct broker_options *options, char *error, size_t size)
{
    struct broker *broker = calloc(1, sizeof(*broker));

    note("new %s %u %u\n", options->data, options->channel_max, options->heartbeat);
    if (strcmp(options->data, "locked") == 0) {
        snprintf(error, size, "it is locked");
        free(broker);
        return NULL;
    }
    broker->users = users_new();
    broker->loop = loop;
    return broker;
}

int broker_listen(struct broker *broker, int fd, struct tls_context *tls, bool trusted)
{
    (void)broker;
    note("listen %d%s%s\n", fd, tls != NULL ? " tls" : "", trusted ? " trusted" : "");
    return 0;
}

void broker_set_options(struct broker *broker, const struct broker_options *options)
{
    (void)broker;
    note("options %u\n", options->channel_max);
}

void broker_apply_accounts(struct broker *broker)
{
    (void)broker; /* what is kept on disk is the real one's */
}

struct users *broker_users(struct broker *broker)
{
    return broker->users;
}

int broker_add_vhost(struct broker *broker, const char *name)
{
    (void)broker;
    note("vhost %s\n", name);
    return 0;
}

int broker_import(struct broker *broker, const char *file, char *error, size_t size)
{
    (void)broker;
    note("import %s\n", file);
    snprintf(error, size, "%s: it is not JSON", file);
    return -1;
}

void broker_status(const struct broker *broker, struct broker_status *status)
{
    (void)broker;
    *status = (struct broker_status){.connections = 7, .ready = 8, .alarm = "disk"};
}

static void stop_now(evutil_socket_t fd, short what, void *arg)
{
    struct broker *broker = arg;

    (void)fd;
    (void)what;
    broker->stopped(broker->arg);
}

void broker_stop(struct broker *broker, int64_t ms, void (*done)(void *arg), void *arg)
{
    note("stop %lld\n", (long long)ms);
    broker->stopped = done;
    broker->arg = arg;
    broker->event = evtimer_new(loop_base(broker->loop), stop_now, broker);
    evtimer_add(broker->event, &(struct timeval){0});
}

void broker_free(struct broker *broker)
{
    note("free\n");
    if (broker->event != NULL)
        event_free(broker->event);
    users_free(broker->users);
    free(broker);
}

/* ---- what a configuration means ---- */

static char logged[4000];

static void on_log(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    if (level <= LOG_LEVEL_NOTICE)
        snprintf(logged + strlen(logged), sizeof(logged) - strlen(logged), "%s\n", text);
}

static struct config *parse(const char *text)
{
    struct ini_errors errors = {0};
    struct config *config = config_parse("hark.ini", text, strlen(text), &errors);

    ck_assert_msg(config != NULL, "%s", errors.count > 0 ? errors.lines[0] : "?");
    return config;
}

static bool logs_in(struct broker *broker, const char *name, const char *password)
{
    struct user *user = users_login(broker->users, span_str(name), span_str(password), false);

    if (user != NULL)
        user_drop(user);
    return user != NULL;
}

static bool may_write(struct broker *broker, const char *name, const char *vhost, const char *what)
{
    struct user *user = users_known(broker->users, span_str(name), false);
    bool may = user != NULL && user_may(user, vhost, PERMISSION_WRITE, span_str(what));

    if (user != NULL)
        user_drop(user);
    return may;
}

START_TEST(test_apply)
{
    struct broker broker = {.users = users_new()};
    struct config *one = parse(
        "[hark]\nurl = embedded:/shop\n[broker]\nvhost = a\nvhost = b\n[user x]\npassword = one\n"
        "permission = / .* ^x .*\npermission = a .* .* .*\n[user y]\npassword = two\n");
    struct config *two = parse(
        "[hark]\nurl = embedded:/shop\n[broker]\nvhost = b\nvhost = c\n[user x]\npassword = new\n"
        "permission = / .* ^y .*\n[user z]\npassword = three\n");

    log_divert(on_log, NULL);
    ck_assert_int_eq(embedded_apply(&broker, one, NULL), 0);
    ck_assert_str_eq(noted, "vhost shop\nvhost a\nvhost b\n");
    ck_assert_str_eq(logged, "");
    ck_assert(logs_in(&broker, "x", "one") && logs_in(&broker, "y", "two") && !logs_in(&broker, "z", "three"));
    ck_assert(may_write(&broker, "x", "/", "x1") && may_write(&broker, "x", "a", "q") &&
              !may_write(&broker, "x", "/", "y"));
    ck_assert(may_write(&broker, "y", "/", "anything") && !may_write(&broker, "y", "a", "anything"));
    noted[0] = 0;
    ck_assert_int_eq(embedded_apply(&broker, two, one), 0);
    ck_assert_str_eq(noted, "vhost shop\nvhost b\nvhost c\n");
    ck_assert_str_eq(logged, "virtual host \"a\" is not in the configuration any more: it stays, with what is in it\n"
                             "user \"y\" was removed\nuser \"z\" was added\n");
    ck_assert(!logs_in(&broker, "x", "one") && logs_in(&broker, "x", "new") && !logs_in(&broker, "y", "two"));
    ck_assert(!may_write(&broker, "x", "/", "x1") && !may_write(&broker, "x", "a", "q") &&
              may_write(&broker, "x", "/", "y"));
    ck_assert(logs_in(&broker, "z", "three"));
    config_free(one);
    config_free(two);
    users_free(broker.users);
    log_divert(NULL, NULL);
}
END_TEST

/* What fails is said, and the rest is applied. */
START_TEST(test_apply_definitions)
{
    struct broker broker = {.users = users_new()};
    struct config *config = parse(
        "[hark]\nurl = embedded:\n[broker]\ndefinitions = /dev/null\n[user x]\npassword = one\n");

    log_divert(on_log, NULL);
    ck_assert_int_eq(embedded_apply(&broker, config, NULL), -1);
    ck_assert_str_eq(noted, "vhost /\nimport /dev/null\n");
    ck_assert_str_eq(logged, "definitions: /dev/null: it is not JSON\n");
    ck_assert(logs_in(&broker, "x", "one"));
    config_free(config);
    users_free(broker.users);
    log_divert(NULL, NULL);
}
END_TEST

/* ---- the process ---- */

static char ini[] = "/tmp/check_embedded.XXXXXX";
static int control = -1, workers = -1, notes = -1;
static struct slot *slot;
static pid_t process;

static void write_ini(const char *text)
{
    FILE *file = fopen(ini, "w");

    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void start(const char *text)
{
    static struct supervisor_options options = {.path = ini, .log = -1, .log_level = -1};
    static struct sockets_item items[] = {{.fd = 100, .trusted = true}, {.fd = 101}};
    static struct sockets sockets = {.count = 2, .items = items};
    int ends[2], gone[2], out[2], fd = mkstemp(ini);

    ck_assert_int_ge(fd, 0);
    close(fd);
    write_ini(text);
    slot = slot_open();
    ck_assert_ptr_nonnull(slot);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    ck_assert_int_eq(pipe(gone), 0);
    ck_assert_int_eq(pipe(out), 0);
    process = fork();
    ck_assert_int_ge(process, 0);
    if (process == 0) {
        struct embedded_start begin = {.config = parse(text),
                                       .options = &options,
                                       .sockets = &sockets,
                                       .slot = slot,
                                       .control = ends[1],
                                       .workers = gone[0]};

        close(ends[0]);
        close(gone[1]);
        to = out[1];
        slot->control = ends[1];
        _exit(embedded_run(&begin));
    }
    control = ends[0];
    workers = gone[1];
    notes = out[0];
    close(ends[1]);
    close(gone[0]);
    close(out[1]);
}

static void heard(const char *what)
{
    size_t used = strlen(noted);
    struct pollfd poller = {.fd = notes, .events = POLLIN};

    while (strstr(noted, what) == NULL) {
        ssize_t got;

        ck_assert_msg(poll(&poller, 1, 10000) > 0, "\"%s\" does not come: %s", what, noted);
        got = read(notes, noted + used, sizeof(noted) - 1 - used);
        ck_assert_msg(got > 0, "it ended without \"%s\": %s", what, noted);
        used += (size_t)got;
        noted[used] = 0;
    }
}

static void slot_until(const _Atomic uint64_t *figure, uint64_t value)
{
    for (int waited = 0; atomic_load(figure) != value; waited += 10) {
        ck_assert_int_lt(waited, 10000);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

static int end(void)
{
    int status;

    ck_assert_int_eq(waitpid(process, &status, 0), process);
    ck_assert(WIFEXITED(status));
    unlink(ini);
    slot_close(slot);
    return WEXITSTATUS(status);
}

#define EMBEDDED "[hark]\nurl = embedded:\n[broker]\ndata = store\n"

START_TEST(test_run)
{
    start(EMBEDDED "heartbeat = 9s\nchannel_max = 3\ndrain_timeout = 2s\n");
    heard("listen 101\n");
    ck_assert_str_eq(noted, "new store 3 9\nvhost /\nlisten 100 trusted\nlisten 101\n");
    ck_assert_int_eq(write(control, "?", 1), 1);
    slot_until(&slot->figures.connections, 7);
    slot_until(&slot->figures.alarm, 2);
    ck_assert_uint_eq(atomic_load(&slot->state), SLOT_STARTED);
    ck_assert_int_eq(write(control, "s", 1), 1);
    ck_assert_int_eq(end(), EX_OK);
    heard("stop 2000\nfree\n");
}
END_TEST

START_TEST(test_reload)
{
    start(EMBEDDED "channel_max = 3\n");
    heard("listen 101\n");
    write_ini(EMBEDDED "channel_max = 4\nvhost = more\n");
    ck_assert_int_eq(write(control, "r", 1), 1);
    heard("options 4\nvhost /\nvhost more\n");
    slot_until(&slot->figures.reloads, 1);
    write_ini(EMBEDDED "channel_max = many\n"); /* the supervisor has seen it before somebody spoilt it */
    ck_assert_int_eq(write(control, "r", 1), 1);
    slot_until(&slot->figures.reloads, 2);
    write_ini(EMBEDDED "channel_max = 5\n");
    ck_assert_int_eq(write(control, "r", 1), 1);
    heard("options 5\nvhost /\n");
    slot_until(&slot->figures.reloads, 3);
    ck_assert_int_eq(write(control, "s", 1), 1);
    ck_assert_int_eq(end(), EX_OK);
    heard("free\n");
    ck_assert_ptr_eq(strstr(noted, "new "), noted); /* once */
    ck_assert_ptr_null(strstr(noted + 1, "new "));
}
END_TEST

START_TEST(test_refuses)
{
    start(_i == 0 ? "[hark]\nurl = embedded:\n[broker]\ndata = locked\n" : EMBEDDED "definitions = /dev/null\n");
    ck_assert_int_eq(end(), _i == 0 ? EX_OSERR : EX_CONFIG);
}
END_TEST

/* Without a supervisor it stays until the last worker is gone. */
START_TEST(test_orphaned)
{
    struct pollfd poller;

    start(EMBEDDED);
    heard("listen 101\n");
    close(control);
    poller = (struct pollfd){.fd = notes, .events = POLLIN};
    ck_assert_int_eq(poll(&poller, 1, 200), 0);
    close(workers);
    heard("stop 2000\n");
    ck_assert_int_eq(end(), EX_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("embedded");
    TCase *cases = tcase_create("embedded");

    tcase_set_timeout(cases, 30);
    tcase_add_test(cases, test_apply);
    tcase_add_test(cases, test_apply_definitions);
    tcase_add_test(cases, test_run);
    tcase_add_test(cases, test_reload);
    tcase_add_loop_test(cases, test_refuses, 0, 2);
    tcase_add_test(cases, test_orphaned);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
