/* SPDX-License-Identifier: MIT */
/* When a connection is not read from: because of an alarm, a slow disk, or answers that it does not take. Each reason
 * counts one pause of the link. */
#include "broker/peer.h"

#include "base/log.h"
#include "broker/broker_private.h"

#define PEER_UNREAD (16 * 1024 * 1024) /* bytes of answers that a client may leave unread and still ask for more */

void peer_wait_for_disk(struct peer *peer)
{
    if (HARK_LIKELY(!peer->broker->slow_disk) || peer->slowed || peer->leaving || peer->state != PEER_OPEN)
        return;
    peer->slowed = true;
    link_pause(peer->link);
}

void peer_published(struct peer *peer)
{
    struct broker *broker = peer->broker;
    const char *reason = broker->memory_alarm ? "low on memory" : "low on disk";
    amqp_connection_blocked_t blocked = {.reason = amqp_span(span_str(reason))};

    peer_wait_for_disk(peer);
    if (peer->leaving || !broker_is_blocked(broker) || peer->blocked)
        return;
    peer->blocked = true;
    link_pause(peer->link);
    log_warning("connection %s is blocked: the broker is %s", peer->name, reason);
    if (peer->takes_blocked) {
        peer->told = true;
        peer_put(peer, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
    }
}

void peer_watch_alarm(struct peer *peer)
{
    amqp_connection_unblocked_t unblocked = {0};

    if (peer->slowed && !peer->broker->slow_disk) {
        peer->slowed = false;
        link_resume(peer->link);
    }
    if (!peer->blocked || broker_is_blocked(peer->broker))
        return;
    peer->blocked = false;
    link_resume(peer->link);
    if (peer->told)
        peer_put(peer, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &unblocked);
    peer->told = false;
}

void peer_answered(struct peer *peer, size_t bytes)
{
    peer->answered += bytes;
    if (HARK_LIKELY(peer->answered <= PEER_UNREAD) || peer->stuffed || peer->state != PEER_OPEN)
        return;
    if (!peer_is_full(peer)) {
        peer->answered = 0;
        return;
    }
    peer->stuffed = true;
    link_pause(peer->link);
}

void peer_watch_output(struct peer *peer)
{
    if (peer_is_full(peer))
        return;
    peer->answered = 0;
    if (!peer->stuffed)
        return;
    peer->stuffed = false;
    link_resume(peer->link);
}

/* What is left of it is little, and no reason to stop reading any more: unless it asks for answers that it cannot get. */
void peer_hung_up(struct peer *peer)
{
    peer->leaving = true;
    for (int pauses = peer->blocked + peer->slowed; pauses > 0; pauses--)
        link_resume(peer->link);
    peer->blocked = peer->slowed = false;
}

void peer_let_go(struct peer *peer)
{
    for (int pauses = peer->blocked + peer->slowed + peer->stuffed; pauses > 0; pauses--)
        link_resume(peer->link);
    peer->blocked = peer->slowed = peer->stuffed = false;
}
