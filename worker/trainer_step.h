/* The training step and what it works on. */
#ifndef LAGOON_WORKER_TRAINER_STEP_H
#define LAGOON_WORKER_TRAINER_STEP_H

#include "client/job.h"
#include "client/lagoon.h"
#include "common/math/permutation.h"
#include "worker/dataset.h"
#include "worker/local_steps.h"
#include "worker/model.h"
#include "worker/trainer_buffers.h"
#include "worker/trainer_clip.h"
#include "worker/trainer_encoder.h"
#include "worker/trainer_handover.h"
#include "worker/trainer_meter.h"
#include "worker/trainer_micro.h"
#include "worker/trainer_ranges.h"

/* What the second parameter buffer has of the next step's parameters. */
enum ahead {
    AHEAD_NOTHING,
    AHEAD_PULLED, /* a pull is under way */
    AHEAD_PUSHED, /* the last push brings them */
    AHEAD_THERE,
};

struct trainer {
    const struct trainer_handover *handover;
    struct job_config job;
    enum clip clip;
    struct dataset *dataset;
    struct device *device;
    struct model *model;
    struct lg_client *client;
    struct meter meter;

    struct trainer_buffers buffers;
    struct trainer_encoder encoder; /* empty where the client encodes, or nobody */
    struct trainer_micro micro;
    struct local_steps local; /* empty where job.local_steps is 1 */
    uint64_t *offsets;        /* [tensors + 1]: first element of each */
    uint64_t *indices;        /* of the batch being read: samples */
    struct batch batch;
    struct permutation order; /* of `order_epoch` */
    uint64_t order_epoch;
    bool order_known;

    struct range_queue ranges; /* of the lease being worked on */
    enum ahead ahead;
    struct sample_range flying[LG_GRADIENT_BUFFERS]; /* pushes that were not waited for, the oldest first */
    size_t flying_count;
    uint64_t backward_cpu_ns; /* processor time of the last step's backward pass */
};

/* Allocates what steps need, for a trainer whose dataset, device and model are open. */
LG_MUST_CHECK enum lg_status trainer_step_init(struct trainer *trainer, struct lg_error *error);
/* And what they need of a client that has joined. */
LG_MUST_CHECK enum lg_status trainer_step_join(struct trainer *trainer, struct lg_error *error);
/* Before the client is closed. */
void trainer_step_leave(struct trainer *trainer);
void trainer_step_deinit(struct trainer *trainer);

/* Works through a train lease, or until the trainer is asked to stop; then *whole is false. */
LG_MUST_CHECK enum lg_status trainer_train(struct trainer *trainer, const struct lg_lease *lease, bool *whole,
                                           struct lg_error *error);
/* Runs the test split through the job's present parameters and reports loss and accuracy. */
LG_MUST_CHECK enum lg_status trainer_evaluate(struct trainer *trainer, const struct lg_lease *lease, bool *whole,
                                              struct lg_error *error);
/* Pushes seeded initial values. */
LG_MUST_CHECK enum lg_status trainer_initialise(struct trainer *trainer, const struct lg_lease *lease,
                                                struct lg_error *error);

#endif
