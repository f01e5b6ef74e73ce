/* SPDX-License-Identifier: MIT */
/*
 * Messages that stand in several queues: stored once, with the number of rows that refer to them.
 * A transaction collects the changes and applies their sum at its end, so a message that went to
 * five queues costs one count, and one that came and went none.
 */
#include "base/log.h"
#include "broker/store_private.h"

#include <errno.h>
#include <stdlib.h>

int store_share_change(struct store_env *env, uint64_t shared, int change, const struct message *message)
{
    if (env->share_count == env->share_capacity) {
        size_t capacity = env->share_capacity > 0 ? 2 * env->share_capacity : 64;
        struct store_share *shares = realloc(env->shares, capacity * sizeof(*shares));

        if (shares == NULL)
            return ENOMEM;
        env->shares = shares;
        env->share_capacity = capacity;
    }
    env->shares[env->share_count++] = (struct store_share){.shared = shared, .change = change, .message = message};
    return 0;
}

static int store_share_compare(const void *left, const void *right)
{
    const struct store_share *a = left, *b = right;

    return a->shared < b->shared ? -1 : a->shared > b->shared;
}

static int store_share_apply(struct store_env *env, const struct store_share *sum)
{
    uint8_t number[8], counted[8];
    MDB_val key = store_val(number, sizeof(number)), value;
    int64_t count = 0, after;
    int code;

    put_u64(number, sum->shared);
    code = mdb_get(env->txn, env->counts, &key, &value);
    if (code == 0 && value.mv_size == sizeof(counted))
        count = (int64_t)get_u64(value.mv_data);
    else if (code != 0 && code != MDB_NOTFOUND)
        return code;

    after = count + sum->change;
    if (after > 0) {
        put_u64(counted, (uint64_t)after);
        value = store_val(counted, sizeof(counted));
        code = after != count ? mdb_put(env->txn, env->counts, &key, &value, 0) : 0;
        if (code != 0 || count > 0)
            return code;
        if (sum->message == NULL)
            return 0;
        value = store_val(NULL, store_content_size(sum->message));
        code = mdb_put(env->txn, env->messages, &key, &value, MDB_RESERVE);
        if (code == 0)
            store_content_put(value.mv_data, sum->message);
        return code;
    }
    if (after < 0)
        log_error("store %s: message %llu has fewer references than rows", env->path, (unsigned long long)sum->shared);
    if (count == 0)
        return 0;
    code = mdb_del(env->txn, env->counts, &key, NULL);
    if (code == 0)
        code = mdb_del(env->txn, env->messages, &key, NULL);
    return code == MDB_NOTFOUND ? 0 : code;
}

int store_share_settle(struct store_env *env)
{
    int code = 0;

    if (env->share_count > 1)
        qsort(env->shares, env->share_count, sizeof(*env->shares), store_share_compare);
    for (size_t i = 0; i < env->share_count && code == 0;) {
        struct store_share sum = env->shares[i++];

        while (i < env->share_count && env->shares[i].shared == sum.shared) {
            sum.change += env->shares[i].change;
            if (sum.message == NULL)
                sum.message = env->shares[i].message;
            i++;
        }
        code = store_share_apply(env, &sum);
    }
    env->share_count = 0;
    return code;
}
