/* SPDX-License-Identifier: MIT */
/* The sections of the embedded broker: [broker] and [user]. */
#include "base/settings.h"
#include "broker/users.h"
#include "daemon/config_private.h"
#include "daemon/memory.h"
#include "net/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME "workers.sock" /* in the folder of the data: one harkd, one folder, one socket */

/* ---- addresses ---- */

static int address_parse(const char *text, uint16_t port, struct config_address *address, char *error, size_t size)
{
    address->shown = strdup(text);
    address->host.port = port;
    if (address->shown == NULL) {
        snprintf(error, size, "out of memory");
        return -1;
    }
    if (strncmp(text, "unix:", 5) != 0)
        return config_host_parse(text, text + strlen(text), &address->host, "", error, size);
    address->host.path = strdup(text + 5);
    if (address->host.path != NULL && text[5] == '/' &&
        strlen(text + 5) < sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return 0;
    snprintf(error, size, "expected unix:/path, of at most %zu bytes",
             sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
    return -1;
}

static void addresses_add(struct config_reader *reader, struct config_addresses *addresses, const char *key,
                          const char *text, int line, uint16_t port)
{
    struct config_address *items = realloc(addresses->items, (addresses->count + 1) * sizeof(*items)), *address;
    char error[300];

    if (items == NULL) {
        config_complain(reader, key, "out of memory");
        return;
    }
    addresses->items = items;
    address = &items[addresses->count++];
    *address = (struct config_address){.line = line};
    if (address_parse(text, port, address, error, sizeof(error)) != 0)
        ini_error(reader->errors, reader->where.file, line, reader->where.label, "%s = %.100s: %s", key, text, error);
}

/* From the lines, whose numbers are needed if an address cannot be had; from the list what is the default. */
static void read_addresses(struct config_reader *reader, const char *key, uint16_t port, const struct hark_list *list,
                           struct config_addresses *addresses)
{
    if (config_entry(reader, key) == NULL)
        for (size_t i = 0; i < list->count; i++)
            addresses_add(reader, addresses, key, list->items[i], 0, port);
    for (size_t i = 0; i < reader->section->count; i++) {
        const struct ini_entry *entry = &reader->section->entries[i];
        struct hark_list words = {0};
        char unused[200];

        if (strcmp(entry->key, key) != 0)
            continue;
        /* What is wrong with the words was said when the list was filled. */
        if (config_words(entry, &words, unused, sizeof(unused)) == 0)
            for (size_t k = 0; k < words.count; k++)
                addresses_add(reader, addresses, key, words.items[k], entry->line, port);
        config_words_free(&words);
    }
}

static void addresses_free(struct config_addresses *addresses)
{
    for (size_t i = 0; i < addresses->count; i++) {
        free(addresses->items[i].host.host);
        free(addresses->items[i].host.path);
        free(addresses->items[i].shown);
    }
    free(addresses->items);
}

/* ---- [broker] ---- */

static void read_tls(struct config_reader *reader)
{
    struct config_broker *broker = &reader->config->broker;
    struct tls_options options = {.ca = broker->tls_ca, .certificate = broker->tls_certificate, .key = broker->tls_key};
    struct tls_context *context;
    bool elsewhere;
    char error[600];

    config_secret(reader, "tls_key_password_file", broker->tls_key_password_file, &broker->tls_key_password);
    if (broker->tls_key != NULL && broker->tls_certificate == NULL)
        config_complain(reader, "tls_key", "tls_key: needs tls_certificate");
    if (broker->listen_tls.count == 0)
        return;
    if (broker->tls_certificate == NULL) {
        config_complain(reader, "listen_tls", "listen_tls: needs tls_certificate");
        return;
    }
    elsewhere = config_elsewhere(reader, "tls_ca", broker->tls_ca, false);
    elsewhere |= config_elsewhere(reader, "tls_certificate", broker->tls_certificate, false);
    elsewhere |= config_elsewhere(reader, "tls_key", broker->tls_key, false);
    if (elsewhere || (broker->tls_key_password_file != NULL && broker->tls_key_password == NULL))
        return;
    options.key_password = broker->tls_key_password;
    options.verify = broker->tls_verify;
    options.server = true;
    context = tls_context_new(&options, error, sizeof(error));
    if (context == NULL)
        config_complain(reader, "tls_certificate", "%s", error);
    tls_context_free(context);
}

static char *copy(struct config_reader *reader, const char *text)
{
    char *copied = strdup(text);

    if (copied == NULL)
        config_complain(reader, NULL, "out of memory");
    return copied;
}

/* Where the data is, and with it the socket of the workers. */
static void read_data(struct config_reader *reader)
{
    struct config *config = reader->config;
    struct config_broker *broker = &config->broker;
    const char *state = getenv("STATE_DIRECTORY");
    char *path = NULL;

    if (config_entry(reader, "data") == NULL && state != NULL && state[0] != 0) {
        free(broker->data);
        broker->data = strndup(state, strcspn(state, ":")); /* systemd names several with colons between them */
    }
    if (broker->data == NULL || asprintf(&path, "%s/" SOCKET_NAME, broker->data) < 0) {
        config_complain(reader, NULL, "out of memory");
        return;
    }
    if (broker->data[0] == 0)
        config_complain(reader, "data", "data: expected a folder");
    else if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        config_complain(
            reader, "data",
            "data = %.200s: the path is too long: a Unix socket for the workers is in this folder, so it has at "
            "most %zu bytes",
            broker->data, sizeof(((struct sockaddr_un *)NULL)->sun_path) - sizeof("/" SOCKET_NAME));
    if (config->url.embedded && config->url.hosts != NULL) {
        config->url.hosts[0].path = path;
        path = NULL;
    }
    free(path);
}

static void check_vhosts(struct config_reader *reader)
{
    const struct hark_list *vhosts = &reader->config->broker.vhosts;

    for (size_t i = 0; i < vhosts->count; i++)
        if (vhosts->items[i][0] == 0 || strlen(vhosts->items[i]) > INI_NAME_MAX)
            config_complain(reader, "vhost", "vhost = %.60s: expected a name of at most 255 bytes", vhosts->items[i]);
}

void config_read_broker(struct config_reader *reader)
{
    struct config *config = reader->config;
    struct config_broker *broker = &config->broker;
    const struct hark_setting *const tables[] = {config_broker_table, NULL};
    void *const into[] = {broker};
    bool given = reader->where.line > 0;

    /* Without a vhost the url was not understood, and may well be an embedded one. */
    if (given && config->url.vhost != NULL && !config->url.embedded)
        config_complain(reader, NULL, "is for the embedded broker, and needs url = embedded: in [hark]");
    if (!given && !config->url.embedded)
        return;
    broker->where = reader->where;
    if (!config_fill(reader, tables, into))
        return;
    read_addresses(reader, "listen", 5672, &broker->raw_listen, &broker->listen);
    read_addresses(reader, "listen_tls", 5671, &broker->raw_listen_tls, &broker->listen_tls);
    read_tls(reader);
    read_data(reader);
    check_vhosts(reader);
    if (broker->memory_limit == 0)
        broker->memory_limit = memory_default_limit();
    if (broker->definitions != NULL && !config_elsewhere(reader, "definitions", broker->definitions, false) &&
        access(broker->definitions, R_OK) != 0)
        config_complain(reader, "definitions", "definitions = %.200s: %s", broker->definitions, strerror(errno));
}

void config_broker_free(struct config_broker *broker)
{
    addresses_free(&broker->listen);
    addresses_free(&broker->listen_tls);
    config_forget(broker->tls_key_password);
    settings_free(config_broker_table, broker);
}

/* ---- [user] ---- */

static int permission_make(const struct ini_entry *entry, struct config_permission *permission, char *error,
                           size_t size)
{
    struct hark_list words = {0};
    int result = -1;

    if (config_words(entry, &words, error, size) != 0) {
        config_words_free(&words);
        return -1;
    }
    if (words.count != 4)
        snprintf(error, size,
                 "expected VHOST CONFIGURE WRITE READ, the last three as regular expressions: .* is every "
                 "name, \"\" none");
    else if (words.items[0][0] == 0 || strlen(words.items[0]) > INI_NAME_MAX)
        snprintf(error, size, "the name of a virtual host has from 1 to 255 bytes");
    else
        result = 0;
    if (result == 0) {
        *permission = (struct config_permission){words.items[0], words.items[1], words.items[2], words.items[3],
                                                 entry->line};
        free(words.items);
        return 0;
    }
    config_words_free(&words);
    return -1;
}

static void read_permissions(struct config_reader *reader, struct config_user *user)
{
    const struct ini_section *section = reader->section;
    char error[300];

    user->permissions = calloc(section->count + 1, sizeof(*user->permissions));
    if (user->permissions == NULL) {
        config_complain(reader, NULL, "out of memory");
        return;
    }
    for (size_t i = 0; i < section->count; i++) {
        const struct ini_entry *entry = &section->entries[i];

        if (strcmp(entry->key, "permission") != 0)
            continue;
        if (permission_make(entry, &user->permissions[user->permission_count], error, sizeof(error)) == 0)
            user->permission_count++;
        else
            ini_error(reader->errors, reader->where.file, entry->line, reader->where.label, "permission = %.100s: %s",
                      entry->value, error);
    }
    if (config_entry(reader, "permission") == NULL)
        user->permissions[user->permission_count++] = (struct config_permission){
            copy(reader, "/"), copy(reader, ".*"), copy(reader, ".*"), copy(reader, ".*"), 0};
}

/* "administrator monitoring" */
static char *join(const struct hark_list *words)
{
    size_t room = 1;
    char *joined;

    for (size_t i = 0; i < words->count; i++)
        room += strlen(words->items[i]) + 1;
    joined = calloc(1, room);
    for (size_t i = 0; joined != NULL && i < words->count; i++) {
        if (i > 0)
            strcat(joined, " ");
        strcat(joined, words->items[i]);
    }
    return joined;
}

int config_put_user(const struct config_user *user, struct users *users, int *line, char *error, size_t size)
{
    struct user_options options = {
        .name = user->name,
        .password = user->password,
        .password_hash = user->password_hash,
        .algorithm = config_hashings[user->hashing_algorithm],
        .tags = user->tags,
        .loopback_only = user->loopback_only,
    };

    *line = user->where.line;
    if (users_put(users, &options, error, size) != 0)
        return -1;
    for (size_t i = 0; i < user->permission_count; i++) {
        const struct config_permission *permission = &user->permissions[i];

        *line = permission->line > 0 ? permission->line : user->where.line;
        if (users_permit(users, user->name, permission->vhost, permission->configure, permission->write,
                         permission->read, error, size) != 0)
            return -1;
    }
    return 0;
}

/* A hash, a pattern that the broker would not take. */
static void try_user(struct config_reader *reader, const struct config_user *user)
{
    struct users *users = users_new();
    char error[600] = "out of memory";
    int line = reader->where.line;

    if (users == NULL || config_put_user(user, users, &line, error, sizeof(error)) != 0)
        ini_error(reader->errors, reader->where.file, line, reader->where.label, "%s", error);
    users_free(users);
}

void config_read_user(struct config_reader *reader, struct config_user *user)
{
    const struct hark_setting *const tables[] = {config_user_table, NULL};
    static const char *const secrets[] = {"password", "password_file", "password_hash"};
    void *const into[] = {user};
    unsigned given = 0;

    user->where = reader->where;
    user->name = reader->section->name;
    config_check_name(reader, "[user shop]");
    if (reader->config->url.vhost != NULL && !reader->config->url.embedded)
        config_complain(reader, NULL, "is for the embedded broker, and needs url = embedded: in [hark]");
    for (size_t i = 0; i < HARK_COUNT(secrets); i++)
        given += config_entry(reader, secrets[i]) != NULL;
    if (given > 1)
        config_complain(reader, "password_file", "password, password_file and password_hash: expected one of them");
    if (!config_fill(reader, tables, into))
        return;
    config_secret(reader, "password_file", user->password_file, &user->password);
    if (user->password != NULL && user->password[0] == 0)
        config_complain(reader, "password",
                        "password: an empty one lets nobody in; without the key only certificates do");
    user->tags = join(&user->raw_tags);
    if (user->tags == NULL)
        config_complain(reader, NULL, "out of memory");
    read_permissions(reader, user);
    if (reader->errors->count == 0)
        try_user(reader, user);
}

void config_user_free(struct config_user *user)
{
    for (size_t i = 0; i < user->permission_count; i++) {
        free(user->permissions[i].vhost);
        free(user->permissions[i].configure);
        free(user->permissions[i].write);
        free(user->permissions[i].read);
    }
    free(user->permissions);
    free(user->tags);
    if (user->password != NULL)
        explicit_bzero(user->password, strlen(user->password));
    settings_free(config_user_table, user);
}
