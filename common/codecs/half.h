/* What the two 16-bit codecs share: an element is a little-endian 16-bit word. A codec gives its two conversions. */
#ifndef LAGOON_COMMON_CODECS_HALF_H
#define LAGOON_COMMON_CODECS_HALF_H

#include "common/codecs/kernel.h"

typedef uint16_t half_narrow_fn(float value);
typedef float half_widen_fn(uint16_t word);

/* Always inlined with the conversion known, so that the loops vectorise. */
static inline __attribute__((always_inline)) size_t half_encode(const float *values, uint32_t elements, uint8_t *out,
                                                                half_narrow_fn *narrow) {
    for (size_t i = 0; i < elements; i++) {
        uint16_t word = narrow(values[i]);
        memcpy(out + i * sizeof word, &word, sizeof word);
    }
    return elements * sizeof(uint16_t);
}

static inline __attribute__((always_inline)) const float *half_decode(const uint8_t *data, size_t first, size_t n,
                                                                      float *scratch, half_widen_fn *widen) {
    const uint8_t *at = data + first * sizeof(uint16_t);
    for (size_t i = 0; i < n; i++)
        scratch[i] = widen(kernel_load16(at + i * sizeof(uint16_t)));
    return scratch;
}

/* `infinity`: the exponent bits, all set in NaN and infinities alone. */
static inline bool half_finite(const uint8_t *data, uint32_t elements, uint16_t infinity) {
    uint16_t bad = 0;
    for (size_t i = 0; i < elements; i++)
        bad |= (kernel_load16(data + i * sizeof(uint16_t)) & infinity) == infinity;
    return bad == 0;
}

static inline size_t half_bytes_max(uint32_t elements, const struct codec_options *options) {
    (void)options;
    return elements * sizeof(uint16_t);
}

static inline enum lg_status half_measure(const uint8_t *data, size_t available, uint32_t elements, size_t *bytes,
                                          struct lg_error *error) {
    (void)data;
    return kernel_measure(elements * sizeof(uint16_t), available, bytes, error);
}

#endif
