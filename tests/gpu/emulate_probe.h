/* Small kernels, run by the emulation, of the instructions in gpu/cuda/tensor.cuh; for emulated_tensor_test.c. */
#ifndef LAGOON_TESTS_GPU_EMULATE_PROBE_H
#define LAGOON_TESTS_GPU_EMULATE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PROBE_ROWS = 16, PROBE_COLUMNS = 16, PROBE_K = 48 };

/* c [PROBE_ROWS][PROBE_COLUMNS] = a b, in bf16. a is [rows][k], or [k][rows] if a_trans; b is [columns][k], or
 * [k][columns] if b_trans. */
void probe_product(bool backwards, bool a_trans, bool b_trans, const uint16_t *a, const uint16_t *b, float *c);

enum probe_fault {
    PROBE_FAULT_NONE,
    PROBE_FAULT_LDMATRIX_UNALIGNED,
    PROBE_FAULT_LDMATRIX_OUTSIDE,
    PROBE_FAULT_COPY_TO_UNALIGNED,
    PROBE_FAULT_COPY_FROM_UNALIGNED,
    PROBE_FAULT_COPY_OUTSIDE,
    PROBE_FAULT_COPY_FORGOTTEN, /* by the end of a thread */
    PROBE_FAULT_LANES_APART,    /* half of a warp multiplies, half loads */
};

/* Does that; it ends the process but for PROBE_FAULT_NONE. */
void probe_fault(enum probe_fault fault);

/* Copies `words` [8] in two groups, and nothing for a third; what is in shared memory before the first is waited for,
 * then before the second is, then at the end: seen [3][12]. */
void probe_copies(const uint32_t *words, uint32_t *seen);

/* pair_bits: of both, rounded; power: 2^low. */
void probe_numbers(float low, float high, uint32_t *pair_bits, float *power);

#ifdef __cplusplus
}
#endif

#endif
