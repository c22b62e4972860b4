/* IEEE half precision, rounded to nearest, ties to even. Magnitudes above 65,504 become 65,504; below 2^-14 the steps
 * are 2^-24. */
#include "common/codecs/half.h"

enum {
    LARGEST = 0x7bff,
    EXPONENT = 0x7c00,
    QUIET = 0x7e00,
    SHIFT = 13,                /* mantissa bits lost */
    REBIAS = (127 - 15) << 10, /* of exponents, in half's place */
    NORMAL_LEAST = 0x38800000, /* 2^-14 as a float's bits */
};

/* Below the normal range, adding 0.5 leaves the value in steps of 2^-24 in the lowest bits, rounded as it should be. */
static inline uint16_t narrow(float value) {
    uint32_t bits = kernel_bits(value), magnitude = bits & ~KERNEL_SIGN;
    uint32_t normal = ((magnitude + 0xfff + ((magnitude >> SHIFT) & 1)) >> SHIFT) - REBIAS;
    normal = normal > LARGEST ? LARGEST : normal;
    uint32_t small = kernel_bits(kernel_float(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t special = magnitude > KERNEL_INFINITY ? QUIET : EXPONENT;
    uint32_t finite = kernel_choose(magnitude < NORMAL_LEAST, small, normal);
    uint32_t chosen = kernel_choose(magnitude >= KERNEL_INFINITY, special, finite);
    return (uint16_t)(chosen | (bits & KERNEL_SIGN) >> 16);
}

static inline float widen(uint16_t word) {
    uint32_t magnitude = word & 0x7fffu;
    uint32_t normal = (magnitude + REBIAS + (magnitude >= EXPONENT ? REBIAS : 0)) << SHIFT;
    uint32_t small = kernel_bits((float)(int32_t)magnitude * 0x1p-24f);
    return kernel_float(kernel_choose(magnitude < 0x0400, small, normal) | ((uint32_t)word & 0x8000u) << 16);
}

static size_t f16_encode(const float *values, float *residual, uint32_t elements, const struct codec_options *options,
                         uint8_t *out) {
    (void)residual;
    (void)options;
    return half_encode(values, elements, out, narrow);
}

static const float *f16_decode(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch) {
    (void)elements;
    return half_decode(data, first, n, scratch, widen);
}

static bool f16_finite(const uint8_t *data, uint32_t elements) {
    return half_finite(data, elements, EXPONENT);
}

const struct codec_kernels ISA_NAME(codec_f16) = {f16_encode, f16_decode, f16_finite};

#ifdef LG_ISA_IS_base
const struct codec codec_f16 = {
    .name = "f16",
    .summary = "2 bytes an element: 11 bits of precision, magnitudes up to 65,504",
    .dtype = CODEC_DTYPE_F16,
    .bytes_max = half_bytes_max,
    .measure = half_measure,
    .kernels = CODEC_KERNELS(f16),
};
#endif
