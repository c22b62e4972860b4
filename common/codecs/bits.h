/* Bits of floats, and what the codecs' formulas need besides. These headers (bits.h and one for each codec) hold what
 * an encoded unit looks like and how a number becomes another: the kernels of the CPU (common/codecs/NAME.c) and of
 * GPUs (gpu/cuda/codec_NAME.cu) both take it from here. Multiplications and additions are rounded one by one, so both
 * are compiled without contraction. */
#ifndef LAGOON_COMMON_CODECS_BITS_H
#define LAGOON_COMMON_CODECS_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define KERNEL_BOTH static inline __host__ __device__
#else
#define KERNEL_BOTH static inline
#endif

#define KERNEL_SIGN 0x80000000u
#define KERNEL_INFINITY 0x7f800000u /* magnitudes from here on are infinite or NaN */
#define KERNEL_QUIET 0x00400000u
#define KERNEL_NAN (KERNEL_INFINITY | KERNEL_QUIET)
#define KERNEL_LARGEST 3.4028234663852886e38f

KERNEL_BOTH uint32_t kernel_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

KERNEL_BOTH float kernel_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

KERNEL_BOTH uint32_t kernel_magnitude(float value) {
    return kernel_bits(value) & ~KERNEL_SIGN;
}

/* `yes` or `no`, both computed: a branch around floating-point arithmetic would keep loops from being vectorised. */
KERNEL_BOTH uint32_t kernel_choose(bool condition, uint32_t yes, uint32_t no) {
    const uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

/* residual + share (decoded - value), or the residual where that is not finite. */
KERNEL_BOTH float kernel_take_back(float residual, float share, float decoded, float value) {
    const float back = residual + share * (decoded - value);
    return kernel_magnitude(back) < KERNEL_INFINITY ? back : residual;
}

#endif
