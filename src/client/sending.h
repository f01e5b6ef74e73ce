/* SPDX-License-Identifier: MIT */
/*
 * The message that a publisher is putting on its link. A large one goes part by part, as the link takes it: put at once
 * it would be in memory a second time, in a buffer of up to twice its size. Until it is whole nothing else may go on
 * that channel.
 */
#ifndef CLIENT_SENDING_H
#define CLIENT_SENDING_H

#include "client/session.h"
#include "wire/outgoing.h"

struct sending {
    struct outgoing *outgoing; /* NULL: none */
    size_t put;                /* bytes of its body */
};

/* Its method and header; then sending_go_on(). */
void sending_begin(struct sending *sending, struct channel *channel, struct outgoing *outgoing);
/* As much as the link wants. Returns the message when it is whole; NULL: again when the link has drained. */
struct outgoing *sending_go_on(struct sending *sending, struct channel *channel);
/* All that is left, though the link is full: a method of the channel must not come within a content. It stays the
 * one that is being sent. */
void sending_finish(struct sending *sending, struct channel *channel);
/* The channel is gone. Returns what was not whole, or NULL. */
struct outgoing *sending_cut(struct sending *sending);

#endif
