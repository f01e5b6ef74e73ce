/* SPDX-License-Identifier: MIT */
/* What ps shows: "harkd: worker 1", written over the arguments that the process was started with. */
#ifndef BASE_TITLE_H
#define BASE_TITLE_H

#include "base/base.h"

void title_init(int argc, char **argv); /* first thing in main: copies the environment out of the way */
void title_set(const char *format, ...) HARK_PRINTF(1, 2);

#endif
