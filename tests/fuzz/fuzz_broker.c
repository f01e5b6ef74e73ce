/* SPDX-License-Identifier: MIT */
/*
 * A whole connection to the embedded broker, from bytes: the first byte of the input says how far the handshake has
 * already come (bit 0), whether the client reads what it gets (bit 1), and whether there is a second one, logged in
 * too (bit 2), which sends the frames whose channel has the highest bit set; the rest is what they send. After each
 * piece the broker must be sound, and at the end nothing of the clients may be left.
 */
#include "base/log.h"
#include "broker/broker_private.h"
#include "broker/invariants.h"
#include "broker/peer.h"
#include "broker/queue.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct broker *broker;
static char folder[] = "/tmp/hark-fuzz-XXXXXX";

static void fuzz_end(void)
{
    char command[64];

    broker_free(broker);
    loop_free(loop);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    if (system(command) != 0)
        return;
}

static void nothing(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    (void)level;
    (void)text;
}

static void fuzz_start(void)
{
    struct broker_options options = {
        .memory_limit = 8 << 20,
        .disk_free_limit = 1,
        .max_message_size = 65536,
        .frame_max = 131072,
        .channel_max = 16,
        .connection_max = 16,
        .queue_max = 64,
        .consumer_max = 16,
        .handshake_timeout = 60000,
    };
    char error[256];

    if (mkdtemp(folder) == NULL)
        abort();
    log_divert(nothing, NULL);
    options.data = folder;
    loop = loop_new();
    broker = broker_new(loop, &options, error, sizeof(error));
    if (broker == NULL)
        abort();
    atexit(fuzz_end);
}

static void turn(int times)
{
    for (int i = 0; i < times; i++)
        if (loop_turn(loop, false) != 0)
            abort();
    broker_check(broker);
}

/* A frame at a time, so that what one causes can be answered by the next; what is no frame, in pieces. */
static size_t piece(const uint8_t *at, size_t length)
{
    size_t whole = length >= FRAME_HEAD ? (size_t)get_u32(at + 3) + FRAME_OVERHEAD : length;

    if (length >= FRAME_HEAD && memcmp(at, "AMQP", 4) == 0)
        whole = FRAME_OVERHEAD;
    return whole <= length && whole <= PIECE ? whole : length < PIECE ? length : PIECE;
}

static void read_away(int fd)
{
    char bytes[65536];

    while (fd >= 0 && recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        ;
}

/* A frame of the second client: the bit is not part of its channel. False: it is none, or there is no second. */
static bool say_second(int second, const uint8_t *at, size_t length)
{
    uint8_t frame[PIECE];

    if (second < 0 || length < FRAME_HEAD || (at[1] & 0x80) == 0 || memcmp(at, "AMQP", 4) == 0)
        return false;
    memcpy(frame, at, length);
    frame[1] &= 0x7f;
    return send(second, frame, length, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

static void say(int fd, int second, const void *bytes, size_t length, bool reads)
{
    const uint8_t *at = bytes;

    for (int tries = 0; length > 0 && tries < 256; tries++) {
        size_t next = piece(at, length);
        ssize_t put = say_second(second, at, next) ? (ssize_t)next : send(fd, at, next, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (put > 0) {
            at += put;
            length -= (size_t)put;
        }
        turn(2);
        if (reads) {
            read_away(fd);
            read_away(second);
        }
    }
}

/* To an open channel 1, as guest in "/". */
static void shake_hands(int fd)
{
    static const uint8_t bytes[] = "AMQP\0\0\x09\x01"
                                   "\1\0\0\0\0\0\x24\0\x0a\0\x0b\0\0\0\0\5PLAIN\0\0\0\x0c\0guest\0guest\5en_US\xce"
                                   "\1\0\0\0\0\0\x0c\0\x0a\0\x1f\0\x0a\0\2\0\0\0\0\xce"
                                   "\1\0\0\0\0\0\x08\0\x0a\0\x28\1/\0\0\xce"
                                   "\1\0\1\0\0\0\x05\0\x14\0\x0a\0\xce";

    say(fd, -1, bytes, sizeof(bytes) - 1, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct queue *queue, *next;
    struct vhost *vhost;
    int fds[2], others[2] = {-1, -1};

    if (broker == NULL)
        fuzz_start();
    if (size < 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return 0;
    if (peer_accept(broker, fds[0], NULL, false) == NULL)
        abort();
    turn(2);
    if ((data[0] & 1) != 0) {
        shake_hands(fds[1]);
        if (broker->channel_count != 1)
            abort(); /* then the inputs would test nothing */
    }
    if ((data[0] & 4) != 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, others) != 0 ||
            peer_accept(broker, others[0], NULL, false) == NULL)
            abort();
        turn(2);
        shake_hands(others[1]);
    }
    say(fds[1], others[1], data + 1, size - 1, (data[0] & 2) != 0);
    close(fds[1]);
    if (others[1] >= 0)
        close(others[1]);
    for (int i = 0; i < 100 && broker->peer_count > 0; i++)
        turn(1);
    while (broker->peers != NULL)
        peer_end(broker->peers, "the input is at its end");
    turn(1);
    if (broker->peer_count != 0 || broker->channel_count != 0 || broker->consumer_count != 0 ||
        broker->unacked_count != 0)
        abort();
    vhost = broker_vhost(broker, span_str("/"));
    HASH_ITER (hh, vhost->queues, queue, next) {
        queue_delete(queue);
    }
    broker_remove_vhost(vhost);
    if (broker_add_vhost(broker, "/") != 0)
        abort();
    turn(1);
    return 0;
}
