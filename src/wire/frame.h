/* SPDX-License-Identifier: MIT */
/*
 * Frames (AMQP 0-9-1, 4.2.3): type, channel, size, payload, 0xCE. Bytes in, frames out; no socket,
 * no role.
 *
 * frame_max counts a whole frame, with its 7 bytes in front and 1 behind.
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "base/buf.h"
#include "wire/reply.h"

#define FRAME_HEAD 7
#define FRAME_OVERHEAD 8
#define FRAME_END 0xCE
#define FRAME_MIN_MAX 4096     /* the specification's smallest frame_max */
#define FRAME_UNTUNED_MAX 8192 /* what a client takes before connection.tune-ok; a server, FRAME_MIN_MAX */
#define FRAME_LIMIT 131072     /* the largest frame_max that hark agrees to */

enum frame_type { FRAME_METHOD = 1, FRAME_HEADER = 2, FRAME_BODY = 3, FRAME_HEARTBEAT = 8 };

struct frame {
    uint8_t type;
    uint16_t channel;
    struct span payload; /* points into the bytes given to frame_cut */
};

/* Cuts one frame. Returns how many bytes it used; 0: more bytes are needed; -1: not AMQP, see error
 * (501 FRAME_ERROR for an unknown type, a bad end or a size over frame_max, as soon as that can be
 * seen, a method frame under 4 bytes, a header frame under 14, a heartbeat with payload or on a
 * channel; also for an "AMQP" protocol header where a frame should be, which is how a server
 * refuses a version). */
ssize_t frame_cut(const uint8_t *data, size_t length, uint32_t frame_max, struct frame *frame,
                  struct reply *error) HARK_MUSTCHECK;

/* Puts a frame head with an open size and returns its position for frame_finish, which writes size
 * and end. */
size_t frame_begin(struct buf *out, enum frame_type type, uint16_t channel);
void frame_finish(struct buf *out, size_t position);
void frame_put_heartbeat(struct buf *out);
/* "AMQP" 0 0 9 1 */
void frame_put_protocol_header(struct buf *out);

#endif
