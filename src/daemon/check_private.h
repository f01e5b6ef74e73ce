/* SPDX-License-Identifier: MIT */
/* What the files of --check share. */
#ifndef DAEMON_CHECK_PRIVATE_H
#define DAEMON_CHECK_PRIVATE_H

#include "daemon/check.h"

struct check {
    const struct config *config;
    FILE *out;
    size_t errors, warnings, notes;
    bool no_memory; /* reported once, at the end */
};

/* One finding. line 0: the section's. */
void check_error(struct check *check, const struct config_where *where, int line, const char *format, ...)
    HARK_PRINTF(4, 5);
void check_warn(struct check *check, const struct config_where *where, int line, const char *format, ...)
    HARK_PRINTF(4, 5);
void check_note(struct check *check, const struct config_where *where, int line, const char *format, ...)
    HARK_PRINTF(4, 5);

/* check_keys.c: keys that nobody hears, patterns that nothing can reach. */
void check_queue_keys(struct check *check, const struct config_queue *queue);
void check_listener_keys(struct check *check, const struct config_listener *listener);
/* check_broker.c: the embedded broker; `general` is where [hark] is. */
void check_broker(struct check *check, const struct config_where *general);
/* check_cycles.c: listeners whose messages come back to them. */
void check_cycles(struct check *check);

#endif
