/* SPDX-License-Identifier: MIT */
/*
 * stub [-n messages] [-b body bytes] [-p]
 *
 * The stub broker's loop. The first line on standard output is the port it listens on (127.0.0.1), the last one a JSON
 * object, printed when all messages came back published and acknowledged. It ends when then all clients have left,
 * with 0 if nothing was rejected. -n 0: nothing to deliver, until SIGTERM. -p: the messages are persistent.
 */
#include "stub.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define STUB_READ (256 * 1024)
#define STUB_PEERS 256

struct loop {
    struct stub stub;
    int epoll, listener;
    unsigned peer_count;
    struct stub_peer *peers[STUB_PEERS];
    bool reported, failed;
};

static void loop_die(const char *what)
{
    fprintf(stderr, "stub: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void loop_listen(struct loop *loop)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN};
    socklen_t size = sizeof(address);

    loop->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (loop->listener < 0 || bind(loop->listener, (struct sockaddr *)&address, size) < 0 ||
        listen(loop->listener, 64) < 0 || getsockname(loop->listener, (struct sockaddr *)&address, &size) < 0)
        loop_die("cannot listen");
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0 || epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->listener, &event) < 0)
        loop_die("epoll");
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void loop_accept(struct loop *loop)
{
    int fd = accept4(loop->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    struct stub_peer *peer;
    struct epoll_event event = {.events = EPOLLIN};

    if (fd < 0)
        return;
    peer = calloc(1, sizeof(*peer));
    if (peer == NULL || loop->peer_count == STUB_PEERS) {
        free(peer);
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    peer->stub = &loop->stub;
    peer->fd = fd;
    event.data.ptr = peer;
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        loop_die("epoll");
    loop->peers[loop->peer_count++] = peer;
}

/* The write event is armed only while the socket is full. */
static void loop_arm(struct loop *loop, struct stub_peer *peer, bool writing)
{
    struct epoll_event event = {.events = writing ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = peer};

    if (peer->writing == writing)
        return;
    peer->writing = writing;
    if (epoll_ctl(loop->epoll, EPOLL_CTL_MOD, peer->fd, &event) < 0)
        loop_die("epoll");
}

static void loop_write(struct loop *loop, struct stub_peer *peer)
{
    struct buf *out = &peer->out;

    do {
        while (buf_length(out) > 0) {
            ssize_t sent = send(peer->fd, out->data + out->start, buf_length(out), MSG_NOSIGNAL);

            loop->stub.writes++;
            if (sent < 0 && errno == EAGAIN) {
                loop_arm(loop, peer, true);
                return;
            }
            if (sent < 0) {
                peer->broken = true;
                return;
            }
            out->start += (size_t)sent;
        }
        buf_clear(out);
    } while (stub_peer_deliver(peer));
    loop_arm(loop, peer, false);
}

static void loop_read(struct loop *loop, struct stub_peer *peer)
{
    uint8_t *to = buf_reserve(&peer->in, STUB_READ);
    ssize_t got = to ? recv(peer->fd, to, STUB_READ, 0) : -1;

    loop->stub.reads++;
    if (got <= 0) {
        peer->broken |= got == 0 || errno != EAGAIN;
        return;
    }
    peer->in.end += (size_t)got;
    stub_peer_input(peer);
}

static void loop_drop(struct loop *loop, unsigned index)
{
    struct stub_peer *peer = loop->peers[index];

    close(peer->fd);
    stub_peer_free(peer);
    loop->peers[index] = loop->peers[--loop->peer_count];
}

/* Sends the heartbeats that are due; returns how long epoll may sleep. */
static int loop_beat(struct loop *loop)
{
    static const uint8_t heartbeat[] = {RAW_HEARTBEAT, 0, 0, 0, 0, 0, 0, RAW_FRAME_END};
    int64_t now = bench_now(), next = INT64_MAX;

    for (unsigned i = 0; i < loop->peer_count; i++) {
        struct stub_peer *peer = loop->peers[i];

        if (peer->beat_at == 0)
            continue;
        if (peer->beat_at <= now) {
            buf_put(&peer->out, heartbeat, sizeof(heartbeat));
            loop_write(loop, peer);
            peer->beat_at = now + peer->heartbeat * INT64_C(500000000);
        }
        if (peer->beat_at < next)
            next = peer->beat_at;
    }
    return next == INT64_MAX ? -1 : (int)((next - now) / 1000000) + 1;
}

static void loop_report(struct loop *loop)
{
    struct stub *stub = &loop->stub;

    loop->reported = true;
    stub->ended = bench_now();
    stub->cpu_ended = bench_cpu();
    if (stub->rejected > 0 || stub->published != stub->messages || stub->body_bytes != stub->messages * stub->body) {
        fprintf(stderr, "stub: of %lu messages %lu published with %lu body bytes, %lu rejected\n", stub->messages,
                stub->published, stub->body_bytes, stub->rejected);
        loop->failed = true;
    }
    printf("{\"messages\": %lu, \"seconds\": %.6f, \"rate\": %.0f, \"stub_cpu_us\": %.3f, \"first_publish_ns\": %ld, "
           "\"first_ack_ns\": %ld, \"reads_per_message\": %.4f, \"writes_per_message\": %.4f}\n",
           stub->messages, (double)(stub->ended - stub->started) / 1e9,
           (double)stub->messages * 1e9 / (double)(stub->ended - stub->started),
           (double)(stub->cpu_ended - stub->cpu_started) / 1e3 / (double)stub->messages, stub->first_publish,
           stub->first_ack, (double)stub->reads / (double)stub->messages,
           (double)stub->writes / (double)stub->messages);
    fflush(stdout);
}

static bool loop_done(const struct stub *stub)
{
    return stub->messages > 0 && stub->acked >= stub->messages && stub->published >= stub->messages;
}

static void loop_run(struct loop *loop)
{
    struct epoll_event events[16];

    while (!loop->reported || loop->peer_count > 0) {
        int count = epoll_wait(loop->epoll, events, (int)HARK_COUNT(events), loop_beat(loop));

        for (int i = 0; i < count; i++) {
            struct stub_peer *peer = events[i].data.ptr;

            if (peer == NULL) {
                loop_accept(loop);
                continue;
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT)
                loop_read(loop, peer);
            if (!peer->broken) {
                stub_peer_deliver(peer);
                loop_write(loop, peer);
            }
        }
        for (unsigned i = loop->peer_count; i-- > 0;)
            if (loop->peers[i]->broken || (loop->peers[i]->closing && buf_length(&loop->peers[i]->out) == 0))
                loop_drop(loop, i);
        if (!loop->reported && loop_done(&loop->stub))
            loop_report(loop);
    }
}

int main(int argc, char **argv)
{
    static struct loop loop = {.stub = {.messages = 1000000, .body = BENCH_BODY}};
    int option;

    while ((option = getopt(argc, argv, "n:b:p")) != -1) {
        switch (option) {
        case 'n':
            loop.stub.messages = strtoull(optarg, NULL, 10);
            break;
        case 'b':
            loop.stub.body = strtoul(optarg, NULL, 10);
            break;
        case 'p':
            loop.stub.persistent = true;
            break;
        default:
            fprintf(stderr, "usage: stub [-n messages] [-b body bytes] [-p]\n");
            return 2;
        }
    }
    loop_listen(&loop);
    loop_run(&loop);
    return loop.failed;
}
