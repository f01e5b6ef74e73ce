/* SPDX-License-Identifier: MIT */
/*
 * Destinations that the broker has just refused: no such exchange (404), or not for us (403). Each
 * such answer costs the channel, and everybody's messages on it are sent again; so for a second,
 * what is meant for the same destination is refused here. A listener that emits to an exchange that
 * does not exist then costs the others next to nothing.
 */
#ifndef CLIENT_REFUSALS_H
#define CLIENT_REFUSALS_H

#include "wire/reply.h"

#define REFUSALS_MAX 8
#define REFUSALS_MS 1000

struct refusal {
    int64_t until;
    uint16_t code;
    uint8_t exchange_length, key_length;
    uint8_t exchange[255], key[255]; /* the key counts with 403 only: it may be what is not allowed */
    char text[256];
};

struct refusals {
    size_t used; /* 0: none, for a quick look */
    struct refusal items[REFUSALS_MAX];
};

/* A message for that destination was refused. Other codes are about the message itself and are not
 * kept. */
void refusals_add(struct refusals *refusals, struct span exchange, struct span key, const struct reply *error,
                  int64_t now);
/* The broker's text if that destination was refused in the last second, otherwise NULL. */
const char *refusals_find(struct refusals *refusals, struct span exchange, struct span key, int64_t now);

#endif
