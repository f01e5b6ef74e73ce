/* SPDX-License-Identifier: MIT */
#include "client/sending.h"

#include "wire/content.h"

#define SENDING_WHOLE (256 * 1024) /* bodies up to this go at once */

void sending_begin(struct sending *sending, struct channel *channel, struct outgoing *outgoing)
{
    uint32_t frame_max = session_frame_max(channel->session);
    struct buf *out = channel_out(channel);

    method_put_publish(out, channel->number, outgoing->exchange, outgoing->routing_key, true);
    sending->outgoing = outgoing;
    if (HARK_LIKELY(outgoing->body.length <= SENDING_WHOLE)) {
        content_put(out, channel->number, frame_max, outgoing->raw_properties, outgoing->body);
        sending->put = outgoing->body.length;
        return;
    }
    content_put_header(out, channel->number, frame_max, outgoing->raw_properties, outgoing->body.length);
    sending->put = 0;
}

static void sending_put(struct sending *sending, struct channel *channel, size_t length)
{
    content_put_body(channel_out(channel), channel->number, session_frame_max(channel->session),
                     span_of(sending->outgoing->body.data + sending->put, length));
    sending->put += length;
    link_send(session_link(channel->session));
}

struct outgoing *sending_go_on(struct sending *sending, struct channel *channel)
{
    size_t most = session_frame_max(channel->session) - FRAME_OVERHEAD, length = sending->outgoing->body.length;

    while (sending->put < length && !link_is_full(session_link(channel->session)))
        sending_put(sending, channel, length - sending->put < most ? length - sending->put : most);
    link_send(session_link(channel->session));
    return sending->put == length ? sending_cut(sending) : NULL;
}

void sending_finish(struct sending *sending, struct channel *channel)
{
    sending_put(sending, channel, sending->outgoing->body.length - sending->put);
}

struct outgoing *sending_cut(struct sending *sending)
{
    struct outgoing *outgoing = sending->outgoing;

    sending->outgoing = NULL;
    return outgoing;
}
