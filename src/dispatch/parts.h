/* SPDX-License-Identifier: MIT */
/*
 * What the files of dispatch/ share: the objects behind the opaque names of dispatcher.h and <hark/listener.h>.
 *
 *     dispatcher   one per worker
 *      ├─ queue     one per consumed queue: the patterns of its listeners
 *      ├─ instance  one per listener: its module's state, what runs and what waits
 *      └─ delivery  one per message in hand
 *          └─ event  one per listener that matched: its outbox and its end
 *
 * A delivery counts what still has to happen before it may be acknowledged (`pending`): one for each event, and one for
 * whoever works on it now. An event counts the emitted messages that are not confirmed yet (`unconfirmed`).
 */
#ifndef DISPATCH_PARTS_H
#define DISPATCH_PARTS_H

#include "base/buf.h"
#include "base/log.h"
#include "dispatch/dispatcher.h"
#include "dispatch/timers.h"
#include "wire/table.h"
#include "wire/topic.h"

/*
 * Characters of an id that hark makes: 84 bits in base64url. So short because RabbitMQ 3's costs for a message jump by a
 * fifth where its properties exceed 64 bytes, and with this they stay below for a message that has little else.
 */
#define DISPATCH_ID_SIZE 14
#define DISPATCH_WHY_MAX 1024
#define NAME_MAX_LENGTH 255       /* bytes of a short string */
#define DISPATCH_DEAD_PAUSE 60000 /* ms before a dead letter that failed again comes back */

/* Which event a helper was asked for, kept by value: the event may be settled by the time the helper calls back. */
struct about {
    struct span queue; /* empty: none */
    uint64_t identity;
    uint8_t key_length, id_length; /* cut to what fits */
    char key[255], id[255];
};

/* Something that hark does for an instance: a wait, a file being read, a program, a message without an event. `stop` ends
 * it without a word to the module, and frees it. */
struct helper {
    struct helper *previous, *next;
    struct hark_instance *instance;
    void (*stop)(struct helper *helper);
    struct about about;
};

enum event_state {
    EVENT_WAITING,    /* for a free place among the listener's `concurrency` */
    EVENT_CALLING,    /* within handle() */
    EVENT_LATER,      /* handle() said HARK_LATER */
    EVENT_PUBLISHING, /* settled; what follows from it is being published */
    EVENT_FINISHED,
};

struct hark_event {
    struct delivery *delivery;
    struct hark_instance *instance;     /* NULL: nobody's, there only to be dead-lettered */
    struct hark_event *previous, *next; /* among the instance's waiting or later events */
    struct outgoing *outbox, **outbox_end;
    struct outgoing *copy; /* the retry copy or dead letter, between two tries to publish it */
    struct timer timer;    /* the next such try */
    const char *reason;    /* of a dead letter */
    int64_t delay;         /* of a retry copy */
    int64_t deadline;      /* EVENT_LATER */
    void *data;            /* the module's */
    char *why;             /* malloc'd, NULL: none given */
    uint32_t emitted;      /* messages put into the outbox: their numbers */
    uint32_t unconfirmed;
    uint16_t copy_tries;
    uint8_t state;   /* enum event_state */
    uint8_t verdict; /* enum hark_verdict, 0: none yet */
    bool failed;     /* an emitted message was returned, nacked or refused */
    bool dead;       /* `copy` is a dead letter */
    bool let_go;     /* abandoned, but its module may still touch it: it has no cancel */
};

struct delivery {
    struct delivery *previous, *next; /* all that is in hand */
    struct delivery *twin;            /* the next of the duplicates that came while the first was in hand */
    struct dispatch_queue *queue;
    struct dispatch_ticket ticket;
    struct message *message; /* as first published: retry copies are unwrapped */
    struct message *carrier; /* who holds its body: the retry copy that it came in, or it itself; referenced */
    uint64_t hash;           /* of queue and message id, or content: see delivery_hash */
    uint64_t dedup_hash;     /* 0: not looked at */
    uint64_t oversized;
    uint32_t pending;
    uint32_t attempt;
    int64_t hops;
    int64_t round; /* how often it has been a dead letter: a replayed one is no duplicate of its earlier life */
    uint16_t event_count;
    uint8_t id_length; /* of `id`; 0: the message has one of its own, or none was needed yet */
    bool redelivered, abandoned, hashed;
    bool postponed;  /* abandoned for want of memory: it goes back to its queue */
    bool named;      /* `id` came with it: it was in a retry queue or among the dead letters */
    char *meant_for; /* of one that is buried: the listener that it came back for, malloc'd; NULL: none */
    char id[255];
    struct hark_event events[];
};

struct event_list {
    struct hark_event *first, *last;
};

struct hark_instance {
    struct dispatcher *dispatcher;
    struct dispatch_listener listener;
    struct span name;
    uint64_t name_hash;
    void *data;
    unsigned running; /* calls that have not settled */
    struct event_list waiting;
    struct event_list later; /* in the order of their deadlines: the time-out is the same for all */
    struct timer timeout;
    struct helper *helpers;
    struct hark_event *calling; /* within handle() and cancel(): whose call it is */
    const struct about *about;  /* within a helper's call-back: what it was asked for */
    struct log_limit said;
    bool open, pumping;
};

struct dispatch_queue {
    struct dispatch_queue *next;
    struct dispatcher *dispatcher;
    struct span name; /* 0 behind it */
    int64_t dedup_window;
    struct delivery **in_hand; /* with dedup: a small table of the deliveries in hand by dedup_hash */
    size_t in_hand_size;
    bool dead_letters; /* this is the queue of the dead letters itself */
    struct log_limit said;
    struct topic_tree *patterns; /* values are indices into the dispatcher's instances */
    uint32_t *matches;           /* room for all of them */
    size_t match_size;
};

struct dispatcher {
    struct dispatch_options options;
    struct dispatch_ports ports;
    struct dispatch_counters counters;
    struct timers timers;
    struct dispatch_queue *queues;
    struct hark_instance **instances;
    size_t instance_count;
    struct delivery *in_hand;
    struct delivery *spare; /* deliveries with room for one event, to be used again */
    unsigned spare_count;
    struct buf headers, properties; /* scratch */
    uint64_t seed[2], drawn;        /* of random ids */
    void (*drained)(void *arg);
    void *drained_arg;
    bool draining;
    bool own_events; /* hark_loop() was called */
};

/* ---- dispatcher.c ---- */
void dispatcher_check_drained(struct dispatcher *dispatcher);

/* ---- delivery.c ---- */
struct delivery *delivery_new(struct dispatch_queue *queue, const struct dispatch_ticket *ticket, bool redelivered,
                              struct message *message, uint16_t events) HARK_MUSTCHECK;
/* One reason less to wait; at none left it is acknowledged (unless abandoned) and freed. */
void delivery_release(struct delivery *delivery);
void delivery_dispose(struct delivery *delivery); /* only from delivery_release and for what was never in hand */
/* The message's id, or one made for it now and kept. */
struct span delivery_id(struct delivery *delivery);
/* What crashes are counted by, before the listener's share: queue and id, or without id the whole content. */
uint64_t delivery_hash(struct delivery *delivery);
void delivery_free_spares(struct dispatcher *dispatcher);

/* ---- duplicates.c ---- */
/* True: the delivery is a duplicate; nothing is left to do for it but to release it. `listener` as in struct unwrapped. */
bool duplicates_catch(struct delivery *delivery, struct span listener);
/* The delivery ends, and is remembered if it was settled. Its twins end with it. */
void duplicates_end(struct delivery *delivery, bool settled);

/* ---- event.c ---- */
void event_init(struct hark_event *event, struct delivery *delivery, struct hark_instance *instance);
/* Its end as its listener, or hark itself, sees it. */
void event_conclude(struct hark_event *event, enum hark_verdict verdict);
void event_dead_letter(struct hark_event *event, const char *reason);
void event_abandon(struct hark_event *event);
void event_forget(struct hark_event *event); /* with its instance gone: only its memory is left */
void event_set_why(struct hark_event *event, const char *format, ...) HARK_PRINTF(2, 3);
/* A line about an event: named after listener and queue, with key and id, rate-limited per listener. */
void event_say(struct hark_event *event, enum log_level level, const char *format, ...) HARK_PRINTF(3, 4);

/* ---- instance.c ---- */
struct hark_instance *instance_new(struct dispatcher *dispatcher, const struct dispatch_listener *listener);
int instance_open(struct hark_instance *instance) HARK_MUSTCHECK;
void instance_free(struct hark_instance *instance); /* closes it; nothing of it may be in hand */
void instance_start(struct hark_event *event);      /* calls it, or lets it wait */
void instance_cancel(struct hark_event *event);     /* lets the module go of an event that is LATER */
void instance_forget(struct hark_event *event);     /* off the waiting or later list */
/* Around every call into a module; event may be NULL. */
void instance_enter(struct hark_instance *instance, struct hark_event *event);
/* Around a helper's call-back: as if it were a call about the event that it was asked for. */
void instance_resume(struct hark_instance *instance, const struct about *about);
void instance_leave(struct hark_instance *instance);
void instance_add_helper(struct hark_instance *instance, struct helper *helper, void (*stop)(struct helper *helper));
void instance_remove_helper(struct helper *helper);

/* ---- wrap.c ---- */
/* The delivery's message on its way to a retry queue, or to the dead letters (`reason`). NULL: no memory, or (retry, unless
 * they may be cut) its headers do not fit into a frame with ours. */
struct outgoing *wrap_retry(struct hark_event *event, int64_t delay, bool cut);
struct outgoing *wrap_dead_letter(struct hark_event *event, const char *reason);

/* What came back from a retry queue (or was moved back from the dead letters). */
struct unwrapped {
    int64_t round;        /* how often it has been a dead letter */
    struct span listener; /* empty: all; a view into the message that was given, like id */
    struct span id;       /* made by hark for a message without one */
    int64_t attempts;     /* made so far */
    bool no_memory;
};
/* NULL: it is no such thing, or there was no memory. Otherwise the message as it was first published, a reference of the
 * caller's; but its body is still the one that was given, which must outlive it. */
struct message *wrap_open(const struct dispatch_queue *queue, const struct message *message,
                          struct unwrapped *unwrapped);

/* ---- emit.c ---- */
void emit_random_id(struct dispatcher *dispatcher, char *id); /* DISPATCH_ID_SIZE characters, no 0 behind */
size_t emit_header_room(const struct dispatcher *dispatcher); /* bytes of properties that a header frame can hold */

/* ---- values.c ---- */
bool value_get(const struct table_entry *entry, struct hark_value *value);
void value_put(struct buf *out, struct span name, const struct hark_value *value);

static inline struct span span_hark(struct hark_str str)
{
    return span_of(str.data, str.length);
}

static inline struct hark_str hark_span(struct span span)
{
    return (struct hark_str){.data = span.data != NULL ? (const char *)span.data : "", .length = span.length};
}

#endif
