/* int8: a warp takes a block of 512 elements, 16 each lane, and keeps them in registers between the largest magnitude
 * and the rounding. Lanes hold quads of neighbours: element 128 quad + 4 lane + i. Quads 0 and 2, 1 and 3 are 256
 * elements apart, so that a random word serves two elements of one lane. */
#include "gpu/cuda/codec.cuh"

extern "C" {
#include "common/codecs/int8.h"
}

namespace {

enum { QUADS = 4, QUAD_STEP = 4 * CUDA_WARP };
static_assert((int)QUADS * (int)QUAD_STEP == (int)INT8_BLOCK, "a warp takes a block");
const unsigned threads = codec_slice_elements / INT8_BLOCK * CUDA_WARP;

/* The lane's quads of n elements; what is beyond the end is 0. */
CUDA_INLINE void quads_load(const float *x, unsigned n, pack<4> *quads) {
    const unsigned lane = threadIdx.x % CUDA_WARP;
    const bool whole = n == INT8_BLOCK && (uintptr_t)x % sizeof *quads == 0; /* the same for all lanes */
#pragma unroll
    for (unsigned q = 0; whole && q < QUADS; q++)
        quads[q] = pack_load<4>(x + q * QUAD_STEP + 4 * lane);
#pragma unroll
    for (unsigned q = 0; !whole && q < QUADS; q++)
        for (unsigned i = 0, at = q * QUAD_STEP + 4 * lane; i < 4; i++, at++)
            quads[q].v[i] = at < n ? x[at] : 0;
}

/* Bytes of four elements, 0 beyond the end. */
CUDA_INLINE uint32_t quad_bytes(const pack<4> &quad, float inverse, const uint32_t *noise, unsigned at, unsigned n) {
    uint32_t word = 0;
    for (unsigned i = 0; i < 4; i++) {
        const uint32_t byte = int8_quantise(quad.v[i], inverse, noise[i] & (INT8_FRACTION - 1));
        word |= at + i < n ? byte << 8 * i : 0;
    }
    return word;
}

/* One block of n elements to `bytes`, which has room for whole words. */
CUDA_INLINE void block_encode(const float *x, unsigned n, unsigned block, uint64_t key, bool nearest, float *scale,
                              uint32_t *bytes) {
    const unsigned lane = threadIdx.x % CUDA_WARP;
    pack<4> quads[QUADS];
    uint32_t most = 0;
    quads_load(x, n, quads);
#pragma unroll
    for (unsigned q = 0; q < QUADS; q++) {
        for (unsigned i = 0; i < 4; i++) {
            const uint32_t magnitude = kernel_magnitude(quads[q].v[i]);
            most = magnitude > most ? magnitude : most;
        }
    }
    const float largest = kernel_float(warp_largest(most)), inverse = int8_inverse(largest);
    if (lane == 0)
        *scale = int8_scale(largest);
#pragma unroll
    for (unsigned q = 0; q < QUADS / 2; q++) {
        const unsigned low = q * QUAD_STEP + 4 * lane, high = low + INT8_HALF;
        uint32_t noise[4], noise_high[4];
        for (unsigned i = 0; i < 4; i++) {
            noise[i] =
                nearest ? INT8_NEAREST : int8_noise(block * INT8_HALF + low + i, (uint32_t)key, (uint32_t)(key >> 32));
            noise_high[i] = noise[i] >> INT8_HIGH_SHIFT;
        }
        if (low < n)
            bytes[low / 4] = inverse == 0 ? 0 : quad_bytes(quads[q], inverse, noise, low, n);
        if (high < n)
            bytes[high / 4] = inverse == 0 ? 0 : quad_bytes(quads[q + QUADS / 2], inverse, noise_high, high, n);
    }
}

__global__ void int8_kernel(const struct cuda_encoding work) {
    const codec_slice slice = codec_slice_of_block(work.units);
    const unsigned in_slice = threadIdx.x / CUDA_WARP * INT8_BLOCK, first = slice.first + in_slice;
    if (slice.first == 0 && threadIdx.x == 0)
        work.bytes[slice.number] = (uint32_t)int8_bytes(slice.unit.elements);
    if (in_slice >= slice.n) /* the whole warp */
        return;
    const unsigned rest = slice.unit.elements - first, block = first / INT8_BLOCK;
    float *scales = (float *)(void *)(work.out + slice.unit.at);
    uint32_t *bytes = (uint32_t *)(void *)(scales + int8_blocks(slice.unit.elements)) + first / 4;
    block_encode(work.values + slice.unit.first + first, codec_smaller(rest, INT8_BLOCK), block, slice.unit.key,
                 work.nearest, scales + block, bytes);
}

} // namespace

void cuda_encode_int8(struct cuda_stream *s, size_t count, const struct cuda_encoding &work) {
    CUDA_LAUNCH(s, int8_kernel, (unsigned)count * codec_slices, threads, 0, work);
}
