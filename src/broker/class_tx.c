/* SPDX-License-Identifier: MIT */
/* Classes confirm and tx: the two ways to know that a publish is safe. */
#include "broker/broker_private.h"
#include "broker/class.h"

#include <stdlib.h>

#define TRANSACTION_MAX 100000        /* publishes and settlements in one */
#define TRANSACTION_PLACES_MAX 500000 /* messages that it adds to queues: they are added in one turn of the loop */

struct transaction_step {
    struct message *message; /* a publish; NULL: a settlement */
    uint64_t tag;
    enum settlement settlement;
    bool mandatory, multiple;
};

struct transaction {
    struct transaction_step *steps;
    size_t count, capacity;
    uint64_t bytes;
    uint64_t places;     /* that its publishes take in queues, as they were routed */
    uint64_t generation; /* of the vhost, at the first of them */
};

/* A message that is the only one may take as many as it likes: it may so without a transaction, too. */
static int transaction_count_places(struct peer_channel *channel, struct exchange *exchange,
                                    const struct message *message, struct reply *error)
{
    struct transaction *transaction = channel->transaction;
    struct route *route = &channel->peer->broker->route;

    if (route_message(route, exchange, message) != 0)
        return class_no_memory(error);
    if (transaction->places > 0 && transaction->places + route->count > TRANSACTION_PLACES_MAX)
        return reply_set(error, REPLY_PRECONDITION_FAILED, 0,
                         "a transaction may add %d messages to queues, each counted in every queue that it goes to: "
                         "commit more often",
                         TRANSACTION_PLACES_MAX);
    transaction->places += route->count;
    return 0;
}

/* Exchanges, queues or bindings are not what they were when its messages came. */
static int transaction_count_again(struct peer_channel *channel, struct reply *error)
{
    struct transaction *transaction = channel->transaction;

    if (transaction->generation == channel->peer->vhost->generation)
        return 0;
    transaction->places = 0;
    for (size_t i = 0; i < transaction->count; i++) {
        const struct message *message = transaction->steps[i].message;
        struct exchange *exchange = message != NULL ? vhost_exchange(channel->peer->vhost, message->exchange) : NULL;

        if (exchange != NULL && transaction_count_places(channel, exchange, message, error) != 0)
            return -1;
    }
    return 0;
}

static int transaction_add(struct peer_channel *channel, const struct transaction_step *step, struct reply *error)
{
    struct transaction *transaction = channel->transaction;
    size_t bytes = sizeof(*step);

    if (step->message != NULL)
        bytes += sizeof(*step->message) + step->message->raw_properties.length + step->message->body.length;
    if (transaction->count >= TRANSACTION_MAX ||
        (transaction->count > 0 && transaction->bytes + bytes > channel->peer->broker->options.max_message_size))
        return reply_set(error, REPLY_PRECONDITION_FAILED, 0,
                         "a transaction may hold %d messages and %llu bytes in all: commit more often", TRANSACTION_MAX,
                         (unsigned long long)channel->peer->broker->options.max_message_size);
    if (transaction->count == transaction->capacity) {
        size_t capacity = transaction->capacity == 0 ? 16 : 2 * transaction->capacity;
        struct transaction_step *steps = realloc(transaction->steps, capacity * sizeof(*steps));

        if (steps == NULL)
            return class_no_memory(error);
        transaction->steps = steps;
        transaction->capacity = capacity;
    }
    transaction->steps[transaction->count++] = *step;
    transaction->bytes += bytes;
    broker_gather(channel->peer->broker, (int64_t)bytes);
    return 0;
}

int transaction_add_publish(struct peer_channel *channel, struct exchange *exchange, struct message *message,
                            bool mandatory, struct reply *error)
{
    struct transaction_step step = {.message = message, .mandatory = mandatory};
    bool bcc;

    /* The exchange is looked up again when it is committed: it may be another one then. */
    if (route_check(message, &bcc, error) != 0 || transaction_count_places(channel, exchange, message, error) != 0 ||
        transaction_add(channel, &step, error) != 0)
        return -1;
    if (channel->transaction->generation == 0)
        channel->transaction->generation = channel->peer->vhost->generation;
    message_hold(message);
    return 0;
}

int transaction_add_settle(struct peer_channel *channel, uint64_t tag, bool multiple, enum settlement settlement,
                           struct reply *error)
{
    struct transaction_step step = {.multiple = multiple, .settlement = settlement};

    step.tag = outstanding_ask(channel, tag, multiple);
    if (step.tag == UINT64_MAX)
        return reply_set(error, REPLY_PRECONDITION_FAILED, 0, "unknown delivery tag %llu", (unsigned long long)tag);
    return transaction_add(channel, &step, error);
}

static void transaction_clear(struct peer_channel *channel)
{
    struct transaction *transaction = channel->transaction;

    for (size_t i = 0; i < transaction->count; i++) {
        const struct transaction_step *step = &transaction->steps[i];

        if (step->message != NULL)
            message_drop(step->message);
        else
            outstanding_ask_not(&channel->outstanding, step->tag, step->multiple);
    }
    broker_gather(channel->peer->broker, -(int64_t)transaction->bytes);
    transaction->count = 0;
    transaction->bytes = transaction->places = transaction->generation = 0;
}

uint64_t transaction_bytes(const struct peer_channel *channel)
{
    return channel->transaction != NULL ? channel->transaction->bytes : 0;
}

void transaction_free(struct peer_channel *channel)
{
    if (channel->transaction == NULL)
        return;
    transaction_clear(channel);
    free(channel->transaction->steps);
    free(channel->transaction);
    channel->transaction = NULL;
}

static int transaction_commit(struct peer_channel *channel, struct reply *error)
{
    struct transaction *transaction = channel->transaction;
    struct broker *broker = channel->peer->broker;
    uint64_t batch = 0;
    int result = transaction_count_again(channel, error);

    broker->replacing = true; /* by what else is in it */
    for (size_t i = 0; i < transaction->count && result == 0; i++) {
        const struct transaction_step *step = &transaction->steps[i];
        struct exchange *exchange;

        if (step->message == NULL) {
            if (step->multiple)
                settle_up_to(channel, step->tag, step->settlement);
            else if ((result = settle_deliveries(channel, step->tag, false, step->settlement, error)) != 0)
                break;
            batch = store_batch(broker->store);
            continue;
        }
        exchange = vhost_exchange(channel->peer->vhost, step->message->exchange);
        result = exchange == NULL ? class_no_exchange(channel, step->message->exchange, error)
                                  : class_publish_now(channel, exchange, step->message, step->mandatory, &batch, error);
    }
    broker->replacing = false;
    transaction_clear(channel);
    if (result == 0 && batch != 0)
        peer_hold(channel->peer);
    return result;
}

static int class_tx_select(struct peer_channel *channel, struct reply *error)
{
    if (channel->confirming)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_TX_SELECT_METHOD,
                         "cannot switch from confirm to tx mode");
    if (channel->transaction == NULL)
        channel->transaction = calloc(1, sizeof(*channel->transaction));
    if (channel->transaction == NULL)
        return class_no_memory(error);
    peer_channel_answer(channel, false, AMQP_TX_SELECT_OK_METHOD, &(amqp_tx_select_ok_t){0});
    return 0;
}

static int class_confirm_select(struct peer_channel *channel, bool no_wait, struct reply *error)
{
    if (channel->transaction != NULL)
        return reply_set(error, REPLY_PRECONDITION_FAILED, AMQP_CONFIRM_SELECT_METHOD,
                         "cannot switch from tx to confirm mode");
    channel->confirming = true;
    peer_channel_answer(channel, no_wait, AMQP_CONFIRM_SELECT_OK_METHOD, &(amqp_confirm_select_ok_t){0});
    return 0;
}

int class_tx(struct peer_channel *channel, const amqp_method_t *method, struct reply *error)
{
    if (method->id == AMQP_CONFIRM_SELECT_METHOD)
        return class_confirm_select(channel, ((const amqp_confirm_select_t *)method->decoded)->nowait, error);
    if (method->id == AMQP_TX_SELECT_METHOD)
        return class_tx_select(channel, error);
    if (channel->transaction == NULL)
        return reply_set(error, REPLY_PRECONDITION_FAILED, method->id, "channel is not transactional");
    if (method->id == AMQP_TX_COMMIT_METHOD) {
        if (transaction_commit(channel, error) != 0)
            return -1;
        peer_channel_answer(channel, false, AMQP_TX_COMMIT_OK_METHOD, &(amqp_tx_commit_ok_t){0});
        return 0;
    }
    transaction_clear(channel);
    peer_channel_answer(channel, false, AMQP_TX_ROLLBACK_OK_METHOD, &(amqp_tx_rollback_ok_t){0});
    return 0;
}
