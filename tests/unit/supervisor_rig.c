/* SPDX-License-Identifier: MIT */
#include "supervisor_rig.h"

#include "daemon/config.h"
#include "daemon/reload_socket.h"
#include "daemon/supervisor.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

char rig_text[1 << 18];
pid_t rig_supervisor;
int rig_manager = -1;

static char directory[] = "/tmp/check_supervisor.XXXXXX";

/* ---- the workers ---- */

static volatile sig_atomic_t told_to_leave;

static void leave(int signal)
{
    (void)signal;
    told_to_leave = 1;
}

static void trace(const char *format, ...)
{
    char line[200], path[64];
    va_list args;
    int fd, length;

    snprintf(path, sizeof(path), "%s/trace", directory);
    va_start(args, format);
    length = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)length) != length)
        abort();
    close(fd);
}

/* True the first time that any worker asks. */
static bool first_time(void)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "%s/once", directory);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void enter_call(struct slot *slot)
{
    slot_enter(slot, span_str("mail"), span_str("signups"), span_str("user.\n"), span_str("m-1"), 42);
}

static _Noreturn void hang(struct slot *slot)
{
    enter_call(slot);
    for (;;)
        pause();
}

int rig_worker(const struct worker_start *start)
{
    const char *way = start->config->listeners[0].name;
    struct slot *slot = start->slot;
    struct pollfd control = {.fd = start->control, .events = POLLIN};
    struct rlimit no_core = {0};
    bool doze, misses = strcmp(way, "misses") == 0;

    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    if (strcmp(way, "refuses") == 0)
        return EX_CONFIG;
    if (strcmp(way, "breaks") == 0)
        raise(SIGSEGV);
    if (strcmp(way, "stubborn") == 0)
        signal(SIGTERM, SIG_IGN);
    else
        signal(SIGTERM, leave);
    trace("start %s %u %d\n", way, start->number, (int)getpid());
    if (strcmp(way, "stuck") == 0) {
        slot_enter(slot, span_str("mail"), span_str(""), span_str(""), span_str(""), 0);
        for (;;)
            pause();
    }
    slot_set_state(slot, SLOT_STARTED);
    slot_gauge(&slot->figures.connected, 1);
    if (strcmp(way, "slow") != 0)
        slot_set_state(slot, SLOT_CONSUMING);
    if (strcmp(way, "falls") == 0 || (strcmp(way, "crashes") == 0 && first_time())) {
        enter_call(slot);
        raise(SIGSEGV);
    }
    if (strcmp(way, "hangs") == 0 && first_time())
        hang(slot);
    doze = strcmp(way, "dozes") == 0 && first_time();
    while (!told_to_leave) {
        int got = poll(&control, 1, doze ? 600 : misses ? 1000 : -1);
        char byte;

        if (got > 0 && read(start->control, &byte, 1) == 0)
            break;
        if (got == 0 && misses)
            slot_stir(slot);
        else if (got == 0)
            hang(slot); /* nobody has asked for long: the supervisor sleeps */
        slot_turn(slot);
        if (strcmp(way, "deaf") != 0)
            slot_consumers_live(slot);
    }
    trace("%s %s %u %d\n", told_to_leave ? "left" : "orphan", way, start->number, (int)getpid());
    return EX_OK;
}

/* ---- the broker ---- */

static void rig_nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

/* Now and then it has something to do: its store is long. */
static void work_for(int ms)
{
    for (int spent = 0; spent < ms; spent += 50) {
        clock_t until = clock() + CLOCKS_PER_SEC / 50;

        while (clock() < until)
            ;
        for (int i = 0; i < 3; i++)
            rig_nap();
    }
}

int rig_embedded(const struct embedded_start *start)
{
    const char *way = start->config->broker.vhosts.count > 0 ? start->config->broker.vhosts.items[0] : "well";
    struct slot *slot = start->slot;
    struct pollfd waiting[] = {{.fd = start->control, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    bool orphan = false;

    trace("broker begins %s %d\n", way, (int)getpid());
    if (strcmp(way, "refuses") == 0)
        return EX_CONFIG;
    if (strcmp(way, "locked") == 0)
        return EX_OSERR;
    if (strcmp(way, "opens") == 0)
        work_for(1500);
    while (strcmp(way, "stands") == 0)
        pause();
    for (int i = 0; i < 10; i++)
        rig_nap(); /* long enough for workers that would not wait */
    trace("broker serves %zu\n", start->sockets->count);
    slot_set_state(slot, SLOT_STARTED);
    for (;;) {
        char byte = 0;
        int got = poll(waiting, 2, strcmp(way, "dozes") == 0 ? 600 : -1);

        if (got == 0 && first_time())
            for (;;)
                pause();
        if (got > 0 && waiting[1].revents != 0)
            break;
        if (got == 0)
            continue;
        if (!orphan && read(start->control, &byte, 1) == 0) {
            orphan = true;
            waiting[0].fd = -1;
            waiting[1].fd = start->workers;
        }
        if (byte == 's')
            break;
        if (byte == 'r') {
            trace("broker reads\n");
            slot_bump(&slot->figures.refusals, strcmp(way, "halves") == 0);
            slot_bump(&slot->figures.reloads, 1);
            slot_wake(slot);
        }
        slot_turn(slot);
        slot_consumers_live(slot);
    }
    trace("broker %s\n", orphan ? "orphan" : "left");
    return EX_OK;
}

/* ---- a supervisor in a process of its own ---- */

static const char *rig_path(const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

void rig_write_ini(const char *way, const char *general)
{
    FILE *file = fopen(rig_path("new.ini"), "w");
    char to[128];

    ck_assert_ptr_nonnull(file);
    fprintf(file, "[hark]\n%s\n%s\n", strstr(general, "url =") == NULL ? "url = amqp://127.0.0.1:1/v" : "", general);
    if (way != NULL)
        fprintf(file, "[exchange e]\n[queue q]\nbind = e #\n[listener %s]\nmodule = log\nqueue = q\n", way);
    fclose(file);
    snprintf(to, sizeof(to), "%s", rig_path("hark.ini"));
    ck_assert_int_eq(rename(rig_path("new.ini"), to), 0);
}

const char *rig_content(const char *name)
{
    int fd = open(rig_path(name), O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, rig_text, sizeof(rig_text) - 1) : 0;

    if (fd >= 0)
        close(fd);
    rig_text[n > 0 ? n : 0] = '\0';
    return rig_text;
}

unsigned rig_count(const char *in, const char *what)
{
    unsigned n = 0;

    while ((in = strstr(in, what)) != NULL)
        n++, in++;
    return n;
}

/* Waits until the file has `what` so many times. */
void rig_wait(const char *name, const char *what, unsigned times)
{
    for (int waited = 0; rig_count(rig_content(name), what) < times; waited += 10) {
        ck_assert_msg(waited < PATIENCE_MS, "\"%s\" does not come %u times in the %s:\n%.3000s", what, times, name,
                      rig_text);
        rig_nap();
    }
}

/* Waits for a message that has `what` in it; those before it are forgotten. */
void rig_heard(const char *what)
{
    struct pollfd poller = {.fd = rig_manager, .events = POLLIN};

    do {
        ssize_t n;

        ck_assert_msg(poll(&poller, 1, PATIENCE_MS) > 0, "%s does not come; log:\n%.3000s", what, rig_content("log"));
        n = recv(rig_manager, rig_text, sizeof(rig_text) - 1, 0);
        ck_assert_int_gt(n, 0);
        rig_text[n] = '\0';
    } while (strstr(rig_text, what) == NULL);
}

void rig_start(const char *way, const char *general, const char *watchdog_usec)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    ck_assert_ptr_nonnull(mkdtemp(directory));
    rig_write_ini(way, general);
    ck_assert_uint_lt(strlen(rig_path("notify")), sizeof(address.sun_path));
    memcpy(address.sun_path, rig_path("notify"), strlen(rig_path("notify")));
    rig_manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(rig_manager, (struct sockaddr *)&address, sizeof(address)), 0);
    rig_supervisor = fork();
    ck_assert_int_ge(rig_supervisor, 0);
    if (rig_supervisor == 0) {
        struct supervisor_options options = {.path = strdup(rig_path("hark.ini")), .log = -1, .log_level = -1};
        struct ini_errors errors = {0};
        struct config *config = config_read(options.path, &errors);
        int log = open(rig_path("log"), O_WRONLY | O_CREAT | O_APPEND, 0600);

        if (chdir(directory) != 0)
            _exit(98);
        dup2(log, STDERR_FILENO);
        setenv("NOTIFY_SOCKET", address.sun_path, 1);
        unsetenv("JOURNAL_STREAM");
        if (watchdog_usec != NULL)
            setenv("WATCHDOG_USEC", watchdog_usec, 1);
        if (config == NULL)
            _exit(99);
        _exit(supervisor_run(config, &options));
    }
}

void rig_begin_ask(struct rig_asker *asker)
{
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    asker->output = ends[0];
    asker->pid = fork();
    ck_assert_int_ge(asker->pid, 0);
    if (asker->pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        _exit(reload_socket_ask(rig_supervisor));
    }
    close(ends[1]);
}

int rig_end_ask(struct rig_asker *asker)
{
    size_t length = 0;
    ssize_t n;
    int status;

    while ((n = read(asker->output, rig_text + length, sizeof(rig_text) - 1 - length)) > 0)
        length += (size_t)n;
    rig_text[length] = 0;
    close(asker->output);
    ck_assert_int_eq(waitpid(asker->pid, &status, 0), asker->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int rig_ask_reload(void)
{
    struct rig_asker asker;

    rig_begin_ask(&asker);
    return rig_end_ask(&asker);
}

int rig_wait_end(void)
{
    int status = 0;

    for (int waited = 0; waitpid(rig_supervisor, &status, WNOHANG) == 0; waited += 10) {
        ck_assert_msg(waited < PATIENCE_MS, "the supervisor does not end:\n%.3000s", rig_content("log"));
        rig_nap();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void rig_clean_up(void)
{
    static const char *const names[] = {"hark.ini", "new.ini", "log", "trace", "notify", "once"};

    for (size_t i = 0; i < HARK_COUNT(names); i++)
        unlink(rig_path(names[i]));
    unlink(rig_path("state/workers.sock")); /* of a supervisor that was killed */
    rmdir(rig_path("state"));
    rmdir(directory);
}

void rig_stop(void)
{
    kill(rig_supervisor, SIGTERM);
    ck_assert_int_eq(rig_wait_end(), 0);
    rig_clean_up();
}

bool rig_has(const char *name)
{
    return access(rig_path(name), F_OK) == 0;
}

pid_t rig_traced(const char *line)
{
    const char *at = strstr(rig_content("trace"), line);

    ck_assert_msg(at != NULL, "%s", line);
    return (pid_t)strtol(at + strlen(line), NULL, 10);
}

void rig_wait_gone(pid_t pid)
{
    for (int waited = 0; kill(pid, 0) == 0; waited += 10) {
        ck_assert_int_lt(waited, PATIENCE_MS);
        rig_nap();
    }
}
