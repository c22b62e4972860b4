/* Attention of the CUDA backend on a GPU whose blocks have 99 KiB of shared memory, as compute capability 8.9 has. */
#define DEVICES_TESTED                                                                                                 \
    { "cuda:0/bf16", 1 }
#include "tests/conformance/attention_test.c"

#include <stdlib.h>

__attribute__((constructor)) static void make_small(void) {
    setenv("LAGOON_EMULATED_SHARED_KIB", "99", 1);
}
