/* SPDX-License-Identifier: MIT */
/*
 * Any text as definitions: what is handed over keeps its limits, its tables are sound, and users and permissions are taken
 * or refused by the list of users.
 */
#include "base/log.h"
#include "broker/definitions.h"
#include "wire/table.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_name(const char *name, size_t least)
{
    if (strlen(name) < least || strlen(name) > 255)
        abort();
}

static void expect_table(struct span table)
{
    if (table.length > DEFINITIONS_ARGUMENTS_MAX || table_check(table, 16) != 0)
        abort();
}

static int take_vhost(void *arg, const char *name, char *error, size_t size)
{
    (void)arg;
    (void)error;
    (void)size;
    expect_name(name, 1);
    return 0;
}

static int take_user(void *arg, const struct user_options *user, char *error, size_t size)
{
    expect_name(user->name, 1);
    return users_put(arg, user, error, size);
}

static int take_permission(void *arg, const struct definitions_permission *permission, char *error, size_t size)
{
    struct user *user = users_known(arg, span_str(permission->user), true);
    int result = users_permit(arg, permission->user, permission->vhost, permission->configure, permission->write,
                              permission->read, error, size);

    expect_name(permission->vhost, 1);
    if (user != NULL && result == 0) {
        (void)user_may(user, permission->vhost, PERMISSION_READ, span_str(permission->write));
        if (!user_may_enter(user, permission->vhost))
            abort();
    }
    user_drop(user);
    return result;
}

static int take_exchange(void *arg, const struct definitions_exchange *exchange, char *error, size_t size)
{
    (void)arg;
    (void)error;
    (void)size;
    expect_name(exchange->vhost, 1);
    expect_name(exchange->name, 1);
    expect_name(exchange->type, 1);
    expect_table(exchange->arguments);
    return 0;
}

static int take_queue(void *arg, const struct definitions_queue *queue, char *error, size_t size)
{
    (void)arg;
    (void)error;
    (void)size;
    expect_name(queue->vhost, 1);
    expect_name(queue->name, 1);
    expect_table(queue->arguments);
    return 0;
}

static int take_binding(void *arg, const struct definitions_binding *binding, char *error, size_t size)
{
    (void)arg;
    (void)error;
    (void)size;
    expect_name(binding->vhost, 1);
    expect_name(binding->source, 1);
    expect_name(binding->destination, 1);
    expect_name(binding->routing_key, 0);
    expect_table(binding->arguments);
    return 0;
}

static void ignore_line(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    (void)level;
    (void)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct definitions_ops ops = {.vhost = take_vhost,
                                               .user = take_user,
                                               .permission = take_permission,
                                               .exchange = take_exchange,
                                               .queue = take_queue,
                                               .binding = take_binding};
    struct users *users = users_new();
    char *text = malloc(size + 1), error[300] = "";

    if (users == NULL || text == NULL)
        abort();
    log_divert(ignore_line, NULL);
    memcpy(text, data, size);
    text[size] = 0;
    if (definitions_parse("fuzz.json", text, size, &ops, users, error, sizeof(error)) == 0
            ? error[0] != 0
            : strncmp(error, "fuzz.json: ", 11) != 0)
        abort();
    free(text);
    users_free(users);
    return 0;
}
