/* What a job is: the option table behind job files, `lagoon submit` and the specification on the wire.
 *
 * A specification travels as flat key/value pairs. This table holds the keys that everyone shares; registry entries add
 * theirs: "model.*" and "dataset.*" (trainer), "updater.*" and "staleness.*" (shard). */
#ifndef LAGOON_CLIENT_JOB_H
#define LAGOON_CLIENT_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "client/consistency.h"
#include "common/codec.h"
#include "common/config.h"
#include "common/option.h"

struct job_config {
    char name[OPTION_TEXT_BYTES];
    int64_t seed;
    int64_t workers;                                           /* trainers at once; 0: as many as there are slots */
    char model[OPTION_TEXT_BYTES], dataset[OPTION_TEXT_BYTES]; /* kinds */
    int64_t batch, epochs;             /* per trainer and step; passes over the training split */
    int64_t micro_batch;               /* samples that a trainer computes at once; 0: the batch */
    int64_t pipeline;                  /* steps between asking for parameters and computing from them, 1 or 2 */
    char push_pull[OPTION_TEXT_BYTES]; /* auto | yes | no */
    char clip[OPTION_TEXT_BYTES];      /* none | tensor | global */
    double clip_norm;
    int64_t local_steps; /* of a trainer between a pull and a push, on its own copy; 1: it pushes gradients */
    char local_updater[OPTION_TEXT_BYTES];
    double local_rate, local_weight_decay;
    char updater[OPTION_TEXT_BYTES];
    double weight_decay;
    char staleness[OPTION_TEXT_BYTES]; /* policy */
    char schedule[OPTION_TEXT_BYTES];  /* constant | cosine | step | inverse-sqrt */
    double learning_rate, final_factor, step_factor;
    int64_t warmup_samples, total_samples, step_samples;
    char mode[OPTION_TEXT_BYTES];          /* of consistency */
    const struct consistency *consistency; /* the same, looked up */
    int64_t gate_bound, gate_bound_most;   /* ssp, dssp: steps that a trainer may be ahead of the slowest */
    int64_t gate_pushes;                   /* backup, rennala, buffered: pushes that make a step */
    char durability[OPTION_TEXT_BYTES];    /* memory */
    int64_t evaluate_epochs;               /* evaluate after every so many epochs, and at the end; 0: only at the end */
    int64_t evaluate_samples;              /* 0: the whole test split */
    int64_t restarts;                      /* of crashed trainers, over the job's life */
    int64_t lease_ms;                      /* length of a slice in a trainer's own time */
    int64_t threads;                       /* BLAS threads of a trainer; 0: cores / trainers on the machine */
    char push_codec[OPTION_TEXT_BYTES], pull_codec[OPTION_TEXT_BYTES]; /* names in the registry of codecs */
    bool pull_delta; /* pulls bring differences to what the trainer holds */
    double topk;     /* share of the elements that codec topk sends */
};

extern const struct option_table job_table;

/* How a job's gradients and parameters travel. */
struct job_codecs {
    const struct codec *push, *pull;
    bool pull_delta;
    double topk;
};
/* Of a specification as shards and trainers get it, with defaults for what it leaves out. */
LG_MUST_CHECK enum lg_status job_codecs(struct config *spec, struct job_codecs *out, struct lg_error *error);

/* Reads and checks the shared keys; leaves model.*, dataset.*, updater.*, staleness.* to their registries. */
LG_MUST_CHECK enum lg_status job_configure(struct config *config, struct job_config *job, struct lg_error *error);

#endif
