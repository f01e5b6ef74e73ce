/* SPDX-License-Identifier: MIT */
/*
 * Users and permissions that were made while the broker ran (by its control socket): applied at once, and kept in the
 * store, so that they are there after a restart too. What the ini file says of a user goes before.
 */
#ifndef BROKER_ACCOUNTS_H
#define BROKER_ACCOUNTS_H

#include "broker/store.h"
#include "broker/users.h"

struct broker;

/* One of them, as it is stored. */
struct account {
    enum store_kind kind; /* STORE_USER, STORE_PERMISSION */
    struct buf name, value;
    struct account *next;
};

/* 0; -1 with a message: what users_put() and users_permit() say. */
int accounts_put_user(struct broker *broker, const struct user_options *options, char *error,
                      size_t size) HARK_MUSTCHECK;
int accounts_permit(struct broker *broker, const char *user, const char *vhost, const char *configure,
                    const char *write, const char *read, char *error, size_t size) HARK_MUSTCHECK;
/* One record that the store has; applied by broker_apply_accounts(). -1: it cannot be read, or no memory. */
int accounts_recover(struct broker *broker, enum store_kind kind, struct span name, struct span value) HARK_MUSTCHECK;
/* Its permissions go with a virtual host. */
void accounts_forget_vhost(struct broker *broker, const char *vhost);
void accounts_free(struct broker *broker);

#endif
