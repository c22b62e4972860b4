/* A libcuda.so.1 for machines without a driver: it says that there are GPUs, two or as many as the environment's
 * LAGOON_EMULATED_GPUS says, where they are (fake_nvml.c), and that those from LAGOON_EMULATED_OLD on are too old. With
 * the emulated backend (emulate.h) behind it, workers that integration tests start have GPUs. */
#include <stdio.h>
#include <stdlib.h>

int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);
int cuDeviceGet(int *device, int ordinal);
int cuDeviceGetPCIBusId(char *text, int bytes, int device);
int cuDeviceGetAttribute(int *value, int attribute, int device);

int cuInit(unsigned flags) {
    (void)flags;
    return 0;
}

int cuDeviceGetCount(int *count) {
    const char *text = getenv("LAGOON_EMULATED_GPUS");
    *count = text ? atoi(text) : 2;
    return 0;
}

int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return 0;
}

/* The first one has the last address, as with CUDA_VISIBLE_DEVICES=1,0. */
int cuDeviceGetPCIBusId(char *text, int bytes, int device) {
    int count;
    cuDeviceGetCount(&count);
    snprintf(text, (size_t)bytes, "0000:%02x:00.0", (unsigned)(0x10 + count - 1 - device));
    return 0;
}

/* Asked for the compute capability's first number, and nothing else. */
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    const char *old = getenv("LAGOON_EMULATED_OLD");
    *value = old && device >= atoi(old) ? 7 : 9;
    return attribute == 75 ? 0 : 1;
}
