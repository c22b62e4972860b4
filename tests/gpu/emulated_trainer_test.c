/* The trainer on the CUDA backend's kernels, run by the host (tests/gpu/emulate.h). */
#define DEVICE_TESTED "cuda:0"
#include "tests/unit/trainer_test.c"
