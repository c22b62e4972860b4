/* What a trainer leaves for the one that goes on with its job on this worker: what the push codec has kept back of its
 * gradients. A file in the worker's trainer.state_dir, written when the trainer is asked to stop before the job is
 * finished, and taken by one trainer. One that is killed leaves nothing: then what its codec kept back is lost, which
 * is at most what it has not sent yet of its gradients. */
#ifndef LAGOON_WORKER_TRAINER_SAVED_H
#define LAGOON_WORKER_TRAINER_SAVED_H

#include "client/lagoon.h"
#include "worker/trainer_handover.h"

/* After all pushes are settled. What fails is logged: training goes on without. */
void trainer_saved_put(const struct trainer_handover *handover, struct lg_client *client);
/* Before the first push. */
void trainer_saved_take(const struct trainer_handover *handover, struct lg_client *client);

#endif
