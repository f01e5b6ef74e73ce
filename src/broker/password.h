/* SPDX-License-Identifier: MIT */
/* Passwords as RabbitMQ keeps them: 4 bytes of salt, and the hash of salt and password. Used by users.c. */
#ifndef BROKER_PASSWORD_H
#define BROKER_PASSWORD_H

#include "base/base.h"
#include "base/span.h"

#define PASSWORD_SALT 4
#define PASSWORD_HASH_MAX 64
#define PASSWORD_TEXT 96 /* bytes of the longest one in base64, and a byte 0 */

enum password_algorithm { PASSWORD_SHA256, PASSWORD_SHA512, PASSWORD_MD5 };

struct password {
    enum password_algorithm algorithm;
    uint8_t length; /* of the hash; 0: no password, which nothing matches */
    uint8_t salt[PASSWORD_SALT], hash[PASSWORD_HASH_MAX];
};

/* Salts and hashes with SHA-256, which is RabbitMQ's default. -1 with a message. */
int password_make(struct password *password, struct span clear, char *error, size_t size) HARK_MUSTCHECK;
/* From RabbitMQ's base64. `algorithm`: "rabbit_password_hashing_sha256" and so on; NULL: told by the length. "": no
 * password. -1 with a message. */
int password_read(struct password *password, const char *base64, const char *algorithm, char *error,
                  size_t size) HARK_MUSTCHECK;
/* RabbitMQ's base64, which password_read() takes. */
void password_write(const struct password *password, char text[PASSWORD_TEXT]);
/* Compares in constant time. An empty password never matches, as in RabbitMQ. */
bool password_matches(const struct password *password, struct span clear);

#endif
