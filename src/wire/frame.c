/* SPDX-License-Identifier: MIT */
#include "wire/frame.h"

static const uint8_t protocol_header[8] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};

/* The first byte is no frame type. A server that refuses our version answers with the header of its
 * own: worth waiting for all of it, so that the error can name the version. */
static ssize_t frame_cut_stranger(const uint8_t *data, size_t length, struct reply *error)
{
    if (memcmp(data, protocol_header, length < 4 ? length : 4) != 0)
        return reply_set(error, REPLY_FRAME_ERROR, 0, "unknown frame type %u", data[0]);
    if (length < sizeof(protocol_header))
        return 0;
    return reply_set(error, REPLY_FRAME_ERROR, 0,
                     "a protocol header instead of a frame: the peer speaks AMQP %u.%u.%u, not 0.9.1", data[5], data[6],
                     data[7]);
}

ssize_t frame_cut(const uint8_t *data, size_t length, uint32_t frame_max, struct frame *frame, struct reply *error)
{
    uint32_t size, least;
    uint16_t channel;

    if (length == 0)
        return 0;
    switch (data[0]) {
    case FRAME_METHOD:
        least = 4; /* class and method */
        break;
    case FRAME_HEADER:
        least = 14; /* class, weight, body size, property flags */
        break;
    case FRAME_BODY:
    case FRAME_HEARTBEAT:
        least = 0;
        break;
    default:
        return frame_cut_stranger(data, length, error);
    }
    if (length < FRAME_HEAD)
        return 0;
    channel = get_u16(data + 1);
    size = get_u32(data + 3);
    if (HARK_UNLIKELY((uint64_t)size + FRAME_OVERHEAD > frame_max))
        return reply_set(error, REPLY_FRAME_ERROR, 0,
                         "a frame of %llu bytes, type %u, channel %u; at most %u are agreed",
                         (unsigned long long)size + FRAME_OVERHEAD, data[0], channel, frame_max);
    if (HARK_UNLIKELY(size < least))
        return reply_set(error, REPLY_FRAME_ERROR, 0, "a frame of type %u with only %u bytes", data[0], size);
    if (HARK_UNLIKELY(data[0] == FRAME_HEARTBEAT && size > 0))
        return reply_set(error, REPLY_FRAME_ERROR, 0, "a heartbeat with %u bytes", size);
    if (HARK_UNLIKELY(data[0] == FRAME_HEARTBEAT && channel != 0)) /* 501 in 4.2.7; RabbitMQ gives 505 */
        return reply_set(error, REPLY_UNEXPECTED_FRAME, 0, "a heartbeat on channel %u, expected on 0 only", channel);
    if (length - FRAME_HEAD <= size)
        return 0;
    if (HARK_UNLIKELY(data[FRAME_HEAD + size] != FRAME_END))
        return reply_set(error, REPLY_FRAME_ERROR, 0, "a frame of type %u, %u bytes, ends in 0x%02x instead of 0xce",
                         data[0], size, data[FRAME_HEAD + size]);
    frame->type = data[0];
    frame->channel = channel;
    frame->payload = span_of(data + FRAME_HEAD, size);
    return (ssize_t)size + FRAME_OVERHEAD;
}

size_t frame_begin(struct buf *out, enum frame_type type, uint16_t channel)
{
    size_t position = buf_length(out);

    buf_put_u8(out, (uint8_t)type);
    buf_put_u16(out, channel);
    buf_put_u32(out, 0);
    return position;
}

void frame_finish(struct buf *out, size_t position)
{
    if (out->failed)
        return;
    buf_set_u32(out, position + 3, (uint32_t)(buf_length(out) - position - FRAME_HEAD));
    buf_put_u8(out, FRAME_END);
}

void frame_put_heartbeat(struct buf *out)
{
    static const uint8_t heartbeat[] = {FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END};

    buf_put(out, heartbeat, sizeof(heartbeat));
}

void frame_put_protocol_header(struct buf *out)
{
    buf_put(out, protocol_header, sizeof(protocol_header));
}
