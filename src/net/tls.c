/* SPDX-License-Identifier: MIT */
#include "net/tls.h"

#include "net/tls_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TLS_READ_AHEAD (64 * 1024)
#define TLS_SESSIONS "hark" /* whose they are */

static int tls_fail(char *error, size_t size, const char *what, const char *file)
{
    unsigned long code = ERR_peek_last_error(), first = ERR_peek_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    /* A file that cannot be read is reported in layers; the first is errno. */
    if (ERR_SYSTEM_ERROR(first))
        reason = strerror(ERR_GET_REASON(first));
    else if ((ERR_GET_LIB(first) == ERR_LIB_PEM && ERR_GET_REASON(first) == PEM_R_NO_START_LINE) ||
             ERR_GET_REASON(first) == ERR_R_UNSUPPORTED)
        reason = "it holds nothing of that kind in PEM format";
    else if (ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH ||
             ERR_GET_REASON(code) == SSL_R_NO_CERTIFICATE_ASSIGNED)
        reason = "it does not belong to tls_certificate";
    snprintf(error, size, "%s%s%s: %s", what, file != NULL ? " " : "", file != NULL ? file : "",
             reason != NULL ? reason : "unknown error");
    return -1;
}

struct tls_password {
    const char *text; /* NULL: none */
    bool asked;
};

static int tls_password(char *to, int size, int writing, void *arg)
{
    struct tls_password *password = arg;
    size_t length = password->text != NULL ? strlen(password->text) : 0;

    (void)writing;
    password->asked = true;
    if (length == 0 || length > (size_t)size)
        return -1;
    memcpy(to, password->text, length);
    return (int)length;
}

static int tls_trust(SSL_CTX *ssl, const char *ca, char *error, size_t size)
{
    struct stat about;

    if (ca == NULL) {
        if (SSL_CTX_set_default_verify_paths(ssl) != 1)
            return tls_fail(error, size, "cannot load the system's certificates", NULL);
        return 0;
    }
    if (stat(ca, &about) != 0) {
        snprintf(error, size, "cannot load tls_ca %s: %s", ca, strerror(errno));
        return -1;
    }
    if (SSL_CTX_load_verify_locations(ssl, S_ISDIR(about.st_mode) ? NULL : ca, S_ISDIR(about.st_mode) ? ca : NULL) != 1)
        return tls_fail(error, size, "cannot load tls_ca", ca);
    return 0;
}

static int tls_key(SSL_CTX *ssl, const char *key, struct tls_password *password, char *error, size_t size)
{
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(ssl) == 1)
        return 0;
    if (!password->asked || ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH)
        return tls_fail(error, size, "cannot load tls_key", key);
    snprintf(error, size, "cannot load tls_key %s: %s (see tls_key_password_file)", key,
             password->text != NULL ? "the password is wrong" : "it needs a password");
    return -1;
}

static int tls_identity(SSL_CTX *ssl, const struct tls_options *options, char *error, size_t size)
{
    const char *key = options->key != NULL ? options->key : options->certificate;
    struct tls_password password = {.text = options->key_password};
    int result;

    SSL_CTX_set_default_passwd_cb(ssl, tls_password);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, &password);
    if (SSL_CTX_use_certificate_chain_file(ssl, options->certificate) != 1)
        result = tls_fail(error, size, "cannot load tls_certificate", options->certificate);
    else
        result = tls_key(ssl, key, &password, error, size);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    SSL_CTX_set_default_passwd_cb(ssl, NULL);
    return result;
}

/* Clients offer the session of their connection before, and OpenSSL refuses those who do where certificates are
 * verified and sessions belong to nothing. Tickets are one context's alone: none outlives a change of tls_ca. Those
 * of TLS 1.3 come between the data, which Java's client with NIO takes for zeros; RabbitMQ sends none either. */
static int tls_sessions(SSL_CTX *ssl)
{
    if (SSL_CTX_set_session_id_context(ssl, (const unsigned char *)TLS_SESSIONS, strlen(TLS_SESSIONS)) != 1)
        return -1;
    return SSL_CTX_set_num_tickets(ssl, 0) == 1 ? 0 : -1;
}

struct tls_context *tls_context_new(const struct tls_options *options, char *error, size_t size)
{
    struct tls_context *context = calloc(1, sizeof(*context));
    int verify = SSL_VERIFY_NONE;

    if (context == NULL) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
    ERR_clear_error();
    context->server = options->server;
    context->ssl = SSL_CTX_new(options->server ? TLS_server_method() : TLS_client_method());
    if (context->ssl == NULL || SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION) != 1) {
        tls_fail(error, size, "cannot set up TLS", NULL);
        goto fail;
    }
    /* The output buffer may have moved when a write is tried again; a part may be written. */
    SSL_CTX_set_mode(context->ssl,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    /* Renegotiation is a way to make the peer work, and nobody's AMQP needs it. Read ahead: one read for several
     * records instead of two for each. */
    SSL_CTX_set_options(context->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(context->ssl, 1);
    SSL_CTX_set_default_read_buffer_len(context->ssl, TLS_READ_AHEAD);
    if (options->verify)
        verify = options->server ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_PEER;
    else if (options->server && options->ca != NULL)
        verify = SSL_VERIFY_PEER;
    if (verify != SSL_VERIFY_NONE && tls_trust(context->ssl, options->ca, error, size) != 0)
        goto fail;
    SSL_CTX_set_verify(context->ssl, verify, NULL);
    if (options->server && tls_sessions(context->ssl) != 0) {
        tls_fail(error, size, "cannot set up TLS", NULL);
        goto fail;
    }
    if (options->certificate != NULL && tls_identity(context->ssl, options, error, size) != 0)
        goto fail;
    return context;

fail:
    tls_context_free(context);
    return NULL;
}

int tls_context_renew(struct tls_context *context, const struct tls_options *options, char *error, size_t size)
{
    struct tls_context *other = tls_context_new(options, error, size);
    SSL_CTX *before = context->ssl;

    if (other == NULL)
        return -1;
    context->ssl = other->ssl; /* connections hold the old one as long as they need it */
    other->ssl = before;
    tls_context_free(other);
    return 0;
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl);
    free(context);
}
