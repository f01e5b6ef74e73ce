/* SPDX-License-Identifier: MIT */
/* Certificates for tests, made on the spot. */
#ifndef TESTS_CERTIFICATES_H
#define TESTS_CERTIFICATES_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

struct authority {
    X509 *certificate;
    EVP_PKEY *key;
};

struct authority authority_new(const char *name);
void authority_free(struct authority *authority);
/* Writes `path`.pem (certificate, then its key), signed by the authority, good for these names ("DNS:localhost,
 * IP:127.0.0.1"); expired: yesterday's. password: the key is encrypted with it. */
void certificate_write(const struct authority *authority, const char *path, const char *names, bool expired,
                       const char *password);
/* The same with these common names instead of "somebody": `count` of them, each with its length. */
struct common_name {
    const char *text;
    int length;
};
void certificate_write_named(const struct authority *authority, const char *path, const struct common_name *names,
                             size_t count);
/* The authority's own certificate. */
void authority_write(const struct authority *authority, const char *path);

#endif
