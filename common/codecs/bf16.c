/* bfloat16; the formulas are in bf16.h. */
#include "common/codecs/bf16.h"

#include "common/codecs/half.h"

static size_t bf16_encode(const float *values, float *residual, uint32_t elements, const struct codec_options *options,
                          uint8_t *out) {
    (void)residual;
    (void)options;
    return half_encode(values, elements, out, bf16_narrow);
}

static const float *bf16_decode(const uint8_t *data, uint32_t elements, size_t first, size_t n, float *scratch) {
    (void)elements;
    return half_decode(data, first, n, scratch, bf16_widen);
}

static bool bf16_finite(const uint8_t *data, uint32_t elements) {
    return half_finite(data, elements, BF16_EXPONENT);
}

const struct codec_kernels ISA_NAME(codec_bf16) = {bf16_encode, bf16_decode, bf16_finite};

#ifdef LG_ISA_IS_base
const struct codec codec_bf16 = {
    .name = "bf16",
    .summary = "2 bytes an element: the range of f32 with 8 bits of precision",
    .dtype = CODEC_DTYPE_BF16,
    .fixed = true,
    .bytes_max = half_bytes_max,
    .measure = half_measure,
    .kernels = CODEC_KERNELS(bf16),
};
#endif
