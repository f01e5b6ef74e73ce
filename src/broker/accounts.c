/* SPDX-License-Identifier: MIT */
#include "broker/accounts.h"

#include "base/log.h"
#include "broker/broker_private.h"
#include "broker/password.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#define ACCOUNT_VERSION 1
#define ACCOUNT_TEXT_MAX 4096

/* ---- texts in names and values: each ends with a byte 0 ---- */

static void account_put(struct buf *out, const char *text)
{
    buf_put(out, text, strlen(text) + 1);
}

/* The next one; NULL: there is none. */
static const char *account_take(struct span *from)
{
    const uint8_t *end = from->length > 0 ? memchr(from->data, 0, from->length) : NULL;
    const char *text = (const char *)from->data;

    if (end == NULL || end - from->data > ACCOUNT_TEXT_MAX)
        return NULL;
    *from = span_of(end + 1, from->length - (size_t)(end + 1 - from->data));
    return text;
}

/* ---- the list ---- */

static void account_drop(struct account *account)
{
    buf_free(&account->name);
    buf_free(&account->value);
    free(account);
}

/* Replaces the one of that name. The buffers become the list's. -1: no memory. */
static int account_keep(struct broker *broker, enum store_kind kind, struct buf *name, struct buf *value)
{
    struct account *account, *next, *fresh = calloc(1, sizeof(*fresh));

    if (fresh == NULL || name->failed || value->failed) {
        free(fresh);
        buf_free(name);
        buf_free(value);
        return -1;
    }
    LL_FOREACH_SAFE (broker->accounts, account, next) {
        if (account->kind != kind || !span_equal(buf_span(&account->name), buf_span(name)))
            continue;
        LL_DELETE(broker->accounts, account);
        account_drop(account);
    }
    *fresh = (struct account){.kind = kind, .name = *name, .value = *value};
    LL_APPEND(broker->accounts, fresh);
    return 0;
}

static int account_record(struct broker *broker, enum store_kind kind, struct buf *name, struct buf *value, char *error,
                          size_t size)
{
    struct span key = buf_span(name), content = buf_span(value);

    if (account_keep(broker, kind, name, value) != 0) {
        snprintf(error, size, "no memory");
        return -1;
    }
    store_put(broker->store, kind, key, content);
    return 0;
}

/* ---- while the broker runs ---- */

int accounts_put_user(struct broker *broker, const struct user_options *given, char *error, size_t size)
{
    struct user_options options = *given;
    struct buf name = {0}, value = {0};
    char hash[PASSWORD_TEXT] = "";
    struct password password;

    if (options.password != NULL) { /* what is stored is what cannot be read */
        if (password_make(&password, span_str(options.password), error, size) != 0)
            return -1;
        password_write(&password, hash);
        options.password = NULL;
        options.password_hash = hash;
        options.algorithm = NULL;
    }
    if (users_put(broker->users, &options, error, size) != 0)
        return -1;
    account_put(&name, options.name);
    buf_put_u8(&value, ACCOUNT_VERSION);
    buf_put_u8(&value, options.loopback_only);
    account_put(&value, options.password_hash != NULL ? options.password_hash : "");
    account_put(&value, options.algorithm != NULL ? options.algorithm : "");
    account_put(&value, options.tags != NULL ? options.tags : "");
    return account_record(broker, STORE_USER, &name, &value, error, size);
}

int accounts_permit(struct broker *broker, const char *user, const char *vhost, const char *configure,
                    const char *write, const char *read, char *error, size_t size)
{
    struct buf name = {0}, value = {0};

    if (users_permit(broker->users, user, vhost, configure, write, read, error, size) != 0)
        return -1;
    account_put(&name, user);
    account_put(&name, vhost);
    buf_put_u8(&value, ACCOUNT_VERSION);
    account_put(&value, configure);
    account_put(&value, write);
    account_put(&value, read);
    return account_record(broker, STORE_PERMISSION, &name, &value, error, size);
}

void accounts_forget_vhost(struct broker *broker, const char *vhost)
{
    struct account *account, *next;

    LL_FOREACH_SAFE (broker->accounts, account, next) {
        struct span name = buf_span(&account->name);
        const char *user = account_take(&name), *of = account_take(&name);
        char unused[256];

        if (account->kind != STORE_PERMISSION || user == NULL || of == NULL || strcmp(of, vhost) != 0)
            continue;
        if (users_permit(broker->users, user, vhost, NULL, NULL, NULL, unused, sizeof(unused)) != 0)
            log_debug("broker: %s", unused); /* the user is gone */
        store_forget(broker->store, STORE_PERMISSION, buf_span(&account->name));
        LL_DELETE(broker->accounts, account);
        account_drop(account);
    }
}

/* ---- after a start or a reload ---- */

int accounts_recover(struct broker *broker, enum store_kind kind, struct span name, struct span value)
{
    struct buf key = {0}, content = {0};

    if (value.length < 1 || value.data[0] != ACCOUNT_VERSION)
        return -1;
    buf_put_span(&key, name);
    buf_put_span(&content, value);
    return account_keep(broker, kind, &key, &content);
}

static int account_apply_user(struct broker *broker, struct span name, struct span value, char *error, size_t size)
{
    struct user_options options = {.name = account_take(&name)};
    const struct user *user = NULL;

    options.loopback_only = value.length > 0 && value.data[0] != 0;
    value = value.length > 0 ? span_of(value.data + 1, value.length - 1) : value;
    options.password_hash = account_take(&value);
    options.algorithm = account_take(&value);
    options.tags = account_take(&value);
    if (options.name == NULL || options.tags == NULL) {
        snprintf(error, size, "it cannot be read");
        return -1;
    }
    while ((user = users_next(broker->users, user)) != NULL)
        if (strcmp(user_name(user), options.name) == 0)
            return 0; /* the ini file's goes before, and one of our own is there already */
    if (options.algorithm[0] == '\0')
        options.algorithm = NULL;
    return users_put(broker->users, &options, error, size);
}

static int account_apply_permission(struct broker *broker, struct span name, struct span value, char *error,
                                    size_t size)
{
    const char *user = account_take(&name), *vhost = account_take(&name);
    const char *configure = account_take(&value), *write = account_take(&value), *read = account_take(&value);

    if (user == NULL || vhost == NULL || configure == NULL || write == NULL || read == NULL) {
        snprintf(error, size, "it cannot be read");
        return -1;
    }
    return users_permit(broker->users, user, vhost, configure, write, read, error, size);
}

void broker_apply_accounts(struct broker *broker)
{
    for (struct account *account = broker->accounts; account != NULL; account = account->next) {
        struct span name = buf_span(&account->name), value = buf_span(&account->value);
        char error[300], shown[300];

        value = span_of(value.data + 1, value.length - 1); /* the version */
        if ((account->kind == STORE_USER ? account_apply_user : account_apply_permission)(broker, name, value, error,
                                                                                          sizeof(error)) != 0)
            log_warning("broker: a %s kept on disk (\"%s\") is left out: %s",
                        account->kind == STORE_USER ? "user" : "permission", log_escape(shown, sizeof(shown), name),
                        error);
    }
}

void accounts_free(struct broker *broker)
{
    struct account *account, *next;

    LL_FOREACH_SAFE (broker->accounts, account, next) {
        account_drop(account);
    }
    broker->accounts = NULL;
}
