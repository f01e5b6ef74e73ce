/* SPDX-License-Identifier: MIT */
/* The command line: each test runs options_run() in a process of its own and looks at what it
 * prints and how it ends. */
#include "daemon/options.h"
#include "suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define GOOD \
    "[hark]\nurl = amqp://127.0.0.1:1/v\n[exchange e]\n[queue q]\nbind = e a.#\n[listener l]\nmodule = log\nqueue = q\non = a.*\n"

static bool journal; /* standard output and error go to the journal, as under systemd */
static char printed[1 << 17], file[] = "/tmp/check_options.XXXXXX";

static void write_file(const char *text)
{
    int fd = mkstemp(file);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* Arguments, with FILE for the configuration, NULL at the end. Returns the exit status; standard
 * output and error are in `printed`. */
static int run_to(const char *output, const char *const *arguments)
{
    char *argv[16] = {strdup("harkd")};
    int ends[2], argc = 1, status;
    size_t length = 0;
    char stream[64];
    struct stat st;
    ssize_t n;
    pid_t child;

    for (; arguments[argc - 1] != NULL; argc++)
        argv[argc] = strdup(strcmp(arguments[argc - 1], "FILE") == 0 ? file : arguments[argc - 1]);
    ck_assert_int_eq(pipe(ends), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(output != NULL ? open(output, O_WRONLY) : ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        if (journal) {
            fstat(ends[1], &st);
            snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
            setenv("JOURNAL_STREAM", stream, 1);
        }
        status = options_run(argc, argv);
        fflush(stdout);
        _exit(status);
    }
    close(ends[1]);
    while ((n = read(ends[0], printed + length, sizeof(printed) - 1 - length)) > 0)
        length += (size_t)n;
    printed[length] = '\0';
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "%s", printed);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return WEXITSTATUS(status);
}

#define RUN(...) run_to(NULL, (const char *const[]){__VA_ARGS__, NULL})

static void has(const char *text)
{
    ck_assert_msg(strstr(printed, text) != NULL, "\"%s\" is not in: %.2000s", text, printed);
}

START_TEST(tells)
{
    ck_assert_int_eq(RUN("--version"), 0);
    ck_assert_int_eq(strncmp(printed, "harkd ", 6), 0);
    ck_assert_int_eq(RUN("--help"), 0);
    has("--explain KEY");
    has("no pid file");
    ck_assert_int_eq(RUN("-h"), 0);
    ck_assert_int_eq(RUN("--defaults"), 0);
    has("hang_timeout = 30s");
    has("[listener ");
}
END_TEST

START_TEST(wrong_arguments)
{
    ck_assert_int_eq(RUN("--bogus"), EX_USAGE);
    has("--bogus");
    has("harkd --help");
    ck_assert_int_eq(RUN("-c"), EX_USAGE);
    has("-c wants an argument");
    ck_assert_int_eq(RUN("--check=x"), EX_USAGE);
    has("--check=x");
    ck_assert_int_eq(RUN("-x"), EX_USAGE);
    has("no option -x");
    ck_assert_int_eq(RUN("--log-level", "loud"), EX_USAGE);
    has("\"loud\": expected error, warning, notice, info, debug");
    ck_assert_int_eq(RUN("--log", "syslog"), EX_USAGE);
    ck_assert_int_eq(RUN("stray"), EX_USAGE);
    has("\"stray\"");
    ck_assert_int_eq(RUN("--reload", "1x"), EX_USAGE);
    has("\"1x\": expected the process id of harkd");
    ck_assert_int_eq(RUN("--reload", "0"), EX_USAGE);
    ck_assert_int_eq(RUN("--reload", "2147483647"), EX_UNAVAILABLE);
    has("process 2147483647 cannot be asked for a reload");
    ck_assert_int_eq(RUN("--exchange", "e", "--check"), EX_USAGE);
}
END_TEST

START_TEST(checks)
{
    write_file(GOOD);
    ck_assert_int_eq(RUN("--check", "-c", "FILE"), 0);
    unlink(file);
    strcpy(file, "/tmp/check_options.XXXXXX");
    write_file(GOOD "comand = x\n[queue q]\n");
    ck_assert_int_eq(RUN("--check", "--config", "FILE"), 1);
    has(":10: [listener l] unknown key \"comand\"");
    has(":11: [queue q]");
    unlink(file);
    ck_assert_int_eq(RUN("--check", "-c", "/nonexistent/hark.ini"), 1);
    has("/nonexistent/hark.ini");
    /* And it does not start with such a file either. */
    ck_assert_int_eq(RUN("-c", "/nonexistent/hark.ini"), 1);
}
END_TEST

#define LISTENS "[exchange e]\n[queue q]\nbind = e a.*\n[listener l]\nmodule = log\nqueue = q\non = a.*\n"

/* Credentials are there in the service only: elsewhere they are no mistakes, and it is said that they were not
 * looked at. */
static void check_credentials(const char *text, const char *const *notes, size_t count)
{
    char number[40];

    strcpy(file, "/tmp/check_options.XXXXXX");
    write_file(text);
    unsetenv("CREDENTIALS_DIRECTORY");
    ck_assert_int_eq(RUN("--check", "-c", "FILE"), 0);
    for (size_t i = 0; i < count; i++)
        has(notes[i]);
    snprintf(number, sizeof(number), ": 0 errors, 0 warnings, %zu note%s\n", count, count == 1 ? "" : "s");
    has(number);
    ck_assert_int_eq(RUN("--explain", "a.b", "-c", "FILE"), 0);
    /* To run, they are needed, and in the service, or with what it has, they are checked. */
    ck_assert_int_eq(RUN("-c", "FILE"), 1);
    setenv("CREDENTIALS_DIRECTORY", "/run/credentials/check.options", 1);
    ck_assert_int_eq(RUN("--check", "-c", "FILE"), 1);
    unsetenv("CREDENTIALS_DIRECTORY");
    unlink(file);
}

START_TEST(credentials)
{
    static const char *const client[] = {":3: [hark] note: password_file = hark.password: not checked: outside of the",
                                         ":4: [hark] note: tls_ca = /run/credentials/harkd.service/ca: not checked",
                                         ":5: [hark] note: tls_certificate = /run/credentials/check.options/c: not",
                                         ":7: [hark] note: tls_key_password_file = k: not checked"};
    static const char *const broker[] = {":6: [user u] note: password_file = u.password: not checked",
                                         ":4: [broker] note: definitions = /run/credentials/harkd.service/d: not"};

    check_credentials(
        "[hark]\nurl = amqps://me@h/v\npassword_file = hark.password\ntls_ca = ${CREDENTIALS_DIRECTORY}/ca\n"
        "tls_certificate = /run/credentials/check.options/c\ntls_key = /dev/null\n"
        "tls_key_password_file = k\n" LISTENS,
        client, HARK_COUNT(client));
    check_credentials("[hark]\nurl = embedded:\n[broker]\ndefinitions = ${CREDENTIALS_DIRECTORY}/d\n"
                      "[user u]\npassword_file = u.password\n" LISTENS,
                      broker, HARK_COUNT(broker));
    strcpy(file, "/tmp/check_options.XXXXXX");
    write_file("[hark]\nurl = amqp://me@h/v\npassword_file = /nonexistent/password\n" LISTENS);
    ck_assert_int_eq(RUN("--check", "-c", "FILE"), 1);
    has(":3: [hark] password_file = /nonexistent/password: No such file");
    unlink(file);
}
END_TEST

/* What is said before there is a log has its priority, too. */
START_TEST(journal_priorities)
{
    journal = true;
    write_file(GOOD "comand = x\n[queue q]\n");
    ck_assert_int_eq(RUN("-c", "FILE"), 1);
    ck_assert_int_eq(strncmp(printed, "<3>/tmp/check_options", 21), 0);
    has("\n<3>/tmp/check_options");
    unlink(file);
    strcpy(file, "/tmp/check_options.XXXXXX");
    write_file(GOOD "emit = nowhere x\n[queue lonely]\n");
    ck_assert_int_eq(RUN("-c", "FILE", "--check"), 0);
    has("<4>/tmp/check_options");
    has("<5>/tmp/check_options");
    unlink(file);
    ck_assert_int_eq(RUN("--log", "syslog"), EX_USAGE);
    has("<3>harkd: \"syslog\": expected auto, text");
    ck_assert_int_eq(RUN("--bogus"), EX_USAGE);
    has("<3>harkd: there is no option --bogus");
    ck_assert_int_eq(RUN("stray"), EX_USAGE);
    has("<3>harkd: unexpected argument");
}
END_TEST

START_TEST(explains)
{
    write_file(GOOD);
    ck_assert_int_eq(RUN("-c", "FILE", "--explain", "a.b"), 0);
    has("runs l (");
    ck_assert_int_eq(RUN("-c", "FILE", "--explain", "a.b", "--exchange", "e"), 0);
    ck_assert_int_eq(RUN("-c", "FILE", "--explain", "z"), 1);
    unlink(file);
}
END_TEST

START_TEST(standalone)
{
    char folder[] = "/tmp/check_options.XXXXXX", path[100];

    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("STATE_DIRECTORY", folder, 1);
    ck_assert_int_eq(RUN("--standalone", "--check"), 0);
    has("1 exchange, 1 queue, 1 listener: 0 errors, 0 warnings, 0 notes");
    ck_assert_int_eq(RUN("--explain", "hello.world", "--standalone"), 0);
    has("runs log (");
    ck_assert_int_eq(RUN("--standalone", "-c", "/nonexistent/hark.ini"), EX_USAGE);
    has("--standalone takes no configuration");
    ck_assert_int_eq(RUN("--defaults", "--standalone"), 0);
    has("url = embedded:");
    has(folder);
    write_file(printed); /* is an ini file itself */
    ck_assert_int_eq(RUN("--check", "-c", "FILE"), 0);
    unlink(file);
    setenv("STATE_DIRECTORY", "/a \"$b\\c:/d", 1); /* the first of several, whatever is in its name */
    ck_assert_int_eq(RUN("--standalone", "--check"), 0);
    ck_assert_int_eq(RUN("--standalone", "--defaults"), 0);
    has("data = \"/a \\\"$$b\\\\c\"\n");
    snprintf(path, sizeof(path), "%s/.local", folder);
    ck_assert_int_ne(access(path, F_OK), 0); /* nothing is made before it is needed */
    rmdir(folder);
}
END_TEST

START_TEST(full_disk)
{
    static const char *const asked[] = {"--defaults", "--version", "--help"};

    for (size_t i = 0; i < HARK_COUNT(asked); i++) {
        ck_assert_int_eq(run_to("/dev/full", (const char *const[]){asked[i], NULL}), EX_IOERR);
        has("No space left");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tcase = tcase_create("options");

    tcase_add_test(tcase, tells);
    tcase_add_test(tcase, wrong_arguments);
    tcase_add_test(tcase, checks);
    tcase_add_test(tcase, journal_priorities);
    tcase_add_test(tcase, credentials);
    tcase_add_test(tcase, explains);
    tcase_add_test(tcase, standalone);
    tcase_add_test(tcase, full_disk);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
