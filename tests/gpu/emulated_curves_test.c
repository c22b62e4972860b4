/* Loss curves of every model on the CUDA backend's kernels, run by the host (tests/gpu/emulate.h). */
#define DEVICES_TESTED                                                                                                 \
    {"cuda:0", 1}, {                                                                                                   \
        "cuda:1/bf16", 1                                                                                               \
    }
enum { STEPS = 40 };
#include "tests/gpu/loss_curves_test.c"
