/* SPDX-License-Identifier: MIT */
#include "daemon/standalone.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char text[] = "[hark]\n"
                           "url = embedded:\n"
                           "\n"
                           "[broker]\n"
                           "listen = 127.0.0.1:5672\n"
                           "data = \"%s\"\n"
                           "\n"
                           "[exchange events]\n"
                           "type = topic\n"
                           "\n"
                           "[queue events]\n"
                           "bind = events #\n"
                           "\n"
                           "[listener log]\n"
                           "module = log\n"
                           "queue = events\n";

static bool usable(const char *folder, const char *above)
{
    return access(folder, W_OK | X_OK) == 0 || (errno == ENOENT && access(above, W_OK | X_OK) == 0);
}

/* The caller's; NULL: there is no place, or no memory. */
static char *standalone_data(void)
{
    const char *state = getenv("STATE_DIRECTORY"), *share = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char *path = NULL;

    if (state != NULL && state[0] == '/')
        return strndup(state, strcspn(state, ":"));
    if (usable("/var/lib/hark", "/var/lib"))
        return strdup("/var/lib/hark");
    if (share != NULL && share[0] == '/')
        return asprintf(&path, "%s/hark", share) > 0 ? path : NULL;
    if (home != NULL && home[0] == '/')
        return asprintf(&path, "%s/.local/share/hark", home) > 0 ? path : NULL;
    return NULL;
}

/* Within double quotes of an ini file. */
static void quote(FILE *out, const char *value)
{
    for (; *value != 0; value++) {
        if (*value == '"' || *value == '\\')
            fputc('\\', out);
        if (*value == '$')
            fputc('$', out);
        fputc(*value, out);
    }
}

int standalone_print(FILE *out)
{
    const char *hole = strstr(text, "%s");
    char *data = standalone_data();

    if (data == NULL)
        return -1;
    fwrite(text, 1, (size_t)(hole - text), out);
    quote(out, data);
    fputs(hole + 2, out);
    free(data);
    return 0;
}

struct config *standalone_config(struct ini_errors *errors)
{
    struct config *config = NULL;
    char *ini = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&ini, &length);
    int result = memory != NULL ? standalone_print(memory) : -1;

    if (memory == NULL || fclose(memory) != 0)
        ini_error(errors, STANDALONE_PATH, 0, NULL, "out of memory");
    else if (result != 0)
        ini_error(errors, STANDALONE_PATH, 0, NULL,
                  "there is no place for the data: /var/lib/hark cannot be written to, and neither STATE_DIRECTORY, "
                  "XDG_DATA_HOME nor HOME is set");
    else
        config = config_parse(STANDALONE_PATH, ini, length, errors);
    free(ini);
    return config;
}

void standalone_greet(const struct config *config)
{
    const char *address = config->broker.listen.items[0].shown;

    log_notice("standalone: a broker for AMQP 0-9-1 on %s (user guest, password guest, from this machine); exchange "
               "\"events\", queue \"events\", listener \"log\"; data in %s",
               address, config->broker.data);
    log_notice(
        "publish a first message: amqp-publish -u amqp://guest:guest@%s/%%2f -e events -r hello.world -b 'it works' "
        "(harkd --standalone --defaults prints an ini file to go on from)",
        address);
}
