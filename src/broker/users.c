/* SPDX-License-Identifier: MIT */
#include "broker/users.h"

#include "broker/password.h"
#include "broker/permission.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An element that could not be added has hh.tbl == NULL. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define USERS_NAME_MAX 255 /* what fits the user-id property */
#define USERS_NOBODY "harkd"
#define USERS_GUEST "guest"
#define USERS_DEFAULT_EXCHANGE "amq.default"

/* What a user may in one virtual host. */
struct grant {
    UT_hash_handle hh;
    struct permission_pattern patterns[PERMISSION_READ + 1];
    char vhost[];
};

struct user {
    UT_hash_handle hh;
    unsigned references;
    bool everything; /* in every virtual host, whatever the grants */
    bool loopback_only;
    struct password password;
    char *tags; /* NULL: none */
    struct grant *grants;
    char name[];
};

struct users {
    struct user *table; /* one reference to each */
    struct user *guest; /* who there is while the table is empty */
    struct user *trusted;
    struct password decoy; /* what is compared with when there is no such user */
    uint64_t generation;
};

static int HARK_PRINTF(3, 4) users_fail(char *error, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error, size, format, args);
    va_end(args);
    return -1;
}

/* ---- one user ---- */

static struct user *user_new(const char *name, const char *tags)
{
    size_t length = strlen(name) + 1;
    struct user *user = calloc(1, sizeof(*user) + length);

    if (user == NULL)
        return NULL;
    user->references = 1;
    memcpy(user->name, name, length);
    if (tags != NULL && (user->tags = strdup(tags)) == NULL) {
        free(user);
        return NULL;
    }
    return user;
}

static void grant_free(struct grant *grant)
{
    for (size_t i = 0; i < HARK_COUNT(grant->patterns); i++)
        permission_free(&grant->patterns[i]);
    free(grant);
}

static void user_forget_grants(struct user *user)
{
    struct grant *grant, *next;

    HASH_ITER (hh, user->grants, grant, next) {
        HASH_DEL(user->grants, grant);
        grant_free(grant);
    }
}

struct user *user_hold(struct user *user)
{
    user->references++;
    return user;
}

void user_drop(struct user *user)
{
    if (user == NULL || --user->references > 0)
        return;
    user_forget_grants(user);
    free(user->tags);
    free(user);
}

const char *user_name(const struct user *user)
{
    return user->name;
}

const char *user_tags(const struct user *user)
{
    return user->tags != NULL ? user->tags : "";
}

bool user_has_tag(const struct user *user, const char *tag)
{
    static const char between[] = ", \t";
    const char *at = user_tags(user);

    for (at += strspn(at, between); *at != '\0'; at += strspn(at, between)) {
        size_t length = strcspn(at, between);

        if (length == strlen(tag) && memcmp(at, tag, length) == 0)
            return true;
        at += length;
    }
    return false;
}

static struct grant *user_grant(const struct user *user, const char *vhost)
{
    struct grant *grant;

    HASH_FIND_STR(user->grants, vhost, grant);
    return grant;
}

bool user_may_enter(const struct user *user, const char *vhost)
{
    return user->everything || user_grant(user, vhost) != NULL;
}

bool user_may(const struct user *user, const char *vhost, enum permission permission, struct span name)
{
    const struct grant *grant;

    if (user->everything)
        return true;
    grant = user_grant(user, vhost);
    if (grant == NULL)
        return false;
    return permission_matches(&grant->patterns[permission], name.length > 0 ? name : span_str(USERS_DEFAULT_EXCHANGE));
}

/* ---- all of them ---- */

/* After each change. */
static void users_changed(struct users *users)
{
    users->generation++;
    users->guest->everything = users->table == NULL;
}

static struct user *users_find(const struct users *users, struct span name)
{
    struct user *user = NULL;

    if (users->table == NULL)
        return span_is(name, USERS_GUEST) ? users->guest : NULL;
    if (name.length > 0 && name.length <= USERS_NAME_MAX)
        HASH_FIND(hh, users->table, name.data, (unsigned)name.length, user);
    return user;
}

static struct user *users_find_listed(const struct users *users, const char *name)
{
    return users->table != NULL ? users_find(users, span_str(name)) : NULL;
}

struct users *users_new(void)
{
    struct users *users = calloc(1, sizeof(*users));
    char error[128];

    if (users == NULL)
        return NULL;
    users->guest = user_new(USERS_GUEST, "administrator");
    users->trusted = user_new(USERS_NOBODY, "administrator");
    if (users->guest == NULL || users->trusted == NULL ||
        password_make(&users->guest->password, span_str(USERS_GUEST), error, sizeof(error)) != 0) {
        users_free(users);
        return NULL;
    }
    users->decoy = users->guest->password;
    users->guest->loopback_only = true;
    users->guest->everything = users->trusted->everything = true;
    return users;
}

/* Whoever still holds it may do nothing any more. */
static void users_unlist(struct users *users, struct user *user)
{
    HASH_DEL(users->table, user);
    user_forget_grants(user);
    user_drop(user);
}

void users_free(struct users *users)
{
    struct user *user, *next;

    if (users == NULL)
        return;
    HASH_ITER (hh, users->table, user, next)
        users_unlist(users, user);
    user_drop(users->guest);
    user_drop(users->trusted);
    free(users);
}

uint64_t users_generation(const struct users *users)
{
    return users->generation;
}

static int users_add(struct users *users, const char *name, const struct password *password, char *tags,
                     bool loopback_only)
{
    struct user *user = user_new(name, NULL);

    if (user == NULL)
        return -1;
    HASH_ADD_KEYPTR(hh, users->table, user->name, strlen(user->name), user);
    if (user->hh.tbl == NULL) {
        user_drop(user);
        return -1;
    }
    user->password = *password;
    user->tags = tags;
    user->loopback_only = loopback_only;
    return 0;
}

int users_put(struct users *users, const struct user_options *options, char *error, size_t size)
{
    struct password password = {0};
    struct user *user;
    char reason[256], *tags;
    int result = 0;

    if (options->name[0] == 0 || strlen(options->name) > USERS_NAME_MAX)
        return users_fail(error, size, "a user's name has 1 to %d bytes", USERS_NAME_MAX);
    if (options->password != NULL)
        result = password_make(&password, span_str(options->password), reason, sizeof(reason));
    else if (options->password_hash != NULL)
        result = password_read(&password, options->password_hash, options->algorithm, reason, sizeof(reason));
    if (result != 0)
        return users_fail(error, size, "user '%s': %s", options->name, reason);
    tags = strdup(options->tags != NULL ? options->tags : "");
    user = users_find_listed(users, options->name);
    if (tags == NULL ||
        (user == NULL && users_add(users, options->name, &password, tags, options->loopback_only) != 0)) {
        free(tags);
        return users_fail(error, size, "user '%s': out of memory", options->name);
    }
    if (user != NULL) {
        free(user->tags);
        user->tags = tags;
        user->password = password;
        user->loopback_only = options->loopback_only;
    }
    users_changed(users);
    return 0;
}

bool users_remove(struct users *users, const char *name)
{
    struct user *user = users_find_listed(users, name);

    if (user == NULL)
        return false;
    users_unlist(users, user);
    users_changed(users);
    return true;
}

/* Adds the grant, in place of the one for the same virtual host. -1: no memory, and the grant is the caller's. */
static int user_replace_grant(struct user *user, struct grant *grant)
{
    struct grant *old = user_grant(user, grant->vhost);

    if (old != NULL) {
        HASH_DEL(user->grants, old);
        grant_free(old);
    }
    HASH_ADD_STR(user->grants, vhost, grant);
    return grant->hh.tbl != NULL ? 0 : -1;
}

int users_permit(struct users *users, const char *name, const char *vhost, const char *configure, const char *write,
                 const char *read, char *error, size_t size)
{
    static const char *const kinds[] = {"configure", "write", "read"};
    const char *const texts[] = {configure, write, read};
    struct user *user = users_find_listed(users, name);
    struct grant *grant;
    char reason[512];

    if (user == NULL)
        return users_fail(error, size, "there is no user '%s'", name);
    if (configure == NULL || write == NULL || read == NULL) {
        grant = user_grant(user, vhost);
        if (grant != NULL) {
            HASH_DEL(user->grants, grant);
            grant_free(grant);
            users_changed(users);
        }
        return 0;
    }
    grant = calloc(1, sizeof(*grant) + strlen(vhost) + 1);
    if (grant == NULL)
        return users_fail(error, size, "user '%s': out of memory", name);
    strcpy(grant->vhost, vhost);
    for (size_t i = 0; i < HARK_COUNT(texts); i++)
        if (permission_compile(&grant->patterns[i], texts[i], reason, sizeof(reason)) != 0) {
            grant_free(grant);
            return users_fail(error, size, "user '%s', virtual host '%s', %s: %s", name, vhost, kinds[i], reason);
        }
    if (user_replace_grant(user, grant) != 0) {
        grant_free(grant);
        users_changed(users);
        return users_fail(error, size, "user '%s': out of memory, without permission in '%s'", name, vhost);
    }
    users_changed(users);
    return 0;
}

const struct user *users_next(const struct users *users, const struct user *user)
{
    return user == NULL ? users->table : user->hh.next;
}

/* ---- logging in ---- */

static bool users_may_come(const struct user *user, bool loopback)
{
    return loopback || !user->loopback_only;
}

struct user *users_login(struct users *users, struct span name, struct span password, bool loopback)
{
    struct user *user = users_find(users, name);
    const struct password *wanted = user != NULL && user->password.length > 0 ? &user->password : &users->decoy;
    bool matches = password_matches(wanted, password);

    if (user == NULL || !matches || wanted == &users->decoy || !users_may_come(user, loopback))
        return NULL;
    return user_hold(user);
}

struct user *users_known(struct users *users, struct span name, bool loopback)
{
    struct user *user = users_find(users, name);

    return user != NULL && users_may_come(user, loopback) ? user_hold(user) : NULL;
}

struct user *users_trusted(struct users *users)
{
    return user_hold(users->trusted);
}
