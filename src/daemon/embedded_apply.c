/* SPDX-License-Identifier: MIT */
#include "daemon/embedded_apply.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

struct broker_options embedded_options(const struct config_broker *broker)
{
    return (struct broker_options){
        .data = broker->data,
        .memory_limit = (uint64_t)broker->memory_limit,
        .disk_free_limit = (uint64_t)broker->disk_free_limit,
        .max_message_size = (uint64_t)broker->max_message_size,
        .frame_max = (uint32_t)broker->frame_max,
        .channel_max = (uint16_t)broker->channel_max,
        .heartbeat = (uint16_t)((broker->heartbeat + 999) / 1000), /* whole seconds; less than one is not none */
        .connection_max = (unsigned)broker->connection_max,
        .queue_max = (unsigned)broker->queue_max,
        .consumer_max = (unsigned)broker->consumer_max,
        .handshake_timeout = broker->handshake_timeout,
    };
}

/* ---- virtual hosts ---- */

static int add_vhost(struct broker *broker, const char *name)
{
    if (broker_add_vhost(broker, name) == 0)
        return 0;
    log_error("virtual host \"%s\": out of memory", name);
    return -1;
}

static bool has_vhost(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->broker.vhosts.count; i++)
        if (strcmp(config->broker.vhosts.items[i], name) == 0)
            return true;
    return strcmp(config->url.vhost, name) == 0 || strcmp(name, "/") == 0;
}

static int apply_vhosts(struct broker *broker, const struct config *config, const struct config *before)
{
    int result = add_vhost(broker, config->url.vhost);

    for (size_t i = 0; i < config->broker.vhosts.count; i++)
        result |= add_vhost(broker, config->broker.vhosts.items[i]);
    for (size_t i = 0; before != NULL && i < before->broker.vhosts.count; i++)
        if (!has_vhost(config, before->broker.vhosts.items[i]))
            log_warning("virtual host \"%s\" is not in the configuration any more: it stays, with what is in it",
                        before->broker.vhosts.items[i]);
    return result;
}

static int apply_definitions(struct broker *broker, const struct config *config)
{
    const char *file = config->broker.definitions;
    char error[1024];

    if (file == NULL || broker_import(broker, file, error, sizeof(error)) == 0)
        return 0;
    log_error("definitions: %s", error);
    return -1;
}

/* ---- users ---- */

static const struct config_user *find_user(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->user_count; i++)
        if (strcmp(config->users[i].name, name) == 0)
            return &config->users[i];
    return NULL;
}

static bool has_permission(const struct config_user *user, const char *vhost)
{
    for (size_t i = 0; i < user->permission_count; i++)
        if (strcmp(user->permissions[i].vhost, vhost) == 0)
            return true;
    return false;
}

/* Before the definitions, which may have a user of that name. */
static void remove_users(struct users *users, const struct config *config, const struct config *before)
{
    for (size_t i = 0; i < before->user_count; i++) {
        const struct config_user *old = &before->users[i], *user = find_user(config, old->name);
        char unused[600];

        if (user == NULL) {
            users_remove(users, old->name);
            log_notice("user \"%s\" was removed", old->name);
            continue;
        }
        for (size_t k = 0; k < old->permission_count; k++)
            /* it fails only if the user is gone, and so is the permission then */
            if (!has_permission(user, old->permissions[k].vhost) &&
                users_permit(users, old->name, old->permissions[k].vhost, NULL, NULL, NULL, unused, sizeof(unused)) !=
                    0)
                continue;
    }
}

static int put_user(struct users *users, const struct config_user *user)
{
    struct config_where where = user->where;
    char error[600], place[600];

    if (config_put_user(user, users, &where.line, error, sizeof(error)) == 0)
        return 0;
    log_error("%s %s", config_where(&where, place, sizeof(place)), error);
    return -1;
}

int embedded_apply(struct broker *broker, const struct config *config, const struct config *before)
{
    struct users *users = broker_users(broker);
    int result = apply_vhosts(broker, config, before);

    if (before != NULL)
        remove_users(users, config, before);
    result |= apply_definitions(broker, config);
    for (size_t i = 0; i < config->user_count; i++) {
        result |= put_user(users, &config->users[i]);
        if (before != NULL && find_user(before, config->users[i].name) == NULL)
            log_notice("user \"%s\" was added", config->users[i].name);
    }
    broker_apply_accounts(broker);
    return result;
}
