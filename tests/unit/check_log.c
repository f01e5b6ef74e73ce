/* SPDX-License-Identifier: MIT */
/* The logger: what lines look like in each format, and that nothing that happens at the other end
 * stops a caller. */
#include "base/log_private.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_JOURNAL "/nonexistent/journal"

static char line[LOG_LINE_SIZE];

static const char *formatted(enum log_format format, const char *message, size_t length, const char *name,
                             const char *value)
{
    struct log_record record = {
        .level = LOG_LEVEL_WARNING,
        .time = {.tv_sec = 1767323045, .tv_nsec = 678999999},
        .pid = 42,
        .who = "worker[1]",
        .message = span_of(message, length),
        .field_count = name != NULL,
    };

    if (name != NULL) {
        record.fields[0].name = span_str(name);
        record.fields[0].value = span_str(value);
    }
    line[log_format_record(format, LOG_DRESS_NONE, &record, line)] = '\0';
    return line;
}

START_TEST(formats)
{
    const char text[] = "key \"a\\b\"\n\033[31m\x9b\xc3\xa4\xc2\x9b";
    size_t length = sizeof(text) - 1;

    ck_assert_str_eq(formatted(LOG_FORMAT_TEXT, text, length, "key", "x"),
                     "2026-01-02T03:04:05.678Z warning worker[1]: key \"a\\b\"\\n\\x1B[31m\\x9B\xc3\xa4\\xC2\\x9B\n");
    ck_assert_str_eq(formatted(LOG_FORMAT_LOGFMT, text, length, "routing-key", "a b"),
                     "time=2026-01-02T03:04:05.678Z level=warning process=worker[1] pid=42 msg=\"key \\\"a\\\\b\\\"\\n"
                     "\\x1B[31m\\x9B\xc3\xa4\\xC2\\x9B\" routing-key=\"a b\"\n");
    ck_assert_str_eq(formatted(LOG_FORMAT_LOGFMT, "plain", 5, "n", "12"),
                     "time=2026-01-02T03:04:05.678Z level=warning process=worker[1] pid=42 msg=plain n=12\n");
    ck_assert_str_eq(
        formatted(LOG_FORMAT_JSON, text, length, "key", ""),
        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"warning\",\"process\":\"worker[1]\",\"pid\":42,"
        "\"message\":\"key \\\"a\\\\b\\\"\\n\\u001b[31m\\\\x9B\xc3\xa4\\\\xC2\\\\x9B\",\"key\":\"\"}\n");
    ck_assert_str_eq(formatted(LOG_FORMAT_JOURNALD, "two\nlines", 9, "routing-key", "a\nMESSAGE=b"),
                     "PRIORITY=4\nSYSLOG_IDENTIFIER=harkd\nHARK_PROCESS=worker[1]\nMESSAGE=two\\nlines\n"
                     "HARK_ROUTING_KEY=a\\nMESSAGE=b\n");
}
END_TEST

START_TEST(dates)
{
    static const struct {
        time_t seconds;
        const char *text;
    } known[] = {
        {0, "1970-01-01T00:00:00"},          {951782399, "2000-02-28T23:59:59"},  {951782400, "2000-02-29T00:00:00"},
        {1709210096, "2024-02-29T12:34:56"}, {4107542400, "2100-03-01T00:00:00"}, {1735689599, "2024-12-31T23:59:59"},
    };

    for (size_t i = 0; i < HARK_COUNT(known); i++) {
        struct log_record record = {.time = {.tv_sec = known[i].seconds}, .who = "w"};

        log_format_record(LOG_FORMAT_TEXT, LOG_DRESS_NONE, &record, line);
        ck_assert_msg(strncmp(line, known[i].text, 19) == 0, "%.19s is not %s", line, known[i].text);
    }
}
END_TEST

START_TEST(longest_line_fits)
{
    static char message[LOG_MESSAGE_MAX], value[LOG_FIELDS_SIZE - 1];
    struct log_record record = {.who = "worker[256]", .message = span_of(message, sizeof(message)), .field_count = 1};

    memset(message, 1, sizeof(message));
    memset(value, 1, sizeof(value));
    record.fields[0].name = span_str("v");
    record.fields[0].value = span_of(value, sizeof(value));
    for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JOURNALD; format++) {
        size_t length = log_format_record((enum log_format)format, LOG_DRESS_COLOUR, &record, line);

        ck_assert_uint_le(length, sizeof(line));
        ck_assert_int_eq(line[length - 1], '\n');
    }
    ck_assert(formatted(LOG_FORMAT_JSON, message, sizeof(message), "v", "w") != NULL);
    ck_assert_str_eq(line + strlen(line) - strlen("\"v\":\"w\"}\n"), "\"v\":\"w\"}\n");
}
END_TEST

START_TEST(escape)
{
    static const struct {
        const char *from, *to;
        size_t size;
    } rows[] = {
        {"plain", "plain", 6},
        {"plain", "p...", 5},
        {"plain", "...", 4},
        {"plain", "..", 3},
        {"plain", "", 1},
        {"a\nb\tc\\", "a\\nb\\tc\\\\", 64},
        {"\x01\x7f\xff", "\\x01\\x7F\\xFF", 64},
        {"\xc3\xa9", "\xc3\xa9", 64},
        {"\xc3", "\\xC3", 64},
        {"\xe2\x82\xac\xe2\x82", "\xe2\x82\xac\\xE2\\x82", 64},
        {"\xc0\xaf", "\\xC0\\xAF", 64},
        {"\xed\xa0\x80", "\\xED\\xA0\\x80", 64},
        {"\xf0\x9f\x98\x80\xf5\x80\x80\x80", "\xf0\x9f\x98\x80\\xF5\\x80\\x80\\x80", 64},
        {"ab\n\n\n", "ab\\n...", 8},
    };
    char to[64];

    for (size_t i = 0; i < HARK_COUNT(rows); i++)
        ck_assert_str_eq(log_escape(to, rows[i].size, span_str(rows[i].from)), rows[i].to);
    ck_assert_str_eq(log_escape(to, sizeof(to), span_of("\0x", 2)), "\\x00x");
    ck_assert_str_eq(log_escape(to, sizeof(to), span_of(NULL, 0)), "");
}
END_TEST

/* ---- with a pipe at the other end ---- */

static int ends[2];
static char got[1 << 20];
static size_t got_length;

static void pipe_setup(void)
{
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    got_length = 0;
}

/* Reads what comes until `end` is in it. */
static const char *read_until(const char *end)
{
    struct pollfd poller = {.fd = ends[0], .events = POLLIN};

    for (;;) {
        ssize_t n;

        got[got_length] = '\0';
        if (strstr(got, end) != NULL)
            return got;
        ck_assert_msg(poll(&poller, 1, 3000) > 0, "nothing came after: %.200s", got);
        n = read(ends[0], got + got_length, sizeof(got) - 1 - got_length);
        ck_assert_int_gt(n, 0);
        got_length += (size_t)n;
    }
}

static unsigned count(const char *in, const char *what)
{
    unsigned n = 0;

    while ((in = strstr(in, what)) != NULL)
        n++, in++;
    return n;
}

START_TEST(lines_in_order)
{
    struct log_field fields[] = {{"key", span_str("a.b")}, {0}};
    const char *at;

    pipe_setup();
    ck_assert_int_eq(log_start_to(LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO, ends[1], NO_JOURNAL), 0);
    for (int i = 0; i < 500; i++)
        log_info("line %d.", i);
    log_debug("not this");
    log_set_level(LOG_LEVEL_DEBUG);
    log_at(LOG_LEVEL_DEBUG, fields, "last");
    log_flush(2000);
    at = read_until("msg=last key=a.b\n");
    ck_assert_ptr_null(strstr(at, "not this"));
    for (int i = 0; i < 500; i++) {
        char expected[32];

        snprintf(expected, sizeof(expected), "line %d.", i);
        at = strstr(at, expected);
        ck_assert_msg(at != NULL, "%s", expected);
    }
    log_stop();
}
END_TEST

/* Nobody reads: callers go on, memory is bounded, and the number of lost lines is told in the right
 * place. */
START_TEST(stuck_pipe)
{
    unsigned lost = 0, reports = 0;
    const char *report = got;

    pipe_setup();
    ck_assert_int_eq(log_start_to(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, ends[1], NO_JOURNAL), 0);
    for (int i = 0; i < 20000; i++)
        log_info("a line that nobody reads, number %d", i);
    read_until("dropped: the reader of the log is too slow\n");
    log_info("afterwards");
    read_until("afterwards");
    while ((report = strstr(report, " warning harkd: ")) != NULL) {
        unsigned n;

        report += strlen(" warning harkd: ");
        ck_assert_int_eq(sscanf(report, "%u log lines dropped", &n), 1);
        lost += n;
        reports++;
    }
    ck_assert_uint_gt(lost, 1000);
    ck_assert_uint_lt(reports, 10);
    ck_assert_uint_eq(count(got, "nobody reads") + lost, 20000);
    log_stop();
}
END_TEST

static int filled;

static void fill_pipe(void)
{
    char page[4096] = {0};
    ssize_t n;

    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    while ((n = write(ends[1], page, sizeof(page))) > 0)
        filled += (int)n;
    fcntl(ends[1], F_SETFL, 0);
}

static void drain_filling(void)
{
    while (filled > 0) {
        ssize_t n = read(ends[0], got, (size_t)filled);

        ck_assert_int_gt(n, 0);
        filled -= (int)n;
    }
    got_length = 0;
}

/* libcheck's timeout is the judge: none of these may wait for the reader. */
START_TEST(stuck_pipe_at_stop)
{
    pipe_setup();
    fill_pipe();
    ck_assert_int_eq(log_start_to(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, ends[1], NO_JOURNAL), 0);
    log_info("never seen");
    log_flush(50);
    log_stop();
    log_info("nor this, and it does not wait");
    /* A logger that was stopped in this state can be started again. */
    ck_assert_int_eq(log_start_to(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, ends[1], NO_JOURNAL), 0);
    log_stop();
}
END_TEST

START_TEST(reader_gone)
{
    pipe_setup();
    ck_assert_int_eq(log_start_to(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, ends[1], NO_JOURNAL), 0);
    close(ends[0]);
    for (int i = 0; i < 1000; i++)
        log_info("to nobody %d", i);
    log_flush(2000);
    log_stop();
}
END_TEST

/* What the parent had not written stays the parent's, and the child's logger works although its
 * thread is new. */
START_TEST(forked)
{
    pid_t child;
    int status;

    pipe_setup();
    ck_assert_int_eq(log_start_to(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, ends[1], NO_JOURNAL), 0);
    log_info("begin"); /* a sanitizer's child hangs if its parent's thread was just being born */
    read_until("begin\n");
    fill_pipe();
    for (int i = 0; i < 100; i++)
        log_info("of the parent");
    child = fork();
    if (child == 0) {
        if (log_after_fork("worker[7]") != 0)
            _exit(1);
        log_info("of the child");
        log_flush(3000);
        log_stop();
        _exit(0);
    }
    drain_filling();
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    read_until("worker[7]: of the child\n");
    log_info("end");
    read_until("harkd: end\n");
    ck_assert_uint_le(count(got, "of the parent"), 100);
    log_stop();
}
END_TEST

START_TEST(unstarted)
{
    pipe_setup();
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    log_error("directly \033");
    read_until("error harkd: directly \\x1B\n");
    fill_pipe();
    log_error("nobody reads, nobody waits");
}
END_TEST

/* ---- journald ---- */

/* As if systemd had connected the pipe to the journal. */
static void be_journal_stream(int fd)
{
    char stream[64];
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
}

/* Where lines go over the stream after all, the journal still learns their priority: before the log starts, after it
 * has stopped, in a form that the file asks for, and when journald's socket is not there. */
START_TEST(journal_stream)
{
    static const enum log_format forms[] = {LOG_FORMAT_AUTO, LOG_FORMAT_TEXT, LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON};
    static const char *const warned[] = {"\n<4>2", "\n<4>2", "\n<4>time=", "\n<4>{\"time\":"};

    pipe_setup();
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    ck_assert_str_eq(log_prefix(STDERR_FILENO, LOG_LEVEL_ERROR), "");
    be_journal_stream(STDERR_FILENO);
    ck_assert_str_eq(log_prefix(STDERR_FILENO, LOG_LEVEL_ERROR), "<3>");
    ck_assert_str_eq(log_prefix(STDIN_FILENO, LOG_LEVEL_ERROR), "");
    log_error("before");
    read_until("before\n");
    ck_assert_int_eq(strncmp(got, "<3>2", 4), 0);
    for (size_t i = 0; i < HARK_COUNT(forms); i++) {
        got_length = 0;
        ck_assert_int_eq(log_start_to(forms[i], LOG_LEVEL_INFO, STDERR_FILENO, NO_JOURNAL), 0);
        log_notice("first");
        log_warning("second %zu", i);
        log_stop();
        log_info("after");
        read_until("after\n");
        ck_assert_int_eq(strncmp(got, "<5>", 3), 0);
        ck_assert_msg(strstr(got, warned[i]) != NULL, "%s", got);
        ck_assert_ptr_nonnull(strstr(got, "\n<6>2"));
    }
}
END_TEST

static void receive_until(int journal, const char *end)
{
    static char datagram[LOG_LINE_SIZE];
    ssize_t n;

    do {
        struct pollfd poller = {.fd = journal, .events = POLLIN};

        ck_assert_msg(poll(&poller, 1, 3000) > 0, "\"%s\" did not come", end);
        n = recv(journal, datagram, sizeof(datagram) - 1, 0);
        ck_assert_int_gt(n, 0);
        datagram[n] = '\0';
    } while (strstr(datagram, end) == NULL);
}

START_TEST(journald)
{
    char directory[] = "/tmp/check_log.XXXXXX", datagram[4096], stream[64];
    struct log_field fields[] = {{"listener", span_str("mail")}, {0}};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    int journal = socket(AF_UNIX, SOCK_DGRAM, 0);
    ssize_t n;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", directory);
    ck_assert_int_eq(bind(journal, (struct sockaddr *)&address, sizeof(address)), 0);
    pipe_setup();

    /* auto: only when standard error is the very stream that systemd made. */
    ck_assert_int_eq(fstat(ends[1], &st), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino + 1);
    setenv("JOURNAL_STREAM", stream, 1);
    ck_assert_int_eq(log_start_to(LOG_FORMAT_AUTO, LOG_LEVEL_INFO, ends[1], address.sun_path), 0);
    log_info("to the pipe");
    read_until("to the pipe\n");
    log_stop();

    be_journal_stream(ends[1]);
    ck_assert_int_eq(log_start_to(LOG_FORMAT_AUTO, LOG_LEVEL_INFO, ends[1], address.sun_path), 0);
    log_at(LOG_LEVEL_ERROR, fields, "it\nfailed");
    n = recv(journal, datagram, sizeof(datagram) - 1, 0);
    ck_assert_int_gt(n, 0);
    datagram[n] = '\0';
    ck_assert_str_eq(datagram, "PRIORITY=3\nSYSLOG_IDENTIFIER=harkd\nHARK_PROCESS=harkd\nMESSAGE=it\\nfailed\n"
                               "HARK_LISTENER=mail\n");

    /* A journald that does not read stops nobody either, and one that comes back is found again. */
    for (int i = 0; i < 20000; i++)
        log_info("line %d", i);
    close(journal);
    unlink(address.sun_path);
    journal = socket(AF_UNIX, SOCK_DGRAM, 0);
    ck_assert_int_eq(bind(journal, (struct sockaddr *)&address, sizeof(address)), 0);
    receive_until(journal, "dropped: the reader of the log is too slow\n");
    log_info("back");
    receive_until(journal, "MESSAGE=back\n");
    log_stop();

    unlink(address.sun_path);
    rmdir(directory);
    ck_assert_int_eq(log_start_to(LOG_FORMAT_JOURNALD, LOG_LEVEL_INFO, ends[1], address.sun_path), -1);
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(long_messages)
{
    static char text[3 * LOG_MESSAGE_MAX];
    struct log_field fields[] = {{"first", span_of(text, sizeof(text))}, {"second", span_str("s")}, {0}};

    memset(text, 'x', sizeof(text) - 1);
    pipe_setup();
    ck_assert_int_eq(log_start_to(LOG_FORMAT_JSON, LOG_LEVEL_INFO, ends[1], NO_JOURNAL), 0);
    log_at(LOG_LEVEL_INFO, fields, "%s", text);
    read_until("}\n");
    ck_assert_ptr_nonnull(strstr(got, "xxx...\",\"first\":\"xxx"));
    ck_assert_ptr_null(strstr(got, "second"));
    ck_assert_uint_lt(got_length, LOG_MESSAGE_MAX + LOG_FIELDS_SIZE + 200);
    log_stop();
}
END_TEST

START_TEST(rate_limit)
{
    struct log_limit limit = {.burst = 3, .period_ms = 60000};
    unsigned dropped, passed = 0;

    for (int i = 0; i < 10; i++)
        passed += log_allowed(&limit, &dropped);
    ck_assert_uint_eq(passed, 3);
    limit.since -= 60000;
    ck_assert(log_allowed(&limit, &dropped));
    ck_assert_uint_eq(dropped, 7);
    ck_assert(log_allowed(&limit, &dropped));
    ck_assert_uint_eq(dropped, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tcase = tcase_create("log");

    tcase_set_timeout(tcase, 20);
    tcase_add_test(tcase, formats);
    tcase_add_test(tcase, dates);
    tcase_add_test(tcase, longest_line_fits);
    tcase_add_test(tcase, escape);
    tcase_add_test(tcase, lines_in_order);
    tcase_add_test(tcase, stuck_pipe);
    tcase_add_test(tcase, stuck_pipe_at_stop);
    tcase_add_test(tcase, reader_gone);
    tcase_add_test(tcase, forked);
    tcase_add_test(tcase, unstarted);
    tcase_add_test(tcase, journal_stream);
    tcase_add_test(tcase, journald);
    tcase_add_test(tcase, long_messages);
    tcase_add_test(tcase, rate_limit);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
