/* SPDX-License-Identifier: MIT */
#include "broker/sasl.h"

#include "base/log.h"
#include "wire/codec.h"
#include "wire/table.h"

#include <stdio.h>

#define SASL_TABLE_DEPTH 4

struct sasl_attempt {
    struct users *users;
    const struct sasl_peer *peer;
    struct span response;
    char *who;
    size_t size;
    struct reply *error;
};

static struct user *sasl_refuse(struct sasl_attempt *attempt, const char *mechanism, struct span name, const char *why)
{
    char escaped[256];

    snprintf(attempt->who, attempt->size, "user '%s'%s", log_escape(escaped, sizeof(escaped), name), why);
    reply_set(attempt->error, REPLY_ACCESS_REFUSED, 0,
              "Login was refused using authentication mechanism %s. For details see the broker logfile.", mechanism);
    return NULL;
}

/* The response may hold a password: its bytes are not repeated. */
static struct user *sasl_malformed(struct sasl_attempt *attempt, const char *why)
{
    attempt->who[0] = 0;
    reply_set(attempt->error, REPLY_SYNTAX_ERROR, AMQP_CONNECTION_START_OK_METHOD, "%s", why);
    return NULL;
}

static struct user *sasl_admit(struct sasl_attempt *attempt, struct user *user)
{
    const char *name = user_name(user);

    log_escape(attempt->who, attempt->size, span_str(name));
    return user;
}

static struct user *sasl_check(struct sasl_attempt *attempt, const char *mechanism, struct span name,
                               struct span password)
{
    struct user *user = users_login(attempt->users, name, password, attempt->peer->loopback);

    if (user != NULL)
        return sasl_admit(attempt, user);
    if (password.length == 0)
        return sasl_refuse(attempt, mechanism, name, " attempted to log in with a blank password");
    /* Who has the password and may come from here only is told so, in the log. */
    if (!attempt->peer->loopback && (user = users_login(attempt->users, name, password, true)) != NULL) {
        user_drop(user);
        return sasl_refuse(attempt, mechanism, name, " can only connect via localhost");
    }
    return sasl_refuse(attempt, mechanism, name, " - invalid credentials");
}

/* RFC 4616, but without an authorization identity in front, which RabbitMQ refuses; and nothing may follow. */
static struct user *sasl_plain(struct sasl_attempt *attempt)
{
    const uint8_t *at = attempt->response.data, *end, *second;

    if (attempt->response.length == 0)
        return sasl_malformed(attempt, "response of PLAIN invalid");
    end = at + attempt->response.length;
    if (*at != 0 || (second = memchr(at + 1, 0, (size_t)(end - at - 1))) == NULL ||
        memchr(second + 1, 0, (size_t)(end - second - 1)) != NULL)
        return sasl_malformed(attempt, "response of PLAIN invalid");
    return sasl_check(attempt, "PLAIN", span_of(at + 1, (size_t)(second - at - 1)),
                      span_of(second + 1, (size_t)(end - second - 1)));
}

static struct user *sasl_amqplain(struct sasl_attempt *attempt)
{
    struct table_entry login, password;

    if (table_check(attempt->response, SASL_TABLE_DEPTH) != 0)
        return sasl_malformed(attempt, "response of AMQPLAIN invalid");
    if (!table_find(attempt->response, span_str("LOGIN"), &login) ||
        !table_find(attempt->response, span_str("PASSWORD"), &password))
        return sasl_malformed(attempt, "AMQPLAIN auth info is missing LOGIN or PASSWORD field");
    if (login.kind != 'S' || password.kind != 'S')
        return sasl_malformed(attempt, "AMQPLAIN auth info uses unsupported type for LOGIN or PASSWORD field");
    return sasl_check(attempt, "AMQPLAIN", login.value, password.value);
}

/* The response says nothing that the connection does not know better. */
static struct user *sasl_external(struct sasl_attempt *attempt)
{
    const struct sasl_peer *peer = attempt->peer;
    struct span name = span_str(peer->certificate_name);
    struct user *user;

    if (peer->trusted)
        return sasl_admit(attempt, users_trusted(attempt->users));
    user = users_known(attempt->users, name, peer->loopback);
    if (user != NULL)
        return sasl_admit(attempt, user);
    user = users_known(attempt->users, name, true);
    if (user == NULL)
        return sasl_refuse(attempt, "EXTERNAL", name, " - no such user");
    user_drop(user);
    return sasl_refuse(attempt, "EXTERNAL", name, " can only connect via localhost");
}

static bool sasl_takes_external(const struct sasl_peer *peer)
{
    return peer->trusted || peer->certificate_name != NULL;
}

/* Many clients with a certificate take EXTERNAL where it is offered, and do not try their password after it. */
static bool sasl_offers_external(struct users *users, const struct sasl_peer *peer)
{
    struct user *user;

    if (peer->trusted)
        return true;
    if (peer->certificate_name == NULL)
        return false;
    user = users_known(users, span_str(peer->certificate_name), true);
    if (user == NULL)
        return false;
    user_drop(user);
    return true;
}

const char *sasl_mechanisms(struct users *users, const struct sasl_peer *peer)
{
    return sasl_offers_external(users, peer) ? "EXTERNAL PLAIN AMQPLAIN" : "PLAIN AMQPLAIN";
}

struct user *sasl_login(struct users *users, const struct sasl_peer *peer, struct span mechanism, struct span response,
                        char *who, size_t size, struct reply *error)
{
    struct sasl_attempt attempt = {users, peer, response, who, size, error};
    char escaped[64];

    if (span_is(mechanism, "PLAIN"))
        return sasl_plain(&attempt);
    if (span_is(mechanism, "AMQPLAIN"))
        return sasl_amqplain(&attempt);
    if (span_is(mechanism, "EXTERNAL") && sasl_takes_external(peer))
        return sasl_external(&attempt);
    who[0] = 0;
    reply_set(error, REPLY_COMMAND_INVALID, AMQP_CONNECTION_START_OK_METHOD, "%s authentication mechanism '%s'",
              span_is(mechanism, "EXTERNAL") ? "invalid" : "unknown", log_escape(escaped, sizeof(escaped), mechanism));
    return NULL;
}
