/* Local steps: a trainer's own optimizer on its own copy of the parameters, between a pull and a push. What is pushed
 * is how far the copy has come ("local SGD", DiLoCo); the shards' updater takes it for a gradient. Stich, ICLR 2019;
 * Liu et al., Asynchronous Local-SGD Training for Language Modeling, 2024.
 *
 * Host memory. The optimizer's state stays with the trainer from one round to the next, and starts at zero in a new
 * one. One thread. */
#ifndef LAGOON_WORKER_LOCAL_STEPS_H
#define LAGOON_WORKER_LOCAL_STEPS_H

#include "client/job.h"
#include "common/tensor.h"
#include "common/updater.h"

struct local_steps {
    const struct tensor_spec *tensors; /* borrowed */
    size_t tensor_count;
    uint64_t elements;
    const struct updater *updater;
    double values[UPDATER_PARAMS_MAX];
    enum isa isa;
    float learning_rate, weight_decay;
    uint64_t taken;                    /* steps, over all rounds */
    float *parameters;                 /* [elements] where the steps lead; aligned to 64 bytes */
    float *states[UPDATER_STATES_MAX]; /* [elements] each */
};

/* Reads "local.updater.*" of the job. Zeroed is empty. */
LG_MUST_CHECK enum lg_status local_steps_init(struct local_steps *steps, struct config *spec,
                                              const struct job_config *job, const struct tensor_spec *tensors,
                                              size_t tensor_count, struct lg_error *error);
void local_steps_deinit(struct local_steps *steps);
/* A round starts from what was pulled. */
void local_steps_begin(struct local_steps *steps, const float *pulled);
/* One step by these gradients, flat. Frozen tensors stay; tensors that take values take what `gradients` has. */
void local_steps_take(struct local_steps *steps, const float *gradients);
/* What is to be pushed: parameters - pulled, or the value itself for tensors that take values. */
void local_steps_result(const struct local_steps *steps, const float *pulled, float *out);

#endif
