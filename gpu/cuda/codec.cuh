/* What the codecs' kernels share. They give the bits of common/codecs/: layouts and formulas come from its headers,
 * sums are taken in its order, and these files are compiled without contraction (-fmad=false). */
#ifndef LAGOON_GPU_CUDA_CODEC_CUH
#define LAGOON_GPU_CUDA_CODEC_CUH

#include "gpu/cuda/cuda.cuh"

extern "C" {
#include "common/codec.h"
#include "common/codecs/bits.h"
}

/* Units are cut into slices, a block each, as only the device knows how long they are; slices beyond the end have
 * nothing to do. */
static const unsigned codec_slice_elements = 4096, codec_slices = CODEC_ELEMENTS_MAX / codec_slice_elements;

/* What `encode` was given, for its kernels. */
struct cuda_encoding {
    const struct device_unit *units;
    const float *values;
    float *residual; /* may be NULL */
    uint8_t *out;
    uint32_t *bytes;
    bool nearest;
    double keep;
};

struct cuda_taking_back {
    const struct device_unit *units;
    const float *shares;
    const uint8_t *encoded;
    const float *values;
    float *residual;
};

/* One for each codec; count > 0. */
void cuda_encode_f32(struct cuda_stream *s, size_t count, const struct cuda_encoding &work);
void cuda_encode_f16(struct cuda_stream *s, size_t count, const struct cuda_encoding &work);
void cuda_encode_bf16(struct cuda_stream *s, size_t count, const struct cuda_encoding &work);
void cuda_encode_int8(struct cuda_stream *s, size_t count, const struct cuda_encoding &work);
void cuda_encode_onebit(struct cuda_stream *s, size_t count, const struct cuda_encoding &work);
void cuda_encode_topk(struct cuda_stream *s, size_t count, const struct cuda_encoding &work);
void cuda_take_back_f32(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work);
void cuda_take_back_f16(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work);
void cuda_take_back_bf16(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work);
void cuda_take_back_int8(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work);
void cuda_take_back_onebit(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work);
void cuda_take_back_topk(struct cuda_stream *s, size_t count, const struct cuda_taking_back &work);

/* ---- on the device */

CUDA_INLINE unsigned codec_smaller(unsigned a, unsigned b) {
    return a < b ? a : b;
}

/* A slice of a unit: elements [first, first + n). */
struct codec_slice {
    size_t number; /* of the unit */
    struct device_unit unit;
    unsigned first, n;
};

/* The block's own; n is 0 beyond the unit's end. */
CUDA_INLINE codec_slice codec_slice_of_block(const struct device_unit *units) {
    codec_slice slice;
    slice.number = blockIdx.x / codec_slices;
    slice.unit = units[slice.number];
    slice.first = blockIdx.x % codec_slices * codec_slice_elements;
    unsigned rest = slice.first < slice.unit.elements ? slice.unit.elements - slice.first : 0;
    slice.n = codec_smaller(rest, codec_slice_elements);
    return slice;
}

/* What a codec with feedback encodes: value + residual. A NaN that comes in keeps its bits, but for the quiet one, and
 * infinities that meet give the NaN that x86 gives, as on the CPU; additions of a GPU have one NaN for all. */
CUDA_INLINE float codec_input(float value, float residual) {
    const float sum = value + residual;
    if (kernel_magnitude(sum) <= KERNEL_INFINITY)
        return sum;
    const bool brought = kernel_magnitude(value) > KERNEL_INFINITY;
    return kernel_float(brought ? kernel_bits(value) | KERNEL_QUIET : KERNEL_SIGN | KERNEL_NAN);
}

CUDA_INLINE uint32_t warp_largest(uint32_t x) {
    for (int lane = CUDA_WARP / 2; lane > 0; lane /= 2) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, x, lane);
        x = other > x ? other : x;
    }
    return x;
}

CUDA_INLINE unsigned warp_count(unsigned x) {
    for (int lane = CUDA_WARP / 2; lane > 0; lane /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

#endif
