/* f16's formulas: IEEE half precision, rounded to nearest, ties to even. Magnitudes above 65,504 become 65,504; below
 * 2^-14 the steps are 2^-24. */
#ifndef LAGOON_COMMON_CODECS_F16_H
#define LAGOON_COMMON_CODECS_F16_H

#include "common/codecs/bits.h"

enum {
    F16_LARGEST = 0x7bff,
    F16_EXPONENT = 0x7c00,
    F16_QUIET = 0x7e00,
    F16_SHIFT = 13,                /* mantissa bits lost */
    F16_REBIAS = (127 - 15) << 10, /* of exponents, in half's place */
    F16_NORMAL_LEAST = 0x38800000, /* 2^-14 as a float's bits */
};

/* Below the normal range, adding 0.5 leaves the value in steps of 2^-24 in the lowest bits, rounded as it should be. */
KERNEL_BOTH uint16_t f16_narrow(float value) {
    uint32_t bits = kernel_bits(value), magnitude = bits & ~KERNEL_SIGN;
    uint32_t normal = ((magnitude + 0xfff + ((magnitude >> F16_SHIFT) & 1)) >> F16_SHIFT) - F16_REBIAS;
    normal = normal > F16_LARGEST ? (uint32_t)F16_LARGEST : normal;
    uint32_t small = kernel_bits(kernel_float(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t special = magnitude > KERNEL_INFINITY ? F16_QUIET : F16_EXPONENT;
    uint32_t finite = kernel_choose(magnitude < F16_NORMAL_LEAST, small, normal);
    uint32_t chosen = kernel_choose(magnitude >= KERNEL_INFINITY, special, finite);
    return (uint16_t)(chosen | (bits & KERNEL_SIGN) >> 16);
}

KERNEL_BOTH float f16_widen(uint16_t word) {
    uint32_t magnitude = word & 0x7fffu;
    uint32_t normal = (magnitude + F16_REBIAS + (magnitude >= F16_EXPONENT ? (uint32_t)F16_REBIAS : 0)) << F16_SHIFT;
    uint32_t small = kernel_bits((float)(int32_t)magnitude * 0x1p-24f);
    return kernel_float(kernel_choose(magnitude < 0x0400, small, normal) | ((uint32_t)word & 0x8000u) << 16);
}

#endif
