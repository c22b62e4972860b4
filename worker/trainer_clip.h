/* Gradient clipping by norm, in the device's memory, before gradients leave it. */
#ifndef LAGOON_WORKER_TRAINER_CLIP_H
#define LAGOON_WORKER_TRAINER_CLIP_H

enum clip { CLIP_NONE, CLIP_TENSOR, CLIP_GLOBAL };

/* "none", "tensor" or "global"; the job's option table lets nothing else through. */
enum clip clip_parse(const char *name);

#endif
