/* SPDX-License-Identifier: MIT */
/*
 * exec: runs a program per event, without a shell. The body is its standard input; routing key, exchange, ids and
 * headers are in its environment; its standard output becomes the emitted message (if the section has an `emit`, and
 * there is any output); its standard error goes to the log; its exit status is the verdict.
 */
#include <hark/listener.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXEC_ENV_MAX 512            /* variables beside harkd's own */
#define EXEC_ENV_BYTES (128 * 1024) /* all of what is made from the event; the kernel allows no more for one string */

#define EXEC_LINES 100 /* of standard error that go to the log in one period, of all programs of a listener */
#define EXEC_PERIOD_MS 10000

extern char **environ;

enum { CODES_DEFAULT, CODES_STRICT };
static const char *const code_names[] = {"default", "strict", NULL};

struct exec_settings {
    struct hark_list command;
    char *directory;
    struct hark_map environment;
    int64_t output_max;
    int codes;
    char *output_type;
};

static const struct hark_setting exec_settings[] = {
    {.name = "command",
     .type = HARK_LIST,
     .offset = offsetof(struct exec_settings, command),
     .required = true,
     .help = "the program and its arguments, as words; no shell is involved"},
    {.name = "directory",
     .type = HARK_STRING,
     .offset = offsetof(struct exec_settings, directory),
     .help = "its working directory; unset: harkd's"},
    {.name = "environment.",
     .type = HARK_MAP,
     .offset = offsetof(struct exec_settings, environment),
     .help = "a variable to add to its environment, environment.LANG = C.UTF-8"},
    {.name = "output_max",
     .type = HARK_SIZE,
     .offset = offsetof(struct exec_settings, output_max),
     .fallback = "1M",
     .min = 0,
     .max = 256 * 1024 * 1024,
     .help = "a program that writes more to its standard output is killed, and the event rejected"},
    {.name = "exit_codes",
     .type = HARK_ENUM,
     .offset = offsetof(struct exec_settings, codes),
     .fallback = "default",
     .words = code_names,
     .help = "default: 0 done, 64 to 66 reject, others retry; strict: rabbitmq-cli-consumer's "
             "0 done, 3 and 5 reject, 4 and 6 retry, others retry"},
    {.name = "output_type",
     .type = HARK_STRING,
     .offset = offsetof(struct exec_settings, output_type),
     .help = "content_type of the emitted message"},
    {0},
};

/* The instance: what of its programs' standard error went to the log lately. */
struct exec {
    struct hark_timer *period; /* NULL: nothing was written since the last one ended */
    unsigned lines;
    unsigned long dropped;
};

/* One event's run. */
struct run {
    struct hark_event *event;
    struct hark_process *process;
};

/* ---- the environment ---- */

struct environment {
    size_t count, fixed; /* of the variables, the first are not ours to free */
    size_t bytes;
    const char *wrong;
    const char *variables[];
};

/* Room for harkd's own, however many, and for EXEC_ENV_MAX more. */
static struct environment *environment_new(void)
{
    size_t own = 0;

    while (environ[own] != NULL)
        own++;
    return calloc(1, sizeof(struct environment) + (own + EXEC_ENV_MAX + 1) * sizeof(char *));
}

static void environment_add(struct environment *env, const char *name, struct hark_str value)
{
    char *variable;

    if (env->wrong != NULL)
        return;
    if (memchr(value.data, '\0', value.length) != NULL) {
        env->wrong = "a routing key, property or header holds a 0 byte, which no environment can carry";
        return;
    }
    env->bytes += strlen(name) + value.length + 2;
    if (env->count - env->fixed == EXEC_ENV_MAX || env->bytes > EXEC_ENV_BYTES) {
        env->wrong = "its headers are more than an environment can carry (512 variables, 128 KiB)";
        return;
    }
    if (asprintf(&variable, "%s=%.*s", name, HARK_FMT(value)) < 0) {
        env->wrong = "out of memory";
        return;
    }
    env->variables[env->count++] = variable;
}

static void environment_add_header(struct environment *env, const struct hark_header *header)
{
    char name[300] = "HARK_HEADER_", number[64];
    size_t at = strlen(name);
    struct hark_str text;

    for (size_t i = 0; i < header->name.length && at + 1 < sizeof(name); i++) {
        unsigned char byte = (unsigned char)header->name.data[i];

        if (byte >= 'a' && byte <= 'z')
            byte -= 'a' - 'A';
        else if (!(byte >= 'A' && byte <= 'Z') && !(byte >= '0' && byte <= '9'))
            byte = '_';
        name[at++] = (char)byte;
    }
    name[at] = '\0';
    switch (header->value.kind) {
    case 'S':
    case 'x':
        text = header->value.str;
        break;
    case 't':
        text = hark_str(header->value.boolean ? "true" : "false");
        break;
    case 'f':
    case 'd':
        snprintf(number, sizeof(number), "%.17g", header->value.number);
        text = hark_str(number);
        break;
    case 'L':
        snprintf(number, sizeof(number), "%llu", (unsigned long long)header->value.natural);
        text = hark_str(number);
        break;
    case 'F':
    case 'A':
    case 'D':
    case 'V':
        return; /* no plain text says them */
    default:
        snprintf(number, sizeof(number), "%lld", (long long)header->value.integer);
        text = hark_str(number);
    }
    environment_add(env, name, text);
}

/* harkd's own environment without HARK_ variables, then what the section says, then the event's. */
static void environment_fill(struct environment *env, const struct exec_settings *settings,
                             const struct hark_event *event)
{
    static const struct {
        const char *name;
        enum hark_property property;
    } properties[] = {
        {"HARK_MESSAGE_ID", HARK_MESSAGE_ID},
        {"HARK_CORRELATION_ID", HARK_CORRELATION_ID},
        {"HARK_CONTENT_TYPE", HARK_CONTENT_TYPE},
        {"HARK_CONTENT_ENCODING", HARK_CONTENT_ENCODING},
        {"HARK_REPLY_TO", HARK_REPLY_TO},
        {"HARK_TYPE", HARK_TYPE},
        {"HARK_APP_ID", HARK_APP_ID},
        {"HARK_USER_ID", HARK_USER_ID},
    };
    struct hark_header header;
    size_t cursor = 0;
    char number[32];

    for (char **variable = environ; *variable != NULL; variable++)
        if (strncmp(*variable, "HARK_", 5) != 0 && strncmp(*variable, "NOTIFY_SOCKET=", 14) != 0 &&
            strncmp(*variable, "WATCHDOG_", 9) != 0)
            env->variables[env->count++] = *variable;
    env->fixed = env->count;
    for (size_t i = 0; i < settings->environment.count; i++)
        environment_add(env, settings->environment.pairs[i].name, hark_str(settings->environment.pairs[i].value));
    environment_add(env, "HARK_ROUTING_KEY", hark_routing_key(event));
    environment_add(env, "HARK_EXCHANGE", hark_exchange(event));
    environment_add(env, "HARK_QUEUE", hark_queue(event));
    environment_add(env, "HARK_REDELIVERED", hark_str(hark_redelivered(event) ? "true" : "false"));
    snprintf(number, sizeof(number), "%u", hark_attempt(event));
    environment_add(env, "HARK_ATTEMPT", hark_str(number));
    for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++)
        if (hark_has(event, properties[i].property))
            environment_add(env, properties[i].name, hark_property(event, properties[i].property));
    if (hark_timestamp(event) >= 0) {
        snprintf(number, sizeof(number), "%lld", (long long)hark_timestamp(event));
        environment_add(env, "HARK_TIMESTAMP", hark_str(number));
    }
    while (hark_next_header(event, &cursor, &header))
        environment_add_header(env, &header);
    env->variables[env->count] = NULL;
}

static void environment_free(struct environment *env)
{
    for (size_t i = env->fixed; i < env->count; i++)
        free((void *)(uintptr_t)env->variables[i]);
    free(env);
}

/* ---- the end of a program ---- */

static enum hark_verdict verdict_of(const struct exec_settings *settings, int status)
{
    if (status == 0)
        return HARK_DONE;
    if (settings->codes == CODES_STRICT)
        return status == 3 || status == 5 ? HARK_REJECT : HARK_RETRY;
    return status >= 64 && status <= 66 ? HARK_REJECT : HARK_RETRY;
}

static void exec_done(void *arg, const struct hark_run_result *result)
{
    struct run *run = arg;
    struct hark_event *event = run->event;
    struct hark_instance *instance = hark_instance(event);
    const struct exec_settings *settings = hark_settings(instance);
    struct hark_message message = {.body = result->output};
    enum hark_verdict verdict;
    char why[512] = "";

    free(run);
    if (result->error != 0) {
        snprintf(why, sizeof(why), "%s cannot be started: %s", settings->command.items[0], strerror(result->error));
        hark_settle(event, HARK_RETRY, why);
        return;
    }
    if (result->overflow) {
        snprintf(why, sizeof(why), "%s wrote more than output_max (%lld bytes)", settings->command.items[0],
                 (long long)settings->output_max);
        hark_settle(event, HARK_REJECT, why);
        return;
    }
    if (result->signal != 0) {
        snprintf(why, sizeof(why), "%s was killed by signal %d (%s)", settings->command.items[0], result->signal,
                 strsignal(result->signal));
        hark_settle(event, HARK_RETRY, why);
        return;
    }
    verdict = verdict_of(settings, result->exit_status);
    if (verdict != HARK_DONE)
        snprintf(why, sizeof(why), "%s exited with status %d", settings->command.items[0], result->exit_status);
    if (verdict == HARK_DONE && result->output.length > 0 && hark_emits(instance)) {
        if (settings->output_type != NULL)
            message.properties[HARK_CONTENT_TYPE] = hark_str(settings->output_type);
        if (hark_emit(event, &message) != 0) {
            verdict = errno == ENOMEM ? HARK_RETRY : HARK_REJECT;
            snprintf(why, sizeof(why), "its output cannot be emitted, see the log");
        }
    }
    hark_settle(event, verdict, why[0] != '\0' ? why : NULL);
}

static void exec_say_dropped(struct hark_instance *instance)
{
    struct exec *exec = hark_data(instance);

    if (exec->dropped > 0)
        hark_log(instance, HARK_WARNING, "stderr: %lu more lines were left out, %d in %d s is the limit", exec->dropped,
                 EXEC_LINES, EXEC_PERIOD_MS / 1000);
    exec->dropped = 0;
}

static void exec_period_over(void *arg)
{
    struct hark_instance *instance = arg;
    struct exec *exec = hark_data(instance);

    exec->period = NULL;
    exec_say_dropped(instance);
}

static void exec_error_line(void *arg, struct hark_str line)
{
    struct run *run = arg;
    struct hark_instance *instance = hark_instance(run->event);
    struct exec *exec = hark_data(instance);

    if (exec->period == NULL) {
        exec->period = hark_wait(instance, EXEC_PERIOD_MS, exec_period_over, instance);
        exec->lines = 0;
    }
    if (exec->lines < EXEC_LINES || exec->period == NULL) {
        exec->lines++;
        hark_log(instance, HARK_WARNING, "stderr: %.*s", HARK_FMT(line));
    } else {
        exec->dropped++;
    }
}

/* ---- the module ---- */

static int exec_open(struct hark_instance *instance)
{
    struct exec *exec = calloc(1, sizeof(*exec));

    hark_set_data(instance, exec);
    return exec != NULL ? 0 : -1;
}

static void exec_close(struct hark_instance *instance)
{
    struct exec *exec = hark_data(instance);

    exec_say_dropped(instance);
    hark_wait_cancel(exec->period);
    free(exec);
}

static enum hark_verdict exec_handle(struct hark_instance *instance, struct hark_event *event)
{
    const struct exec_settings *settings = hark_settings(instance);
    struct environment *env = environment_new();
    struct run *run = calloc(1, sizeof(*run));
    struct hark_run how = {.argv = (const char *const *)settings->command.items,
                           .directory = settings->directory,
                           .input = hark_body(event),
                           .output_max = (size_t)settings->output_max,
                           .on_error_line = exec_error_line};
    enum hark_verdict verdict = HARK_LATER;

    if (env == NULL || run == NULL) {
        free(env);
        free(run);
        return hark_because(event, HARK_RETRY, "out of memory");
    }
    environment_fill(env, settings, event);
    if (env->wrong != NULL) {
        verdict = hark_because(event, HARK_REJECT, "%s", env->wrong);
    } else {
        how.env = env->variables;
        run->event = event;
        run->process = hark_run(instance, &how, exec_done, run);
        if (run->process == NULL)
            verdict = hark_because(event, HARK_RETRY, "%s cannot be started: %s", settings->command.items[0],
                                   strerror(errno));
        hark_set_event_data(event, run);
    }
    environment_free(env);
    if (verdict != HARK_LATER)
        free(run);
    return verdict;
}

static void exec_cancel(struct hark_instance *instance, struct hark_event *event)
{
    struct run *run = hark_event_data(event);

    (void)instance;
    hark_run_kill(run->process);
    free(run);
}

static int exec_check(const void *given, char *why, size_t size)
{
    const struct exec_settings *settings = given;

    if (settings->command.count > 0)
        return 0;
    snprintf(why, size, "command: expected a program");
    return -1;
}

const struct hark_module hark_module_exec = {
    .api = HARK_API,
    .name = "exec",
    .help = "runs a program per event: body on standard input, verdict from the exit status",
    .settings = exec_settings,
    .settings_size = sizeof(struct exec_settings),
    .check = exec_check,
    .open = exec_open,
    .close = exec_close,
    .handle = exec_handle,
    .cancel = exec_cancel,
};
