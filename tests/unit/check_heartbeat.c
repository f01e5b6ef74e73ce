/* SPDX-License-Identifier: MIT */
/* Heartbeats: the rule, and links that follow it. */
#include "link_kit.h"
#include "net/heartbeat.h"
#include "suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the rule: interval 1000, so send after 500, dead after 2000 ---- */

static struct heartbeat beat;
static int64_t again;

static void beat_setup(void)
{
    beat = (struct heartbeat){.interval = 1000, .read = 10000, .written = 10000};
}

#define ck_due(now, paused, due, wait) \
    do { \
        ck_assert_int_eq(heartbeat_look(&beat, now, paused, &again), due); \
        if ((due) != HEARTBEAT_SILENT && (due) != HEARTBEAT_STUCK) \
            ck_assert_int_eq(again, wait); \
    } while (0)

START_TEST(test_beat_send)
{
    ck_due(10000, false, HEARTBEAT_NOTHING, 500);
    ck_due(10499, false, HEARTBEAT_NOTHING, 1);
    ck_due(10500, false, HEARTBEAT_SEND, 500);
    beat.written = 10800;
    ck_due(11000, false, HEARTBEAT_NOTHING, 300);
    beat.written = 11700;
    ck_due(11800, false, HEARTBEAT_NOTHING, 200); /* the end of silence comes before the next heartbeat */
}
END_TEST

START_TEST(test_beat_silent)
{
    beat.written = 11999;
    ck_due(11999, false, HEARTBEAT_NOTHING, 1);
    ck_due(12000, false, HEARTBEAT_SILENT, 0);
    ck_due(12000, true, HEARTBEAT_NOTHING, 499); /* we do not read */
    beat.patient = true;
    ck_due(50000, false, HEARTBEAT_SEND, 500);
}
END_TEST

START_TEST(test_beat_stuck)
{
    beat.stuck = 10100;
    beat.read = 12000;
    ck_due(12099, false, HEARTBEAT_NOTHING, 1);
    ck_due(12100, false, HEARTBEAT_STUCK, 0);
    ck_due(12100, true, HEARTBEAT_STUCK, 0);
    beat.patient = true;
    ck_due(12100, false, HEARTBEAT_NOTHING, 500); /* and no heartbeat behind what cannot be sent */
}
END_TEST

/* ---- links ---- */

static struct loop *loop;
static struct end end;
static int fd; /* the other side */

static const uint8_t heartbeat[8] = {8, 0, 0, 0, 0, 0, 0, 0xce};

static void setup(void)
{
    int pair[2];

    loop = peer_loop();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    fd = pair[1];
    end.link = link_accept(loop, pair[0], NULL, 1000, &end_ops, &end);
    ck_assert_ptr_nonnull(end.link);
    peer_until(loop, end.opened == 1);
}

static void teardown(void)
{
    if (end.link != NULL)
        link_close(end.link);
    close(fd);
    peer_loop_free(loop);
}

static void say_heartbeat(void)
{
    ck_assert_int_eq(send(fd, heartbeat, sizeof(heartbeat), MSG_NOSIGNAL), 8);
}

START_TEST(test_heartbeat_sent)
{
    uint8_t bytes[64];

    link_set_heartbeat_ms(end.link, 200);
    for (int i = 0; i < 5; i++) {
        ssize_t got = 0;

        peer_until(loop, (got = recv(fd, bytes, sizeof(bytes), 0)) >= 0);
        ck_assert_int_eq(got, 8);
        ck_assert_mem_eq(bytes, heartbeat, 8);
        say_heartbeat();
    }
    ck_assert_uint_eq(end.frames + end.closed, 0);
    link_set_heartbeat_ms(end.link, 0);
    peer_wait(loop, 250);
    ck_assert_int_eq(recv(fd, bytes, sizeof(bytes), 0), -1);
}
END_TEST

START_TEST(test_silence)
{
    link_set_heartbeat_ms(end.link, 50);
    link_pause(end.link);
    peer_wait(loop, 200);
    ck_assert_uint_eq(end.closed, 0);
    link_resume(end.link);
    link_set_patient(end.link, true);
    peer_wait(loop, 200);
    ck_assert_uint_eq(end.closed, 0);
    link_set_patient(end.link, false);
    peer_until(loop, end.closed == 1);
    ck_assert_ptr_nonnull(strstr(end.why, "nothing arrived"));
}
END_TEST

START_TEST(test_stuck)
{
    int64_t limit = peer_clock() + 1500;
    size_t at = 0;

    link_set_heartbeat_ms(end.link, 500); /* so that a busy machine is not taken for silence */
    link_set_patient(end.link, true);
    end_put(&end, &at, 5000000, 1000);
    while (peer_clock() < limit) {
        say_heartbeat();
        peer_wait(loop, 5);
    }
    ck_assert_uint_eq(end.closed, 0);
    link_set_patient(end.link, false);
    limit = peer_clock() + 20000;
    while (end.closed == 0) {
        ck_assert_int_lt(peer_clock(), limit);
        say_heartbeat();
        peer_wait(loop, 5);
    }
    ck_assert_ptr_nonnull(strstr(end.why, "the peer took nothing"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heartbeat");
    TCase *rule = tcase_create("rule"), *links = tcase_create("links");

    tcase_add_checked_fixture(rule, beat_setup, NULL);
    tcase_add_test(rule, test_beat_send);
    tcase_add_test(rule, test_beat_silent);
    tcase_add_test(rule, test_beat_stuck);
    suite_add_tcase(suite, rule);
    tcase_set_timeout(links, 15);
    tcase_add_checked_fixture(links, setup, teardown);
    tcase_add_test(links, test_heartbeat_sent);
    tcase_add_test(links, test_silence);
    tcase_add_test(links, test_stuck);
    suite_add_tcase(suite, links);
    return suite_run(suite);
}
