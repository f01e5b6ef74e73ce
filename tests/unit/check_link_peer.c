/* SPDX-License-Identifier: MIT */
/* Links: where the other side is. (Who it is: check_tls.c.) */
#include "link_kit.h"
#include "suite.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;

static void setup(void)
{
    loop = peer_loop();
}

static void teardown(void)
{
    peer_loop_free(loop);
}

/* Both ends of a connection to this address, which the machine may not have: then there is nothing to see. */
static void loopback_is(int family, const char *address, bool expected)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6};
    struct end here = {0}, there = {0};
    socklen_t length = sizeof(at);
    int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), off = 0;
    struct link_address to = {.host = address, .connect_timeout = 2000};
    char mapped[64];

    snprintf(mapped, sizeof(mapped), family == AF_INET ? "::ffff:%s" : "%s", address);
    ck_assert_int_eq(inet_pton(AF_INET6, mapped, &at.sin6_addr), 1);
    if (listener < 0 || setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0 ||
        bind(listener, (struct sockaddr *)&at, length) != 0) {
        close(listener);
        return;
    }
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &length), 0);
    to.port = ntohs(at.sin6_port);
    here.link = link_connect(loop, &to, &end_ops, &here);
    there.link = link_accept(loop, end_accept(loop, listener), NULL, 1000, &end_ops, &there);
    peer_until(loop, here.opened == 1 && there.opened == 1);
    ck_assert_msg(link_is_loopback(there.link) == expected, "%s", link_name(there.link));
    ck_assert_msg(link_is_loopback(here.link) == expected, "%s", link_name(here.link));
    link_close(here.link);
    peer_until(loop, there.closed == 1);
    close(listener);
}

START_TEST(test_loopback)
{
    struct ifaddrs *addresses;
    char text[64];

    loopback_is(AF_INET6, "::1", true);
    loopback_is(AF_INET, "127.0.0.1", true); /* arrives as ::ffff:127.0.0.1 */
    loopback_is(AF_INET, "127.200.0.3", true);
    ck_assert_int_eq(getifaddrs(&addresses), 0);
    for (const struct ifaddrs *at = addresses; at != NULL; at = at->ifa_next)
        if (at->ifa_addr != NULL && at->ifa_addr->sa_family == AF_INET && (at->ifa_flags & IFF_LOOPBACK) == 0 &&
            getnameinfo(at->ifa_addr, sizeof(struct sockaddr_in), text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
            loopback_is(AF_INET, text, false);
    freeifaddrs(addresses);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("link_peer");
    TCase *tcase = tcase_create("link_peer");

    tcase_set_timeout(tcase, 15);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_loopback);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
