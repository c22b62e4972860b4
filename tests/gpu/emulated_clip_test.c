/* The same cases as for every device, on the CUDA backend's kernels run by the host (tests/gpu/emulate.h). */
#define DEVICES_TESTED                                                                                                 \
    {"cuda:0", 1}, {                                                                                                   \
        "cuda:1", 1                                                                                                    \
    }
#include "tests/conformance/device_clip_test.c"
