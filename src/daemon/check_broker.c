/* SPDX-License-Identifier: MIT */
/* The embedded broker: who can reach it, and who can log in. */
#include "daemon/check_private.h"

#include <string.h>

static bool is_loopback(const struct config_address *address)
{
    const char *host = address->host.host;

    return host == NULL || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

/* The first address that other machines can reach, or NULL. */
static const struct config_address *outside(const struct config_addresses *addresses)
{
    for (size_t i = 0; i < addresses->count; i++)
        if (!is_loopback(&addresses->items[i]))
            return &addresses->items[i];
    return NULL;
}

static bool is_vhost(const struct config *config, const char *name)
{
    if (strcmp(name, "/") == 0 || strcmp(name, config->url.vhost) == 0)
        return true;
    for (size_t i = 0; i < config->broker.vhosts.count; i++)
        if (strcmp(config->broker.vhosts.items[i], name) == 0)
            return true;
    return false;
}

static void check_user(struct check *check, const struct config_user *user)
{
    const struct config *config = check->config;

    if (user->password == NULL && user->password_file == NULL && user->password_hash == NULL &&
        !config->broker.tls_verify && config->broker.tls_ca == NULL)
        check_warn(
            check, &user->where, 0,
            "has no password, and without tls_ca or tls_verify = yes in [broker] there are no certificates: cannot log in");
    if (user->password != NULL && strcmp(user->name, user->password) == 0 && !user->loopback_only)
        check_warn(
            check, &user->where, config_line(&user->where, "password"),
            "the password is the user's name: everybody tries that one first; set loopback_only = yes or a better one");
    for (size_t i = 0; i < user->permission_count; i++)
        if (!is_vhost(config, user->permissions[i].vhost) && config->broker.definitions == NULL)
            check_warn(check, &user->where, user->permissions[i].line,
                       "permission: there is no virtual host \"%s\": it needs a line `vhost = %s` in [broker]",
                       user->permissions[i].vhost, user->permissions[i].vhost);
}

static void check_reach(struct check *check)
{
    const struct config *config = check->config;
    const struct config_broker *broker = &config->broker;
    const struct config_address *open = outside(&broker->listen);

    if (open == NULL)
        open = outside(&broker->listen_tls);
    if (open != NULL && config->user_count == 0 && broker->definitions == NULL)
        check_warn(check, &broker->where, open->line,
                   "%s: there is no [user NAME], and guest may log in from this machine only: nobody can from outside",
                   open->shown);
    if (broker->listen.count == 0 && broker->listen_tls.count == 0 && config->listener_count == 0)
        check_warn(check, &broker->where, config_line(&broker->where, "listen"),
                   "the broker listens nowhere, and there is no [listener NAME]: nobody can reach it");
    if (broker->listen_tls.count == 0 &&
        (broker->tls_certificate != NULL || broker->tls_ca != NULL || broker->tls_verify))
        check_warn(check, &broker->where, 0, "keys about TLS have no effect: listen_tls is empty");
}

void check_broker(struct check *check, const struct config_where *general)
{
    static const char *const unused[] = {"password_file",   "auth",    "tls_ca",
                                         "tls_certificate", "tls_key", "tls_server_name"};

    for (size_t i = 0; i < HARK_COUNT(unused); i++)
        if (config_line(general, unused[i]) > 0)
            check_warn(check, general, config_line(general, unused[i]),
                       "%s has no effect: with url = embedded: workers are known to the broker%s", unused[i],
                       strncmp(unused[i], "tls", 3) == 0 ? "; the broker's own TLS is set in [broker]" : "");
    check_reach(check);
    for (size_t i = 0; i < check->config->user_count; i++)
        check_user(check, &check->config->users[i]);
}
