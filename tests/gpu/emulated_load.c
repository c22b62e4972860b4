/* In the place of gpu/cuda_load.c: the backend is linked in, for the emulated GPUs. */
#include "gpu/cuda_load.h"

#include "gpu/cuda/backend.h"

enum lg_status cuda_load_open(unsigned number, const char *math, struct device **out, struct lg_error *error) {
    return lagoon_cuda_backend.open(number, math, out, error);
}

unsigned cuda_load_count(void) {
    return 2;
}
