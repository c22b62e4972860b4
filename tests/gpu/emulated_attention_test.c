/* Attention of the CUDA backend, run by the host (tests/gpu/emulate.h): threads in order and backwards. */
#define DEVICES_TESTED                                                                                                 \
    {"cuda:0/bf16", 1}, {"cuda:1/bf16", 1}, {                                                                          \
        "cuda:0/tf32", 1                                                                                               \
    }
#include "tests/conformance/attention_test.c"
