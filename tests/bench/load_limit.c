/* SPDX-License-Identifier: MIT */
/*
 * The limit of `both`: the same load, through the same two loopback connections, with a process in
 * the middle that passes bytes on and knows nothing of AMQP. What a broker takes longer is its own
 * work.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT_READ (64 * 1024) /* as the broker reads */

/* Two ends of a loopback connection. */
static void limit_connect(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || ends[0] < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0 ||
        connect(ends[0], (struct sockaddr *)&address, size) < 0)
        load_die("loopback");
    ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (ends[1] < 0)
        load_die("loopback");
    close(listener);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

static _Noreturn void limit_relay(int from, int to)
{
    static uint8_t bytes[LIMIT_READ];
    ssize_t got;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while ((got = recv(from, bytes, sizeof(bytes), 0)) > 0)
        if (send(to, bytes, (size_t)got, MSG_NOSIGNAL) != got) /* blocking: all of it */
            break;
    _exit(0);
}

static uint64_t limit_count(struct load_line *line)
{
    struct load_frame frame;
    uint64_t messages = 0;

    load_line_read(line);
    while (load_line_next(line, &frame))
        messages += frame.type == RAW_BODY;
    return messages;
}

void load_limit(const struct load_options *options)
{
    struct load_publisher publisher;
    struct load_line consumer = {0};
    int in[2], out[2];
    uint64_t arrived = 0;
    int64_t started;
    double seconds;

    limit_connect(in);
    limit_connect(out);
    if (fork() == 0)
        limit_relay(in[1], out[1]);
    load_publisher_init(&publisher, options);
    publisher.line.fd = in[0];
    consumer.fd = out[0];
    started = bench_now();
    while (arrived < options->messages) {
        struct pollfd polled[] = {load_line_poll(&publisher.line, load_publisher_wants_write(&publisher)),
                                  load_line_poll(&consumer, false)};

        load_wait(polled, HARK_COUNT(polled), 0);
        if (polled[1].revents)
            arrived += limit_count(&consumer);
        if (polled[0].revents & POLLOUT)
            load_publisher_write(&publisher);
    }
    seconds = (double)(bench_now() - started) / 1e9;
    printf("{\"messages\": %lu, \"seconds\": %.6f, \"rate\": %.0f}\n", arrived, seconds, (double)arrived / seconds);
}
