/* Clipping by norm: sums of squares block by block, their sum and the factor in one more block, then the product. The
 * host sees none of it. */
#include "gpu/cuda/cuda.cuh"

namespace {

/* The sum over the block of CUDA_BLOCK threads; thread 0 gets it. */
CUDA_INLINE double block_sum(double x) {
    __shared__ double sums[CUDA_BLOCK];
    sums[threadIdx.x] = x;
    __syncthreads();
    for (unsigned half = CUDA_BLOCK / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    return sums[0];
}

/* partial [gridDim.x] */
__global__ void squares_kernel(size_t n, const float *x, double *partial) {
    double sum = 0;
    for (size_t i = cuda_thread(); i < n; i += cuda_threads())
        sum += (double)x[i] * (double)x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

/* partial [blocks]; *factor is 1 where nothing is to be done. */
__global__ void factor_kernel(unsigned blocks, const double *partial, double most, float *factor) {
    double sum = 0;
    for (unsigned i = threadIdx.x; i < blocks; i += CUDA_BLOCK)
        sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x > 0)
        return;
    double norm = sqrt(sum);
    *factor = norm > most && norm <= DBL_MAX ? (float)(most / norm) : 1.0f;
}

__global__ void clip_kernel(size_t n, const float *factor, float *x) {
    float by = *factor;
    if (by == 1.0f)
        return;
    for (size_t i = cuda_thread(); i < n; i += cuda_threads())
        x[i] *= by;
}

} // namespace

void cuda_clip(struct device_stream *base, size_t n, double most, float *x) {
    struct cuda_stream *s = cuda_enter(base);
    unsigned blocks = cuda_spread(s, n, CUDA_BLOCK);
    double *partial = (double *)cuda_scratch(s, CUDA_ROOM_OP, "clip", (blocks + 1) * sizeof *partial);
    if (n == 0 || !partial)
        return;
    float *factor = (float *)(void *)(partial + blocks);
    CUDA_LAUNCH(s, squares_kernel, blocks, CUDA_BLOCK, 0, n, x, partial);
    CUDA_LAUNCH(s, factor_kernel, 1, CUDA_BLOCK, 0, blocks, partial, most, factor);
    CUDA_LAUNCH(s, clip_kernel, blocks, CUDA_BLOCK, 0, n, factor, x);
}
