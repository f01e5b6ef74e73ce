/* SPDX-License-Identifier: MIT */
#include "daemon/options.h"

#include "base/log.h"
#include "base/title.h"
#include "daemon/check.h"
#include "daemon/config.h"
#include "daemon/explain.h"
#include "daemon/reload_socket.h"
#include "daemon/standalone.h"
#include "daemon/supervisor.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#ifndef HARK_CONFIGURATION
#define HARK_CONFIGURATION "/etc/hark/hark.ini"
#endif

enum {
    OPTION_CHECK = 256,
    OPTION_EXPLAIN,
    OPTION_EXCHANGE,
    OPTION_DEFAULTS,
    OPTION_STANDALONE,
    OPTION_RELOAD,
    OPTION_VERSION,
    OPTION_LOG,
    OPTION_LOG_LEVEL
};

static const char usage[] =
    "harkd " HARK_VERSION ", an event dispatcher that speaks AMQP 0-9-1\n"
    "\n"
    "  harkd [-c FILE]            run in the foreground until SIGTERM; SIGHUP reloads\n"
    "  harkd --standalone         a first try without a file: a broker of its own on 127.0.0.1:5672, a queue, a log\n"
    "  harkd --check              read the file, say what is wrong with it, and do nothing else\n"
    "  harkd --reload PID         reload that harkd as SIGHUP does, wait, and say what came of it\n"
    "  harkd --explain KEY        which listeners would run for a routing key, and why\n"
    "      [--exchange NAME]      published to this exchange only\n"
    "  harkd --defaults           every key with its default and what it is for\n"
    "  harkd --version            the version\n"
    "  harkd --help               this\n"
    "\n"
    "  -c, --config FILE          the configuration (" HARK_CONFIGURATION ")\n"
    "      --standalone           with --check and --explain: instead of a file; with --defaults: print it as one\n"
    "      --log FORM             auto, text, logfmt, json, journald: instead of the file's `log`\n"
    "      --log-level LEVEL      error, warning, notice, info, debug: instead of the file's\n"
    "  -v                         the same as --log-level debug\n"
    "\n"
    "harkd does not put itself into the background and writes no pid file: systemd (or another supervisor)\n"
    "does that better. Exit status: 0 stopped as told, 1 the configuration has mistakes, 64 wrong arguments.\n";

struct options {
    const char *path, *explain, *exchange;
    bool check, defaults, standalone;
    int log, log_level;
    pid_t reload; /* 0: not asked for */
};

/* There is no log yet: the journal learns how grave it is all the same. */
static void complain(const char *format, ...) HARK_PRINTF(1, 2);

static void complain(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%sharkd: ", log_prefix(STDERR_FILENO, LOG_LEVEL_ERROR));
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static int options_word(const char *given, const char *const *words)
{
    char known[100];
    size_t used = 0;

    for (int i = 0; words[i] != NULL; i++)
        if (strcmp(given, words[i]) == 0)
            return i;
    for (int i = 0; words[i] != NULL; i++)
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s %s", i > 0 ? "," : "", words[i]);
    complain("\"%s\": expected%s", given, known);
    return -1;
}

/* 0 after a complaint. */
static pid_t options_pid(const char *given)
{
    char *end;
    long pid;

    errno = 0;
    pid = strtol(given, &end, 10);
    if (errno == 0 && *end == 0 && end != given && pid > 0 && pid <= INT_MAX)
        return (pid_t)pid;
    complain("\"%s\": expected the process id of harkd; see harkd --help", given);
    return 0;
}

static int options_defaults(const struct options *options)
{
    if (!options->standalone) {
        config_print_defaults(stdout);
    } else if (standalone_print(stdout) != 0) {
        complain("there is no place for the data: set STATE_DIRECTORY, XDG_DATA_HOME or HOME");
        return EX_OSERR;
    }
    return EX_OK;
}

/* -1: go on; otherwise the exit status. */
static int options_parse(struct options *options, int argc, char **argv)
{
    static const char *const forms[] = {"auto", "text", "logfmt", "json", "journald", NULL};
    static const char *const levels[] = {"error", "warning", "notice", "info", "debug", NULL};
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, OPTION_CHECK},
        {"explain", required_argument, NULL, OPTION_EXPLAIN},
        {"exchange", required_argument, NULL, OPTION_EXCHANGE},
        {"defaults", no_argument, NULL, OPTION_DEFAULTS},
        {"standalone", no_argument, NULL, OPTION_STANDALONE},
        {"reload", required_argument, NULL, OPTION_RELOAD},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"help", no_argument, NULL, 'h'},
        {"log", required_argument, NULL, OPTION_LOG},
        {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
        {NULL, 0, NULL, 0},
    };
    char name[100];
    int option;

    while ((option = getopt_long(argc, argv, ":c:hv", known, NULL)) != -1) {
        switch (option) {
        case 'c':
            options->path = optarg;
            break;
        case OPTION_CHECK:
            options->check = true;
            break;
        case OPTION_EXPLAIN:
            options->explain = optarg;
            break;
        case OPTION_EXCHANGE:
            options->exchange = optarg;
            break;
        case OPTION_DEFAULTS:
            options->defaults = true;
            break;
        case OPTION_STANDALONE:
            options->standalone = true;
            break;
        case OPTION_RELOAD:
            options->reload = options_pid(optarg);
            if (options->reload == 0)
                return EX_USAGE;
            break;
        case OPTION_VERSION:
            printf("harkd %s\n", HARK_VERSION);
            return EX_OK;
        case 'h':
            fputs(usage, stdout);
            return EX_OK;
        case OPTION_LOG:
            options->log = options_word(optarg, forms);
            if (options->log < 0)
                return EX_USAGE;
            break;
        case OPTION_LOG_LEVEL:
            options->log_level = options_word(optarg, levels);
            if (options->log_level < 0)
                return EX_USAGE;
            break;
        case 'v':
            options->log_level = LOG_LEVEL_DEBUG;
            break;
        default:
            if (optopt > 0 && optopt < OPTION_CHECK)
                snprintf(name, sizeof(name), "-%c", optopt);
            else
                snprintf(name, sizeof(name), "%s", argv[optind - 1]);
            complain(option == ':' ? "%s wants an argument; see harkd --help"
                                   : "there is no option %s, or not with an argument; see harkd --help",
                     name);
            return EX_USAGE;
        }
    }
    if (optind < argc) {
        complain("unexpected argument \"%s\"; see harkd --help", argv[optind]);
        return EX_USAGE;
    }
    if (options->exchange != NULL && options->explain == NULL) {
        complain("--exchange goes with --explain; see harkd --help");
        return EX_USAGE;
    }
    if (options->standalone && options->path != NULL) {
        complain("--standalone takes no configuration; see harkd --help");
        return EX_USAGE;
    }
    if (options->reload != 0)
        return reload_socket_ask(options->reload);
    if (options->defaults)
        return options_defaults(options);
    return -1;
}

/* What was printed must have arrived: `harkd --defaults >file` on a full disk is no success. */
static int options_printed(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    complain("standard output: %s", strerror(errno));
    return EX_IOERR;
}

static struct config *options_read(const struct options *options, const struct supervisor_options *run)
{
    bool looks = (options->check || options->explain != NULL) && !options->standalone;
    struct ini_errors errors = {0};
    struct config *config = looks ? config_look(options->path, &errors) : supervisor_read(run, &errors);

    for (size_t i = 0; config == NULL && i < errors.count && i < INI_ERRORS_MAX; i++)
        fprintf(stderr, "%s%s\n", log_prefix(STDERR_FILENO, LOG_LEVEL_ERROR), errors.lines[i]);
    ini_errors_free(&errors);
    return config;
}

int options_run(int argc, char **argv)
{
    struct options options = {.log = -1, .log_level = -1};
    struct supervisor_options run;
    struct config *config;
    int status;

    title_init(argc, argv);
    /* The arguments are overwritten by the title. */
    status = options_parse(&options, argc, argv);
    if (status >= 0)
        return options_printed(status);
    options.path = strdup(options.standalone     ? STANDALONE_PATH
                          : options.path != NULL ? options.path
                                                 : HARK_CONFIGURATION);
    if (options.path == NULL)
        return EX_OSERR;
    run = (struct supervisor_options){
        .path = options.path, .standalone = options.standalone, .log = options.log, .log_level = options.log_level};
    config = options_read(&options, &run);
    if (config == NULL) {
        status = 1;
    } else if (options.check) {
        status = options_printed(check_config(config, stdout) == 0 ? 0 : 1);
        config_free(config);
    } else if (options.explain != NULL) {
        status = options_printed(explain_key(config, options.explain, options.exchange, stdout) == 0 ? 0 : 1);
        config_free(config);
    } else {
        status = supervisor_run(config, &run);
    }
    free((void *)(uintptr_t)options.path);
    return status;
}
