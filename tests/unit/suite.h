/* SPDX-License-Identifier: MIT */
/* How every unit test program ends: its suite is run, and what main() returns says whether all of it passed. */
#ifndef UNIT_SUITE_H
#define UNIT_SUITE_H

#include <check.h>

/* Consumes the suite. CK_VERBOSITY, CK_RUN_CASE and the like of libcheck's environment apply. */
int suite_run(Suite *suite);

#endif
