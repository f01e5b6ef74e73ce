/* SPDX-License-Identifier: MIT */
#include "client/flight.h"

#include "wire/table.h"

#include <stdlib.h>

int flight_init(struct flight *flight, size_t window)
{
    *flight = (struct flight){.size = 1, .oldest = 1, .next = 1, .late_end = &flight->late};
    while (flight->size < 2 * window)
        flight->size *= 2;
    flight->ring = calloc(flight->size, sizeof(*flight->ring));
    return flight->ring != NULL ? 0 : -1;
}

void flight_free(struct flight *flight)
{
    free(flight->ring);
    flight->ring = NULL;
}

static struct outgoing **flight_at(const struct flight *flight, uint64_t sequence)
{
    return &flight->ring[sequence & (flight->size - 1)];
}

/* The oldest in the ring is one that is there. */
static void flight_advance(struct flight *flight)
{
    while (flight->oldest < flight->next && *flight_at(flight, flight->oldest) == NULL)
        flight->oldest++;
}

void flight_add(struct flight *flight, struct outgoing *outgoing)
{
    if (HARK_UNLIKELY(flight->next - flight->oldest == flight->size)) {
        struct outgoing **at = flight_at(flight, flight->oldest);

        *flight->late_end = *at;
        flight->late_end = &(*at)->next;
        *at = NULL;
        flight_advance(flight);
    }
    outgoing->next = NULL;
    outgoing->returned = false;
    outgoing->sequence = flight->next++;
    *flight_at(flight, outgoing->sequence) = outgoing;
    flight->count++;
}

static struct outgoing *flight_take_late(struct flight *flight, struct outgoing **at)
{
    struct outgoing *outgoing = *at;

    *at = outgoing->next;
    if (*at == NULL)
        flight->late_end = at;
    outgoing->next = NULL;
    flight->count--;
    return outgoing;
}

struct outgoing *flight_take(struct flight *flight, uint64_t sequence)
{
    struct outgoing **at, *outgoing;

    if (sequence >= flight->next)
        return NULL;
    if (HARK_UNLIKELY(sequence < flight->oldest)) {
        for (at = &flight->late; *at != NULL; at = &(*at)->next)
            if ((*at)->sequence == sequence)
                return flight_take_late(flight, at);
        return NULL;
    }
    at = flight_at(flight, sequence);
    outgoing = *at;
    if (outgoing != NULL) {
        *at = NULL;
        flight->count--;
        flight_advance(flight);
    }
    return outgoing;
}

struct outgoing *flight_take_oldest(struct flight *flight, uint64_t sequence)
{
    if (HARK_UNLIKELY(flight->late != NULL))
        return flight->late->sequence <= sequence ? flight_take_late(flight, &flight->late) : NULL;
    return flight->oldest <= sequence ? flight_take(flight, flight->oldest) : NULL;
}

/* How much of what was returned has to be as it was sent. A broker passes properties on as they are, but may write them
 * anew (RabbitMQ does when there was a BCC to take out). */
enum flight_likeness { LIKE_ALL, LIKE_STRINGS, LIKE_ID, LIKENESSES };

/* Each header of ours that is a string is there. */
static bool flight_has_strings(struct span ours, struct span theirs)
{
    struct table_entry entry, other;
    size_t cursor = 0;

    while (table_next(ours, &cursor, &entry))
        if (entry.kind == 'S' &&
            (!table_find(theirs, entry.name, &other) || other.kind != 'S' || !span_equal(entry.value, other.value)))
            return false;
    return true;
}

static bool flight_same(const struct outgoing *outgoing, const struct message *message, uint64_t size,
                        enum flight_likeness likeness)
{
    struct properties properties;
    struct reply error;

    if (outgoing->returned || !span_equal(outgoing->routing_key, message->routing_key) ||
        !span_equal(outgoing->exchange, message->exchange) || outgoing->body.length != size ||
        (message->body.length == size && !span_equal(outgoing->body, message->body)))
        return false;
    if (likeness == LIKE_ALL)
        return span_equal(outgoing->raw_properties, message->raw_properties);
    return properties_parse(outgoing->raw_properties, &properties, &error) == 0 &&
           span_equal(properties.message_id, message_id(message)) &&
           (likeness == LIKE_ID || flight_has_strings(properties.headers, message->properties.headers));
}

static struct outgoing *flight_find_like(struct flight *flight, const struct message *message, uint64_t size,
                                         enum flight_likeness likeness)
{
    for (struct outgoing *late = flight->late; late != NULL; late = late->next)
        if (flight_same(late, message, size, likeness))
            return late;
    for (uint64_t sequence = flight->oldest; sequence < flight->next; sequence++) {
        struct outgoing *outgoing = *flight_at(flight, sequence);

        if (outgoing != NULL && flight_same(outgoing, message, size, likeness))
            return outgoing;
    }
    return NULL;
}

struct outgoing *flight_find(struct flight *flight, const struct message *message, uint64_t size)
{
    struct outgoing *found = NULL;

    for (int likeness = LIKE_ALL; likeness < LIKENESSES && found == NULL; likeness++)
        found = flight_find_like(flight, message, size, (enum flight_likeness)likeness);
    return found;
}

struct outgoing *flight_rewind(struct flight *flight)
{
    struct outgoing *first;

    for (uint64_t sequence = flight->oldest; sequence < flight->next; sequence++) {
        struct outgoing **at = flight_at(flight, sequence);

        if (*at == NULL)
            continue;
        *flight->late_end = *at;
        flight->late_end = &(*at)->next;
        *at = NULL;
    }
    first = flight->late;
    flight->late = NULL;
    flight->late_end = &flight->late;
    flight->oldest = flight->next = 1;
    flight->count = 0;
    return first;
}
