/* SPDX-License-Identifier: MIT */
/* How much memory there is for this process: the machine's, or what its control group allows. */
#ifndef DAEMON_MEMORY_H
#define DAEMON_MEMORY_H

#include "base/base.h"

/* The default of `memory_limit`: a quarter of memory_total(), at least 64M. */
int64_t memory_default_limit(void);
/* Bytes: the machine's or, if that is less, the limit of the control group (version 2 or 1) or of one above it. */
int64_t memory_total(void);
/* For tests: `cgroups` is a text as in /proc/self/cgroup, `root` where the control groups are. INT64_MAX: no limit. */
int64_t memory_cgroup_limit(const char *cgroups, const char *root);

#endif
