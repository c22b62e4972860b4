/* The backward pass and the push that goes with it: gradients are clipped where they are and leave tensor by tensor, as
 * f32 or encoded on the device, while those of earlier layers are still being computed. */
#ifndef LAGOON_WORKER_TRAINER_PUSH_H
#define LAGOON_WORKER_TRAINER_PUSH_H

#include "worker/trainer_step.h"

/* How many pushes may be unsettled at once. */
size_t trainer_push_depth(const struct trainer *trainer);
/* The next backward pass is of the next push; one fewer than those may be unsettled from then on. */
void trainer_push_turn(struct trainer *trainer);
/* Starts a push of what has come of these samples; its tensors are to be marked ready. */
LG_MUST_CHECK enum lg_status trainer_push_start(struct trainer *trainer, const struct lg_lease *lease,
                                                struct sample_range range, uint32_t local_steps,
                                                struct lg_error *error);
/* Backward pass and push in one. */
LG_MUST_CHECK enum lg_status trainer_push_backward(struct trainer *trainer, const struct lg_lease *lease,
                                                   struct sample_range range, struct lg_error *error);
/* Clips the gradients of tensors [first, first + count), each by itself. */
void trainer_push_clip(struct trainer *trainer, size_t first, size_t count);
/* Clips all of them together, where the job wants that. */
void trainer_push_clip_global(struct trainer *trainer);

#endif
