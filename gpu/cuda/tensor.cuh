/* Tensor cores and asynchronous copies: the few instructions of PTX that kernels use, each behind a function. All lanes
 * of a warp must call those of tensor cores together. tests/gpu/emulate_tensor.cc has the same functions for the host,
 * written from the layouts that the PTX ISA documents:
 *
 * With g = lane / 4 and t = lane % 4, a warp's registers hold, two bf16 in each (the lower half first),
 *   a (16 x 16, [row][k]):    [g][2t..], [g + 8][2t..], [g][2t + 8..], [g + 8][2t + 8..]
 *   b (16 x 8, [k][column]):  [2t..][g], [2t + 8..][g]
 *   sums (16 x 8, f32):       [g][2t], [g][2t + 1], [g + 8][2t], [g + 8][2t + 1]
 * so that the sums of two products side by side are, rounded, the a of the next one. */
#ifndef LAGOON_GPU_CUDA_TENSOR_CUH
#define LAGOON_GPU_CUDA_TENSOR_CUH

#include "gpu/cuda/cuda.cuh"

/* sums += a b */
CUDA_INLINE void mma_bf16_16x8x16(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef CUDA_EMULATED
    emulated_mma_bf16(sums, a, b0, b1);
#else
    float x = sums[0], y = sums[1], z = sums[2], w = sums[3]; /* apart from results, so that zeros need no registers */
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %11, %12, %13};"
        : "=f"(sums[0]), "=f"(sums[1]), "=f"(sums[2]), "=f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(x), "f"(y), "f"(z), "f"(w));
#endif
}

/* Four 8 x 8 matrices from shared memory. `row` is this lane's: lane 8 i + r gives where row r of matrix i lies, 8 bf16
 * aligned to 16 bytes. r[i] becomes matrix i's [g][2t..]. */
CUDA_INLINE void ldmatrix_x4(uint32_t (&r)[4], const __nv_bfloat16 *row) {
#ifdef CUDA_EMULATED
    emulated_ldmatrix(r, row, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
#endif
}

/* The same of the transposed matrices: r[i] becomes matrix i's [2t..][g]. */
CUDA_INLINE void ldmatrix_x4_trans(uint32_t (&r)[4], const __nv_bfloat16 *row) {
#ifdef CUDA_EMULATED
    emulated_ldmatrix(r, row, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
#endif
}

/* 16 bytes from global to shared memory, both aligned to 16, without registers and past L1. They are there for this
 * thread after a wait for their group, and for the block's other threads after the barrier that follows. */
CUDA_INLINE void async_copy_16(void *shared, const void *global) {
#ifdef CUDA_EMULATED
    emulated_async_copy(shared, global, true);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
                 "l"(__cvta_generic_to_global(global))
                 : "memory");
#endif
}

/* The same, but zeros where not `inside`; then nothing is read, though `global` must be a place in memory. */
CUDA_INLINE void async_copy_16_or_zeros(void *shared, const void *global, bool inside) {
#ifdef CUDA_EMULATED
    emulated_async_copy(shared, global, inside);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(inside ? 16 : 0)
                 : "memory");
#endif
}

/* This thread's copies since the last commit are a group. */
CUDA_INLINE void async_commit(void) {
#ifdef CUDA_EMULATED
    emulated_async_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Waits until at most the N last groups of this thread are on their way. */
template <int N> CUDA_INLINE void async_wait(void) {
#ifdef CUDA_EMULATED
    emulated_async_wait(N);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

/* 2^x by the multifunction unit: within 2 ulp, subnormal results are 0 (PTX ISA, ex2.approx.ftz.f32). */
CUDA_INLINE float exp2_fast(float x) {
#ifdef CUDA_EMULATED
    float y = exp2f(x);
    return y < FLT_MIN ? 0.0f : y;
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

#endif
