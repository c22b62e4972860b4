/* Gradient clipping by norm, on the trainer's gradient buffer, before it is pushed. */
#ifndef LAGOON_WORKER_TRAINER_CLIP_H
#define LAGOON_WORKER_TRAINER_CLIP_H

#include <stddef.h>

enum clip { CLIP_NONE, CLIP_TENSOR, CLIP_GLOBAL };

/* "none", "tensor" or "global"; the job's option table lets nothing else through. */
enum clip clip_parse(const char *name);

/* Euclidean norm of x [n], summed in double. */
double clip_norm_of(const float *x, size_t n);
/* Scales x [n] so that its norm is at most `most` (Pascanu, Mikolov, Bengio 2013), and returns the norm it had. A norm
 * that is not finite leaves x as it is: the shard refuses the push and says so. */
double clip_to_norm(float *x, size_t n, double most);

#endif
