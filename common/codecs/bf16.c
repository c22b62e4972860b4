/* bfloat16: the upper half of a float, rounded to nearest, ties to even. Finite values stay finite: what would round to
 * infinity becomes the largest finite value. */
#include "common/codecs/half.h"

enum { LARGEST = 0x7f7f, EXPONENT = 0x7f80, QUIET = 0x0040 };

static inline uint16_t narrow(float value) {
    uint32_t bits = kernel_bits(value), magnitude = bits & ~KERNEL_SIGN;
    uint32_t rounded = (magnitude + 0x7fff + ((magnitude >> 16) & 1)) >> 16;
    rounded = rounded > LARGEST ? LARGEST : rounded;
    uint32_t special = (magnitude >> 16) | (magnitude > KERNEL_INFINITY ? QUIET : 0);
    return (uint16_t)((magnitude >= KERNEL_INFINITY ? special : rounded) | ((bits & KERNEL_SIGN) >> 16));
}

static inline float widen(uint16_t word) {
    return kernel_float((uint32_t)word << 16);
}

static size_t bf16_encode(const float *values, float *residual, uint32_t elements, const struct codec_options *options,
                          uint8_t *out) {
    (void)residual;
    (void)options;
    return half_encode(values, elements, out, narrow);
}

static const float *bf16_decode(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch) {
    (void)elements;
    return half_decode(data, first, n, scratch, widen);
}

static bool bf16_finite(const uint8_t *data, uint32_t elements) {
    return half_finite(data, elements, EXPONENT);
}

const struct codec_kernels ISA_NAME(codec_bf16) = {bf16_encode, bf16_decode, bf16_finite};

#ifdef LG_ISA_IS_base
const struct codec codec_bf16 = {
    .name = "bf16",
    .summary = "2 bytes an element: the range of f32 with 8 bits of precision",
    .dtype = CODEC_DTYPE_BF16,
    .bytes_max = half_bytes_max,
    .measure = half_measure,
    .kernels = CODEC_KERNELS(bf16),
};
#endif
