/* SPDX-License-Identifier: MIT */
/*
 * Users and their permissions, as RabbitMQ has them: a salted hash, tags, and for each virtual host
 * three regular expressions (configure, write, read) that a name must match. Without any user there
 * is guest/guest, from loopback only.
 *
 * A user who is removed or changed while connected stays valid for whoever holds it (user_hold/user_drop): what is
 * changed holds at once, and who is removed may do nothing any more. `generation` says that cached answers are void.
 */
#ifndef BROKER_USERS_H
#define BROKER_USERS_H

#include "base/base.h"
#include "base/span.h"

enum permission { PERMISSION_CONFIGURE, PERMISSION_WRITE, PERMISSION_READ };

struct users;
struct user;

struct users *users_new(void);
void users_free(struct users *users);
/* Changes with every change: what was asked before may have another answer now. */
uint64_t users_generation(const struct users *users);

struct user_options {
    const char *name;
    const char *password;      /* NULL: password_hash, or no password at all (EXTERNAL only) */
    const char *password_hash; /* base64 of 4 bytes salt and the hash of salt and password, as RabbitMQ's */
    const char *algorithm;     /* of password_hash: NULL or "rabbit_password_hashing_sha256", "..._sha512", "..._md5" */
    const char *tags;          /* "administrator monitoring"; NULL: none */
    bool loopback_only;
};

/* Makes a user, or replaces its secret and tags. -1 with a message. */
int users_put(struct users *users, const struct user_options *options, char *error, size_t size) HARK_MUSTCHECK;
/* False: there is none. */
bool users_remove(struct users *users, const char *name);
/* NULL patterns remove the permission. -1 with a message: no such user, a bad pattern. A pattern matches anywhere
 * in the name unless anchored, as in RabbitMQ. "" matches no name. */
int users_permit(struct users *users, const char *name, const char *vhost, const char *configure, const char *write,
                 const char *read, char *error, size_t size) HARK_MUSTCHECK;
/* For iteration over names: NULL starts; NULL at the end. */
const struct user *users_next(const struct users *users, const struct user *user);

/* The user whose password this is; NULL if name or password is wrong, or it comes from elsewhere and may only from
 * loopback. One reference for the caller. Takes as long for an unknown name. */
struct user *users_login(struct users *users, struct span name, struct span password, bool loopback) HARK_MUSTCHECK;
/* A user known by other means (a certificate, a trusted socket). NULL: no such user. */
struct user *users_known(struct users *users, struct span name, bool loopback) HARK_MUSTCHECK;
/* Whoever comes over the trusted socket: may do everything in every virtual host, is not in the list. */
struct user *users_trusted(struct users *users) HARK_MUSTCHECK;
struct user *user_hold(struct user *user);
void user_drop(struct user *user);

const char *user_name(const struct user *user);
const char *user_tags(const struct user *user);
bool user_has_tag(const struct user *user, const char *tag);
/* Has a permission in the virtual host, be it to do nothing. */
bool user_may_enter(const struct user *user, const char *vhost);
/* The empty name is the default exchange's, which RabbitMQ's patterns know as amq.default. */
bool user_may(const struct user *user, const char *vhost, enum permission permission, struct span name);

#endif
