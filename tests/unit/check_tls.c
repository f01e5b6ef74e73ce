/* SPDX-License-Identifier: MIT */
/* TLS: who is trusted, what is said when somebody is not, and frames through it under pressure. */
#include "certificates.h"
#include "link_kit.h"
#include "net/link_private.h"
#include "net/tls_private.h"
#include "suite.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static char folder[64];
static struct end client, server;
static struct tls_context *client_tls, *server_tls;
static int listener;
static uint16_t port;

/* A client by hand, whose bytes go out when the test says so. */
struct hand {
    SSL *ssl;
    int fd;
};

static void hand_send(const struct hand *hand)
{
    char bytes[16384];
    int got = BIO_read(SSL_get_wbio(hand->ssl), bytes, sizeof(bytes));

    if (got > 0)
        ck_assert_int_eq(send(hand->fd, bytes, (size_t)got, 0), got);
}

static void hand_receive(const struct hand *hand)
{
    char bytes[16384];
    ssize_t got = recv(hand->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (got > 0)
        ck_assert_int_eq(BIO_write(SSL_get_rbio(hand->ssl), bytes, (int)got), got);
}

static const char *file(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % HARK_COUNT(paths)];

    snprintf(path, sizeof(paths[0]), "%s/%s.pem", folder, name);
    return path;
}

static void write_certificates(void)
{
    struct authority good = authority_new("good"), bad = authority_new("bad");
    char path[128];

#define at(name) (snprintf(path, sizeof(path), "%s/%s", folder, name), path)
    authority_write(&good, at("ca"));
    authority_write(&bad, at("otherca"));
    certificate_write(&good, at("server"), "DNS:localhost,IP:127.0.0.1", false, NULL);
    certificate_write(&good, at("elsewhere"), "DNS:elsewhere.example", false, NULL);
    certificate_write(&good, at("expired"), "DNS:localhost", true, NULL);
    certificate_write(&good, at("client"), "DNS:client", false, NULL);
    certificate_write(&bad, at("stranger"), "DNS:localhost", false, NULL);
#undef at
    authority_free(&good);
    authority_free(&bad);
}

static void setup(void)
{
    snprintf(folder, sizeof(folder), "/tmp/check_tls.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    write_certificates();
    loop = peer_loop();
    listener = end_listen(&port);
}

static void teardown(void)
{
    static const char *const names[] = {"ca", "otherca", "server", "elsewhere", "expired", "client", "stranger"};

    if (client.link != NULL)
        link_close(client.link);
    if (server.link != NULL)
        link_close(server.link);
    close(listener);
    peer_loop_free(loop);
    tls_context_free(client_tls);
    tls_context_free(server_tls);
    for (size_t i = 0; i < HARK_COUNT(names); i++)
        unlink(file(names[i]));
    rmdir(folder);
}

static struct tls_context *context(const struct tls_options *options)
{
    char error[256] = "";
    struct tls_context *tls = tls_context_new(options, error, sizeof(error));

    ck_assert_msg(tls != NULL, "%s", error);
    return tls;
}

/* Contexts: the server shows that certificate and demands one if `demand`; the client trusts ca and may show one. */
static void contexts(const char *shown, bool demand, const char *clients)
{
    struct tls_options serving = {.server = true, .certificate = file(shown), .verify = demand, .ca = file("ca")};
    struct tls_options calling = {
        .ca = file("ca"), .certificate = clients != NULL ? file(clients) : NULL, .verify = true};

    server_tls = context(&serving);
    client_tls = context(&calling);
}

static void meet(const char *host, const char *name)
{
    struct link_address address = {
        .host = host, .port = port, .tls = client_tls, .tls_server_name = name, .connect_timeout = 2000};

    client.link = link_connect(loop, &address, &end_ops, &client);
    ck_assert_ptr_nonnull(client.link);
    server.link = link_accept(loop, end_accept(loop, listener), server_tls, 2000, &end_ops, &server);
    ck_assert_ptr_nonnull(server.link);
}

static void meet_open(void)
{
    contexts("server", false, NULL);
    meet("127.0.0.1", NULL);
    peer_until(loop, client.opened == 1 && server.opened == 1);
    link_set_frame_max(client.link, FRAME_LIMIT);
    link_set_frame_max(server.link, FRAME_LIMIT);
}

static void nobody_is_trusted(const char *expected)
{
    peer_until(loop, client.closed == 1);
    ck_assert_msg(strstr(client.why, expected) != NULL, "said: %s", client.why);
    ck_assert_uint_eq(client.opened, 0);
    peer_until(loop, server.closed == 1);
    ck_assert_uint_eq(server.opened, 0);
}

/* ---- who is trusted ---- */

static const struct {
    const char *shown, *host, *name;
} good_names[] = {{"server", "127.0.0.1", NULL},
                  {"server", "localhost", NULL},
                  {"server", "127.0.0.1", "127.0.0.1"},
                  {"server", "127.0.0.1", "localhost"},
                  {"elsewhere", "127.0.0.1", "elsewhere.example"}};

START_TEST(test_good_name)
{
    contexts(good_names[_i].shown, false, NULL);
    meet(good_names[_i].host, good_names[_i].name);
    peer_until(loop, client.opened == 1 && server.opened == 1);
    if (_i > 2) /* the name given is what the server is told */
        ck_assert_str_eq(SSL_get_servername(server.link->stream.ssl, TLSEXT_NAMETYPE_host_name), good_names[_i].name);
    ck_assert_int_ge(SSL_version(client.link->stream.ssl), TLS1_2_VERSION);
    ck_assert_ptr_null(link_peer_name(server.link)); /* was not asked for one */
}
END_TEST

START_TEST(test_wrong_name)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    static const char *const says[] = {"hostname mismatch", "IP address mismatch"};

    contexts("elsewhere", false, NULL);
    meet(hosts[_i], NULL);
    nobody_is_trusted(says[_i]);
    ck_assert_ptr_nonnull(strstr(client.why, "while shaking hands for TLS: the peer's certificate is not accepted: "));
}
END_TEST

static const char *const distrusted[][2] = {{"stranger", "unable to get local issuer certificate"},
                                            {"expired", "certificate has expired"}};

START_TEST(test_distrusted)
{
    contexts(distrusted[_i][0], false, NULL);
    meet("localhost", NULL);
    nobody_is_trusted(distrusted[_i][1]);
}
END_TEST

START_TEST(test_no_verification)
{
    struct tls_options serving = {.server = true, .certificate = file("stranger")}, calling = {.verify = false};

    server_tls = context(&serving);
    client_tls = context(&calling);
    meet("127.0.0.1", NULL);
    peer_until(loop, client.opened == 1 && server.opened == 1);
}
END_TEST

START_TEST(test_client_certificate)
{
    contexts("server", true, "client");
    meet("127.0.0.1", NULL);
    peer_until(loop, client.opened == 1 && server.opened == 1);
    ck_assert_str_eq(link_peer_name(server.link), "somebody");
    ck_assert_str_eq(link_peer_name(client.link), "somebody");
    ck_assert(link_is_loopback(server.link));
}
END_TEST

#define LONG_NAME "0123456789012345678901234567890123456789012345678901234567890123"

/* Whom a certificate names: only what is one name, whole. */
static const struct {
    struct common_name names[2];
    size_t count;
    const char *expected;
} named[] = {
    {{{"j\xc3\xbcrgen", -1}}, 1, "j\xc3\xbcrgen"},
    {{{LONG_NAME, -1}}, 1, LONG_NAME},
    {{{"admin\0.evil", 11}}, 1, NULL},
    {{{"admin", -1}, {"other", -1}}, 2, NULL},
    {{{NULL, 0}}, 0, NULL},
};

START_TEST(test_common_name)
{
    struct authority good = authority_new("good");
    char path[128];

    snprintf(path, sizeof(path), "%s/ca", folder);
    authority_write(&good, path);
    snprintf(path, sizeof(path), "%s/client", folder);
    certificate_write_named(&good, path, named[_i].names, named[_i].count);
    contexts("stranger", true, "client");
    SSL_CTX_set_verify(client_tls->ssl, SSL_VERIFY_NONE, NULL);
    meet("127.0.0.1", NULL);
    peer_until(loop, client.opened == 1 && server.opened == 1);
    if (named[_i].expected == NULL)
        ck_assert_ptr_null(link_peer_name(server.link));
    else
        ck_assert_str_eq(link_peer_name(server.link), named[_i].expected);
    /* Nobody verified the server's. */
    ck_assert_ptr_null(link_peer_name(client.link));
    authority_free(&good);
}
END_TEST

/* In TLS 1.3 the client is through before the server has judged it: the refusal comes with the first read. */
START_TEST(test_no_client_certificate)
{
    contexts("server", true, _i == 0 ? NULL : "stranger");
    meet("127.0.0.1", NULL);
    peer_until(loop, client.closed == 1 && server.closed == 1);
    ck_assert_uint_eq(server.opened, 0);
    ck_assert_msg(strstr(server.why, _i == 0 ? "did not return a certificate" : "certificate is not accepted") != NULL,
                  "said: %s", server.why);
    ck_assert_msg(strstr(client.why, _i == 0 ? "certificate required" : "unknown ca") != NULL, "said: %s", client.why);
}
END_TEST

START_TEST(test_old_version)
{
    contexts("server", false, NULL);
    SSL_CTX_set_min_proto_version(client_tls->ssl, TLS1_1_VERSION);
    SSL_CTX_set_max_proto_version(client_tls->ssl, TLS1_1_VERSION);
    SSL_CTX_set_security_level(client_tls->ssl, 0);
    meet("127.0.0.1", NULL);
    peer_until(loop, client.closed == 1 && server.closed == 1);
    ck_assert_uint_eq(client.opened + server.opened, 0);
}
END_TEST

/* Without an answer. */
static void call(int64_t timeout)
{
    struct link_address address = {.host = "127.0.0.1", .port = port, .connect_timeout = timeout};

    contexts("server", false, NULL);
    address.tls = client_tls;
    client.link = link_connect(loop, &address, &end_ops, &client);
}

START_TEST(test_plain_server)
{
    int fd;

    call(2000);
    fd = end_accept(loop, listener);
    ck_assert_int_eq(write(fd, "AMQP\0\0\11\1", 8), 8);
    peer_until(loop, client.closed == 1);
    ck_assert_str_eq(client.why, "while shaking hands for TLS: the peer does not answer in TLS (wrong version number)");
    close(fd);
}
END_TEST

START_TEST(test_silent_server)
{
    call(100);
    peer_until(loop, client.closed == 1);
    ck_assert_str_eq(client.why, "while shaking hands for TLS: no answer in time");
}
END_TEST

START_TEST(test_hangup)
{
    call(1000);
    shutdown(end_accept(loop, listener), SHUT_RDWR);
    peer_until(loop, client.closed == 1);
    ck_assert_ptr_nonnull(strstr(client.why, "while shaking hands for TLS: "));
}
END_TEST

/* ---- frames ---- */

/* Both ways at once, more than any buffer holds, in small and in largest frames. */
START_TEST(test_frames)
{
    size_t there = 0, back = 0;
    int size = 16384;

    meet_open();
    setsockopt(client.link->stream.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    end_put(&client, &there, 3000000, FRAME_LIMIT - FRAME_OVERHEAD);
    end_put(&server, &back, 1000000, 100);
    peer_until(loop, server.bytes == 3000000 && client.bytes == 1000000);
    ck_assert(server.in_order);
    ck_assert(client.in_order);
    ck_assert_uint_eq(link_pending(client.link), 0);
}
END_TEST

static void pause_here(struct end *self)
{
    link_pause(self->link);
}

/* A frame that comes in one piece with the last words of the handshake: the descriptor is not readable again. */
START_TEST(test_early_frame)
{
    static const uint8_t frame[] = {FRAME_BODY, 0, 1, 0, 0, 0, 3, 0, 1, 2, 0xce};
    struct hand hand = {0};
    int ends[2];

    contexts("server", false, NULL);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    server.link = link_accept(loop, ends[1], server_tls, 2000, &end_ops, &server);
    ck_assert_ptr_nonnull(server.link);
    hand = (struct hand){SSL_new(client_tls->ssl), ends[0]};
    SSL_set_bio(hand.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_verify(hand.ssl, SSL_VERIFY_NONE, NULL);
    SSL_set_max_proto_version(hand.ssl, _i == 0 ? TLS1_3_VERSION : TLS1_2_VERSION);
    while (SSL_connect(hand.ssl) != 1) {
        hand_send(&hand);
        ck_assert_int_eq(loop_turn(loop, true), 0);
        hand_receive(&hand);
    }
    ck_assert_int_eq(SSL_write(hand.ssl, frame, sizeof(frame)), (int)sizeof(frame));
    hand_send(&hand);
    peer_until(loop, server.frames == 1);
    SSL_free(hand.ssl);
    close(hand.fd);
}
END_TEST

/* Another certificate for who comes from now on; a bad one changes nothing. */
START_TEST(test_renew)
{
    struct tls_options options = {.server = true, .certificate = file("elsewhere")};
    char error[256];

    meet_open();
    ck_assert_int_eq(tls_context_renew(server_tls, &options, error, sizeof(error)), 0);
    link_close(client.link);
    link_close(server.link);
    client = server = (struct end){0};
    meet("127.0.0.1", "elsewhere.example");
    peer_until(loop, client.opened == 1 && server.opened == 1);
    options.certificate = "/nonexistent";
    ck_assert_int_eq(tls_context_renew(server_tls, &options, error, sizeof(error)), -1);
    ck_assert_ptr_nonnull(strstr(error, "/nonexistent"));
    link_close(client.link);
    link_close(server.link);
    client = server = (struct end){0};
    meet("127.0.0.1", "elsewhere.example");
    peer_until(loop, client.opened == 1 && server.opened == 1);
}
END_TEST

START_TEST(test_pause)
{
    size_t at = 0;

    meet_open();
    server.on_frame = pause_here;
    end_put(&client, &at, 200, 10);
    for (unsigned i = 1; i <= 20; i++) {
        peer_until(loop, server.frames == i);
        link_resume(server.link);
    }
    server.on_frame = NULL;
    link_pause(server.link);
    end_put(&client, &at, 100000, 100);
    peer_wait(loop, 50);
    ck_assert_uint_eq(server.frames, 20);
    link_resume(server.link);
    peer_until(loop, server.bytes == 100200);
    ck_assert(server.in_order);
}
END_TEST

/* One link that is fed without end leaves the other its turn. */
START_TEST(test_quota)
{
    size_t at = 0;
    unsigned turns = 0;

    meet_open();
    end_put(&client, &at, 8000000, 100000);
    while (server.bytes < 8000000) {
        ck_assert_int_eq(loop_turn(loop, true), 0);
        turns++;
        ck_assert_uint_lt(turns, 100000);
    }
    ck_assert_uint_ge(turns, 8000000 / (512 * 1024 + FRAME_LIMIT));
    ck_assert(server.in_order);
}
END_TEST

START_TEST(test_close_notify)
{
    size_t at = 0;

    meet_open();
    end_put(&client, &at, 100000, 1000);
    if (_i == 0) {
        link_close_after_flush(client.link, 5000);
    } else {
        peer_until(loop, link_pending(client.link) == 0);
        link_close(client.link);
    }
    client.link = NULL;
    peer_until(loop, server.closed == 1);
    ck_assert_uint_eq(server.bytes, 100000);
    ck_assert_str_eq(server.why, "while reading: the peer closed the connection");
    ck_assert_uint_eq(server.error, 0);
}
END_TEST

START_TEST(test_heartbeats)
{
    meet_open();
    link_set_heartbeat_ms(client.link, 400);
    link_set_heartbeat_ms(server.link, 400);
    peer_wait(loop, 1000);
    ck_assert_uint_eq(client.closed + server.closed, 0);
    link_set_heartbeat_ms(server.link, 0);
    peer_until(loop, client.closed == 1);
    ck_assert_ptr_nonnull(strstr(client.why, "nothing arrived"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls");
    TCase *tcase = tcase_create("tls");

    tcase_set_timeout(tcase, 15);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, test_good_name, 0, (int)HARK_COUNT(good_names));
    tcase_add_loop_test(tcase, test_wrong_name, 0, 2);
    tcase_add_loop_test(tcase, test_distrusted, 0, 2);
    tcase_add_test(tcase, test_no_verification);
    tcase_add_test(tcase, test_client_certificate);
    tcase_add_loop_test(tcase, test_common_name, 0, (int)HARK_COUNT(named));
    tcase_add_loop_test(tcase, test_no_client_certificate, 0, 2);
    tcase_add_test(tcase, test_old_version);
    tcase_add_test(tcase, test_plain_server);
    tcase_add_test(tcase, test_silent_server);
    tcase_add_test(tcase, test_hangup);
    tcase_add_test(tcase, test_frames);
    tcase_add_loop_test(tcase, test_early_frame, 0, 2);
    tcase_add_test(tcase, test_renew);
    tcase_add_test(tcase, test_pause);
    tcase_add_test(tcase, test_quota);
    tcase_add_loop_test(tcase, test_close_notify, 0, 2);
    tcase_add_test(tcase, test_heartbeats);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
