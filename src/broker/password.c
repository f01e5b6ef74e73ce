/* SPDX-License-Identifier: MIT */
#include "broker/password.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const EVP_MD *(*digest)(void);
    size_t length;
} algorithms[] = {
    [PASSWORD_SHA256] = {"rabbit_password_hashing_sha256", EVP_sha256, 32},
    [PASSWORD_SHA512] = {"rabbit_password_hashing_sha512", EVP_sha512, 64},
    [PASSWORD_MD5] = {"rabbit_password_hashing_md5", EVP_md5, 16},
};

static int password_hash(const struct password *password, struct span clear, uint8_t hash[EVP_MAX_MD_SIZE])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int result = -1;

    if (context != NULL && EVP_DigestInit_ex(context, algorithms[password->algorithm].digest(), NULL) == 1 &&
        EVP_DigestUpdate(context, password->salt, PASSWORD_SALT) == 1 &&
        EVP_DigestUpdate(context, clear.data, clear.length) == 1 && EVP_DigestFinal_ex(context, hash, NULL) == 1)
        result = 0;
    EVP_MD_CTX_free(context);
    return result;
}

int password_make(struct password *password, struct span clear, char *error, size_t size)
{
    struct password made = {.algorithm = PASSWORD_SHA256, .length = (uint8_t)algorithms[PASSWORD_SHA256].length};

    if (clear.length == 0) {
        snprintf(error, size, "the password is empty");
        return -1;
    }
    if (RAND_bytes(made.salt, PASSWORD_SALT) != 1 || password_hash(&made, clear, made.hash) != 0) {
        snprintf(error, size, "the password cannot be hashed: OpenSSL failed");
        return -1;
    }
    *password = made;
    return 0;
}

/* The number of bytes; -1: not base64, or more than `size` of them. */
static int password_decode(const char *base64, uint8_t *to, size_t size)
{
    uint8_t bytes[3 * 32];
    size_t length = strlen(base64), digits, padding, whole;

    digits = strspn(base64, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    padding = strspn(base64 + digits, "=");
    if (digits + padding != length || padding > 2 || length % 4 != 0 || length / 4 * 3 > sizeof(bytes))
        return -1;
    if (EVP_DecodeBlock(bytes, (const unsigned char *)base64, (int)length) < 0)
        return -1;
    whole = length / 4 * 3 - padding;
    if (whole > size)
        return -1;
    memcpy(to, bytes, whole);
    return (int)whole;
}

static int password_algorithm(const char *name, size_t length, enum password_algorithm *algorithm)
{
    for (size_t i = 0; i < HARK_COUNT(algorithms); i++)
        if (name != NULL ? strcmp(name, algorithms[i].name) == 0 : length == algorithms[i].length) {
            *algorithm = (enum password_algorithm)i;
            return 0;
        }
    return -1;
}

int password_read(struct password *password, const char *base64, const char *algorithm, char *error, size_t size)
{
    struct password made = {0};
    uint8_t bytes[PASSWORD_SALT + PASSWORD_HASH_MAX];
    int length = password_decode(base64, bytes, sizeof(bytes));

    if (algorithm != NULL && password_algorithm(algorithm, 0, &made.algorithm) != 0) {
        snprintf(error, size, "the hashing algorithm '%.60s' is not known (there are %s, %s and %s)", algorithm,
                 algorithms[0].name, algorithms[1].name, algorithms[2].name);
        return -1;
    }
    if (length != 0) {
        size_t hash = length > PASSWORD_SALT ? (size_t)length - PASSWORD_SALT : 0;

        if (password_algorithm(algorithm, hash, &made.algorithm) != 0 || hash != algorithms[made.algorithm].length) {
            snprintf(error, size, "the password hash is not base64 of %d bytes salt and a%s hash", PASSWORD_SALT,
                     algorithm == NULL                   ? " SHA-256, SHA-512 or MD5"
                     : made.algorithm == PASSWORD_SHA256 ? " SHA-256"
                     : made.algorithm == PASSWORD_SHA512 ? " SHA-512"
                                                         : "n MD5");
            return -1;
        }
        made.length = (uint8_t)hash;
        memcpy(made.salt, bytes, PASSWORD_SALT);
        memcpy(made.hash, bytes + PASSWORD_SALT, hash);
    }
    *password = made;
    return 0;
}

void password_write(const struct password *password, char text[PASSWORD_TEXT])
{
    uint8_t bytes[PASSWORD_SALT + PASSWORD_HASH_MAX];

    text[0] = '\0';
    if (password->length == 0)
        return;
    memcpy(bytes, password->salt, PASSWORD_SALT);
    memcpy(bytes + PASSWORD_SALT, password->hash, password->length);
    EVP_EncodeBlock((unsigned char *)text, bytes, PASSWORD_SALT + password->length);
}

bool password_matches(const struct password *password, struct span clear)
{
    uint8_t hash[EVP_MAX_MD_SIZE];

    return password_hash(password, clear, hash) == 0 && password->length > 0 && clear.length > 0 &&
           CRYPTO_memcmp(hash, password->hash, password->length) == 0;
}
