/* SPDX-License-Identifier: MIT */
/* Every key of hark's own sections: one row each. */
#include "base/settings.h"
#include "daemon/config_private.h"

#define GENERAL(member) offsetof(struct config_general, member)
#define EXCHANGE(member) offsetof(struct config_exchange, member)
#define QUEUE(member) offsetof(struct config_queue, member)
#define LISTENER(member) offsetof(struct config_listener, member)

static const char *const auths[] = {"plain", "external", NULL};
static const char *const logs[] = {"auto", "text", "logfmt", "json", "journald", NULL};
static const char *const levels[] = {"error", "warning", "notice", "info", "debug", NULL};
static const char *const declares[] = {"yes", "passive", "no", NULL};
static const char *const queue_types[] = {"classic", "quorum", "stream", NULL};

#define DAY (24 * 3600 * INT64_C(1000))

const struct hark_setting config_general_table[] = {
    {.name = "url", .type = HARK_STRING, .offset = GENERAL(url), .secret = true,
     .fallback = "amqp://guest:guest@127.0.0.1:5672/%2f",
     .help = "broker: amqp://user:password@host1:5672,host2/vhost, percent-encoded; amqps:// for TLS; "
             "amqp+unix:///path for a Unix socket"},
    {.name = "password_file", .type = HARK_STRING, .offset = GENERAL(password_file),
     .help = "file whose first line is the password; a relative name is also looked for among systemd's credentials"},
    {.name = "workers", .type = HARK_INTEGER, .offset = GENERAL(workers), .fallback = "1", .max = CONFIG_WORKERS_MAX,
     .help = "worker processes; 0: one for each processor"},
    {.name = "auth", .type = HARK_ENUM, .offset = GENERAL(auth), .fallback = "plain", .words = auths,
     .help = "how to log in: plain (user and password) or external (the TLS certificate)"},
    {.name = "heartbeat", .type = HARK_DURATION, .offset = GENERAL(heartbeat), .fallback = "20s", 
     .max = 3600000, .help = "proposed to the broker, the smaller one wins; 0: none"},
    {.name = "connect_timeout", .type = HARK_DURATION, .offset = GENERAL(connect_timeout), .fallback = "10s", .min = 10,
     .max = DAY, .help = "limit for connecting, and for each step of the handshake"},
    {.name = "reconnect_min", .type = HARK_DURATION, .offset = GENERAL(reconnect_min), .fallback = "200ms", .min = 1,
     .max = DAY, .help = "pause before the first new attempt to connect; doubles, with jitter"},
    {.name = "reconnect_max", .type = HARK_DURATION, .offset = GENERAL(reconnect_max), .fallback = "30s", .min = 1,
     .max = DAY, .help = "longest pause between attempts"},
    {.name = "frame_max", .type = HARK_SIZE, .offset = GENERAL(frame_max), .fallback = "128K", .min = 8192,
     .max = 131072, .help = "largest AMQP frame that is agreed to"},
    {.name = "tls_ca", .type = HARK_STRING, .offset = GENERAL(tls_ca),
     .help = "file or folder of trusted certificates; unset: the system's"},
    {.name = "tls_certificate", .type = HARK_STRING, .offset = GENERAL(tls_certificate),
     .help = "our certificate chain, PEM"},
    {.name = "tls_key", .type = HARK_STRING, .offset = GENERAL(tls_key),
     .help = "our private key, PEM; unset: in tls_certificate"},
    {.name = "tls_key_password_file", .type = HARK_STRING, .offset = GENERAL(tls_key_password_file),
     .help = "file whose first line is the password of the key"},
    {.name = "tls_verify", .type = HARK_BOOLEAN, .offset = GENERAL(tls_verify), .fallback = "yes",
     .help = "accept only a broker whose certificate is trusted and bears its name"},
    {.name = "tls_server_name", .type = HARK_STRING, .offset = GENERAL(tls_server_name),
     .help = "the name in the broker's certificate; unset: the host of `url`"},
    {.name = "max_message_size", .type = HARK_SIZE, .offset = GENERAL(max_message_size), .fallback = "16M", .min = 1,
     .max = INT64_C(512) * 1024 * 1024, .help = "larger bodies are not taken in: the message is dead-lettered"},
    {.name = "max_hops", .type = HARK_INTEGER, .offset = GENERAL(max_hops), .fallback = "32", .min = 1, .max = 1000000,
     .help = "a message that was emitted through so many listeners one after the other is dead-lettered: a circle"},
    {.name = "dead_letter", .type = HARK_STRING, .offset = GENERAL(dead_letter), .fallback = "hark.dead",
     .help = "topic exchange for the dead letters"},
    {.name = "dead_letter_queue", .type = HARK_STRING, .offset = GENERAL(dead_letter_queue),
     .help = "queue bound to it with #; unset: of the same name; empty: none is declared"},
    {.name = "confirm", .type = HARK_BOOLEAN, .offset = GENERAL(confirm), .fallback = "yes",
     .help = "an event is done when the broker has confirmed what was emitted; no: when it is written, which can lose messages"},
    {.name = "persistent", .type = HARK_BOOLEAN, .offset = GENERAL(persistent), .fallback = "yes",
     .help = "delivery mode of emitted messages that do not say"},
    {.name = "publish_window", .type = HARK_INTEGER, .offset = GENERAL(publish_window), .fallback = "1000", .min = 1,
     .max = 65535, .help = "published and not yet confirmed messages per worker"},
    {.name = "hang_timeout", .type = HARK_DURATION, .offset = GENERAL(hang_timeout), .fallback = "30s", 
     .max = DAY, .help = "a worker whose loop stands still for so long is replaced; 0: never"},
    {.name = "crash_limit", .type = HARK_INTEGER, .offset = GENERAL(crash_limit), .fallback = "3", .min = 1,
     .max = 1000, .help = "a message that has brought down so many workers is dead-lettered"},
    {.name = "drain_timeout", .type = HARK_DURATION, .offset = GENERAL(drain_timeout), .fallback = "30s", 
     .max = DAY, .help = "how long a stopping worker waits for what its listeners have in hand"},
    {.name = "slow_call", .type = HARK_DURATION, .offset = GENERAL(slow_call), .fallback = "100ms", .max = DAY,
     .help = "a call into a listener that takes longer is logged by name; 0: never"},
    {.name = "dedup_entries", .type = HARK_INTEGER, .offset = GENERAL(dedup_entries), .fallback = "65536", .min = 1024,
     .max = 16777216, .help = "message ids remembered for `dedup`, by all workers together; 16 bytes each"},
    {.name = "log", .type = HARK_ENUM, .offset = GENERAL(log), .fallback = "auto", .words = logs,
     .help = "form of the log; auto: journald under systemd, otherwise text"},
    {.name = "log_level", .type = HARK_ENUM, .offset = GENERAL(log_level), .fallback = "info", .words = levels,
     .help = "least important level that is logged"},
    {0},
};

const struct hark_setting config_exchange_table[] = {
    {.name = "type", .type = HARK_STRING, .offset = EXCHANGE(type), .fallback = "topic",
     .help = "direct, fanout, topic, headers, or a plugin's x-..."},
    {.name = "durable", .type = HARK_BOOLEAN, .offset = EXCHANGE(durable), .fallback = "yes",
     .help = "survives a restart of the broker"},
    {.name = "auto_delete", .type = HARK_BOOLEAN, .offset = EXCHANGE(auto_delete), .fallback = "no",
     .help = "deleted with its last binding"},
    {.name = "internal", .type = HARK_BOOLEAN, .offset = EXCHANGE(internal), .fallback = "no",
     .help = "takes messages from other exchanges only"},
    {.name = "declare", .type = HARK_ENUM, .offset = EXCHANGE(declare), .fallback = "yes", .words = declares,
     .help = "yes: create it; passive: it must exist; no: take it as given"},
    {.name = "bind", .type = HARK_LINES, .offset = EXCHANGE(raw_bind),
     .help = "EXCHANGE PATTERN: messages of that exchange come here too; may be repeated"},
    {.name = "argument.", .type = HARK_MAP, .offset = EXCHANGE(raw_argument),
     .help = "an argument of the declaration, argument.alternate-exchange = unrouted"},
    {0},
};

const struct hark_setting config_queue_table[] = {
    {.name = "bind", .type = HARK_LINES, .offset = QUEUE(raw_bind),
     .help = "EXCHANGE PATTERN, or EXCHANGE alone for an empty key; may be repeated"},
    {.name = "bind_argument.", .type = HARK_MAP, .offset = QUEUE(raw_bind_argument),
     .help = "an argument of every binding of this queue, for headers exchanges"},
    {.name = "type", .type = HARK_ENUM, .offset = QUEUE(type), .fallback = "classic", .words = queue_types,
     .help = "x-queue-type"},
    {.name = "durable", .type = HARK_BOOLEAN, .offset = QUEUE(durable), .fallback = "yes",
     .help = "survives a restart of the broker"},
    {.name = "auto_delete", .type = HARK_BOOLEAN, .offset = QUEUE(auto_delete), .fallback = "no",
     .help = "deleted with its last consumer"},
    {.name = "exclusive", .type = HARK_BOOLEAN, .offset = QUEUE(exclusive), .fallback = "no",
     .help = "only for the connection that declares it: with one worker only"},
    {.name = "declare", .type = HARK_ENUM, .offset = QUEUE(declare), .fallback = "yes", .words = declares,
     .help = "yes: create it; passive: it must exist; no: take it as given"},
    {.name = "prefetch", .type = HARK_INTEGER, .offset = QUEUE(prefetch), .fallback = "200", .min = 1, .max = 65535,
     .help = "messages that each worker has in hand at most"},
    {.name = "priority", .type = HARK_STRING, .offset = QUEUE(raw_priority),
     .help = "x-priority of the consumer, an integer"},
    {.name = "argument.", .type = HARK_MAP, .offset = QUEUE(raw_argument),
     .help = "an argument of the declaration, argument.x-max-length = 1000; numbers and true/false are typed, quotes make a string"},
    {.name = "consume_argument.", .type = HARK_MAP, .offset = QUEUE(raw_consume_argument),
     .help = "an argument of the consumer, consume_argument.x-stream-offset = first"},
    {.name = "dedup", .type = HARK_DURATION, .offset = QUEUE(dedup), .fallback = "0", .max = 30 * DAY,
     .help = "a message whose id was handled within this time is acknowledged and not handled again; 0: off"},
    {0},
};

const struct hark_setting config_listener_table[] = {
    {.name = "module", .type = HARK_STRING, .offset = LISTENER(raw_module), .required = true,
     .help = "the listener module: what to do with a message"},
    {.name = "queue", .type = HARK_LIST, .offset = LISTENER(raw_queue), .required = true,
     .help = "queues to listen on"},
    {.name = "on", .type = HARK_LIST, .offset = LISTENER(on), .fallback = "#",
     .help = "routing keys to listen for, as topic patterns: * is one word, # any number"},
    {.name = "emit", .type = HARK_STRING, .offset = LISTENER(raw_emit),
     .help = "EXCHANGE ROUTING-KEY of what it emits; without a key, the event's; \"\" is the default exchange"},
    {.name = "retry", .type = HARK_DURATIONS, .offset = LISTENER(retry), .fallback = "1s 5s 30s 2m 10m", .min = 1,
     .max = 30 * DAY, .help = "pauses before each new attempt, then the dead letters; empty: no new attempt"},
    {.name = "timeout", .type = HARK_DURATION, .offset = LISTENER(timeout), .fallback = "60s", .max = DAY,
     .help = "an event that is not settled within this time is taken back and retried; 0: no limit"},
    {.name = "concurrency", .type = HARK_INTEGER, .offset = LISTENER(concurrency), .fallback = "16", .min = 1,
     .max = 65535, .help = "events that it works on at the same time, per worker"},
    {0},
};
