/* SPDX-License-Identifier: MIT */
/* What tls.c and stream.c share. */
#ifndef NET_TLS_PRIVATE_H
#define NET_TLS_PRIVATE_H

#include "net/tls.h"
#include <openssl/types.h>

struct tls_context {
    SSL_CTX *ssl;
    bool server;
};

#endif
