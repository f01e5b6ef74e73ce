/* SPDX-License-Identifier: MIT */
#include "certificates.h"

#include <check.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    ck_assert_ptr_nonnull(extension);
    ck_assert_int_eq(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static X509 *make(EVP_PKEY *key, const struct common_name *names, size_t count, const struct authority *by,
                  bool expired)
{
    static long serial = 1;
    X509 *certificate = X509_new();
    X509_NAME *subject;

    ck_assert_ptr_nonnull(certificate);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -2 * 86400);
    X509_gmtime_adj(X509_getm_notAfter(certificate), expired ? -86400 : 86400);
    X509_set_pubkey(certificate, key);
    subject = X509_get_subject_name(certificate);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(X509_NAME_add_entry_by_NID(subject, NID_commonName, V_ASN1_UTF8STRING,
                                                    (const unsigned char *)names[i].text, names[i].length, -1, 0),
                         1);
    X509_set_issuer_name(certificate, by != NULL ? X509_get_subject_name(by->certificate) : subject);
    return certificate;
}

struct authority authority_new(const char *name)
{
    struct authority authority = {.key = EVP_EC_gen("P-256")};

    ck_assert_ptr_nonnull(authority.key);
    authority.certificate = make(authority.key, &(struct common_name){name, -1}, 1, NULL, false);
    add_extension(authority.certificate, authority.certificate, NID_basic_constraints, "critical,CA:TRUE");
    ck_assert_int_gt(X509_sign(authority.certificate, authority.key, EVP_sha256()), 0);
    return authority;
}

void authority_free(struct authority *authority)
{
    X509_free(authority->certificate);
    EVP_PKEY_free(authority->key);
}

static FILE *create(const char *path)
{
    char name[300];
    FILE *file;

    snprintf(name, sizeof(name), "%s.pem", path);
    file = fopen(name, "w");
    ck_assert_ptr_nonnull(file);
    return file;
}

void authority_write(const struct authority *authority, const char *path)
{
    FILE *file = create(path);

    ck_assert_int_eq(PEM_write_X509(file, authority->certificate), 1);
    fclose(file);
}

static void sign_and_write(const struct authority *authority, const char *path, X509 *certificate, EVP_PKEY *key,
                           const char *password)
{
    FILE *file = create(path);

    ck_assert_int_gt(X509_sign(certificate, authority->key, EVP_sha256()), 0);
    ck_assert_int_eq(PEM_write_X509(file, certificate), 1);
    ck_assert_int_eq(PEM_write_PKCS8PrivateKey(file, key, password != NULL ? EVP_aes_256_cbc() : NULL, NULL, 0, NULL,
                                               (void *)(uintptr_t)password),
                     1);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

void certificate_write(const struct authority *authority, const char *path, const char *names, bool expired,
                       const char *password)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make(key, &(struct common_name){"somebody", -1}, 1, authority, expired);

    add_extension(certificate, authority->certificate, NID_subject_alt_name, names);
    sign_and_write(authority, path, certificate, key, password);
}

void certificate_write_named(const struct authority *authority, const char *path, const struct common_name *names,
                             size_t count)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    sign_and_write(authority, path, make(key, names, count, authority, false), key, NULL);
}
