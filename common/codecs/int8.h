/* int8's layout and formulas: 8-bit integers with a scale per block of 512. x is sent as q = floor(127 x / max + u)
 * with u uniform in [0, 1), so that its expectation is x; or rounded to nearest, u = 1/2.
 *
 * A unit: one float per block (max / 127), then one signed byte per element, filled up to a multiple of 4. The scale of
 * a block with a NaN or an infinity in it is NaN. Blocks whose largest magnitude is below 2^-100 are sent as zeros. */
#ifndef LAGOON_COMMON_CODECS_INT8_H
#define LAGOON_COMMON_CODECS_INT8_H

#include "common/codecs/bits.h"

enum {
    INT8_BLOCK = 512,
    INT8_HALF = INT8_BLOCK / 2,
    INT8_LEVELS = 127,
    INT8_FRACTION_BITS = 15,
    INT8_FRACTION = 1 << INT8_FRACTION_BITS, /* x is scaled to +-LEVELS * FRACTION: below 2^22, so that rounding to
                                              * integer by adding 1.5 * 2^23 is exact; the random number is
                                              * FRACTION_BITS wide */
    INT8_HIGH_SHIFT = 32 - INT8_FRACTION_BITS,
};
#define INT8_ROUNDER 12582912.0f /* 1.5 * 2^23 */
#define INT8_ROUNDER_BITS 0x4b400000u
#define INT8_LEAST 0x1p-100f
#define INT8_SCALE_LARGEST (KERNEL_LARGEST / 128)   /* times any byte it is still finite */
#define INT8_NEAREST (INT8_FRACTION / 2 * 0x20001u) /* noise of 1/2 in both places */

KERNEL_BOTH size_t int8_blocks(uint32_t elements) {
    return (elements + INT8_BLOCK - 1) / INT8_BLOCK;
}

KERNEL_BOTH size_t int8_filled(uint32_t elements) {
    return (elements + 3u) & ~(size_t)3;
}

KERNEL_BOTH size_t int8_bytes(uint32_t elements) {
    return int8_blocks(elements) * sizeof(float) + int8_filled(elements);
}

/* 32 well-mixed bits of a counter (constants of a public-domain search for low bias, C. Wellons 2018). One random word
 * serves two elements of a block: number block * HALF + i has in its low bits that of element i, in its high bits
 * (HIGH_SHIFT) that of element HALF + i. */
KERNEL_BOTH uint32_t int8_noise(uint32_t counter, uint32_t key_low, uint32_t key_high) {
    uint32_t x = counter * 0x9e3779b1u ^ key_low;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) ^ key_high;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

/* `most`: the block's largest magnitude, or any that is not finite. */
KERNEL_BOTH float int8_scale(float most) {
    const float scale = most / (float)INT8_LEVELS, kept = scale < INT8_SCALE_LARGEST ? scale : INT8_SCALE_LARGEST;
    return kernel_bits(most) < KERNEL_INFINITY ? most < INT8_LEAST ? 0 : kept : kernel_float(KERNEL_NAN);
}

/* What elements are multiplied with, or 0: then all their bytes are 0, which also keeps NaN out of the conversions. */
KERNEL_BOTH float int8_inverse(float most) {
    const bool none = kernel_bits(most) >= KERNEL_INFINITY || most < INT8_LEAST;
    return none ? 0 : (float)(INT8_LEVELS * INT8_FRACTION) / most;
}

/* `noise` below FRACTION. */
KERNEL_BOTH uint8_t int8_quantise(float value, float inverse, uint32_t noise) {
    const uint32_t scaled = kernel_bits(value * inverse + INT8_ROUNDER) - INT8_ROUNDER_BITS;
    return (uint8_t)((int32_t)(scaled + noise) >> INT8_FRACTION_BITS);
}

#endif
