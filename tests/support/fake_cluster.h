/* A coordinator that does as it is told and real shard cores, served by one thread over ZeroMQ on 127.0.0.1. */
#ifndef LAGOON_TESTS_SUPPORT_FAKE_CLUSTER_H
#define LAGOON_TESTS_SUPPORT_FAKE_CLUSTER_H

#include <pthread.h>

#include "server/shard.h"

enum { FAKE_SHARDS = 2, FAKE_JOB = 3, FAKE_UNITS = 4, FAKE_ELEMENTS = 2 * 65536 + 100 + 30, FAKE_SESSIONS_MAX = 8 };

struct fake_cluster;

/* What the coordinator does and has seen; change and read it under fake_lock. */
struct fake_knobs {
    unsigned join_refusals; /* JOINs answered with "try again" */
    bool deny_joins;
    bool stray_answers;  /* before a JOIN is answered comes what nobody has asked for */
    bool mute;           /* takes messages and answers none */
    bool fence;          /* beats are answered with LG_FENCED */
    bool shards_mute;    /* the same for the shards */
    uint64_t samples;    /* one epoch of them is leased; 0: nothing to do, for ever */
    uint64_t slice;      /* samples of a lease */
    uint64_t cut;        /* told with every lease that it lies in; 0: none */
    unsigned drop_dones; /* LEASE_DONEs ignored */
    /* seen */
    unsigned joins, lease_requests, leases_granted, dones, beats, leaves, evaluations, repeated_requests;
    double last_rate;
    char last_state[128], last_reason[128];
    uint64_t last_steps;
};

/* How shards are reached. FAKE_LOCAL: over tcp, and they share memory with clients on this host. */
enum fake_transport { FAKE_TCP, FAKE_IPC, FAKE_LOCAL };

struct fake_cluster *fake_cluster_start(void); /* over tcp */
/* `more` (may be NULL, ends with a NULL key) is put into the job's specification; borrowed. */
struct fake_cluster *fake_cluster_start_over(enum fake_transport transport, const struct wire_pair *more);
void fake_cluster_stop(struct fake_cluster *cluster);
struct fake_knobs *fake_lock(struct fake_cluster *cluster);
void fake_unlock(struct fake_cluster *cluster);

/* The job: "matrix" 2 x 65536, "bias" 100, "gain" 30; units 0 and 3 on shard 0, 1 and 2 on shard 1. */
const struct tensor_spec *fake_tensors(size_t *count);
/* "127.0.0.1:PORT" of the coordinator. */
const char *fake_address(const struct fake_cluster *cluster);

/* Closes the socket, so that every connection to it is lost, and opens it again at the same place. */
void fake_cut_shard(struct fake_cluster *cluster, unsigned shard);
void fake_cut_coordinator(struct fake_cluster *cluster);
/* Closes and leaves it closed, or opens it again. */
void fake_coordinator_reachable(struct fake_cluster *cluster, bool reachable);
/* What the coordinator does when it takes a trainer's work away: closes the session on every shard. */
void fake_close_sessions(struct fake_cluster *cluster, const char *reason);

/* Makes a unit look as if its shard had been killed in the middle of changing it. */
void fake_break_off(struct fake_cluster *cluster, uint32_t unit);
/* Closes the job on the shard and opens it again, in new memory and without values; sessions are known there again. */
void fake_reopen(struct fake_cluster *cluster, unsigned shard);
/* First value of a unit as the shards hold it. */
float fake_value(struct fake_cluster *cluster, uint32_t unit);
/* Pushes that were applied as a whole, and samples, on a shard. */
void fake_stats(struct fake_cluster *cluster, unsigned shard, struct wire_shard_job_stats *stats);

#endif
