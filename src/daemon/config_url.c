/* SPDX-License-Identifier: MIT */
/* The broker's URL, as RabbitMQ specifies it, with several hosts: amqp://user:password@host:port,host/vhost */
#include "daemon/config_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

/* A percent-decoded copy; NULL with a message. */
static char *url_decode(const char *text, size_t length, char *error, size_t size)
{
    char *decoded = malloc(length + 1), *to = decoded;

    if (decoded == NULL) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < length; i++) {
        int high, low;

        if (text[i] != '%') {
            *to++ = text[i];
            continue;
        }
        high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
        low = i + 2 < length ? hex_digit(text[i + 2]) : -1;
        if (high < 0 || low < 0 || (high == 0 && low == 0)) {
            snprintf(error, size, "a %% must be followed by two hexadecimal digits (and not 00)");
            free(decoded);
            return NULL;
        }
        *to++ = (char)(high * 16 + low);
        i += 2;
    }
    *to = '\0';
    return decoded;
}

static int url_add_host(struct config_url *url, const char *text, size_t length, char *error, size_t size)
{
    struct config_host *hosts = realloc(url->hosts, (url->host_count + 1) * sizeof(*hosts));
    struct config_host *host;
    const char *name = text, *port = NULL, *end = text + length, *name_end = end;

    if (hosts == NULL) {
        snprintf(error, size, "out of memory");
        return -1;
    }
    url->hosts = hosts;
    host = &hosts[url->host_count++];
    *host = (struct config_host){.port = url->tls ? 5671 : 5672};
    if (length > 0 && text[0] == '[') {
        name_end = memchr(text, ']', length);
        if (name_end == NULL) {
            snprintf(error, size, "a [ without its ] in the host");
            return -1;
        }
        name = text + 1;
        if (name_end + 1 < end && name_end[1] == ':')
            port = name_end + 2;
    } else {
        const char *colon = length > 0 ? memchr(text, ':', length) : NULL;

        if (colon != NULL) {
            name_end = colon;
            port = colon + 1;
        }
    }
    if (port != NULL) {
        long number = 0;

        for (const char *digit = port; digit < end; digit++)
            number = *digit >= '0' && *digit <= '9' && number < 100000 ? number * 10 + *digit - '0' : 100000;
        if (port == end || number < 1 || number > 65535) {
            snprintf(error, size, "\"%.*s\" is no port: expected 1 to 65535", (int)(end - port), port);
            return -1;
        }
        host->port = (uint16_t)number;
    }
    if (name == name_end) {
        snprintf(error, size, "a host without a name");
        return -1;
    }
    host->host = url_decode(name, (size_t)(name_end - name), error, size);
    return host->host != NULL ? 0 : -1;
}

static int url_hosts(struct config_url *url, const char *text, size_t length, char *error, size_t size)
{
    const char *end = text + length;

    if (length == 0)
        return url_add_host(url, "127.0.0.1", 9, error, size);
    while (text <= end) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *stop = comma != NULL ? comma : end;

        if (url_add_host(url, text, (size_t)(stop - text), error, size) != 0)
            return -1;
        text = stop + 1;
    }
    return 0;
}

static int url_user(struct config_url *url, const char *text, size_t length, char *error, size_t size)
{
    const char *colon = length > 0 ? memchr(text, ':', length) : NULL;
    size_t user = colon != NULL ? (size_t)(colon - text) : length;

    url->user = url_decode(text, user, error, size);
    if (url->user != NULL)
        url->password = url_decode(colon != NULL ? colon + 1 : "", colon != NULL ? length - user - 1 : 0, error, size);
    return url->password != NULL ? 0 : -1;
}

static int url_unix(struct config_url *url, const char *path, char *error, size_t size)
{
    url->hosts = calloc(1, sizeof(*url->hosts));
    if (url->hosts == NULL)
        return -1;
    url->host_count = 1;
    url->hosts[0].path = url_decode(path, strlen(path), error, size);
    url->user = strdup("guest");
    url->password = strdup("guest");
    url->vhost = strdup("/");
    return url->hosts[0].path != NULL && url->user != NULL && url->password != NULL && url->vhost != NULL ? 0 : -1;
}

int config_url_parse(const char *text, struct config_url *url, char *error, size_t size)
{
    const char *rest = text, *slash, *at = NULL;
    size_t authority;

    *url = (struct config_url){0};
    if (strncmp(text, "amqp+unix://", 12) == 0) {
        url->shown = strdup(text);
        return url_unix(url, text + 12, error, size);
    }
    if (strncmp(text, "amqps://", 8) == 0) {
        url->tls = true;
        rest += 8;
    } else if (strncmp(text, "amqp://", 7) == 0) {
        rest += 7;
    } else {
        snprintf(error, size, "expected amqp://, amqps:// or amqp+unix://");
        return -1;
    }
    slash = strchr(rest, '/');
    authority = slash != NULL ? (size_t)(slash - rest) : strlen(rest);
    for (size_t i = 0; i < authority; i++)
        if (rest[i] == '@')
            at = rest + i;
    if (at != NULL) {
        if (url_user(url, rest, (size_t)(at - rest), error, size) != 0)
            return -1;
        authority -= (size_t)(at - rest) + 1;
        rest = at + 1;
    } else {
        url->user = strdup("guest");
        url->password = strdup("guest");
    }
    if (url_hosts(url, rest, authority, error, size) != 0)
        return -1;
    /* No path means the default virtual host; "/" alone means the one with the empty name. */
    if (slash == NULL)
        url->vhost = strdup("/");
    else if (strchr(slash + 1, '/') != NULL || strchr(slash + 1, '?') != NULL)
        snprintf(error, size, "the virtual host is one name: write its / as %%2f, and no ?options here");
    else
        url->vhost = url_decode(slash + 1, strlen(slash + 1), error, size);
    if (url->vhost == NULL || url->user == NULL || url->password == NULL)
        return -1;
    if (strlen(url->vhost) > 255) {
        snprintf(error, size, "the virtual host is longer than 255 bytes");
        return -1;
    }
    if (asprintf(&url->shown, "%s://%s@%s", url->tls ? "amqps" : "amqp", url->user, rest) < 0) {
        url->shown = NULL;
        return -1;
    }
    return 0;
}

void config_url_free(struct config_url *url)
{
    for (size_t i = 0; i < url->host_count; i++) {
        free(url->hosts[i].host);
        free(url->hosts[i].path);
    }
    free(url->hosts);
    free(url->vhost);
    free(url->user);
    if (url->password != NULL)
        explicit_bzero(url->password, strlen(url->password));
    free(url->password);
    free(url->shown);
}

char *config_read_secret(const char *path, char *error, size_t size)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    char full[4096], line[4096];
    FILE *file = NULL;

    if (path[0] != '/' && folder != NULL) {
        snprintf(full, sizeof(full), "%s/%s", folder, path);
        file = fopen(full, "re");
    }
    if (file == NULL)
        file = fopen(path, "re");
    if (file == NULL) {
        snprintf(error, size, "%s: %s", path, strerror(errno));
        return NULL;
    }
    if (fgets(line, sizeof(line), file) == NULL)
        line[0] = '\0';
    fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '\0')
        snprintf(error, size, "%s: its first line is empty", path);
    return line[0] != '\0' ? strdup(line) : NULL;
}
