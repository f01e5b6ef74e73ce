/* SPDX-License-Identifier: MIT */
/*
 * What ps shows: "harkd: worker 1", written over the arguments that the process was started with.
 * The short name, which pgrep and top go by, is "harkd" for the first process and "harkd-worker1"
 * below it, so that `pkill -x harkd` reaches only the one that knows how to end the others.
 */
#ifndef BASE_TITLE_H
#define BASE_TITLE_H

#include "base/base.h"

/* First thing in main: copies the environment out of the way. The arguments must not be used after
 * title_set(). */
void title_init(int argc, char **argv);
/* Of `name`, 15 bytes are shown; NULL leaves it as it is. */
void title_set(const char *name, const char *title);

#endif
