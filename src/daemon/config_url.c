/* SPDX-License-Identifier: MIT */
/*
 * The broker's URL, as RabbitMQ specifies it, with several hosts:
 *
 *     amqp://user:password@host:port,[::1]:port/vhost      amqps:// with TLS
 *     amqp+unix://user:password@/run/rabbitmq.sock?vhost=name
 *     embedded:/vhost                                      harkd's own broker
 *
 * User, password, host, path and virtual host are percent-encoded. Without a user: guest with the
 * password guest. Without a virtual host: "/", also for a URL that ends in a single slash, as most
 * clients take it (by the letter of the specification that would be the virtual host with the empty
 * name, which nobody has).
 *
 * A password may hold what should have been encoded, and then any part of the URL may be a part of
 * it: messages do not repeat anything.
 */
#include "daemon/config_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int fail(char *error, size_t size, const char *text)
{
    snprintf(error, size, "%s", text);
    return -1;
}

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

/* A percent-decoded copy into *to, which is replaced. */
static int decode(const char *text, size_t length, char **to, char *error, size_t size)
{
    char *decoded = malloc(length + 1);
    size_t used = 0;

    if (decoded == NULL)
        return fail(error, size, "out of memory");
    free(*to);
    *to = decoded;
    for (size_t i = 0; i < length; i++) {
        int high, low;

        if (text[i] != '%') {
            decoded[used++] = text[i];
            continue;
        }
        high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
        low = i + 2 < length ? hex_digit(text[i + 2]) : -1;
        if (high < 0 || low < 0 || high + low == 0) {
            decoded[used] = 0;
            return fail(error, size, "a % must be followed by two hexadecimal digits, and not by 00");
        }
        decoded[used++] = (char)(high * 16 + low);
        i += 2;
    }
    decoded[used] = 0;
    return 0;
}

static int parse_port(const char *text, const char *end, uint16_t *port, const char *hint, char *error, size_t size)
{
    long number = 0;

    for (const char *digit = text; digit < end; digit++)
        number = *digit >= '0' && *digit <= '9' && number < 100000 ? number * 10 + *digit - '0' : 100000;
    if (text == end || number < 1 || number > 65535) {
        snprintf(error, size, "expected a port from 1 to 65535 behind the colon of a host%s", hint);
        return -1;
    }
    *port = (uint16_t)number;
    return 0;
}

int config_host_parse(const char *text, const char *end, struct config_host *host, const char *port_hint, char *error,
                      size_t size)
{
    const char *name = text, *name_end, *colon;

    if (text < end && text[0] == '[') {
        name++;
        name_end = memchr(text, ']', (size_t)(end - text));
        if (name_end == NULL)
            return fail(error, size, "a [ without its ]");
        colon = name_end + 1;
        if (colon < end && *colon != ':')
            return fail(error, size, "expected :port or the end of the host behind ]");
    } else {
        colon = text < end ? memchr(text, ':', (size_t)(end - text)) : NULL;
        name_end = colon != NULL ? colon : end;
        if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon - 1)) != NULL)
            return fail(error, size, "more than one colon in a host: an IPv6 address stands in [ ]");
    }
    if (colon != NULL && colon < end && parse_port(colon + 1, end, &host->port, port_hint, error, size) != 0)
        return -1;
    if (name == name_end)
        return fail(error, size, "a host without a name");
    return decode(name, (size_t)(name_end - name), &host->host, error, size);
}

static int add_host(struct config_url *url, const char *text, const char *end, char *error, size_t size)
{
    struct config_host *hosts = realloc(url->hosts, (url->host_count + 1) * sizeof(*hosts)), *host;

    if (hosts == NULL)
        return fail(error, size, "out of memory");
    url->hosts = hosts;
    host = &hosts[url->host_count++];
    *host = (struct config_host){.port = url->tls ? 5671 : 5672};
    return config_host_parse(text, end, host, "; in a password, @ : / are written %40 %3a %2f", error, size);
}

static int add_hosts(struct config_url *url, const char *text, const char *end, char *error, size_t size)
{
    static const char local[] = "127.0.0.1";

    if (text == end)
        return add_host(url, local, local + strlen(local), error, size);
    for (;;) {
        const char *comma = memchr(text, ',', (size_t)(end - text));

        if (add_host(url, text, comma ? comma : end, error, size) != 0)
            return -1;
        if (comma == NULL)
            return 0;
        text = comma + 1;
    }
}

/* `user[:password]@` at *text, which is moved behind it. The last @ counts: a forgotten %40 does no
 * harm. */
static int parse_user(struct config_url *url, const char **text, const char *end, char *error, size_t size)
{
    const char *at = memrchr(*text, '@', (size_t)(end - *text)), *colon;

    if (at == NULL)
        return 0;
    colon = memchr(*text, ':', (size_t)(at - *text));
    if (decode(*text, (size_t)((colon ? colon : at) - *text), &url->user, error, size) != 0 ||
        decode(colon ? colon + 1 : "", colon ? (size_t)(at - colon - 1) : 0, &url->password, error, size) != 0)
        return -1;
    if (strlen(url->user) > 255)
        return fail(error, size, "the user's name has more than 255 bytes");
    *text = at + 1;
    return 0;
}

static int parse_unix(struct config_url *url, const char *text, char *error, size_t size)
{
    const char *end = text + strcspn(text, "?"), *rest = text;

    url->hosts = calloc(1, sizeof(*url->hosts));
    if (url->hosts == NULL)
        return fail(error, size, "out of memory");
    url->host_count = 1;
    if (parse_user(url, &rest, end, error, size) != 0 ||
        decode(rest, (size_t)(end - rest), &url->hosts[0].path, error, size) != 0)
        return -1;
    if (url->hosts[0].path[0] != '/')
        return fail(error, size, "expected amqp+unix:///path");
    if (strlen(url->hosts[0].path) > 107)
        return fail(error, size, "the path of a Unix socket has at most 107 bytes");
    if (*end == 0)
        return 0;
    if (strncmp(end, "?vhost=", 7) != 0 || strchr(end, '&') != NULL)
        return fail(error, size, "?vhost=NAME is the only option here");
    return decode(end + 7, strlen(end + 7), &url->vhost, error, size);
}

static int parse_network(struct config_url *url, const char *text, char *error, size_t size)
{
    const char *slash = strchr(text, '/'), *end = slash ? slash : text + strlen(text);

    if (parse_user(url, &text, end, error, size) != 0 || add_hosts(url, text, end, error, size) != 0)
        return -1;
    if (slash == NULL || slash[1] == 0)
        return 0;
    if (strchr(slash + 1, '/') != NULL || strchr(slash + 1, '@') != NULL)
        return fail(error, size, "the virtual host is one name; in names and passwords, / @ are written %2f %40");
    if (strchr(slash + 1, '?') != NULL)
        return fail(error, size, "options behind a ? are not known: heartbeat and the like are keys of their own");
    return decode(slash + 1, strlen(slash + 1), &url->vhost, error, size);
}

/* The path of the workers' socket is filled in when it is known where the data is. */
static int parse_embedded(struct config_url *url, const char *text, char *error, size_t size)
{
    url->hosts = calloc(1, sizeof(*url->hosts));
    if (url->hosts == NULL)
        return fail(error, size, "out of memory");
    url->host_count = 1;
    if (text[0] == 0 || strcmp(text, "/") == 0)
        return 0;
    if (text[0] != '/' || strpbrk(text + 1, "/@?") != NULL)
        return fail(error, size,
                    "expected embedded: or embedded:/vhost, where / @ ? in the virtual host's name are "
                    "written %2f %40 %3f");
    return decode(text + 1, strlen(text + 1), &url->vhost, error, size);
}

/* As a URL again, but for people: no password, nothing encoded. */
static int show(struct config_url *url)
{
    size_t room = strlen(url->user) + strlen(url->vhost) + 64, used;
    const char *vhost = strcmp(url->vhost, "/") == 0 ? "%2f" : url->vhost;

    if (url->embedded)
        return asprintf(&url->shown, "embedded:/%s", vhost) > 0 ? 0 : -1;
    for (size_t i = 0; i < url->host_count; i++)
        room += 16 + strlen(url->hosts[i].path ? url->hosts[i].path : url->hosts[i].host);
    url->shown = malloc(room);
    if (url->shown == NULL)
        return -1;
    used = (size_t)snprintf(url->shown, room, "%s://%s@",
                            url->hosts[0].path ? "amqp+unix"
                            : url->tls         ? "amqps"
                                               : "amqp",
                            url->user);
    for (size_t i = 0; i < url->host_count; i++) {
        const struct config_host *host = &url->hosts[i];

        if (host->path != NULL)
            used += (size_t)snprintf(url->shown + used, room - used, "%s", host->path);
        else
            used += (size_t)snprintf(url->shown + used, room - used, strchr(host->host, ':') ? "%s[%s]:%u" : "%s%s:%u",
                                     i > 0 ? "," : "", host->host, host->port);
    }
    snprintf(url->shown + used, room - used, url->hosts[0].path ? "?vhost=%s" : "/%s", vhost);
    return 0;
}

int config_url_parse(const char *text, struct config_url *url, char *error, size_t size)
{
    int result;

    *url = (struct config_url){.user = strdup("guest"), .password = strdup("guest"), .vhost = strdup("/")};
    if (url->user == NULL || url->password == NULL || url->vhost == NULL)
        return fail(error, size, "out of memory");
    url->tls = strncmp(text, "amqps://", 8) == 0;
    url->embedded = strncmp(text, "embedded:", 9) == 0;
    if (url->embedded)
        result = parse_embedded(url, text + 9, error, size);
    else if (strncmp(text, "amqp+unix://", 12) == 0)
        result = parse_unix(url, text + 12, error, size);
    else if (url->tls || strncmp(text, "amqp://", 7) == 0)
        result = parse_network(url, text + (url->tls ? 8 : 7), error, size);
    else
        result = fail(error, size, "expected amqp://, amqps://, amqp+unix:// or embedded:");
    if (result == 0 && strlen(url->vhost) > 255)
        result = fail(error, size, "the virtual host's name has more than 255 bytes");
    if (result == 0 && show(url) != 0)
        result = fail(error, size, "out of memory");
    return result;
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
    config_forget(url->password);
    free(url->shown);
}

void config_forget(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

char *config_read_secret(const char *path, char *error, size_t size)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    char line[4096], *full = NULL, *secret = NULL;
    FILE *file = NULL;

    if (path[0] != '/' && folder != NULL && asprintf(&full, "%s/%s", folder, path) > 0) {
        file = fopen(full, "re");
        free(full);
    }
    if (file == NULL)
        file = fopen(path, "re");
    if (file == NULL) {
        snprintf(error, size, "%s", strerror(errno));
        return NULL;
    }
    setvbuf(file, NULL, _IONBF, 0); /* no copy of it is left in a buffer */
    if (fgets(line, sizeof(line), file) == NULL)
        line[0] = 0;
    if (strlen(line) == sizeof(line) - 1 && strchr(line, '\n') == NULL) {
        snprintf(error, size, "its first line is too long");
    } else {
        line[strcspn(line, "\r\n")] = 0;
        if (line[0] == 0)
            snprintf(error, size, ferror(file) ? "it cannot be read" : "its first line is empty");
        else if ((secret = strdup(line)) == NULL)
            snprintf(error, size, "out of memory");
    }
    explicit_bzero(line, sizeof(line));
    fclose(file);
    return secret;
}
