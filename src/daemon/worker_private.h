/* SPDX-License-Identifier: MIT */
/* What worker.c (its life), worker_open.c (its making) and worker_ports.c (its dispatcher's ends) share. */
#ifndef DAEMON_WORKER_PRIVATE_H
#define DAEMON_WORKER_PRIVATE_H

#include "client/publisher.h"
#include "client/relay.h"
#include "daemon/config.h"
#include "daemon/plan.h"
#include "daemon/worker.h"
#include "dispatch/dispatcher.h"
#include "net/tls.h"

struct worker;

/* A queue that is consumed. */
struct intake {
    struct worker *worker;
    struct consumer *consumer;
    struct dispatch_queue *queue;
    struct relay *relay; /* where the parts of what is too large go; NULL: nobody wants them */
    bool subscribed, was_subscribed;
};

struct worker {
    const struct worker_start *start;
    const struct config *config;
    struct loop *loop;
    struct tls_context *tls;
    struct session *consuming, *publishing;
    struct topology *topology;
    struct publisher *publisher;
    struct dispatcher *dispatcher;
    struct plan *plan;
    struct relays relays;
    struct intake *delivering; /* within a delivery: whose */
    struct outgoing *early;    /* emitted before there was a publisher */
    struct intake *intakes;
    size_t intake_count;
    struct event *terminate, *control, *redeclare, *deadline;
    uint64_t live_deliveries;
    uint64_t told;    /* what the supervisor was last woken for */
    unsigned leaving; /* call-backs that the end still waits for */
    bool declared;    /* on this consuming connection everything was declared, or tried */
    bool paused, draining, stop;
};

/* ---- worker_open.c: each 0, or -1 after a line in the log ---- */
int worker_open_tls(struct worker *worker) HARK_MUSTCHECK;
int worker_open_dispatcher(struct worker *worker, const struct dispatch_ports *ports) HARK_MUSTCHECK;
int worker_open_listeners(struct worker *worker) HARK_MUSTCHECK;
/* Sessions, topology, publisher, consumers; nothing is started. */
int worker_open_client(struct worker *worker) HARK_MUSTCHECK;

/* ---- worker_ports.c ---- */
struct dispatch_ports worker_ports(struct worker *worker);

/* ---- worker.c ---- */
void worker_redeclare(void *worker);
/* What the client calls back. */
extern const struct session_ops worker_consuming_ops, worker_publishing_ops, worker_relaying_ops;
extern const struct topology_ops worker_topology_ops;
extern const struct publisher_ops worker_publisher_ops;
extern const struct consumer_ops worker_consumer_ops;

#endif
