/* SPDX-License-Identifier: MIT */
/* What the tests of publishers share: a publisher on the kit's session, messages with one-letter
 * keys, notes of their outcomes, and a broker that can be told to dislike one of them. */
#ifndef TESTS_PUBLISHER_KIT_H
#define TESTS_PUBLISHER_KIT_H

#include "client/publisher.h"
#include "session_kit.h"

extern struct publisher *publisher;
extern struct publisher_options publisher_settings; /* as a test wants them, before kit_publisher() */

struct publisher_seen {
    unsigned outcomes, high, low;
    char outcome_text[4096]; /* "a=1 b=4": key and outcome, in order */
    char last_why[300];
    const char *emit_again; /* the next outcome sends a message with this key */
};
extern struct publisher_seen seen;

struct publisher_broker {
    char keys[4096]; /* of what was published on the present channel: "a b c" */
    unsigned channels, published;
    bool answers;    /* confirms each at once */
    bool closing;    /* the channel is closed: what comes before close-ok is dropped */
    const char *bad; /* what it closes for: a routing key */
    uint16_t code;   /* with this */
    unsigned bad_seen;
};
extern struct publisher_broker broker;

void publisher_kit_setup(void);
void publisher_kit_teardown(void);
void kit_publisher(void);
void kit_publisher_ready(void);
void kit_reopen(void); /* after the connection was lost */

void kit_send(const char *exchange, struct span key, struct span properties, struct span body);
void kit_send_keys(const char *keys); /* each letter a message with that key */
extern const struct publisher_ops kit_publisher_ops;

void kit_ack(uint64_t tag, bool multiple);
void kit_nack(uint64_t tag, bool multiple);
void kit_give_back(const char *key, struct span properties, const char *body);
void kit_close(uint16_t number); /* the channel or the connection, as broker.code says */

#endif
