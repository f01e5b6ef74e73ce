/* SPDX-License-Identifier: MIT */
#include "link_kit.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

static void on_open(void *arg)
{
    struct end *end = arg;

    end->opened++;
    end->in_order = true;
}

static void on_frame(void *arg, const struct frame *frame)
{
    struct end *end = arg;

    end->frames++;
    if (frame->payload.length > end->largest)
        end->largest = frame->payload.length;
    if (frame->type == FRAME_BODY)
        for (size_t i = 0; i < frame->payload.length; i++)
            end->in_order &= frame->payload.data[i] == (end->bytes + i) % 251;
    end->bytes += frame->payload.length;
    if (end->on_frame != NULL)
        end->on_frame(end);
}

static void on_batch(void *arg, bool full)
{
    struct end *end = arg;

    end->batches++;
    end->full_batches += full;
}

static void on_drained(void *arg)
{
    ((struct end *)arg)->drained++;
}

static void on_closed(void *arg, const struct reply *error, const char *why)
{
    struct end *end = arg;

    end->closed++;
    end->error = error != NULL ? error->code : 0;
    snprintf(end->why, sizeof(end->why), "%s", why);
    if (end->on_closed != NULL)
        end->on_closed(end);
    end->link = NULL;
}

const struct link_ops end_ops = {
    .open = on_open, .frame = on_frame, .batch = on_batch, .drained = on_drained, .closed = on_closed};

void end_put(struct end *end, size_t *at, size_t length, size_t most)
{
    while (length > 0) {
        struct buf *out = link_out(end->link);
        size_t part = length < most ? length : most, position = frame_begin(out, FRAME_BODY, 1);

        for (size_t i = 0; i < part; i++)
            buf_put_u8(out, (uint8_t)((*at + i) % 251));
        frame_finish(out, position);
        link_send(end->link);
        *at += part;
        length -= part;
    }
}

void end_shrink(int fd)
{
    int size = 16384;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

int end_listen(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

int end_accept(struct loop *loop, int listener)
{
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    int fd;

    peer_until(loop, poll(&ready, 1, 0) == 1);
    fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}
