/* SPDX-License-Identifier: MIT */
/* What must be true of a broker between two events, checked by tests and fuzz targets: costs by everything in it. */
#ifndef BROKER_INVARIANTS_H
#define BROKER_INVARIANTS_H

struct broker;

/* Ends the process with a line that says what is wrong. */
void broker_check(const struct broker *broker);

#endif
