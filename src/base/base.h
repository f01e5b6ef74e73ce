/* SPDX-License-Identifier: MIT */
/* What every file may take for granted. */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HARK_MUSTCHECK __attribute__((warn_unused_result))
#define HARK_PRINTF(at, first) __attribute__((format(printf, at, first)))
#define HARK_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HARK_CONTAINER(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define HARK_LIKELY(x) __builtin_expect(!!(x), 1)
#define HARK_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
