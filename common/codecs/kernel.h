/* What every codec file needs: the table over instruction sets, and reading bytes.
 *
 * Kernels use + - * /, compares and integers on floats only, in loops that compilers vectorise, and sum in an order
 * that is written down, so that bits agree over sets and compilers. Bytes of encoded units are read and written with
 * memcpy: they may lie anywhere. */
#ifndef LAGOON_COMMON_CODECS_KERNEL_H
#define LAGOON_COMMON_CODECS_KERNEL_H

#include <string.h>

#include "common/codec.h"
#include "common/codecs/bits.h"

/* One set of kernels per codec and instruction set: codec_int8_base, codec_int8_avx2, ... */
#define X(symbol)                                                                                                      \
    extern const struct codec_kernels codec_##symbol##_base, codec_##symbol##_avx2, codec_##symbol##_avx512;
#include "common/codec.def"
#undef X

#if defined(__x86_64__)
#define CODEC_KERNELS(symbol)                                                                                          \
    {                                                                                                                  \
        [ISA_BASE] = &codec_##symbol##_base, [ISA_AVX2] = &codec_##symbol##_avx2,                                      \
        [ISA_AVX512] = &codec_##symbol##_avx512                                                                        \
    }
#else
#define CODEC_KERNELS(symbol)                                                                                          \
    { [ISA_BASE] = &codec_##symbol##_base }
#endif

#define X(symbol) extern const struct codec codec_##symbol;
#include "common/codec.def"
#undef X

static inline uint32_t kernel_load32(const uint8_t *data) {
    uint32_t word;
    memcpy(&word, data, sizeof word);
    return word;
}

static inline uint16_t kernel_load16(const uint8_t *data) {
    uint16_t word;
    memcpy(&word, data, sizeof word);
    return word;
}

static inline float kernel_load_float(const uint8_t *data) {
    float value;
    memcpy(&value, data, sizeof value);
    return value;
}

/* True when none of `count` floats is NaN or infinite. */
static inline bool kernel_all_finite(const uint8_t *data, size_t count) {
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++)
        bad |= (kernel_load32(data + i * sizeof(float)) & KERNEL_INFINITY) == KERNEL_INFINITY;
    return bad == 0;
}

/* LG_OK with *bytes = `needed` where so many are there. */
static inline enum lg_status kernel_measure(size_t needed, size_t available, size_t *bytes, struct lg_error *error) {
    *bytes = needed;
    if (needed <= available)
        return LG_OK;
    return lg_fail(error, LG_MALFORMED, "%zu of its %zu bytes are there", available, needed);
}

#endif
