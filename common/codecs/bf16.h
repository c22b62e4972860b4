/* bf16's formulas: the upper half of a float, rounded to nearest, ties to even. Finite values stay finite: what would
 * round to infinity becomes the largest finite value. */
#ifndef LAGOON_COMMON_CODECS_BF16_H
#define LAGOON_COMMON_CODECS_BF16_H

#include "common/codecs/bits.h"

enum { BF16_LARGEST = 0x7f7f, BF16_EXPONENT = 0x7f80, BF16_QUIET = 0x0040 };

KERNEL_BOTH uint16_t bf16_narrow(float value) {
    uint32_t bits = kernel_bits(value), magnitude = bits & ~KERNEL_SIGN;
    uint32_t rounded = (magnitude + 0x7fff + ((magnitude >> 16) & 1)) >> 16;
    rounded = rounded > BF16_LARGEST ? (uint32_t)BF16_LARGEST : rounded;
    uint32_t special = (magnitude >> 16) | (magnitude > KERNEL_INFINITY ? (uint32_t)BF16_QUIET : 0);
    return (uint16_t)((magnitude >= KERNEL_INFINITY ? special : rounded) | ((bits & KERNEL_SIGN) >> 16));
}

KERNEL_BOTH float bf16_widen(uint16_t word) {
    return kernel_float((uint32_t)word << 16);
}

#endif
