/* SPDX-License-Identifier: MIT */
/* uthash, told to answer a lack of memory instead of ending the process: after HASH_ADD an element that was
 * not added has no table (`element->hh.tbl == NULL`). */
#ifndef BROKER_TABLE_OF_H
#define BROKER_TABLE_OF_H

#include "base/base.h"
#include "base/span.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#endif
