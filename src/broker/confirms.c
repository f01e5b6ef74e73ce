/* SPDX-License-Identifier: MIT */
/*
 * Publisher confirms. They leave in the order of publishing: what waits for the disk holds back what is behind it,
 * so that one basic.ack with `multiple` does for all that a commit has made safe.
 */
#include "broker/broker_private.h"
#include "broker/peer_channel.h"

#include <stdlib.h>

#define CONFIRMS_BYTES 21 /* a frame of basic.ack */

void confirms_add(struct peer_channel *channel, uint64_t batch, bool nack)
{
    struct confirm *last;

    channel->published++;
    broker_confirm_later(channel->peer->broker, channel);
    if (channel->confirm_count > 0) {
        last = &channel->confirms[channel->confirm_first + channel->confirm_count - 1];
        if (last->nack == nack && (last->batch == batch || batch == 0)) {
            last->last = channel->published;
            return;
        }
    }
    if (channel->confirm_first + channel->confirm_count == channel->confirm_capacity) {
        if (channel->confirm_first > channel->confirm_capacity / 2) {
            memmove(channel->confirms, channel->confirms + channel->confirm_first,
                    channel->confirm_count * sizeof(*channel->confirms));
        } else {
            size_t capacity = channel->confirm_capacity == 0 ? 16 : 2 * channel->confirm_capacity;
            struct confirm *confirms = malloc(capacity * sizeof(*confirms));

            if (confirms == NULL) {
                peer_out(channel->peer)->failed = true; /* a confirm that never comes: the connection ends instead */
                return;
            }
            if (channel->confirm_count > 0)
                memcpy(confirms, channel->confirms + channel->confirm_first,
                       channel->confirm_count * sizeof(*confirms));
            free(channel->confirms);
            channel->confirms = confirms;
            channel->confirm_capacity = capacity;
        }
        channel->confirm_first = 0;
    }
    channel->confirms[channel->confirm_first + channel->confirm_count++] = (struct confirm){
        .last = channel->published, .batch = batch, .nack = nack};
}

/* One method for all up to `last`. */
static void confirms_put(struct peer_channel *channel, uint64_t last, bool nack)
{
    bool multiple = last - channel->confirmed > 1;
    amqp_basic_nack_t refused = {.delivery_tag = last, .multiple = multiple};

    if (HARK_LIKELY(!nack)) {
        method_put_ack(peer_out(channel->peer), channel->number, last, multiple);
        peer_answered(channel->peer, CONFIRMS_BYTES);
        peer_send(channel->peer);
    } else {
        peer_put(channel->peer, channel->number, AMQP_BASIC_NACK_METHOD, &refused);
    }
    channel->confirmed = last;
}

void confirms_send(struct peer_channel *channel)
{
    uint64_t committed = store_committed(channel->peer->broker->store), last = 0;
    bool nack = false;

    while (channel->confirm_count > 0) {
        const struct confirm *confirm = &channel->confirms[channel->confirm_first];

        if (confirm->batch > committed)
            break;
        if (last != 0 && confirm->nack != nack)
            confirms_put(channel, last, nack);
        last = confirm->last;
        nack = confirm->nack;
        channel->confirm_first++;
        channel->confirm_count--;
    }
    if (last != 0)
        confirms_put(channel, last, nack);
    if (channel->confirm_count == 0)
        channel->confirm_first = 0;
}
