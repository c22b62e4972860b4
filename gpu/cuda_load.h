/* Finds the CUDA backend at run time: a shared object beside the programs, loaded when a GPU is asked for. Where it, a
 * driver or a GPU is missing, that is an error like any other (docs/decisions/0011-cuda-is-loaded.md). */
#ifndef LAGOON_GPU_CUDA_LOAD_H
#define LAGOON_GPU_CUDA_LOAD_H

#include "gpu/device.h"

/* Opens GPU `number`, whose products are computed in `math` ("f32", "tf32", "bf16"). UNSUPPORTED where this machine or
 * this installation cannot compute on any GPU, NOT_FOUND where there is no such one. */
LG_MUST_CHECK enum lg_status cuda_load_open(unsigned number, const char *math, struct device **out,
                                            struct lg_error *error);

/* How many GPUs could be opened, from cuda:0 on: those before the first that is too old. 0 where a driver or the
 * backend is missing. Opens none, so that what else an open may fail for (a driver older than the backend's CUDA, no
 * cuBLAS, no memory left) is not known here. */
unsigned cuda_load_count(void);

#endif
