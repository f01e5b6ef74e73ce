/* SPDX-License-Identifier: MIT */
#include "net/stream.h"

#include "net/tls_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_NAME_MAX 255

/* Whose certificate it must be. A name is also told to the server (SNI), which addresses must not be (RFC 6066, 3). */
static int stream_name(SSL *ssl, const char *name)
{
    unsigned char address[16];

    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1 ? 0 : -1;
    /* OpenSSL's macro casts the const away, which clang says; SSL_ctrl does not write to it. */
    if (SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)name) != 1)
        return -1;
    return SSL_set1_host(ssl, name) == 1 ? 0 : -1;
}

int stream_open(struct stream *stream, int fd, struct tls_context *tls, const char *name)
{
    *stream = (struct stream){.fd = fd};
    if (tls == NULL)
        return 0;
    stream->ssl = SSL_new(tls->ssl);
    if (stream->ssl == NULL || SSL_set_fd(stream->ssl, fd) != 1)
        goto fail;
    if (tls->server) {
        SSL_set_accept_state(stream->ssl);
    } else {
        SSL_set_connect_state(stream->ssl);
        if (stream_name(stream->ssl, name) != 0)
            goto fail;
    }
    return 0;

fail:
    stream_close(stream);
    return -1;
}

static ssize_t stream_failed(struct stream *stream, const char *text)
{
    snprintf(stream->text, sizeof(stream->text), "%s", text);
    stream->why = stream->text;
    return STREAM_ERROR;
}

/* What OpenSSL's refusal means. The error queue is emptied before each call, so what is in it is of this one. */
static ssize_t stream_tls_result(struct stream *stream, int result)
{
    unsigned long error;
    long verified;

    switch (SSL_get_error(stream->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        stream->wants_write = false;
        return STREAM_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        stream->wants_write = true;
        return STREAM_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return STREAM_EOF;
    case SSL_ERROR_SYSCALL:
        stream->broken = true;
        if (errno == 0)
            return STREAM_EOF;
        return stream_failed(stream, strerror(errno));
    default:
        stream->broken = true;
        break;
    }
    verified = SSL_get_verify_result(stream->ssl);
    error = ERR_peek_last_error();
    if (ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK) {
        snprintf(stream->text, sizeof(stream->text),
                 "the peer's certificate is not accepted: %s (see tls_ca, tls_server_name)",
                 X509_verify_cert_error_string(verified));
        stream->why = stream->text;
        return STREAM_ERROR;
    }
    if (ERR_GET_REASON(error) == SSL_R_WRONG_VERSION_NUMBER)
        return stream_failed(stream, "the peer does not answer in TLS (wrong version number)");
    if (ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return STREAM_EOF;
    return stream_failed(stream, error != 0 && ERR_reason_error_string(error) != NULL ? ERR_reason_error_string(error)
                                                                                      : "TLS failed");
}

int stream_handshake(struct stream *stream)
{
    int result;

    if (stream->ssl == NULL)
        return 1;
    ERR_clear_error();
    errno = 0;
    result = SSL_do_handshake(stream->ssl);
    if (result == 1)
        return 1;
    result = (int)stream_tls_result(stream, result);
    if (result == STREAM_EOF)
        return (int)stream_failed(stream, "the peer closed the connection during the TLS handshake");
    return result;
}

ssize_t stream_read(struct stream *stream, void *to, size_t size)
{
    ssize_t got;

    if (stream->ssl != NULL) {
        ERR_clear_error();
        errno = 0;
        got = SSL_read(stream->ssl, to, size < INT_MAX ? (int)size : INT_MAX);
        return got > 0 ? got : stream_tls_result(stream, (int)got);
    }
    do
        got = recv(stream->fd, to, size, 0);
    while (got < 0 && errno == EINTR);
    if (got >= 0)
        return got;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return STREAM_AGAIN;
    return stream_failed(stream, strerror(errno));
}

ssize_t stream_write(struct stream *stream, const void *from, size_t size)
{
    ssize_t put;

    if (stream->ssl != NULL) {
        ERR_clear_error();
        errno = 0;
        put = SSL_write(stream->ssl, from, size < INT_MAX ? (int)size : INT_MAX);
        if (put > 0)
            return put;
        put = stream_tls_result(stream, (int)put);
        return put == STREAM_EOF ? stream_failed(stream, "closed by the peer") : put;
    }
    do
        put = send(stream->fd, from, size, MSG_NOSIGNAL);
    while (put < 0 && errno == EINTR);
    if (put >= 0)
        return put;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return STREAM_AGAIN;
    return stream_failed(stream, strerror(errno));
}

bool stream_buffered(const struct stream *stream)
{
    return stream->ssl != NULL && SSL_has_pending(stream->ssl) == 1;
}

static char *stream_common_name(const X509_NAME *subject)
{
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1), length;
    unsigned char *text;
    char *name = NULL;

    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return NULL;
    length = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (length < 0)
        return NULL;
    if (length > 0 && length <= STREAM_NAME_MAX && memchr(text, 0, (size_t)length) == NULL)
        name = strndup((const char *)text, (size_t)length);
    OPENSSL_free(text);
    return name;
}

char *stream_peer_name(const struct stream *stream)
{
    const X509 *certificate;

    if (stream->ssl == NULL || (SSL_get_verify_mode(stream->ssl) & SSL_VERIFY_PEER) == 0 ||
        SSL_get_verify_result(stream->ssl) != X509_V_OK)
        return NULL;
    certificate = SSL_get0_peer_certificate(stream->ssl);
    return certificate != NULL ? stream_common_name(X509_get_subject_name(certificate)) : NULL;
}

/* close_notify, if there is room for it; the peer's own is not waited for. */
static void stream_notify(struct stream *stream)
{
    if (stream->ssl == NULL || stream->broken || !SSL_is_init_finished(stream->ssl) ||
        (SSL_get_shutdown(stream->ssl) & SSL_SENT_SHUTDOWN) != 0)
        return;
    ERR_clear_error();
    SSL_shutdown(stream->ssl);
}

void stream_finish(struct stream *stream)
{
    stream_notify(stream);
    shutdown(stream->fd, SHUT_WR);
}

void stream_close(struct stream *stream)
{
    stream_notify(stream);
    SSL_free(stream->ssl);
    if (stream->fd >= 0)
        close(stream->fd);
    *stream = (struct stream){.fd = -1};
}
