#include "tests/gpu/emulate_probe.h"

#include "gpu/cuda/tensor.cuh"

enum { HALVES = 16 * PROBE_K, SHARED = 2 * HALVES * 2 };

/* A 16 x 48 or 48 x 16 matrix, 8 numbers a copy. */
static void matrix_copy(const uint16_t *from, __nv_bfloat16 *to) {
    for (unsigned at = threadIdx.x * 8; at < HALVES; at += CUDA_WARP * 8)
        async_copy_16(to + at, from + at);
}

void probe_product(bool backwards, bool a_trans, bool b_trans, const uint16_t *a_from, const uint16_t *b_from,
                   float *c) {
    emulated_launch(dim3(1), dim3(CUDA_WARP), SHARED, backwards, [&]() {
        CUDA_SHARED(__nv_bfloat16, a);
        __nv_bfloat16 *b = a + HALVES;
        unsigned lane = threadIdx.x, straight = lane % 16, crossed = lane % 8 + lane / 16 * 8;
        float sums[2][4] = {};
        matrix_copy(a_from, a);
        matrix_copy(b_from, b);
        async_commit();
        async_wait<0>();
        __syncthreads();
        for (unsigned k = 0; k < PROBE_K; k += 16) {
            uint32_t x[4], y[4];
            if (a_trans)
                ldmatrix_x4_trans(x, a + (k + crossed) * 16 + lane / 8 % 2 * 8);
            else
                ldmatrix_x4(x, a + straight * PROBE_K + k + lane / 16 * 8);
            if (b_trans)
                ldmatrix_x4_trans(y, b + (k + straight) * 16 + lane / 16 * 8);
            else
                ldmatrix_x4(y, b + crossed * PROBE_K + k + lane / 8 % 2 * 8);
            mma_bf16_16x8x16(sums[0], x, y[0], y[1]);
            mma_bf16_16x8x16(sums[1], x, y[2], y[3]);
        }
        for (unsigned n = 0; n < 2; n++)
            for (unsigned i = 0; i < 4; i++)
                c[(lane / 4 + i / 2 * 8) * PROBE_COLUMNS + n * 8 + lane % 4 * 2 + i % 2] = sums[n][i];
    });
}

void probe_fault(enum probe_fault fault) {
    alignas(16) static const uint16_t zeros[16] = {};
    emulated_launch(dim3(1), dim3(CUDA_WARP), 512, false, [&]() {
        CUDA_SHARED(__nv_bfloat16, shared);
        uint32_t x[4] = {};
        float sums[4] = {};
        unsigned lane = threadIdx.x;
        bool late = fault == PROBE_FAULT_COPY_FORGOTTEN && lane == 31;
        async_copy_16(shared + 8 * lane + (fault == PROBE_FAULT_COPY_TO_UNALIGNED) +
                          (fault == PROBE_FAULT_COPY_OUTSIDE) * 8,
                      zeros + (fault == PROBE_FAULT_COPY_FROM_UNALIGNED) * 4);
        if (!late)
            async_commit();
        async_wait<0>();
        __syncwarp();
        if (fault == PROBE_FAULT_LANES_APART && lane >= 16)
            mma_bf16_16x8x16(sums, x, 0, 0);
        else
            ldmatrix_x4(x, shared + 8 * lane + (fault == PROBE_FAULT_LDMATRIX_UNALIGNED) * 4 +
                               (fault == PROBE_FAULT_LDMATRIX_OUTSIDE) * 8);
    });
}

void probe_copies(const uint32_t *words, uint32_t *seen) {
    emulated_launch(dim3(1), dim3(1), 48, false, [&]() {
        CUDA_SHARED(uint32_t, shared);
        async_copy_16(shared, words);
        async_commit();
        async_copy_16(shared + 4, words + 4);
        async_copy_16_or_zeros(shared + 8, words, false);
        async_commit();
        memcpy(seen, shared, 48);
        async_wait<1>();
        memcpy(seen + 12, shared, 48);
        async_wait<0>();
        memcpy(seen + 24, shared, 48);
    });
}

void probe_numbers(float low, float high, uint32_t *pair_bits, float *power) {
    *pair_bits = bf16_pair(low, high);
    *power = exp2_fast(low);
}
