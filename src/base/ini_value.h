/* SPDX-License-Identifier: MIT */
/*
 * The right-hand side of `key = value`: where its comment starts, quotes, escapes, the environment.
 * For ini.c alone.
 *
 * About `#`: to a topic pattern it is a wildcard (`on = #`, `bind = events #`), to other ini
 * dialects a comment. Here
 * `;` starts a comment behind a value, and `#` does not; `# text` behind a value, which is probably
 * meant as a comment and would quietly become a wildcard, is an error that says so.
 */
#ifndef BASE_INI_VALUE_H
#define BASE_INI_VALUE_H

#include "base/base.h"
#include "base/buf.h"

/* Reads `raw` (terminated) and appends what it means to `to`, without a terminator. *quoted: the
 * whole of it stood in double quotes. 0; -1 with a message. */
int ini_value(const char *raw, struct buf *to, bool *quoted, char *error, size_t size) HARK_MUSTCHECK;

/* Likewise a quoted text only, `"..."`, without the environment; *rest is what follows. */
int ini_quoted(const char *raw, struct buf *to, const char **rest, char *error, size_t size) HARK_MUSTCHECK;

#endif
