/* A trainer's host memory: the parameters it computes from, those that are being filled meanwhile, and gradients.
 *
 * Where the host can read the device's memory the model works on these buffers themselves; else values go to and from
 * the device here. One thread. */
#ifndef LAGOON_WORKER_TRAINER_BUFFERS_H
#define LAGOON_WORKER_TRAINER_BUFFERS_H

#include "client/lagoon.h"
#include "worker/model.h"

struct trainer_buffers {
    struct model *model;
    float *parameters; /* [elements] computed from */
    float *ahead;      /* [elements] filled meanwhile; the two change places */
    float *gradients;  /* [elements] of the step at hand: one of `gradient` */
    float *gradient[LG_GRADIENT_BUFFERS];
    size_t gradient_count, turn;
    float *owned[3];              /* what is to be freed */
    struct device_stream *stream; /* NULL: the model works on the buffers themselves */
};

/* Zeroed is empty. The model outlives the buffers. */
LG_MUST_CHECK enum lg_status trainer_buffers_init(struct trainer_buffers *buffers, struct model *model,
                                                  struct lg_error *error);
void trainer_buffers_deinit(struct trainer_buffers *buffers);
/* Takes gradient memory from the client, which shards on this host read in place: `wanted` buffers, or fewer where
 * there is no memory. They are valid until the client is closed. */
LG_MUST_CHECK enum lg_status trainer_buffers_join(struct trainer_buffers *buffers, struct lg_client *client,
                                                  size_t wanted, struct lg_error *error);

/* What was filled ahead is computed from now. */
LG_MUST_CHECK enum lg_status trainer_buffers_adopt(struct trainer_buffers *buffers, struct lg_error *error);
/* The next backward pass writes to the next of the gradient buffers; what was pushed from it must be settled. */
void trainer_buffers_turn(struct trainer_buffers *buffers);
/* Gradients [from, to) are brought to where the host can read them. */
LG_MUST_CHECK enum lg_status trainer_buffers_download(const struct trainer_buffers *buffers, uint64_t from, uint64_t to,
                                                      struct lg_error *error);

#endif
