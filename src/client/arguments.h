/* SPDX-License-Identifier: MIT */
/* Arguments of declare, bind and consume, as an AMQP table. */
#ifndef CLIENT_ARGUMENTS_H
#define CLIENT_ARGUMENTS_H

#include "base/base.h"
#include "wire/codec.h"

struct consumer_argument {
    const char *name;
    char kind; /* t l S */
    const char *text;
    int64_t number;
};

/* The entries point to the arguments' strings; arguments_free() when sent. -1: no memory. */
int arguments_table(const struct consumer_argument *arguments, size_t count, amqp_table_t *table) HARK_MUSTCHECK;
void arguments_free(amqp_table_t *table);

#endif
