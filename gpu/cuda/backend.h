/* What the shared object lagoon-cuda.so gives to gpu/cuda_load.c. It is the only thing between the two, so that
 * programs need nothing of CUDA (docs/decisions/0011-cuda-is-loaded.md). */
#ifndef LAGOON_GPU_CUDA_BACKEND_H
#define LAGOON_GPU_CUDA_BACKEND_H

#include "gpu/device.h"

/* Raised with every change of struct device, struct device_ops or of an op's meaning. */
enum { CUDA_BACKEND_ABI = 4 };
/* First number of the compute capability that is needed: 8.0. */
enum { CUDA_CAPABILITY_LEAST = 8 };

struct cuda_backend {
    uint64_t abi, ops_bytes; /* CUDA_BACKEND_ABI, sizeof(struct device_ops) */
    const char *version;     /* LAGOON_VERSION */
    /* Opens GPU `number`; `math` is "f32", "tf32" or "bf16". UNSUPPORTED: no usable driver. NOT_FOUND: no such GPU. */
    enum lg_status (*open)(unsigned number, const char *math, struct device **out, struct lg_error *error);
};

/* Exported under this name. */
#define CUDA_BACKEND_SYMBOL "lagoon_cuda_backend"
extern const struct cuda_backend lagoon_cuda_backend;

#endif
