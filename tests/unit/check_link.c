/* SPDX-License-Identifier: MIT */
/* Links: frames both ways, whatever the other side does. The other side is a plain descriptor. */
#include "link_kit.h"
#include "net/link_private.h"
#include "suite.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static struct end end;
static int fd; /* the other side */
static int listener;
static uint16_t port;

static const uint8_t heartbeat[8] = {8, 0, 0, 0, 0, 0, 0, 0xce};

static void setup(void)
{
    struct link_address address = {.host = "127.0.0.1", .connect_timeout = 2000};

    loop = peer_loop();
    listener = end_listen(&port);
    end_shrink(listener);
    address.port = port;
    end.link = link_connect(loop, &address, &end_ops, &end);
    ck_assert_ptr_nonnull(end.link);
    ck_assert_uint_eq(end.opened, 0);
    fd = end_accept(loop, listener);
    peer_until(loop, end.opened == 1);
    end_shrink(end.link->stream.fd);
    link_set_frame_max(end.link, FRAME_LIMIT);
}

static void teardown(void)
{
    if (end.link != NULL)
        link_close(end.link);
    if (fd >= 0)
        close(fd);
    close(listener);
    peer_loop_free(loop);
}

static void say(const void *bytes, size_t length)
{
    while (length > 0) {
        ssize_t put = send(fd, bytes, length, MSG_NOSIGNAL);

        if (put > 0) {
            bytes = (const char *)bytes + put;
            length -= (size_t)put;
        } else {
            ck_assert_int_eq(errno, EAGAIN);
            ck_assert_int_eq(loop_turn(loop, false), 0);
        }
    }
}

/* Frames as end_put() makes them, from the other side. */
static void say_frames(size_t *at, size_t length, size_t most)
{
    struct buf out = {0};

    while (length > 0) {
        size_t part = length < most ? length : most, position = frame_begin(&out, FRAME_BODY, 1);

        for (size_t i = 0; i < part; i++)
            buf_put_u8(&out, (uint8_t)((*at + i) % 251));
        frame_finish(&out, position);
        *at += part;
        length -= part;
    }
    say(out.data, buf_length(&out));
    buf_free(&out);
}

/* Reads what is there; -1 at the end of file. */
static ssize_t hear(void *to, size_t size)
{
    ssize_t got = recv(fd, to, size, MSG_DONTWAIT);

    if (got == 0)
        return -1;
    if (got < 0)
        ck_assert_msg(errno == EAGAIN, "%s", strerror(errno));
    return got < 0 ? 0 : got;
}

/* ---- reading ---- */

START_TEST(test_frames)
{
    char expected[32];
    size_t at = 0;

    snprintf(expected, sizeof(expected), "127.0.0.1:%u", port);
    ck_assert_str_eq(link_name(end.link), expected);
    say_frames(&at, 1000, 10);
    peer_until(loop, end.frames == 100);
    ck_assert(end.in_order);
    say(heartbeat, 8); /* is the link's own */
    say_frames(&at, 1, 1);
    peer_until(loop, end.frames == 101);
}
END_TEST

START_TEST(test_byte_by_byte)
{
    static const uint8_t frames[] = {3, 0, 1, 0,    0, 0, 2, 0, 1, 0xce, 3, 0, 1,   0,
                                     0, 0, 0, 0xce, 3, 0, 1, 0, 0, 0,    1, 2, 0xce};

    for (size_t i = 0; i < sizeof(frames); i++) {
        say(frames + i, 1);
        peer_until(loop, end.link->in.end - end.link->in.start > 0 || end.bytes > 0);
        peer_wait(loop, 2);
        ck_assert_uint_eq(end.frames, (i >= 9) + (i >= 17) + (i >= 26));
    }
    ck_assert(end.in_order);
}
END_TEST

/* Frames up to the limit, cut anywhere: the buffer grows for them, and shrinks when it is quiet again. */
START_TEST(test_large)
{
    size_t at = 0;

    ck_assert_uint_eq(end.link->in.capacity, 0);
    say_frames(&at, 3000000, FRAME_LIMIT - FRAME_OVERHEAD);
    peer_until(loop, end.bytes == 3000000);
    ck_assert(end.in_order);
    ck_assert_uint_eq(end.largest, FRAME_LIMIT - FRAME_OVERHEAD);
    ck_assert_uint_le(end.link->in.capacity, FRAME_LIMIT);
    say_frames(&at, 10, 10);
    peer_until(loop, end.bytes == 3000010);
    ck_assert_uint_eq(end.link->in.capacity, 0);
}
END_TEST

/* Much that waits is read in large pieces, and the owner is told that more is there. */
START_TEST(test_batches)
{
    uint64_t reads, writes;
    size_t at = 0;

    link_pause(end.link);
    say_frames(&at, 1, 1);
    peer_wait(loop, 20);
    ck_assert_uint_eq(end.frames, 0);
    link_resume(end.link);
    peer_until(loop, end.frames == 1);
    ck_assert_uint_eq(end.batches, 1);
    ck_assert_uint_eq(end.full_batches, 0);
    say_frames(&at, 1000000, 100);
    peer_until(loop, end.bytes == 1000001);
    link_calls(end.link, &reads, &writes);
    ck_assert_uint_lt(reads, 1000);
    ck_assert_uint_ge(end.batches, 2);
    ck_assert(end.in_order);
}
END_TEST

static void pause_here(struct end *self)
{
    link_pause(self->link);
}

static void pause_and_resume(struct end *self)
{
    link_pause(self->link);
    link_resume(self->link);
}

/* Paused from within a frame: what was read with it stays, and comes later, one by one here. */
START_TEST(test_pause)
{
    size_t at = 0;

    end.on_frame = pause_here;
    say_frames(&at, 10, 1);
    for (unsigned i = 1; i <= 10; i++) {
        peer_until(loop, end.frames == i);
        peer_wait(loop, 10);
        ck_assert_uint_eq(end.frames, i);
        link_resume(end.link);
    }
    ck_assert(end.in_order);
    end.on_frame = pause_and_resume;
    say_frames(&at, 100, 1);
    peer_until(loop, end.frames == 110);
    /* Counted. */
    link_pause(end.link);
    link_pause(end.link);
    link_resume(end.link);
    say_frames(&at, 1, 1);
    peer_wait(loop, 20);
    ck_assert_uint_eq(end.frames, 110);
    link_resume(end.link);
    peer_until(loop, end.frames == 111);
    ck_assert(end.in_order);
}
END_TEST

/* ---- writing ---- */

START_TEST(test_one_write)
{
    uint64_t reads, writes, before;
    uint8_t bytes[4096];
    size_t at = 0;

    link_calls(end.link, &reads, &before);
    end_put(&end, &at, 1000, 10);
    ck_assert_uint_eq(link_pending(end.link), 1800);
    ck_assert_int_eq(loop_turn(loop, false), 0);
    link_calls(end.link, &reads, &writes);
    ck_assert_uint_eq(writes, before + 1);
    ck_assert_uint_eq(link_pending(end.link), 0);
    peer_until(loop, hear(bytes, sizeof(bytes)) == 1800);
}
END_TEST

START_TEST(test_full)
{
    size_t at = 0, heard = 0;
    uint8_t *bytes = malloc(4000000);
    struct frame frame;
    struct reply error;
    size_t cut = 0, length = 0;
    ssize_t used;

    ck_assert(!link_is_full(end.link));
    end_put(&end, &at, 1500000, 1000);
    ck_assert_int_eq(loop_turn(loop, false), 0);
    ck_assert(link_is_full(end.link));
    peer_wait(loop, 20);
    ck_assert_uint_eq(end.drained, 0);
    end_put(&end, &at, 1500000, 1000); /* still taken */
    do {
        ssize_t got = hear(bytes + heard, 4000000 - heard);

        ck_assert_int_ge(got, 0);
        heard += (size_t)got;
        ck_assert_int_eq(loop_turn(loop, false), 0);
    } while (heard < 3000 * 1008);
    ck_assert_uint_eq(end.drained, 1);
    ck_assert(!link_is_full(end.link));
    ck_assert_uint_eq(link_pending(end.link), 0);
    while (cut < heard) {
        used = frame_cut(bytes + cut, heard - cut, FRAME_LIMIT, &frame, &error);
        ck_assert_int_eq(used, 1008);
        ck_assert_uint_eq(frame.payload.data[999], (length + 999) % 251);
        cut += (size_t)used;
        length += 1000;
    }
    /* It is not told twice. */
    end_put(&end, &at, 10, 10);
    peer_wait(loop, 20);
    ck_assert_uint_eq(end.drained, 1);
    free(bytes);
}
END_TEST

START_TEST(test_out_of_memory)
{
    link_out(end.link)->failed = true;
    link_send(end.link);
    ck_assert_uint_eq(end.closed, 0);
    peer_until(loop, end.closed == 1);
    ck_assert_str_eq(end.why, "while writing: out of memory");
}
END_TEST

/* ---- the end ---- */

START_TEST(test_peer_closes)
{
    size_t at = 0;

    say_frames(&at, 10, 1);
    close(fd);
    fd = -1;
    peer_until(loop, end.closed == 1);
    ck_assert_uint_eq(end.frames, 10);
    ck_assert_uint_eq(end.error, 0);
    ck_assert_str_eq(end.why, "while reading: the peer closed the connection");
}
END_TEST

START_TEST(test_reset)
{
    struct linger hard = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    fd = -1;
    peer_until(loop, end.closed == 1);
    ck_assert_str_eq(end.why, "while reading: Connection reset by peer");
}
END_TEST

static void farewell(struct end *self)
{
    buf_put(link_out(self->link), heartbeat, 8);
    link_send(self->link);
    link_close_after_flush(self->link, 1000);
}

/* Bytes that are no frames: the owner may still say something. */
START_TEST(test_farewell)
{
    uint8_t bytes[64];
    ssize_t got = 0;

    end.on_closed = farewell;
    say("nonsense", 8);
    peer_until(loop, end.closed == 1);
    ck_assert_uint_eq(end.error, REPLY_FRAME_ERROR);
    ck_assert_ptr_eq(strstr(end.why, "while reading: FRAME_ERROR - "), end.why);
    peer_until(loop, (got = hear(bytes, sizeof(bytes))) != 0);
    ck_assert_int_eq(got, 8);
    peer_until(loop, (got = hear(bytes, sizeof(bytes))) != 0);
    ck_assert_int_eq(got, -1);
    ck_assert_uint_eq(end.closed, 1);
}
END_TEST

/* The last words arrive even though the other side had said more than we read. */
START_TEST(test_close_after_flush)
{
    size_t at = 0, heard = 0;
    uint8_t bytes[65536];
    ssize_t got;

    link_pause(end.link);
    say_frames(&at, 5000, 100);
    at = 0;
    end_put(&end, &at, 1000000, 1000);
    link_close_after_flush(end.link, 5000);
    end.link = NULL;
    do {
        ck_assert_int_eq(loop_turn(loop, true), 0);
        got = hear(bytes, sizeof(bytes));
        heard += got > 0 ? (size_t)got : 0;
    } while (got >= 0);
    ck_assert_uint_eq(heard, 1008000);
    ck_assert_uint_eq(end.frames + end.closed, 0);
}
END_TEST

/* The other side takes nothing: the time limit ends it. (Leaks are the sanitizer's to find.) */
START_TEST(test_close_after_flush_in_vain)
{
    size_t at = 0;

    end_put(&end, &at, 3000000, 1000);
    link_close_after_flush(end.link, 50);
    end.link = NULL;
    peer_wait(loop, 80);
    ck_assert_uint_eq(end.closed, 0);
}
END_TEST

START_TEST(test_loop_ends_while_flushing)
{
    size_t at = 0;

    end_put(&end, &at, 3000000, 1000);
    link_close_after_flush(end.link, 100000);
    end.link = NULL;
    peer_wait(loop, 20);
}
END_TEST

static void close_here(struct end *self)
{
    link_close(self->link);
    link_close(self->link);
    link_send(self->link);
    self->link = NULL;
}

START_TEST(test_close_within_a_frame)
{
    size_t at = 0;

    end.on_frame = close_here;
    say_frames(&at, 10, 1);
    peer_until(loop, end.frames == 1);
    peer_wait(loop, 20);
    ck_assert_uint_eq(end.frames, 1);
    ck_assert_uint_eq(end.batches + end.closed, 0);
}
END_TEST

/* ---- opening ---- */

START_TEST(test_refused)
{
    struct end other = {0};
    struct link_address address = {.host = "127.0.0.1", .port = port, .connect_timeout = 2000};

    close(listener);
    listener = -1;
    other.link = link_connect(loop, &address, &end_ops, &other);
    peer_until(loop, other.closed == 1);
    ck_assert_str_eq(other.why, "while connecting: Connection refused");
    ck_assert_uint_eq(other.opened, 0);
}
END_TEST

START_TEST(test_accept)
{
    struct end other = {0};
    int pair[2];
    size_t at = 0;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    other.link = link_accept(loop, pair[0], NULL, 1000, &end_ops, &other);
    ck_assert_ptr_nonnull(other.link);
    ck_assert_uint_eq(other.opened, 0);
    peer_until(loop, other.opened == 1);
    ck_assert(link_is_loopback(other.link));
    ck_assert_ptr_null(link_peer_name(other.link));
    close(fd);
    fd = pair[1];
    say_frames(&at, 100, 10);
    peer_until(loop, other.frames == 10);
    link_close(other.link);
    peer_until(loop, end.closed == 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("link");
    TCase *tcase = tcase_create("link");

    tcase_set_timeout(tcase, 15);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_frames);
    tcase_add_test(tcase, test_byte_by_byte);
    tcase_add_test(tcase, test_large);
    tcase_add_test(tcase, test_batches);
    tcase_add_test(tcase, test_pause);
    tcase_add_test(tcase, test_one_write);
    tcase_add_test(tcase, test_full);
    tcase_add_test(tcase, test_out_of_memory);
    tcase_add_test(tcase, test_peer_closes);
    tcase_add_test(tcase, test_reset);
    tcase_add_test(tcase, test_farewell);
    tcase_add_test(tcase, test_close_after_flush);
    tcase_add_test(tcase, test_close_after_flush_in_vain);
    tcase_add_test(tcase, test_loop_ends_while_flushing);
    tcase_add_test(tcase, test_close_within_a_frame);
    tcase_add_test(tcase, test_refused);
    tcase_add_test(tcase, test_accept);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
