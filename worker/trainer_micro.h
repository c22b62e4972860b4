/* Micro-batches: a batch whose activations would not fit into the device's memory at once goes through the model in
 * pieces, whose gradients are added up in the device's memory. The sum is the mean gradient over the batch's
 * predictions, as if it had gone at once, within rounding. Every sample of a dataset has as many predictions, so a
 * piece counts by its share of the samples. One thread. */
#ifndef LAGOON_WORKER_TRAINER_MICRO_H
#define LAGOON_WORKER_TRAINER_MICRO_H

#include "worker/model.h"

struct trainer_micro {
    struct model *model;
    uint32_t most; /* samples of a piece */
    float *sum;    /* device [elements] of the pieces before the last, weighted; NULL: batches are one piece */
    float weight;  /* of the piece that goes backward last; 1: it is the whole batch */
};

/* For batches of up to `batch` samples, in pieces of as many as the model takes. Zeroed is empty. */
LG_MUST_CHECK enum lg_status trainer_micro_init(struct trainer_micro *micro, struct model *model, uint32_t batch,
                                                struct lg_error *error);
void trainer_micro_deinit(struct trainer_micro *micro);
/* The batch's forward pass, and all of its backward pass but the last piece's, which model_backward does: those before
 * use the memory that the model's gradients are in. *result is that of the whole batch. */
LG_MUST_CHECK enum lg_status trainer_micro_forward(struct trainer_micro *micro, const struct batch *batch,
                                                   struct model_result *result, struct lg_error *error);
/* From model_backward's announcement, or after it: elements [from, to) of the last piece's gradients become those of
 * the batch, once each. Queued on the model's stream. */
void trainer_micro_fold(const struct trainer_micro *micro, uint64_t from, uint64_t to);

#endif
