/* One simulated run of one job: real shards, sessions and coordinator, real gradients, pretended machines and network.
 *
 * Discrete events, one thread, one virtual clock. Everything that happens follows from the configuration and the seed:
 * the same bits come out each time on one machine. */
#ifndef LAGOON_SIM_SIMULATION_H
#define LAGOON_SIM_SIMULATION_H

#include <signal.h>

#include "proto/wire.h"
#include "sim/sim_options.h"
#include "sim/spread.h"

struct sim_setup {
    const struct config *config; /* keys of the job and of sim.*; copied */
    uint64_t seed;
    const volatile sig_atomic_t *interrupted; /* may be NULL: no way to stop it */
    /* May be NULL. Called now and then, and after evaluations, with the share of the run that is done. */
    void (*progress)(void *context, double share, uint64_t samples, double accuracy);
    void *context;
};

struct sim_point {
    uint64_t samples, updates;
    double time_s; /* simulated, since training began */
    double loss, accuracy;
};

struct sim_outcome {
    struct sim_point *curve; /* evaluations, the first before training */
    size_t curve_count, curve_capacity;
    uint64_t samples, updates; /* applied on the lead shard */
    uint64_t dropped;          /* pushes with weight zero */
    uint64_t losses, joins;    /* of workers */
    uint64_t events;
    double time_s, wall_s;
    double target_s, target_samples; /* when the target was reached; NaN: it was not */
    double learning_rate;            /* lr.base as run */
    double mean_weight_before;       /* of the run that control mean_weight took it from; NaN: none */
    bool diverged;
    char end[160];        /* why it ended */
    struct spread spread; /* of staleness and weights */
    uint32_t shard_count;
    struct wire_shard_job_stats shards[SIM_SHARDS_MAX];
};

/* Runs it, twice for control mean_weight. What was done is in `out` also when it was interrupted (LG_CANCELLED). */
LG_MUST_CHECK enum lg_status simulate(const struct sim_setup *setup, struct sim_outcome *out, struct lg_error *error);
void sim_outcome_deinit(struct sim_outcome *outcome);

#endif
