/* SPDX-License-Identifier: MIT */
/*
 * Files that only the service has: systemd's credentials (LoadCredential=), which it brings into a folder of the
 * service's own. Who looks at a configuration in a shell cannot see them, unless the service runs and they are root. So
 * a reading that is only for looking takes such a file for there, and remembers it for a note.
 */
#include "daemon/config_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CREDENTIALS "/run/credentials/"

bool config_elsewhere_begin(void)
{
    if (getenv("CREDENTIALS_DIRECTORY") != NULL)
        return false; /* this is the service, or somebody who plays it */
    setenv("CREDENTIALS_DIRECTORY", CREDENTIALS "harkd.service", 1);
    return true;
}

void config_elsewhere_end(void)
{
    unsetenv("CREDENTIALS_DIRECTORY");
}

static bool is_credential(const char *path, bool secret)
{
    return strncmp(path, CREDENTIALS, strlen(CREDENTIALS)) == 0 || (secret && path[0] != '/');
}

/* Where config_read_secret() would find it. */
static bool is_here(const char *path, bool secret)
{
    char *full = NULL;
    bool here = access(path, R_OK) == 0;

    if (!here && secret && path[0] != '/' && asprintf(&full, "%s/%s", getenv("CREDENTIALS_DIRECTORY"), path) > 0) {
        here = access(full, R_OK) == 0;
        free(full);
    }
    return here;
}

bool config_elsewhere(struct config_reader *reader, const char *key, const char *path, bool secret)
{
    struct config *config = reader->config;
    const struct ini_entry *entry = config_entry(reader, key);
    struct config_elsewhere *more;

    if (!reader->looking || path == NULL || !is_credential(path, secret) || is_here(path, secret))
        return false;
    more = realloc(config->elsewhere, (config->elsewhere_count + 1) * sizeof(*more));
    if (more == NULL) {
        config_complain(reader, key, "out of memory");
        return true;
    }
    config->elsewhere = more;
    more[config->elsewhere_count++] = (struct config_elsewhere){
        .where = reader->where, .line = entry != NULL ? entry->line : 0, .key = key, .path = path};
    return true;
}
