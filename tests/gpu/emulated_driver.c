/* A libcuda.so.1 for machines without a driver: it says that there are GPUs, two or as many as the environment's
 * LAGOON_EMULATED_GPUS says, and nothing else. With the emulated backend (emulate.h) behind it, workers that
 * integration tests start have GPUs. */
#include <stdlib.h>

int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);

int cuInit(unsigned flags) {
    (void)flags;
    return 0;
}

int cuDeviceGetCount(int *count) {
    const char *text = getenv("LAGOON_EMULATED_GPUS");
    *count = text ? atoi(text) : 2;
    return 0;
}
