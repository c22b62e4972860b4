/* onebit: a warp takes a block of 1,024 elements. Lane i has elements i, i + 32, ..., which are the ones that lane i of
 * the sums on the CPU adds, in the same order, and in a whole block the ones whose signs make word i. */
#include "gpu/cuda/codec.cuh"

extern "C" {
#include "common/codecs/onebit.h"
}

namespace {

static_assert((int)ONEBIT_LANES == (int)CUDA_WARP && (int)ONEBIT_WORDS == (int)CUDA_WARP, "a lane for each");

const unsigned blocks = codec_slice_elements / ONEBIT_BLOCK, threads = blocks * CUDA_WARP;

/* The lane's word of a block of n elements, whose rows' signs lie in `rows` [words], where words are fewer than lanes:
 * bit b is the sign of element b * words + lane. */
CUDA_INLINE uint32_t signs_of_lane(const uint32_t *rows, unsigned words, unsigned n) {
    const unsigned lane = threadIdx.x % CUDA_WARP;
    uint32_t packed = 0;
    for (unsigned bit = 0; lane < words && bit * words + lane < n; bit++) {
        const unsigned at = bit * words + lane;
        packed |= (rows[at / CUDA_WARP] >> at % CUDA_WARP & 1u) << bit;
    }
    return packed;
}

/* One block of n elements to `out`; residual may be NULL; `rows` is the warp's own shared memory [ONEBIT_WORDS]. */
CUDA_INLINE void block_encode(const float *values, float *residual, unsigned n, uint32_t *rows, uint32_t *out) {
    const unsigned lane = threadIdx.x % CUDA_WARP, words = (unsigned)onebit_words(n);
    float input[ONEBIT_WORDS], plus = 0, minus = 0;
    uint32_t most = 0, packed = 0;
#pragma unroll
    for (unsigned row = 0; row < ONEBIT_WORDS; row++) {
        const unsigned at = row * CUDA_WARP + lane;
        float x = at < n ? values[at] : 0;
        if (residual && at < n)
            x = codec_input(x, residual[at]);
        const uint32_t bits = kernel_bits(x), negative = 0u - (bits >> 31), magnitude = bits & ~KERNEL_SIGN;
        input[row] = x;
        plus += kernel_float(bits & ~negative);
        minus += kernel_float(bits & negative);
        most = magnitude > most ? magnitude : most;
        packed |= bits >> 31 << row;
    }
    const bool finite = warp_largest(most) < KERNEL_INFINITY;
    const unsigned negatives = warp_count((unsigned)__popc(packed));
    plus = warp_sum(plus);
    minus = warp_sum(minus);
    const float mean_plus = finite ? onebit_mean(plus, n - negatives) : kernel_float(KERNEL_NAN);
    const float mean_minus = finite ? onebit_mean(minus, negatives) : mean_plus;
#pragma unroll
    for (unsigned row = 0; row < ONEBIT_WORDS; row++) {
        const unsigned at = row * CUDA_WARP + lane;
        if (residual && finite && at < n)
            residual[at] = input[row] - (packed >> row & 1u ? mean_minus : mean_plus);
    }
    if (words < ONEBIT_WORDS) {
        for (unsigned row = 0; row < words; row++) {
            const uint32_t signs = __ballot_sync(0xffffffffu, packed >> row & 1u);
            if (lane == 0)
                rows[row] = signs;
        }
        __syncwarp();
        packed = signs_of_lane(rows, words, n);
    }
    if (lane < ONEBIT_MEANS)
        out[lane] = kernel_bits(lane == 0 ? mean_plus : mean_minus);
    if (lane < words)
        out[ONEBIT_MEANS + lane] = packed;
}

__global__ void onebit_kernel(const struct cuda_encoding work) {
    __shared__ uint32_t rows[blocks][ONEBIT_WORDS];
    const codec_slice slice = codec_slice_of_block(work.units);
    const unsigned warp = threadIdx.x / CUDA_WARP, in_slice = warp * ONEBIT_BLOCK, first = slice.first + in_slice;
    if (slice.first == 0 && threadIdx.x == 0)
        work.bytes[slice.number] = (uint32_t)onebit_bytes(slice.unit.elements);
    if (in_slice >= slice.n) /* the whole warp */
        return;
    const unsigned rest = slice.unit.elements - first;
    uint8_t *out = work.out + slice.unit.at + (size_t)(first / ONEBIT_BLOCK) * ONEBIT_BLOCK_BYTES;
    const size_t at = slice.unit.first + first;
    block_encode(work.values + at, work.residual ? work.residual + at : NULL, codec_smaller(rest, ONEBIT_BLOCK),
                 rows[warp], (uint32_t *)(void *)out);
}

} // namespace

void cuda_encode_onebit(struct cuda_stream *s, size_t count, const struct cuda_encoding &work) {
    CUDA_LAUNCH(s, onebit_kernel, (unsigned)count * codec_slices, threads, 0, work);
}
