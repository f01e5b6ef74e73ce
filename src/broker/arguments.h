/* SPDX-License-Identifier: MIT */
/* Arguments of a redeclaration compared with what is there, and how RabbitMQ words the difference. */
#ifndef BROKER_ARGUMENTS_H
#define BROKER_ARGUMENTS_H

#include "wire/codec.h"
#include "wire/reply.h"
#include "wire/table.h"

/* 0 if equal; -1 with error 406: "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is
 * 'false'". `what`: "queue 'q'". */
int arguments_same_flag(const char *name, const char *what, const char *vhost, bool received, bool current,
                        struct reply *error) HARK_MUSTCHECK;
/* The same for one argument of two tables; numbers are equal whatever their types. */
int arguments_same(const char *name, const char *what, const char *vhost, struct span received, struct span current,
                   struct reply *error) HARK_MUSTCHECK;
/* "longstr", "signedint", ...: RabbitMQ's name of a field's type. */
const char *arguments_type(char kind);

#endif
