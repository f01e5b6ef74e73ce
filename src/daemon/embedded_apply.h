/* SPDX-License-Identifier: MIT */
/* What a configuration means for the embedded broker: at its start, and when it is read again. */
#ifndef DAEMON_EMBEDDED_APPLY_H
#define DAEMON_EMBEDDED_APPLY_H

#include "broker/broker.h"
#include "daemon/config.h"

struct broker_options embedded_options(const struct config_broker *broker);
/* Virtual hosts, definitions, users, in this order; `before` (NULL: none) is what was applied last: users that it had
 * and `config` has not are removed. -1 after a line in the log for each that failed; the others are applied. */
int embedded_apply(struct broker *broker, const struct config *config, const struct config *before) HARK_MUSTCHECK;

#endif
